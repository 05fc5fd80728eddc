#!/usr/bin/env bash
# From an image folder to a Raspberry Pi 4: list fast students, distill and validate the best one, and gate it.
#
#   examples/raspberry_pi.sh PHOTOS [more flags of `tcs-edge compress`]
#
# PHOTOS has train/, val/ and test/ with one folder per class in each. The results are in runs/raspberrypi4.
set -euo pipefail

photos=${1:?usage: raspberry_pi.sh PHOTOS [FLAGS]}
shift
run=runs/raspberrypi4
limit_ms=25

tcs-edge candidates --target raspberrypi4 --max-latency-ms "$limit_ms"
tcs-edge compress --target raspberrypi4 --max-latency-ms "$limit_ms" --data "$photos" --out "$run" "$@"
tcs-edge gate "$run" --max-latency-ms "$limit_ms" --max-size-mb 50 --max-accuracy-drop 0.01
tcs-edge predict "$run" "$(find -L "$photos/test" -type f -print -quit)"
echo "next: copy model.onnx, labels.txt and preprocess.json from $run/export to the board"
