#!/usr/bin/env bash
# Build the wheel and the sdist of one release, twice and with equal bytes, and write their sha256 to SHA256SUMS.
#
#   ci/release.sh TAG FOLDER [PYTHON]
#
# TAG must be "v" and the version of the package, and CHANGELOG.md must have a section for it. PYTHON is an environment
# with hatchling; without it, a new one gets the packages of requirements-gate.txt, whose sha256 pip checks.
set -euo pipefail

tag=${1:?usage: ci/release.sh TAG FOLDER [PYTHON]}
out=${2:?usage: ci/release.sh TAG FOLDER [PYTHON]}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The index shows the README with links to this repository.
if [ -z "${TCS_EDGE_REPOSITORY:-}" ] && [ -n "${GITHUB_REPOSITORY:-}" ]; then
  TCS_EDGE_REPOSITORY=${GITHUB_SERVER_URL:-https://github.com}/$GITHUB_REPOSITORY
fi
if [ -z "${TCS_EDGE_REPOSITORY:-}" ]; then
  echo "error: the repository's address is not known. Set TCS_EDGE_REPOSITORY=https://github.com/OWNER/NAME." >&2
  exit 2
fi
export TCS_EDGE_REPOSITORY

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' tcs_edge/utils/version.py)
if [ "$tag" != "v$version" ]; then
  echo "error: the tag is $tag, the package is v$version. Set __version__, or delete the tag." >&2
  exit 2
fi
if ! grep -q "^## $version" CHANGELOG.md; then
  echo "error: CHANGELOG.md has no section \"## $version\". Rename the section Unreleased." >&2
  exit 2
fi
if [ -n "$(git status --porcelain)" ]; then
  echo "error: the working tree has changes. Commit or remove them." >&2
  exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${3:-}
if [ -z "$python" ]; then
  python3 -m venv "$work/venv"
  python=$work/venv/bin/python
  "$python" -m pip install --quiet --disable-pip-version-check --require-hashes -r ci/requirements-gate.txt
fi

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
for copy in first second; do
  "$python" -m hatchling build --directory "$work/$copy" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
done
diff -r "$work/first" "$work/second" || { echo "error: two builds differ" >&2; exit 1; }
mkdir -p "$out/dist"
cp "$work/first"/* "$out/dist/"
(cd "$out/dist" && sha256sum -- *) >"$out/SHA256SUMS"
cat "$out/SHA256SUMS"
