#!/bin/sh
# Builds kernels/ and its tests for AArch64 and runs them under qemu-user. Exit 0: passed; 1: failed; 77: skipped.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/aarch64}
for tool in aarch64-linux-gnu-g++ qemu-aarch64 cmake ninja; do
  if ! command -v "$tool" >/dev/null; then
    echo "skipped: $tool is missing (apt-get install g++-aarch64-linux-gnu qemu-user cmake ninja-build)"
    exit 77
  fi
done
cmake -S "$root/cmake/aarch64" -B "$build" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$root/cmake/toolchain-aarch64.cmake" >"$build.log" 2>&1 ||
  { cat "$build.log"; exit 1; }
ninja -C "$build" kernels_tests
qemu-aarch64 "$build/kernels_tests"
