#!/bin/sh
# tests/faults.sh MNIST [kills [seed]]: what a run survives. Killed at random moments (default 100), it leaves a
# checkpoint that loads and resumes to the hash of the uninterrupted run, or none. A full disk, a directory that cannot
# be written, a log that cannot be written and too little memory end it with a clear error, and what was saved before
# stays.
set -eu
program=$1
kills=${2:-100}
seed=${3:-$(date +%s)}
work=$(mktemp -d)
cleanup() {
    if [ -d "$work/disk" ]; then umount "$work/disk" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap cleanup EXIT
# OpenBLAS, of the float twin, waits for ever in a thread of its own when it gets no memory.
export LAMELLA_THREADS=1 OPENBLAS_NUM_THREADS=1
passed=0
failed=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); printf 'FAILED %s\n' "$1" >&2; sed 's/^/    /' "$work/err" >&2 || true; }

run() { "$program" --data generated --images 320 --batch 16 --epochs 2 --model mlp --json "$@" 2>"$work/err"; }
hash_of() { tail -n 1 | sed -n 's/.*"weights_sha256":"\([0-9a-f]*\)".*/\1/p'; }
equal() { if [ -n "$2" ] && [ "$2" = "$3" ]; then ok; else bad "$1: $2 and $3"; fi; }
# fails WHAT PATTERN COMMAND...: it ends by itself with a status that is not zero, and says PATTERN.
fails() {
    what=$1
    pattern=$2
    shift 2
    status=0
    "$@" >"$work/out" || status=$?
    if [ "$status" -eq 0 ] || [ "$status" -ge 126 ]; then bad "$what: status $status"
    elif ! grep -qE -- "$pattern" "$work/err"; then bad "$what: message without '$pattern'"
    else ok; fi
}

begun=$(date +%s%N)
whole=$(run --checkpoint "$work/saved" --save-every 1 | hash_of)
span=$((($(date +%s%N) - begun) / 1000000))
[ -n "$whole" ] || { cat "$work/err" >&2; exit 1; }
echo "uninterrupted: $span ms, $whole"

# Moments from the first tenth of a run to a little past its end.
with=0
awk -v n="$kills" -v seed="$seed" -v span="$span" 'BEGIN { srand(seed); for (i = 0; i < n; i++) printf "%.3f\n", span * (0.1 + rand()) / 1000 }' \
    >"$work/moments"
while read -r moment; do
    rm -f "$work"/saved*
    # Not by run(): the program itself must be what is killed.
    timeout -s KILL "$moment" "$program" --data generated --images 320 --batch 16 --epochs 2 --model mlp \
        --checkpoint "$work/saved" --save-every 1 >"$work/out" 2>"$work/err" || true
    if [ -e "$work/saved" ]; then
        with=$((with + 1))
        equal "killed after $moment s (seed $seed)" "$(run --resume "$work/saved" | hash_of)" "$whole"
    else
        ok
    fi
done <"$work/moments"
echo "killed $kills times, $with of them with a checkpoint left: $failed did not resume to the same hash"

# A disk that holds one checkpoint and a half. The last run may have been killed before it left one.
run --checkpoint "$work/saved" >"$work/out"
size=$(wc -c <"$work/saved")
mkdir "$work/disk"
if mount -t tmpfs -o "size=$((size + size / 2))" lamella "$work/disk" 2>"$work/err"; then
    run --stop-after 3 --checkpoint "$work/disk/saved" >"$work/out"
    cp "$work/disk/saved" "$work/before"
    fails "disk full" "disk/saved: .*(space|device)" run --resume "$work/disk/saved" --checkpoint "$work/disk/saved" --save-every 1
    cmp -s "$work/disk/saved" "$work/before" && ok || bad "disk full: the earlier checkpoint changed"
    [ "$(ls "$work/disk")" = saved ] && ok || bad "disk full: something beside the checkpoint is left"
    equal "resumed after a full disk" "$(run --resume "$work/disk/saved" | hash_of)" "$whole"
    mount -o remount,ro "$work/disk"
    fails "directory that cannot be written" "disk/saved: .*[Rr]ead-only" run --resume "$work/disk/saved" --checkpoint "$work/disk/saved"
    fails "log that cannot be written" "disk/log.*[Rr]ead-only" run --log "$work/disk/log"
    cmp -s "$work/disk/saved" "$work/before" && ok || bad "read-only: the earlier checkpoint changed"
else
    echo "skipped: a small disk of one's own (mounting takes root)"
fi
# The largest file allowed is half a checkpoint.
limited() { (trap '' XFSZ && ulimit -f $((size / 1024)) && run "$@"); }
run --stop-after 3 --checkpoint "$work/saved" >"$work/out"
cp "$work/saved" "$work/before"
fails "file larger than allowed" "saved: .*large" limited --resume "$work/saved" --checkpoint "$work/saved"
cmp -s "$work/saved" "$work/before" && ok || bad "file size: the earlier checkpoint changed"
if [ -c /dev/full ]; then
    fails "log on a full device" "/dev/full: .*space" run --log /dev/full
    fails "trace on a full device" "/dev/full: .*space" run --trace /dev/full
fi

# Less and less memory: the run ends at its hash, or says what it lacks.
refused=0
for megabytes in 400 200 100 75 70 65 60 55 50 45 40 20; do
    status=0
    found=$( (ulimit -v $((megabytes * 1024)) && run) | hash_of) || true
    if [ "$found" = "$whole" ]; then ok
    elif grep -q "out of memory" "$work/err"; then ok; refused=$((refused + 1))
    elif grep -q "error while loading shared libraries" "$work/err"; then ok # not even begun
    else bad "$megabytes MB of memory"; fi
done
[ "$refused" -gt 0 ] && ok || bad "no amount of memory was too little"

echo "$passed passed, $failed failed (seed $seed)"
[ "$failed" -eq 0 ]
