#!/bin/sh
# tests/run.sh [ctest option...]: installs what is missing, builds the tests in Release and runs every one through
# ctest. Works from any folder.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/.cmake/machine.sh"

need_packages $build_packages doctest-dev libcli11-dev
build_tree "$root/build" all -DLAMELLA_BUILD_TESTS=ON -DLAMELLA_BUILD_EXAMPLES=ON
exec ctest --test-dir "$root/build" --output-on-failure --no-tests=error --parallel "$(jobs)" "$@"
