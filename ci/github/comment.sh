#!/usr/bin/env bash
# Add a file as the gate's comment to a pull request, or replace the bot's earlier comment.
#
#   GITHUB_REPOSITORY=OWNER/NAME GH_TOKEN=... ci/github/comment.sh PULL_REQUEST FILE
set -euo pipefail

number=${1:?usage: comment.sh PULL_REQUEST FILE}
file=${2:?usage: comment.sh PULL_REQUEST FILE}
if [ ! -f "$file" ]; then
  echo "no comment: $file is missing, because the gate stopped early" >&2
  exit 0
fi

mark='<!-- tcs-edge gate -->'
comments="repos/$GITHUB_REPOSITORY/issues/$number/comments"
earlier=".[] | select(.user.type == \"Bot\" and (.body | startswith(\"$mark\"))) | .id"
show() {
  local id
  id=$(gh api --paginate "$comments" --jq "$earlier" | head -n 1) || return
  if [ -n "$id" ]; then
    gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$id" -F "body=@$file"
  else
    gh api --silent --method POST "$comments" -F "body=@$file"
  fi
}
# The token of a fork's pull request cannot write. The job still shows the verdict.
show || echo "::warning::The gate's comment could not be written. The job needs permissions: pull-requests: write"
