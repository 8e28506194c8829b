#!/bin/sh
# tests/documented.sh: every public name of include/lamella (a class, function, constant, alias or concept at namespace
# scope, outside of `detail`) has a comment: above it, at the end of its line, or above the group without a blank line
# that it stands in. Definitions of what was declared before (out-of-class members, specialisations) have theirs there, a
# class that its header is named after has the header's opening comment, and the words of an enumeration (..._names,
# name_of, to_string) need none.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root/include"
find . -name '*.hpp' | sort | xargs awk '
function closes(text,    opened, closed) {
    sub(/\/\/.*/, "", text)
    gsub(/"([^"\\]|\\.)*"|\047[{}()]\047/, "", text)
    opened = gsub(/[{(]/, "", text)
    closed = gsub(/[})]/, "", text)
    return closed - opened
}
FNR == 1 && depth != 0 { print last ": brackets that do not pair, for this reader"; ++missing }
FNR == 1 { last = FILENAME }
FNR == 1 { stem = FILENAME; sub(/.*\//, "", stem); sub(/\.hpp$/, "", stem) }
FNR == 1 { hidden = depth = 0; above = begun = "" }
/^namespace .*detail.* {$/ { hidden = 1 }
/^}  \/\/ namespace .*detail/ { hidden = 0; next }
/^(namespace|}  \/\/ namespace)/ { above = ""; next }
depth > 0 { depth -= closes($0); if (depth == 0) begun = ""; next }
/^$/ { above = begun = ""; next }
/^\/\// { above = "comment"; next }
hidden || /^[#}]/ || /^ / { next }
/^template/ && !/[;}]$/ { begun = $0; depth -= closes($0); next }
{
    line = begun $0
    depth -= closes($0)
    head = $0
    sub(/[({=;].*/, "", head)
    again = head ~ /::[A-Za-z0-9_~]+ *$/ || /^(class|struct) [a-z_:]+;$/ || /^template <>/ || begun ~ /^template <>$/ ||
        /^static_assert/ || /^LAMELLA_/ || head ~ /(class|struct) [a-z0-9_]+::/ || /operator/ || /^__extension__/ ||
        /^using namespace/ || head ~ /(_names| name_of| to_string)$/ || head ~ "(class|struct) " stem "( final.*)? *$" ||
        /^extern/ || head ~ / [a-z_]+<.*> *$/
    if (!again && above == "" && $0 !~ /\/\//) { print FILENAME ":" FNR ": " $0; ++missing } else if (!again) ++found
    begun = ""
}
END {
    print found + 0 " passed, " missing + 0 " failed"
    exit found == 0 || missing > 0
}'
