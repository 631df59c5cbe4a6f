#!/usr/bin/env bash
# Builds every fuzzer and searches with each for some seconds, one after the other.
# usage: tools/run_fuzzers.sh SECONDS [NAME...]        (all fuzzers by default; tests/fuzz/NAME_fuzz.cpp)
# New inputs stay in build/fuzz/found/NAME; an input that fails is left in build/fuzz/failed and ends the run with 1.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ ! ${1:-} =~ ^[0-9]+$ ]]; then
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
fi
seconds=$1
shift
names=("$@")
if ((${#names[@]} == 0)); then
  for source in tests/fuzz/*_fuzz.cpp; do
    name=${source##*/}
    names+=("${name%_fuzz.cpp}")
  done
fi
mkdir -p build
cmake --preset fuzz -Wno-dev >build/fuzz-configure.log 2>&1 || { tail -20 build/fuzz-configure.log >&2; exit 1; }
ninja -C build/fuzz "${names[@]/%/_fuzz}"

passed=0
failed=0
mkdir -p build/fuzz/failed
for name in "${names[@]}"; do
  found=build/fuzz/found/$name
  log=build/fuzz/$name.log
  mkdir -p "$found"
  # 2 GB and 20 s for one input: far above what any accepted input needs here, so a leak or a loop is told.
  if build/fuzz/"${name}_fuzz" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
      -artifact_prefix="build/fuzz/failed/$name-" "$found" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    passed=$((passed + 1))
    echo "$name: $runs inputs in $seconds s, none failed"
  else
    failed=$((failed + 1))
    echo "$name: FAILED, see $log; the input is in build/fuzz/failed:"
    grep -E "check failed|ERROR|SUMMARY|runtime error" "$log" | head -5 || true
  fi
done
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
