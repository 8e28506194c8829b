#!/bin/sh
# tests/same_bits.sh: compiles tests/hash_test.cpp, whose weight hashes are constants, with each compiler that is there
# at -O0 and at -O3 -march=native -ffast-math, with and without OpenMP, and runs it: every build must give those hashes.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0
for compiler in ${COMPILERS:-g++ clang++}; do
    command -v "$compiler" >/dev/null 2>&1 || { echo "skipped  $compiler is not there"; continue; }
    for flags in "-O0" "-O3 -march=native -ffast-math -fopenmp"; do
        # shellcheck disable=SC2086 # flags are words
        if "$compiler" -std=c++20 $flags -DLAMELLA_SOURCE_DIR="\"$root\"" -I"$root/include" "$root/tests/hash_test.cpp" \
            "$root/tests/main.cpp" -o "$work/hash" >"$work/log" 2>&1 && "$work/hash" >"$work/log" 2>&1; then
            echo "same bits  $compiler $flags"
            passed=$((passed + 1))
        else
            cat "$work/log"
            echo "FAILED     $compiler $flags"
            failed=$((failed + 1))
        fi
    done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
