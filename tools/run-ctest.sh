#!/bin/bash
# Runs the tests of the build directory $1 and prints what failed and ctest's own summary, not the hundreds that passed.
set -euo pipefail

# A sanitizer that finds something must fail the test, with a stack that has names.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}
export ASAN_SYMBOLIZER_PATH=${ASAN_SYMBOLIZER_PATH:-/usr/bin/llvm-symbolizer-19}

ctest --test-dir "$1" --parallel "${JOBS:-$(nproc)}" --output-on-failure --no-tests=error 2>&1 |
  grep -vE '^ +Start |^ *[0-9]+/[0-9]+ Test .* Passed +[0-9.]+ sec *$|^Internal ctest changing'
