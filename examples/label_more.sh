#!/usr/bin/env bash
# Check the labels, and choose the unlabeled photos whose labels help most.
#
#   examples/label_more.sh PHOTOS UNSORTED [more flags of `tcs-edge check`, such as --teacher]
#
# PHOTOS has one folder per class, UNSORTED has photos without labels. The page is check.html, the list next.csv.
set -euo pipefail

photos=${1:?usage: label_more.sh PHOTOS UNSORTED [FLAGS]}
unsorted=${2:?usage: label_more.sh PHOTOS UNSORTED [FLAGS]}
shift 2

tcs-edge check --data "$photos" --out check.html "$@"
tcs-edge label-next --data "$photos" --unlabeled "$unsorted" --count 10 --out next.csv "$@"
echo "next: open check.html, and label the photos of next.csv"
