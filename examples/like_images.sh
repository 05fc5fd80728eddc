#!/usr/bin/env bash
# Find like images, and add a class from five photos to a bundle, without training again.
#
#   examples/like_images.sh PHOTOS NAME NEW_PHOTOS [more flags of `tcs-edge compress`]
#
# PHOTOS has train/, val/ and test/ with one folder per class in each. NAME is a class that is not among them, and
# NEW_PHOTOS a folder with five photos of it. The results are in runs/like-images.
set -euo pipefail

photos=${1:?usage: like_images.sh PHOTOS NAME NEW_PHOTOS [FLAGS]}
name=${2:?usage: like_images.sh PHOTOS NAME NEW_PHOTOS [FLAGS]}
new=${3:?usage: like_images.sh PHOTOS NAME NEW_PHOTOS [FLAGS]}
shift 3
run=runs/like-images

tcs-edge compress --target raspberrypi4 --data "$photos" --with-embedding --out "$run" "$@"
tcs-edge index --run "$run" --data "$photos/train" --out "$run-index.npz"
tcs-edge similar --run "$run" --index "$run-index.npz" "$(find -L "$photos/test" -type f -print -quit)" --top 3

# On the board, `python3 -I install.py` makes the environment; here, the packages are installed already.
tcs-edge bundle "$run" --out "$run-bundle"
python3 -I "$run-bundle/add_class.py" "$name" "$new"
python3 -I "$run-bundle/classify.py" "$new" --top 2
