#!/usr/bin/env bash
# Show a file as the gate's comment on a pull request: the bot's earlier one is replaced, the first one is added.
#
#   GITHUB_REPOSITORY=OWNER/NAME GH_TOKEN=... ci/github/comment.sh PULL_REQUEST FILE
set -euo pipefail

number=${1:?usage: comment.sh PULL_REQUEST FILE}
file=${2:?usage: comment.sh PULL_REQUEST FILE}
if [ ! -f "$file" ]; then
  echo "no comment: the gate stopped before it wrote $file" >&2
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
# A pull request from a fork has a token that may not write: the verdict is in the job all the same.
show || echo "::warning::the gate's comment could not be written; the job needs permissions: pull-requests: write"
