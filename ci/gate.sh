#!/usr/bin/env bash
# Gate a model. The GitHub action, the GitLab template and the pre-commit hook run this script; it also runs locally.
#
#   ci/gate.sh MODEL [FLAGS of `tcs-edge gate`]
#
# Limits and baseline are in tcs-edge.toml or pyproject.toml; flags override them. Variables:
#   TCS_EDGE               the command, default tcs-edge
#   TCS_EDGE_FLAGS         more flags, one per line: --max-size-mb=5
#   TCS_EDGE_REPORTS       a folder for comment.md and junit.xml; default: they are not written
#   TCS_EDGE_BASE_BRANCH   the branch of the baseline; default: the target branch of the CI system
#
# Exit codes: 0 pass, 1 fail, 2 wrong usage, 4 tcs-edge is not installed.
set -euo pipefail

# Reports of an earlier job would be shown as this job's, if this one stops early.
if [ -n "${TCS_EDGE_REPORTS:-}" ]; then
  rm -f "$TCS_EDGE_REPORTS/comment.md" "$TCS_EDGE_REPORTS/junit.xml"
fi
[ -z "${GITLAB_CI:-}" ] || rm -f gl-code-quality-report.json

gate=${TCS_EDGE:-tcs-edge}
if ! command -v "$gate" >/dev/null; then
  echo "error: $gate is not installed. Run ci/install.sh FOLDER, or pip install tcs-edge." >&2
  exit 4
fi

# CI systems check out one commit of one branch, so fetch the branch of the baseline.
branch=${TCS_EDGE_BASE_BRANCH:-${GITHUB_BASE_REF:-${CI_MERGE_REQUEST_TARGET_BRANCH_NAME:-}}}
if [ -n "$branch" ] && ! git rev-parse --quiet --verify "refs/remotes/origin/$branch" >/dev/null; then
  # Only for a shallow clone: the option would cut the history of a full one.
  depth=()
  [ "$(git rev-parse --is-shallow-repository)" = true ] && depth=(--depth=1)
  git fetch --quiet ${depth[@]+"${depth[@]}"} origin "+refs/heads/$branch:refs/remotes/origin/$branch" ||
    echo "warning: origin/$branch could not be fetched. A baseline on it will not be found." >&2
fi

reports=()
if [ -n "${TCS_EDGE_REPORTS:-}" ]; then
  reports=(--markdown "$TCS_EDGE_REPORTS/comment.md" --junit "$TCS_EDGE_REPORTS/junit.xml")
fi
while IFS= read -r flag; do
  [ -z "$flag" ] || set -- "$@" "$flag"
done <<<"${TCS_EDGE_FLAGS:-}"

exec "$gate" gate ${reports[@]+"${reports[@]}"} "$@"
