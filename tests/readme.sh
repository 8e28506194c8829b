#!/bin/sh
# tests/readme.sh: every C++ block of the README stands, word for word, in an example, every CMake block in a consumer
# project; and what any README links to or names (`gemm/plan.hpp`, `examples/study`) is there.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
awk -v out="$work/block" '/^```c(pp|make)$/ { n++; on = 1; next } /^```$/ { on = 0 } on { print > (out n) }' README.md
found=0
for block in "$work"/block*; do
    [ -e "$block" ] || { echo "the README has no C++ or CMake block" >&2; exit 1; }
    same=no
    for source in examples/*.cpp examples/*/*.cpp tests/consumer/*/CMakeLists.txt; do
        cmp -s "$block" "$source" && same=yes
    done
    [ $same = yes ] || { echo "not among the examples and consumers:" >&2; cat "$block" >&2; exit 1; }
    found=$((found + 1))
done

# there <name> <folder of the page>: as a path from the page or the root, of a header or an example.
there() {
    [ -e "$2/$1" ] || [ -e "$1" ] || [ -e "$1.cpp" ] || [ -e "examples/$1" ] || [ -n "$(find include -path "*/$1")" ]
}
failed=0
find . -name '*.md' ! -path './build*' ! -path './data/*' | sort >"$work/pages"
while read -r page; do
    {
        grep -oE '\]\([^)#:]+\)' "$page" | sed 's/^](//; s/)$//'
        grep -oE '`[A-Za-z0-9_./-]+`' "$page" | tr -d '`' |
            grep -E '\.(hpp|cpp|sh|py|md)$|^(examples|include|tests|bench)/'
    } | sort -u >"$work/names" || :
    while read -r name; do
        if there "$name" "$(dirname "$page")"; then
            found=$((found + 1))
        else
            echo "$page: there is no $name" >&2
            failed=$((failed + 1))
        fi
    done <"$work/names"
done <"$work/pages"
echo "$found passed, $failed failed"
[ "$failed" = 0 ]
