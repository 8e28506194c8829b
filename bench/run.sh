#!/bin/sh
# bench/run.sh <name> [option...]: installs what is missing (the peers included), builds that benchmark in Release and
# runs it with the options. Works from any folder; the program's exit code is the script's.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/.cmake/machine.sh"

name=${1:-}
if [ ! -f "$root/bench/$name.cpp" ]; then
    [ -z "$name" ] || say "there is no benchmark $name"
    say "usage: bench/run.sh <name> [option...]    (what the options are: bench/README.md)"
    say "benchmarks:"
    for source in "$root"/bench/*.cpp; do say "  $(basename "$source" .cpp)"; done
    exit 2
fi
shift

need_packages $build_packages libcli11-dev libbenchmark-dev libdnnl-dev libgemmlowp-dev
build_tree "$root/build" "$name" -DLAMELLA_BUILD_BENCH=ON -DLAMELLA_BUILD_EXAMPLES=ON -DLAMELLA_BUILD_TESTS=OFF
exec "$root/build/bench/$name" "$@"
