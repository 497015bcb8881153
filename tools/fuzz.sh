#!/bin/bash
# Runs every fuzz target of the build directory $1 for $2 seconds each, as many at a time as there are cores.
#
# A target starts from the seeds in fuzz/corpus/TARGET and from what earlier runs found in $1/corpus/TARGET, where new finds
# go too. An input that crashes it is kept in $1/findings and named at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

build=$1
seconds=${2:-60}
mapfile -t targets < <(find "$build/fuzz" -maxdepth 1 -type f -executable -print | sort)
if ((${#targets[@]} == 0)); then
  echo "No fuzz targets in $build/fuzz" >&2
  exit 1
fi
mkdir -p "$build/findings"
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

fuzz_one() {  # BUILD SECONDS TARGET
  local name=${3##*/} log
  log=$1/findings/$name.log
  local folders=("$1/corpus/$name")
  mkdir -p "${folders[0]}"
  [[ -d fuzz/corpus/$name ]] && folders+=("fuzz/corpus/$name")
  if "$3" -max_total_time="$2" -timeout=10 -rss_limit_mb=2048 -max_len=70000 -use_value_profile=1 -print_final_stats=1 \
      -artifact_prefix="$1/findings/$name-" "${folders[@]}" >"$log" 2>&1; then
    printf 'fuzz: %-28s ok, %s runs, %s inputs kept\n' "$name" \
      "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" "$(find "${folders[0]}" -type f | wc -l)"
  else
    printf 'fuzz: %-28s FAILED\n' "$name"
    grep -nE 'ERROR|SUMMARY|runtime error|Test unit written|^ +#[0-9]' "$log" | head -n 30
    return 1
  fi
}
export -f fuzz_one

# Each failure is printed by its own run, and xargs says by its exit code that there was one.
# shellcheck disable=SC2016  # the inner shell expands them
printf '%s\0' "${targets[@]}" |
  xargs -0 -n 1 -P "${JOBS:-$(nproc)}" bash -c 'fuzz_one "$1" "$2" "$3"' fuzz "$build" "$seconds"
