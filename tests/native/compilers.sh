#!/bin/bash
# The driver built by several compilers and run: tests/native/compilers.sh [COMPILER ...]
#
# Without arguments, those of this list that are installed. Needs cmake, ctest and ninja; the cross compiler also needs
# qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user). Sets of instructions that this processor lacks are compiled
# and not run. SETS="baseline avx512" restricts them.
set -euo pipefail
cd "$(dirname "$0")/../.."

mkdir -p build/driver
compilers=("$@")
if ((${#compilers[@]} == 0)); then
  for compiler in g++-{11..15} clang++-{13..22} aarch64-linux-gnu-g++; do
    if command -v "$compiler" >/dev/null; then compilers+=("$compiler"); fi
  done
fi

for compiler in "${compilers[@]}"; do
  echo "== $compiler: $("$compiler" --version | head -n 1)"
  folder=build/driver/$compiler
  options=(-DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_COMPILE_WARNING_AS_ERROR=1)
  if [[ $compiler == aarch64-* ]]; then
    options+=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64
              "-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64;-L;/usr/aarch64-linux-gnu")
  elif [[ -n ${SETS:-} ]]; then
    options+=("-DDRIVER_SETS=${SETS// /;}")
  fi
  cmake -G Ninja -S tests/native -B "$folder" "${options[@]}" >"$folder.log" 2>&1 || { cat "$folder.log"; exit 1; }
  ninja -C "$folder" ${JOBS:+-j "$JOBS"} --quiet
  ctest --test-dir "$folder" --output-on-failure | grep -E 'driver_|tests passed'
done
