#!/bin/sh
# tests/sanitize.sh [address] [thread] [memory]: the checks that CI has no time for (default: all three), a line a test.
#   address  every test under AddressSanitizer and UBSan (CI runs those that read files and run kernels)
#   thread   the tests with threads under ThreadSanitizer: clang++ with LLVM's OpenMP and Archer, which tells the
#            sanitizer what OpenMP orders; g++'s libgomp would show races that are none
#   memory   the readers under valgrind
# TESTS="idx_test gemm_test" chooses others.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
build="$root/build/sanitize"
failed=0
[ $# -ne 0 ] || set -- address thread memory

# check <kind> <libraries> <compile command> <runner> <test...>
check() {
    kind=$1 libraries=$2 compile=$3 runner=$4
    shift 4
    mkdir -p "$build/$kind"
    objects="$build/$kind/main.o $build/$kind/definitions.o"
    echo '#include <lamella/definitions.hpp>' >"$build/definitions.cpp"
    # shellcheck disable=SC2086 # commands, libraries and objects are words
    if [ ! -e "$build/$kind/definitions.o" ] ||
        [ -n "$(find "$root/include" -name "*.hpp" -newer "$build/$kind/definitions.o")" ]; then
        $compile -c "$root/tests/main.cpp" -o "$build/$kind/main.o"
        $compile -c "$build/definitions.cpp" -o "$build/$kind/definitions.o"
    fi
    # shellcheck disable=SC2086
    for test in ${TESTS:-"$@"}; do
        if { $compile "$root/tests/$test.cpp" $objects -o "$build/$kind/$test" $libraries &&
            $runner "$build/$kind/$test"; } >"$build/$kind/$test.log" 2>&1; then
            echo "$kind: passed $test"
        else
            echo "$kind: FAILED $test, see $build/$kind/$test.log"
            failed=1
        fi
    done
}
own="-std=c++20 -g1 -DLAMELLA_ZLIB=1 -DLAMELLA_SEPARATE=1 -DLAMELLA_SOURCE_DIR=\"$root\" -I$root/include"

for kind in "$@"; do
    case $kind in
        address)
            all=$(cd "$root/tests" && ls ./*_test.cpp | sed 's|^./||; s|.cpp$||')
            # shellcheck disable=SC2086 # test names are words
            check address -lz "g++ -O1 -fopenmp -fsanitize=address,undefined
                -fno-sanitize=null,alignment,vptr,object-size -fno-sanitize-recover=undefined $own" "" $all
            ;;
        thread)
            archer=$(ls /usr/lib/llvm-*/lib/libarcher.so 2>/dev/null | tail -n 1)
            check thread -lz "clang++ -O1 -fopenmp -fsanitize=thread $own" \
                "env OMP_TOOL_LIBRARIES=$archer TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1" \
                quantise_test histogram_test optc_test channel_sums_test pool_test batch_norm_test gemm_test hash_test
            ;;
        memory)
            check memory -lz "g++ -O1 $own" "valgrind --quiet --error-exitcode=9 --leak-check=full" \
                idx_test cifar_test checkpoint_test float_weights_test configuration_test energy_test
            ;;
        *) echo "address, thread or memory, not $kind" >&2; exit 2 ;;
    esac
done
exit $failed
