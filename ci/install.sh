#!/usr/bin/env bash
# Install only the gate: a virtual environment of some 160 MB without torch and runtimes. pip checks the sha256 of every
# package, also of those that build tcs-edge.
#
#   ci/install.sh FOLDER [PYTHON]
set -euo pipefail

folder=${1:?usage: ci/install.sh FOLDER [PYTHON]}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"${2:-python3}" -m venv "$folder"
install=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)
"${install[@]}" --require-hashes -r "$here/requirements-gate.txt"
"${install[@]}" --no-deps --no-build-isolation "$here/.."
