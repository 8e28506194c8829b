#!/bin/sh
# tests/fuzz/run.sh [seconds [target...]]: fuzzes each target (default: all, ten minutes each) from its seeds and its
# saved inputs with libFuzzer, AddressSanitizer and UBSan, and prints how many inputs were tried. Inputs that reach new
# code are saved in corpus/TARGET.hex, a line each; those that break a promise stay in build/fuzz.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
build="$root/build/fuzz"
seconds=${1:-600}
[ $# -eq 0 ] || shift
[ $# -ne 0 ] || set -- idx cifar gzip safetensors configuration energy characterisation checkpoint state floats
kept=20 # saved inputs of a target, at most
mkdir -p "$build"

# What definitions.hpp has is compiled apart, under the same checks but without the fuzzer's counts of what was reached.
flags="-std=c++20 -O1 -g1 -DLAMELLA_ZLIB=1 -DLAMELLA_SEPARATE=1 -I$root/include
    -fsanitize=address,undefined -fno-sanitize=null,alignment,vptr,object-size -fno-sanitize-recover=undefined"
old() { [ ! -e "$1" ] || [ -n "$(find "$root/tests/fuzz" "$root/include" -name "*.?pp" -newer "$1")" ]; }
# shellcheck disable=SC2086 # flags are words
compile() {
    objects=
    if [ "$1" = states ]; then
        objects=$build/definitions.o
        echo '#include <lamella/definitions.hpp>' >"$build/definitions.cpp"
        ! old "$objects" || clang++ $flags -c "$build/definitions.cpp" -o "$objects"
    fi
    ! old "$build/$1" || clang++ $flags -fsanitize=fuzzer "$root/tests/fuzz/$1.cpp" $objects -o "$build/$1" -lz
}
failed=0
for target in "$@"; do
    case $target in
        checkpoint | state | floats) program=states ;;
        *) program=readers ;;
    esac
    compile $program
    case $target in
        cifar) longest=6200 ;;
        checkpoint | floats) longest=4096 ;;
        state) longest=106 ;; # eight edits
        *) longest=2048 ;;
    esac
    seeds="$build/$target-seeds" corpus="$build/$target-corpus"
    mkdir -p "$seeds" "$corpus"
    saved="$root/tests/fuzz/corpus/$target.hex"
    if [ -e "$saved" ]; then
        number=0
        while read -r line; do
            printf '%s' "$line" | xxd -r -p >"$corpus/saved-$((number += 1))"
        done <"$saved"
    fi
    LAMELLA_FUZZ_TARGET=$target LAMELLA_FUZZ_SEEDS="$seeds" "$build/$program" "$corpus" "$seeds" -max_len=$longest \
        -len_control=0 -max_total_time="$seconds" -malloc_limit_mb=16 -rss_limit_mb=1024 -timeout=20 \
        -print_final_stats=1 -artifact_prefix="$build/$target-" >"$build/$target.log" 2>&1 || failed=1
    tried=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$target.log")
    found=$(grep -c -E 'ERROR|runtime error|broken promise' "$build/$target.log" || true)
    if [ -z "$tried" ] || [ "$found" != 0 ]; then
        echo "$target: ${tried:-no} inputs tried, FAILED, see $build/$target.log"
        failed=1
        continue
    fi
    echo "$target: $tried inputs tried, nothing found"
    # The smallest set that reaches what all of them reach.
    rm -rf "$build/least"
    mkdir "$build/least"
    LAMELLA_FUZZ_TARGET=$target "$build/$program" -merge=1 -max_len=$longest "$build/least" "$corpus" "$seeds" \
        >"$build/$target-merge.log" 2>&1 || true
    mkdir -p "$root/tests/fuzz/corpus"
    # Of all sizes, none longer than a kilobyte: these are committed.
    (cd "$build/least" && find . -type f -size -1025c -exec ls -Sr {} + | awk -v most=$kept '{ all[NR] = $0 }
        END { step = NR > most ? NR / most : 1; for (i = 1; i <= NR; i += step) print all[int(i)] }' |
        while read -r file; do xxd -p "$file" | tr -d '\n'; echo; done) >"$saved"
done
exit $failed
