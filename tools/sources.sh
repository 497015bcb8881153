#!/bin/bash
# Prints the repository's files that match the given patterns, one a line: those git knows and new ones it would take,
# or without git every file outside build directories. Deleted files are left out.
set -euo pipefail
cd "$(dirname "$0")/.."

if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
  git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while IFS= read -r file; do
    if [[ -f $file ]]; then printf '%s\n' "$file"; fi
  done
else
  for pattern in "${@:-*}"; do
    find . \( -name '.?*' -o -path './build*' -o -path ./run -o -name __pycache__ \) -prune -o -type f -name "$pattern" -print
  done | sed 's,^\./,,' | sort -u
fi
