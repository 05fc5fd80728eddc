#!/usr/bin/env bash
# Add a file as the gate's comment to a pull request, or replace the earlier comment of the same gate.
#
#   GITHUB_REPOSITORY=OWNER/NAME GH_TOKEN=... ci/github/comment.sh PULL_REQUEST FILE [NAME]
#
# The last line of FILE is a hidden marker with the model and the target. It identifies the comment, whoever posted it.
# Pass a NAME to keep the comments of two gates of one model and target apart.
set -euo pipefail

usage="usage: comment.sh PULL_REQUEST FILE [NAME]"
number=${1:?$usage}
file=${2:?$usage}
name=${3:-}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ ! -f "$file" ]; then
  echo "no comment: $file is missing, because the gate stopped early" >&2
  exit 0
fi
# Only these characters, because others could end the HTML comment.
if [[ ! $name =~ ^[A-Za-z0-9._/\ -]*$ || $name == *--* ]]; then
  echo "error: NAME has other characters than letters, digits, spaces and . _ / -: $name" >&2
  exit 2
fi

body=$(mktemp)
trap 'rm -f "$body"' EXIT
sed "\$s|^\\(<!-- tcs-edge-gate: .*\\) -->\$|\\1${name:+ $name} -->|" "$file" >"$body"

comments="repos/$GITHUB_REPOSITORY/issues/$number/comments"
show() {
  local pages ids id
  pages=$(gh api --paginate "$comments?per_page=100") || return
  ids=$("${PYTHON:-python3}" "$here/find_comments.py" "$body" <<<"$pages") || return
  for id in $ids; do
    # A token cannot always edit a comment that another one posted.
    gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$id" -F "body=@$body" && return
  done
  gh api --silent --method POST "$comments" -F "body=@$body"
}
# The token of a fork's pull request cannot write. The job still shows the verdict.
show || echo "::warning::The gate's comment could not be written. The job needs permissions: pull-requests: write"
