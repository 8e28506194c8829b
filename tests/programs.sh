#!/bin/sh
# tests/programs.sh MNIST CIFAR10 DATAPATH FINETUNE TAXONN DYNAMIC_WIDTH: what the example programs promise at their
# edges: a clear error on standard error and a status that is not zero for wrong options and files, one JSON object as
# the last line, and resumed runs with the same bits.
set -eu
program=$1
cifar10=$2
datapath=$3
finetune=$4
taxonn=$5
dynamic_width=$6
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); printf 'FAILED %s\n' "$1" >&2; sed 's/^/    /' "$work/out" "$work/err" >&2 || true; }

# refuses WHAT PATTERN OPTION...: the program ends with a status that is not zero, says PATTERN, and prints no result.
refuses() {
    what=$1
    pattern=$2
    shift 2
    if "$program" "$@" >"$work/out" 2>"$work/err"; then bad "$what: status 0"
    elif [ $? -ge 126 ]; then bad "$what: crashed"
    elif ! grep -qE -- "$pattern" "$work/err" "$work/out"; then bad "$what: message without '$pattern'"
    elif grep -q '^{' "$work/out"; then bad "$what: printed a result"
    else ok; fi
}
small="--data generated --images 320 --batch 32 --epochs 2"
export LAMELLA_THREADS=1
# hash OPTION...: the weight hash of a run.
hash() { "$program" $small --json "$@" 2>"$work/err" | tee "$work/out" | tail -n 1 | sed -n 's/.*"weights_sha256":"\([0-9a-f]*\)".*/\1/p'; }
equal() { if [ -n "$2" ] && [ "$2" = "$3" ]; then ok; else bad "$1: $2 and $3"; fi; }
differ() { if [ -n "$2" ] && [ "$2" != "$3" ]; then ok; else bad "$1: $2 and $3"; fi; }

refuses "unknown option" "nonsense" --nonsense
refuses "unknown model" "model" --model resnet --data generated
refuses "unknown arithmetic" "arithmetic" --arithmetic float16
refuses "width past 16" "2..16" $small --precision fixed:17
refuses "width under 2" "2..16" $small --precision fixed:1
refuses "width that is no number" "fixed.*whole number" $small --precision fixed:x
refuses "second width" "2..16" $small --precision fixed:8,40
refuses "unknown controller" "laps" $small --precision magic
refuses "cyclic fields" "lowest:highest:period" $small --precision cyclic:5:8
refuses "table past 16 bits" "2 to 16 bits" $small --precision table:9.8,1.7,1.7
refuses "table of too many rows" "one row or 5" $small --precision table:1.7,1.7,1.7+1.7,1.7,1.7
refuses "floor over ceiling" "floor" $small --precision laps@last=12..8
refuses "bound of a layer that is not there" "layer from 0 to 4" $small --precision laps@5=8
refuses "three controllers" "feed-forward/error-propagation" $small --precision laps/laps/laps
refuses "first width" "first-width" $small --first-width 99
refuses "laps fields" "hi:lo:every:patience:cooldown" $small --laps 0.3:0.2
refuses "laps lo over hi" "laps lo" $small --laps 0.2:0.3:10:2:1
refuses "radix" "radix" $small --radix sideways
refuses "allowance" "allowance" $small --allowance 2
refuses "learning rate" "lr" $small --lr minus
refuses "batch of nothing" "batch" $small --batch 0
refuses "path" "path" $small --path mmx
refuses "validation that leaves nothing" "320" $small --valid 320
refuses "missing data" "no-such-folder" --data "$work/no-such-folder"
refuses "missing checkpoint" "resume" $small --resume "$work/none"
refuses "unwritable log" "log" $small --log "$work/no/log"
refuses "unwritable trace" "trace" $small --trace "$work/no/trace"
refuses "checkpoint in no folder, before training" "no/end: folder" $small --checkpoint "$work/no/end"
case $(uname -m) in
    x86_64) refuses "path of another machine" "CPU" $small --path neon ;;
    *) refuses "path of another machine" "CPU" $small --path avx2 ;;
esac
mkdir "$work/empty" "$work/junk"
refuses "folder without files" "empty" --data "$work/empty"
for file in train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
    echo "not an IDX file, but long enough for a header" >"$work/junk/$file"
done
refuses "wrong magic" "magic.*expected.*found" --data "$work/junk"

whole=$(hash)
equal "two runs" "$whole" "$(hash)"
differ "another seed" "$whole" "$(hash --seed 2)"
equal "scalar path" "$whole" "$(hash --path scalar)"
equal "sliced execution" "$whole" "$(hash --execution sliced)"
equal "three threads" "$whole" "$(hash --threads 3)"
equal "observed run" "$whole" "$(hash --log "$work/log" --trace "$work/trace" --checkpoint "$work/end" --save-every 7)"
[ "$(wc -l <"$work/log")" -eq 22 ] && ok || bad "log: $(wc -l <"$work/log") lines, 20 steps and 2 epochs expected"
head -n 1 "$work/trace" | grep -q '^step,layer,stage' && ok || bad "trace without its header"
fixed=$(hash --precision fixed:8)
for encoding in twos-complement signed-slice; do
    equal "$encoding under fixed widths" "$fixed" "$(hash --precision fixed:8 --encoding $encoding)"
