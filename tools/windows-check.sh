#!/bin/bash
# Builds the rooms that a Windows client stands on with MinGW in the build directory $1, without warnings, and runs their
# tests under wine: what failed is printed, then one line.
#
# A second run with the same directory waits for the first. Wine's Windows stands in $1/wine, nothing of it elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

build=$1
mkdir -p "$build"
build=$(realpath "$build")
exec 9>"$build/windows-check.lock"
flock 9

cmake -S . -B "$build" -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/mingw-w64.cmake -DCMAKE_COMPILE_WARNING_AS_ERROR=ON \
  -DCMAKE_CROSSCOMPILING_EMULATOR="$PWD/tools/run-wine.sh" >"$build/configure.log" 2>&1 9>&- ||
  { cat "$build/configure.log"; exit 1; }
tools/quiet-build.sh "$build" 9>&-

# A new prefix takes seconds and is kept; another version of wine makes its own. The server stays for all programs and goes
# with the end of this script, or a minute after it was killed.
export WINEPREFIX=$build/wine WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml,winemenubuilder.exe='
PATH=$PATH:/usr/lib/wine  # where the package wine64 alone leaves them
unset DISPLAY WAYLAND_DISPLAY
quietly() { timeout -k 10 300 "$@" >"$build/wine.log" 2>&1 </dev/null 9>&- || { tail -n 20 "$build/wine.log"; exit 1; }; }
version=$(wine64 --version)
[[ $(cat "$WINEPREFIX/made-by" 2>/dev/null) == "$version" ]] || rm -rf "$WINEPREFIX"
mkdir -p "$WINEPREFIX"
trap 'wineserver -k 2>/dev/null 9>&- || true' EXIT
quietly wineserver -p60
if [[ ! -f $WINEPREFIX/made-by ]]; then
  quietly wine64 wineboot --init
  echo "$version" >"$WINEPREFIX/made-by"
fi

find "$build" -name '*_test.exe.log' -delete
tools/run-ctest.sh "$build" 9>&-
find "$build" -name '*_test.exe.log' -exec sed -n 's/\r$//; s/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' {} + |
  awk '{ tests += $1 } END { printf "windows-check: %d tests of %d programs passed under wine\n", tests, NR }'
