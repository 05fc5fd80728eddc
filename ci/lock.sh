#!/usr/bin/env bash
# Renew the lock files: pin the newest versions that are allowed, with the sha256 of every file, for all platforms and for
# Python 3.11 and newer. requirements-gate.txt is the gate alone; requirements-dev.txt is all that .ci/run installs.
# Needs uv (pip install uv).
#
#   ci/lock.sh
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

# lock NAME SOURCE [UV ARGUMENT...]: write requirements-NAME.txt from the file SOURCE.
lock() {
  local file=requirements-$1.txt
  {
    echo "# Written by ci/lock.sh from ${2#../}. Do not edit."
    uv pip compile --quiet --universal --upgrade --python-version 3.11 --generate-hashes --no-header \
      --no-emit-index-url --no-emit-find-links --no-annotate "${@:3}" "$2"
  } >"$file.new"
  mv "$file.new" "$file"
}

lock gate requirements-gate.in
# uv takes a backports-strenum that is only for Python below 3.11, and that pip refuses.
lock dev ../pyproject.toml --extra dev --constraint <(echo "backports-strenum<1.3")
