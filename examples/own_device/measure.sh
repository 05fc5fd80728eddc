#!/usr/bin/env bash
# Define your own device: measure two students on this machine, which must have the board's architecture, and list them.
#
#   examples/own_device/measure.sh [IMG_SIZE [FLAGS of `tcs-edge profile`]]
#
# For a device without torch, use `tcs-edge bundle-profiler`: docs/how-to/profiles.md.
set -euo pipefail

img_size=${1:-224}
[ $# -eq 0 ] || shift
cp "$(dirname "${BASH_SOURCE[0]}")/my-board.toml" .

tcs-edge profile --target my-board.toml --model lcnet_050 --model mobilenetv3_small_050 --runtime onnxruntime \
  --threads 1 --img-size "$img_size" --out my-board.json "$@"
tcs-edge candidates --target my-board.toml --img-size "$img_size"
echo "next: tcs-edge compress --target my-board.toml --img-size $img_size --data PHOTOS"
