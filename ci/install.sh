#!/usr/bin/env bash
# Install only the gate: a virtual environment of some 160 MB without torch and runtimes.
#
#   ci/install.sh FOLDER [PYTHON]
set -euo pipefail

folder=${1:?usage: ci/install.sh FOLDER [PYTHON]}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"${2:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements-gate.txt"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$here/.."
