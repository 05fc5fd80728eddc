#!/usr/bin/env bash
# Renew requirements-gate.txt: pin the newest versions that requirements-gate.in allows, with the sha256 of every file, for
# all platforms and for Python 3.11 and newer. Needs uv (pip install uv).
#
#   ci/lock.sh
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
{
  echo "# Written by ci/lock.sh from requirements-gate.in. Do not edit."
  uv pip compile --quiet --universal --upgrade --python-version 3.11 --generate-hashes --no-header \
    --no-emit-index-url --no-emit-find-links --no-annotate requirements-gate.in
} >requirements-gate.txt.new
mv requirements-gate.txt.new requirements-gate.txt
