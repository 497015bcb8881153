#!/bin/bash
# Runs one Windows test program (GoogleTest) under wine, as ctest asks for: tools/run-wine.sh PROGRAM.exe ARGUMENT...
#
# WINEPREFIX is where wine keeps its Windows; windows-check.sh makes it. Output goes to a file first, PROGRAM.exe.log: wine
# has been seen to hang on a pipe whose reader is slow. A program that hangs is ended after SECONDS_EACH (100).
set -uo pipefail

export WINEDEBUG=-all
unset DISPLAY WAYLAND_DISPLAY
log=$1.log

timeout -k 10 "${SECONDS_EACH:-100}" wine64 "$@" >"$log" 2>&1 </dev/null
result=$?
(( result == 124 || result == 137 )) && echo "ended after ${SECONDS_EACH:-100} s" >>"$log"
# A program that crashed has been seen to end with 0, so it must also say that all is well.
if (( result == 0 )) && ! grep -q '^\[  PASSED  \]' "$log"; then
  head -n 40 "$log" | tr -d '\r'
  echo "ended before its tests did"
  exit 1
fi
tail -n 60 "$log" | tr -d '\r'
exit "$result"
