#!/bin/sh
# examples/table.sh PROGRAM DIR [option...]: trains in integers and as the float32 twin for seeds 1..5 (SEEDS="1 2" for
# others), both with the given options of the example program (mnist, cifar10), and prints the paired results as a
# Markdown table. What each run printed is kept in DIR; runs that are there already are not repeated.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
program=$1
shift
out=$1
shift
mkdir -p "$out"

# field NAME FILE: a number of the JSON object on the last line of a run's output.
field() { tail -n 1 "$2" | sed -n "s/.*\"$1\":\([0-9.eE+-]*\).*/\1/p"; }
mean_of() { tail -n 1 "$2" | sed -n "s/.*\"mean_width\":{[^}]*\"$1\":\([0-9.]*\).*/\1/p"; }
changed() { # layers whose width changed in a stage
    tail -n 1 "$2" | sed -n "s/.*\"width_changes\":{[^}]*\"$1\":\[\([0-9,]*\)\].*/\1/p" | tr ',' '\n' |
        grep -vc '^0$' || true
}

echo "| seed | integers | float32 twin | difference | layers that moved FF, EP | mean width FF, EP, WG | slice products / dense16: dense, issued |"
echo "|---|---|---|---|---|---|---|"
for seed in ${SEEDS:-1 2 3 4 5}; do
    for arithmetic in fixed float32; do
        result=$out/$arithmetic-$seed.txt
        [ -s "$result" ] && tail -n 1 "$result" | grep -q '^{' && continue
        "$root/examples/run.sh" "$program" "$@" --arithmetic $arithmetic --seed "$seed" --json >"$result.part"
        mv "$result.part" "$result"
    done
    a=$out/fixed-$seed.txt
    b=$out/float32-$seed.txt
    echo "$seed $(field test_accuracy "$a") $(field test_accuracy "$b") $(changed feed_forward "$a") \
$(changed error_propagation "$a") $(mean_of feed_forward "$a") $(mean_of error_propagation "$a") \
$(mean_of weight_gradient "$a") $(field dense16 "$a") $(field dense "$a") $(field issued "$a")"
done | awk '
    { d = 100 * ($2 - $3); n++; x += $2; y += $3; s += d; q += d * d; dense += $10 / $9; issued += $11 / $9
      printf "| %d | %.2f %% | %.2f %% | %+.2f | %d, %d | %.2f, %.2f, %.2f | %.4f, %.4f |\n",
             $1, 100 * $2, 100 * $3, d, $4, $5, $6, $7, $8, $10 / $9, $11 / $9 }
    END { if (n > 1) e = sqrt((q - s * s / n) / (n - 1) / n)
          printf "| mean of %d | %.3f %% | %.3f %% | %+.3f (standard error %.3f) | | | %.4f, %.4f |\n",
                 n, 100 * x / n, 100 * y / n, s / n, e, dense / n, issued / n }'