done
for step in 3 10 13; do
    hash --stop-after $step --checkpoint "$work/at$step" >/dev/null
    equal "resumed at step $step" "$whole" "$(hash --resume "$work/at$step")"
done
# A run that was cut short after its last checkpoint, its trace in the middle of a line.
hash --stop-after 9 --checkpoint "$work/at9" --trace "$work/part" >/dev/null
tail -n 3 "$work/trace" | head -c 100 >>"$work/part"
hash --resume "$work/at9" --trace "$work/part" >/dev/null
cmp -s "$work/trace" "$work/part" && ok || bad "trace of a resumed run: not that of the whole run"
hash --resume "$work/at9" --trace "$work/fresh" >/dev/null
head -n 1 "$work/fresh" | grep -q '^step,layer,stage' && ok || bad "new trace of a resumed run without its header"
# A run that explodes ends like any other, and says how many values saturated.
"$program" $small --optimizer adam --lr 1000000 >"$work/out" 2>"$work/err" || bad "learning rate of a million"
grep -q '^saturated  [1-9]' "$work/out" && ok || bad "learning rate of a million: no word of what saturated"
# Ctrl-C: the step is ended, a checkpoint is left and named, and the run goes on from it to the same bits.
interrupted() {
    "$program" --data generated --images 3200 --batch 32 --epochs 2 --json --log "$work/steps" "$@" >"$work/out" 2>"$work/err" &
    running=$!
    # The shell starts what runs in the background with SIGINT ignored; SIGTERM takes the same way.
    while ! [ -s "$work/steps" ] && kill -0 $running 2>/dev/null; do sleep 0.05; done
    kill -TERM $running
    wait $running
}
long=$("$program" --data generated --images 3200 --batch 32 --epochs 2 --json 2>/dev/null | tail -n 1)
rm -f "$work/steps"
if interrupted --checkpoint "$work/stopped"; then bad "interrupted run: status 0"
elif [ $? -ne 143 ]; then bad "interrupted run: not status 143"
elif [ -s "$work/out" ]; then bad "interrupted run printed a result"
elif ! grep -q -- "--resume $work/stopped" "$work/err"; then bad "interrupted run: does not say how to go on"
else ok; fi
equal "resumed after an interruption" "$(echo "$long" | sed -n 's/.*"weights_sha256":"\([0-9a-f]*\)".*/\1/p')" \
    "$("$program" --data generated --images 3200 --batch 32 --epochs 2 --json --resume "$work/stopped" 2>"$work/err" | tail -n 1 |
        sed -n 's/.*"weights_sha256":"\([0-9a-f]*\)".*/\1/p')"
refuses "resume with another seed" "seed" $small --seed 2 --resume "$work/at3"
refuses "resume with another batch" "batch" $small --batch 16 --resume "$work/at3"
refuses "resume with another model" "model" $small --model mlp --resume "$work/at3"
refuses "resume with another schedule" "schedule" $small --schedule step --resume "$work/at3"
direct=$(hash --feedback direct --checkpoint "$work/direct" --stop-after 13)
differ "stopped run" "$whole" "$direct"
direct=$(hash --feedback direct)
differ "direct feedback" "$whole" "$direct"
equal "direct feedback on three threads" "$direct" "$(hash --feedback direct --threads 3)"
equal "direct feedback, resumed" "$direct" "$(hash --feedback direct --resume "$work/direct")"
refuses "resume with the other feedback" "optimizer" $small --resume "$work/direct"
refuses "unknown feedback" "feedback" $small --feedback none
refuses "resume with another encoding" "encoding" $small --encoding signed-slice --resume "$work/at3"
head -c 1000 "$work/at3" >"$work/cut"
refuses "truncated checkpoint" "cut" $small --resume "$work/cut"
refuses "accelerator without a report" "report" $small --accelerator hnpu
refuses "report of a float run" "arithmetic" $small --arithmetic float32 --report "$work/report"
refuses "report of a resumed run" "first step" $small --report "$work/report" --resume "$work/end"
refuses "accelerator that is no file" "read" $small --report "$work/report" --accelerator "$work/none"
echo '{"encoding": "signed-slice"}' >"$work/machine"
refuses "accelerator of another encoding" "encoding" $small --report "$work/report" --accelerator "$work/machine"
echo '{"name": "mine", "arithmetic": {"process": "7 nm", "source": "me", "products": {"4": 1, "16": 9}}, "dram": {"source": "me", "bit": -4}}' >"$work/energy"
refuses "energy below zero" "dram.bit" $small --report "$work/report" --energy "$work/energy"
sed -i 's/-4/4/' "$work/energy"
equal "reported run" "$whole" "$(hash --report "$work/report" --report-every 5 --energy "$work/energy")"
for file in report.json report.txt report.html; do
    grep -q mine "$work/report/$file" && ok || bad "$file without the table of energies that was given"
done
equal "evaluated checkpoint" "$whole" "$(hash --eval "$work/end")"

