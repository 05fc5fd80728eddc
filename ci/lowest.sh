#!/usr/bin/env bash
# Run the tests with the lowest version of every dependency that pyproject.toml allows, in a new virtual environment.
# Needs uv (pip install uv) and Python 3.11, the lowest Python. Further arguments go to pytest.
#
#   ci/lowest.sh FOLDER [PYTEST ARGUMENT...]
set -euo pipefail

folder=${1:?usage: ci/lowest.sh FOLDER [PYTEST ARGUMENT...]}
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
python=$folder/env/bin/python

uv pip compile --quiet --resolution lowest-direct --python-version 3.11 --extra dev --no-header --no-annotate \
  --no-emit-index-url --no-emit-find-links --output-file "$folder/lowest.txt" pyproject.toml
uv venv --quiet --clear --python "${TCS_EDGE_PYTHON:-3.11}" "$folder/env"
uv pip install --quiet --python "$python" --requirement "$folder/lowest.txt"
uv pip install --quiet --python "$python" --no-deps --editable .
"$python" -m pytest "$@"
