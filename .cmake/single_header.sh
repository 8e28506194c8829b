#!/bin/sh
# .cmake/single_header.sh [HEADER...] >lamella.hpp: one header in place of the folder include/lamella, for those who
# copy a file into their program. Without arguments what lamella.hpp includes, which needs xtensor alone; headers with a
# component of their own are named after it, as paths in include/lamella, and then the file needs what they need:
#
#   .cmake/single_header.sh lamella.hpp io/checkpoint.hpp >lamella.hpp      nlohmann-json
#
# Components that are switched by a macro (LAMELLA_ZLIB, LAMELLA_CBLAS) and OpenMP work as with the folder;
# LAMELLA_SEPARATE does not.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
[ $# -gt 0 ] || set -- lamella.hpp
for header in "$@"; do
    [ -f "$root/include/lamella/$header" ] || { echo "$0: no header $header in include/lamella" >&2; exit 1; }
done
version=$(sed -n 's/^#define LAMELLA_VERSION_[A-Z]* \([0-9]*\)$/\1/p' "$root/include/lamella/core/config.hpp" |
    paste -sd . -)

echo "// Lamella $version in one file, made by .cmake/single_header.sh from: $*"
sed 's|^|// |; s| *$||' "$root/LICENSE"
printf '#pragma once\n#if LAMELLA_SEPARATE\n#error "LAMELLA_SEPARATE needs the folder of headers"\n#endif\n'
cd "$root/include/lamella"
# Depth first: what a header includes stands before it, once, outside of any #if around the include; definitions of what
# it declares, which it includes at its end, stand behind it.
awk '
function included(line) { return match(line, /^#include "[^"]+"/) ? substr(line, 11, RLENGTH - 11) : "" }
function path_of(from, name,    folder) {
    folder = from
    if (!sub(/\/[^\/]*$/, "", folder)) folder = ""
    while (sub(/^\.\.\//, "", name)) if (!sub(/\/[^\/]*$/, "", folder)) folder = ""
    return folder == "" ? name : folder "/" name
}
function emit(file,    line, count, lines, i, behind) {
    if (file in seen) return
    seen[file] = 1
    while ((getline line < file) > 0) lines[++count] = line
    close(file)
    if (count == 0) { print "single_header: cannot read " file > "/dev/stderr"; exit 1 }
    behind = count + 1
    for (i = 1; i <= count; ++i) {
        if (lines[i] == "#if !LAMELLA_SEPARATE") behind = i
        if (i < behind && included(lines[i]) != "") emit(path_of(file, included(lines[i])))
    }
    print "\n// ===== " file " ====="
    for (i = 1; i < behind; ++i)
        if (included(lines[i]) == "" && lines[i] != "#pragma once") print lines[i]
    for (; i <= count; ++i) if (included(lines[i]) != "") emit(path_of(file, included(lines[i])))
}
BEGIN { for (i = 1; i < ARGC; ++i) emit(ARGV[i]) }' "$@"