program=$cifar10
refuses "unknown model of cifar10" "model" --model lenet5 --data generated
refuses "missing CIFAR-10" "no-such-folder/data_batch_1.bin" --data "$work/no-such-folder"
for file in data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch; do
    echo "not a batch" >"$work/junk/$file.bin"
done
refuses "CIFAR-10 batch of another size" "data_batch_1.bin: size: expected 30730000 bytes.*found 12 bytes" --data "$work/junk"
whole=$(hash)
equal "cifar10 on two threads" "$whole" "$(hash --threads 2)"
hash --augment --stop-after 13 --checkpoint "$work/augmented" >/dev/null
augmented=$(hash --augment)
differ "augmented" "$whole" "$augmented"
equal "augmented and resumed" "$augmented" "$(hash --augment --resume "$work/augmented")"
refuses "resume without augmentation" "augmentation" $small --resume "$work/augmented"
differ "float32 twin" "$whole" "$(hash --arithmetic float32)"

program=$datapath
small="--data generated --images 160 --batch 32 --epochs 1 --every 2"
refuses "unknown encoding" "encoding" $small --encoding base-ten
echo '{"lanes": 0}' >"$work/machine"
refuses "machine without lanes" "lanes" $small --machine "$work/machine"
"$program" $small >"$work/out" 2>"$work/err" || true
for encoding in sign-magnitude twos-complement signed-slice; do
    grep -q "^## $encoding" "$work/out" && ok || bad "datapath: no table for $encoding"
done
[ "$(grep -c '^| total' "$work/out")" -eq 18 ] && ok || bad "datapath: six machines for each of three encodings expected"
"$program" $small --sweep >"$work/out" 2>"$work/err" || true
[ "$(grep -cE '^\| (lanes|banks|window|balance)' "$work/out")" -ge 9 ] && ok || bad "datapath: rows of the sweep missing"

program=$finetune
refuses "fine-tuning without data" "no-such-folder" "$work/no-such-folder"
"$program" >"$work/out" 2>"$work/err" || true
awk '/^imported/ { before = $(NF - 1) } /^trained/ { after = $(NF - 1) } END { exit !(after > before + 20) }' "$work/out" &&
    ok || bad "finetune: lying digits not learned"

program=$taxonn
small="--data generated --images 300 --valid 100 --epochs 1 --seeds 1"
refuses "table of another network" "one row or 5" $small --table 1.7,1.7,1.7+1.7,1.7,1.7
refuses "table without errors" "I.F of activation, weight and error" $small --table 1.7,1.7
refuses "nothing left to train on" "300" --data generated --images 300 --valid 300
echo '{"multipliers": 64, "split": 64}' >"$work/machine"
refuses "array without multipliers for updates" "split.*64" $small --accelerator "$work/machine"
seeds() { sed -n 's/^\(| 1 | .* |\)$/\1/p' "$work/out" | tail -n 1; }
"$program" $small >"$work/out" 2>"$work/err" || true
[ "$(grep -cE '^\| (inference|training)' "$work/out")" -eq 5 ] && ok || bad "taxonn: five uses of the array expected"
table=$(sed -n 's/^--table //p' "$work/out")
searched=$(seeds)
"$program" $small --table "$table" >"$work/out" 2>"$work/err" || true
equal "taxonn with the table that it found" "$searched" "$(seeds)"
"$program" $small --model cnn3 --table 3.5,1.7,1.9 >"$work/out" 2>"$work/err" || true
grep -q '^| mean | ' "$work/out" && ok || bad "taxonn: no misclassification of cnn3"

program=$dynamic_width
few="--data generated --images 500 --batch 32 --epochs 2 --pass 16"
small="$few --valid 100 --widths 3,4,8,16"
"$program" $small --json --checkpoint "$work/net" --save "$work/known" >"$work/first" 2>"$work/err" || true
[ "$(grep -c '^## ' "$work/first")" -eq 4 ] && ok || bad "dynamic_width: two tables for each of two energy tables expected"
tail -n 1 "$work/first" | grep -q '"dynamic":' && ok || bad "dynamic_width without its JSON line"
"$program" $small --eval "$work/net" --load "$work/known" >"$work/second" 2>"$work/err" || true
grep '^|' "$work/first" >"$work/a" && grep '^|' "$work/second" >"$work/b" && cmp -s "$work/a" "$work/b" && ok ||
    bad "dynamic_width: other tables from the files that were saved"
refuses "calibration without images" "valid: expected images" $few --valid 0
refuses "widths that descend" "ascending" $few --valid 100 --widths 8,4
refuses "bound over 100" "bounds" $small --bounds 101
refuses "checkpoint trained on the calibration set" "samples: expected 450" $few --valid 50 --eval "$work/net"
refuses "characterisation of another network" "characterisation: expected that of this network" $small --seed 2 --load "$work/known"
head -c 1000 "$work/known" >"$work/cut"
refuses "truncated characterisation" "cut: characterisation: expected JSON" $small --eval "$work/net" --load "$work/cut"
refuses "characterisation saved nowhere" "no/known" $small --eval "$work/net" --save "$work/no/known"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
