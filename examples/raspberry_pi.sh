#!/usr/bin/env bash
# An image folder to a Raspberry Pi 4: which students are fast enough there, distill the best one, prove it, gate it.
#
#   examples/raspberry_pi.sh PHOTOS [more flags of `tcs-edge compress`]
#
# PHOTOS holds train/ val/ test/ with one folder per class in each. Everything lands in runs/raspberrypi4.
set -euo pipefail

photos=${1:?usage: raspberry_pi.sh PHOTOS [FLAGS]}
shift
run=runs/raspberrypi4
limit_ms=25

tcs-edge candidates --target raspberrypi4 --max-latency-ms "$limit_ms"
tcs-edge compress --target raspberrypi4 --max-latency-ms "$limit_ms" --data "$photos" --out "$run" "$@"
tcs-edge gate "$run" --max-latency-ms "$limit_ms" --max-file-mb 50 --max-accuracy-drop 0.01
tcs-edge predict "$run" "$(find -L "$photos/test" -type f -print -quit)"
echo "copy $run/export to the board: model.onnx, labels.txt and preprocess.json are all it needs"
