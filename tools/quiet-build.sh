#!/bin/bash
# Builds the targets $2... of the build directory $1, or everything; prints one line when all is well and the compiler's
# words when not.
set -euo pipefail

log=$1/build.log
targets=("${@:2}")
start=$SECONDS
if ! cmake --build "$1" --parallel "${JOBS:-$(nproc)}" --target "${targets[@]:-all}" >"$log" 2>&1; then
  grep -vE '^\[[0-9]+/[0-9]+\] (Building|Linking|Generating)' "$log" | head -n 200 >&2
  echo "The build failed; all of it is in $log" >&2
  exit 1
fi
warnings=$(grep -c 'warning:' "$log" || true)
grep -A 5 'warning:' "$log" | head -n 60 || true
echo "Built $1 in $((SECONDS - start)) s, $warnings warnings"
