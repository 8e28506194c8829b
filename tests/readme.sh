#!/bin/sh
# tests/readme.sh: every C++ block of the README stands, word for word, in a file that is compiled.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
awk -v out="$work/block" '/^```cpp$/ { n++; on = 1; next } /^```$/ { on = 0 } on { print > (out n) }' "$root/README.md"
found=0
for block in "$work"/block*; do
    [ -e "$block" ] || { echo "the README has no C++ block" >&2; exit 1; }
    same=no
    for source in "$root"/examples/*.cpp "$root"/examples/*/*.cpp; do
        cmp -s "$block" "$source" && same=yes
    done
    [ $same = yes ] || { echo "not among the examples:" >&2; cat "$block" >&2; exit 1; }
    found=$((found + 1))
done
echo "$found passed, 0 failed"
