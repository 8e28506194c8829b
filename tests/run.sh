#!/bin/sh
# tests/run.sh [ctest option...]: installs what is missing, builds the tests and the example programs that they start,
# and runs every test through ctest. Works from any folder. At -O1, in a tree of its own, since compiling takes most of the
# time and no optimisation may change a bit (tests/same_bits.sh shows that).
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/.cmake/machine.sh"

need_packages $build_packages doctest-dev libcli11-dev
build_tree "$root/build/tests" all -DLAMELLA_BUILD_TESTS=ON -DLAMELLA_BUILD_EXAMPLES=ON \
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG"
exec ctest --test-dir "$root/build/tests" --output-on-failure --no-tests=error --parallel "$(jobs)" "$@"
