#!/bin/bash
# Runs every check of the tree against the configured build directory $1: one line a check, and the words of those that fail.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

build=${1:-build}
python=${PYTHON:-/usr/bin/python3}
failed=0
passed=0

check() {  # NAME COMMAND...
  local name=$1 output start=$SECONDS
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1))
    printf 'lint: %-44s ok  (%d s)\n' "$name" $((SECONDS - start))
    [[ $name == clang-tidy ]] && printf '%s\n' "$output" | tail -n 1
  else
    failed=$((failed + 1))
    printf 'lint: %-44s FAILED\n%s\n' "$name" "$output"
  fi
}

formatted() { tools/sources.sh '*.cc' '*.h' | xargs -r clang-format-19 --dry-run --Werror; }

check "every include is allowed" "$python" test/lint/check_includes.py
check "the include check finds what is forbidden" "$python" test/lint/check_includes.py --self-test
check "the texts are fit to be published" "$python" tools/check_texts.py
check "the texts check finds what is not" "$python" tools/check_texts.py --self-test
check "ticked requirements name tests that exist" "$python" test/lint/check_requirements.py
check "the requirements check finds what is missing" "$python" test/lint/check_requirements.py --self-test
check "clang-format" formatted
check "every header compiles alone" cmake --build "$build" --parallel "${JOBS:-$(nproc)}" --target headers_alone
check "clang-tidy" "$python" tools/clang-tidy-cached.py "$build"

echo "lint: $passed passed, $failed failed"
((failed == 0))
