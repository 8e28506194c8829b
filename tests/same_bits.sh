#!/bin/sh
# tests/same_bits.sh: compiles tests/hash_test.cpp, whose hashes are constants, with each compiler that is there at -O0,
# -O2 and -O3 -march=native -ffast-math, with and without OpenMP and xtensor's xsimd, and for 64-bit Arm (NEON, under
# emulation), and runs it: every build must give those hashes. In CI only the builds that no other step makes. A newer
# clang++-N beside clang++ goes without OpenMP, of which Debian installs one version only.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0
hashes=0

# same RUNNER COMPILER FLAG...: one build, started by RUNNER ("" for none).
same() {
    runner=$1
    shift
    # shellcheck disable=SC2086 # a runner may be nothing
    if "$@" -std=c++20 -DLAMELLA_SOURCE_DIR="\"$root\"" -I"$root/include" "$root/tests/hash_test.cpp" \
        "$root/tests/main.cpp" -o "$work/hash" >"$work/log" 2>&1 && $runner "$work/hash" >"$work/log" 2>&1; then
        echo "same bits  $*: $(tail -n 1 "$work/log")"
        passed=$((passed + 1))
        hashes=$((hashes + $(sed -n 's/ hashes compared$//p' "$work/log")))
    else
        cat "$work/log"
        echo "FAILED     $*"
        failed=$((failed + 1))
    fi
}
is_there() { command -v "$1" >/dev/null 2>&1 || { echo "skipped    $1 is not there"; return 1; }; }

for compiler in ${COMPILERS:-g++ clang++}; do
    is_there "$compiler" || continue
    same "" "$compiler" -O0
    [ "${CI:-}" = true ] || same "" "$compiler" -O2
    same "" "$compiler" -O3 -march=native -ffast-math -fopenmp
done
if [ "${CI:-}" != true ]; then
    newest=$(ls /usr/bin/clang++-[0-9]* 2>/dev/null | sort -V | tail -n 1)
    if [ -n "$newest" ] && [ "$(realpath "$newest")" != "$(realpath /usr/bin/clang++)" ]; then
        for level in -O0 -O2 "-O3 -march=native -ffast-math"; do
            # shellcheck disable=SC2086 # options are words
            same "" "$newest" $level
        done
    else
        echo "skipped    no newer clang++ is there"
    fi
    if [ -e /usr/include/xsimd/xsimd.hpp ]; then
        same "" g++ -O2 -march=native -DXTENSOR_USE_XSIMD
    else
        echo "skipped    xsimd is not there"
    fi
    if is_there aarch64-linux-gnu-g++ && is_there qemu-aarch64-static; then
        for library in xtensor xtl nlohmann doctest; do ln -s "/usr/include/$library" "$work/$library"; done
        same qemu-aarch64-static aarch64-linux-gnu-g++ -O2 -static -isystem "$work"
    fi
fi
echo "$passed builds passed, $failed failed, $hashes hashes compared"
[ "$failed" -eq 0 ]
