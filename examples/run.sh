#!/bin/sh
# examples/run.sh <name> [option...]: installs what is missing, builds that example in Release and runs it with the
# options. Works from any folder; the program's exit code is the script's.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/.cmake/machine.sh"

name=${1:-}
if [ ! -f "$root/examples/$name.cpp" ] && [ ! -f "$root/examples/$name/$name.cpp" ]; then
    [ -z "$name" ] || say "there is no example $name"
    say "usage: examples/run.sh <name> [option...]    (options: examples/run.sh <name> --help)"
    say "examples:"
    for source in "$root"/examples/*.cpp "$root"/examples/*/*.cpp; do
        stem=$(basename "$source" .cpp)
        case $source in
            "$root/examples/$stem.cpp" | "$root/examples/$stem/$stem.cpp")
                about=$(sed -n '1s|^// \([^:.]*\).*|\1|p' "$source")
                say "$(printf '  %-19s %s' "$stem" "${about:-the program in the README}")"
                ;;
        esac
    done
    exit 2
fi
shift

need_packages $build_packages libcli11-dev
build_tree "$root/build" "$name" -DLAMELLA_BUILD_EXAMPLES=ON -DLAMELLA_BUILD_TESTS=OFF
exec "$root/build/examples/$name" "$@"
