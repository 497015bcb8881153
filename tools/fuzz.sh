#!/bin/bash
# Runs every fuzz target of a build directory, as many at a time as there are cores.
#
#   tools/fuzz.sh BUILD [SECONDS]       so long each (60), from the seeds in fuzz/corpus/TARGET and from what earlier runs found
#                                       in BUILD/corpus/TARGET; new finds go there, and in the end it is made small again
#   tools/fuzz.sh --quick BUILD [SECONDS]     the seeds, the inputs in fuzz/regressions/TARGET that once crashed, and then so
#                                       long each (4) with the same dice every time; keeps nothing
#   tools/fuzz.sh --minimize BUILD      only makes BUILD/corpus small: the fewest inputs that reach what all of them reach
#
# An input that crashes a target is kept in BUILD/findings and named at the end. Mended, it moves to fuzz/regressions/TARGET
# under a name that says what it was.
# shellcheck disable=SC2317  # xargs calls the functions
set -euo pipefail
cd "$(dirname "$0")/.."

mode=long
case ${1:-} in
  --quick | --minimize) mode=${1#--}; shift ;;
esac
build=${1:?the build directory}
seconds=${2:-$([[ $mode == quick ]] && echo 4 || echo 60)}
mapfile -t targets < <(find "$build/fuzz" -maxdepth 1 -type f -executable -name '*_fuzz' -print 2>/dev/null | sort)
if ((${#targets[@]} == 0)); then
  echo "No fuzz targets in $build/fuzz" >&2
  exit 1
fi
mkdir -p "$build/findings" "$build/corpus"
export ASAN_SYMBOLIZER_PATH=${ASAN_SYMBOLIZER_PATH:-/usr/bin/llvm-symbolizer-19}
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

count() { find "$1" -type f | wc -l; }

# In place of what was found: the inputs that add to seeds and regressions, each as small as there is one.
minimize() {  # BUILD TARGET
  local name=${2##*/}
  local found=$1/corpus/$name before after
  mkdir -p "$found"
  before=$(count "$found")
  rm -rf "$found.small"
  mkdir "$found.small"
  local folders=("$found.small")
  for folder in "fuzz/corpus/$name" "fuzz/regressions/$name" "$found"; do
    [[ -d $folder ]] && folders+=("$folder")
  done
  if ! "$2" -merge=1 -timeout=30 -max_len=70000 "${folders[@]}" >"$1/findings/$name.merge.log" 2>&1; then
    echo "fuzz: $name: could not be made small, see $1/findings/$name.merge.log"
    rm -rf "$found.small"
    return
  fi
  # The seeds are in the repository already.
  for seed in "fuzz/corpus/$name"/* "fuzz/regressions/$name"/*; do
    [[ -f $seed ]] && rm -f "$found.small/$(sha1sum "$seed" | cut -d ' ' -f 1)"
  done
  rm -rf "$found"
  mv "$found.small" "$found"
  after=$(count "$found")
  printf 'fuzz: %-20s %s inputs became %s, %s\n' "$name" "$before" "$after" "$(du -sh --apparent-size "$found" | cut -f 1)"
}

fuzz_one() {  # MODE BUILD SECONDS TARGET
  local mode=$1 build=$2 name=${4##*/}
  if [[ $mode == minimize ]]; then
    minimize "$build" "$4"
    return
  fi
  local log=$build/findings/$name.log finds=$build/corpus/$name
  local options=(-max_total_time="$3" -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$build/findings/$name-")
  if [[ $mode == quick ]]; then
    finds=$(mktemp -d)
    # A busy machine must not look like a slow parser.
    options+=(-seed=1 -timeout=60 -max_len=4096)
  else
    options+=(-timeout=10 -max_len=70000 -use_value_profile=1)
  fi
  mkdir -p "$finds"
  local folders=("$finds")
  for folder in "fuzz/corpus/$name" "fuzz/regressions/$name"; do
    [[ -d $folder ]] && folders+=("$folder")
  done
  local failed=0
  "$4" "${options[@]}" "${folders[@]}" >"$log" 2>&1 || failed=1
  if ((failed)); then
    printf 'fuzz: %-20s FAILED, see %s\n' "$name" "$log"
    grep -nE 'penstock: bug|ERROR|SUMMARY|runtime error|Test unit written|^ +#[0-9]' "$log" | head -n 30
  else
    printf 'fuzz: %-20s ok, %s runs\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
  fi
  if [[ $mode == quick ]]; then
    rm -rf "$finds"
  else
    minimize "$build" "$4"
  fi
  return "$failed"
}
export -f count minimize fuzz_one

start=$SECONDS
failed=0
# Each failure is printed by its own run, and xargs says by its exit code that there was one.
# shellcheck disable=SC2016  # the inner shell expands them
printf '%s\0' "${targets[@]}" |
  xargs -0 -n 1 -P "${JOBS:-$(nproc)}" bash -c 'fuzz_one "$1" "$2" "$3" "$4"' fuzz "$mode" "$build" "$seconds" || failed=1

inputs=$(find fuzz -type f -path 'fuzz/*/*/*' | wc -l)
result=$( ((failed)) && echo "there are FINDINGS in $build/findings" || echo "nothing found")
[[ $mode == minimize ]] && result="made small"
echo "fuzz: ${#targets[@]} targets, $inputs inputs of the repository, $((SECONDS - start)) s: $result"
exit "$failed"
