#!/bin/sh
# bench/table.sh <results.json> [<plot.svg>]: the ratio tables of a run of bench/gemm, as Markdown on standard output, and
# the plot of speed against zero share. Needs a POSIX shell and awk. Make the JSON with
#
#   gemm --benchmark_repetitions=9 --benchmark_enable_random_interleaving=true --benchmark_out=results.json
#
# Ratios are times of the peer over times of lamella, each the median of its repetitions: above 1, lamella is faster. On
# one thread times are CPU times, on several they are wall-clock times.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ] || [ ! -f "$1" ]; then
    echo "usage: bench/table.sh <results.json> [<plot.svg>]" >&2
    exit 2
fi

exec awk -v plot="${2:-}" '
# ---- the JSON of Google Benchmark: one key a line -----------------------------------------------------------------------
function value(line) {
    sub(/^[^:]*: */, "", line)
    gsub(/^"|",?$|,$/, "", line)
    return line
}
/^  "benchmarks"/ { in_rows = 1 }
!in_rows && /"(threads|openblas_core|lamella_path|date)":/ { key = $1; gsub(/[":]/, "", key); context[key] = value($0) }
in_rows && /"family_index":/ { family = value($0) + 0 }
in_rows && /"run_name":/ { row = value($0); sub(/\/real_time$/, "", row) }
in_rows && /"run_type":/ { single = value($0) == "iteration" }
in_rows && /"real_time":/ { real = value($0) }
in_rows && /"cpu_time":/ { cpu = value($0) }
in_rows && /"time_unit":/ && single {
    unit = value($0)
    scale = unit == "ns" ? 1 : unit == "us" ? 1e3 : unit == "ms" ? 1e6 : 1e9
    if (!(row in runs)) {  # in the order of the program, whatever the order of interleaved runs
        for (i = row_count++; i > 0 && family_of[order[i]] > family; --i) order[i + 1] = order[i]
        order[i + 1] = row
        family_of[row] = family
    }
    sample[row, ++runs[row]] = scale * (context["threads"] > 1 ? real : cpu)
}

function median(row,    n, i, j, x, list) {
    n = runs[row]
    for (i = 1; i <= n; ++i) {
        x = sample[row, i]
        for (j = i - 1; j > 0 && list[j] > x; --j) list[j + 1] = list[j]
        list[j + 1] = x
    }
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
}

# ---- tables -------------------------------------------------------------------------------------------------------------
# One cell: time of `peer` over time of `own`; also into the geometric mean and the minimum of its column.
function ratio(column, peer, own,    r) {
    if (!(peer in time) || !(own in time)) return "-"
    r = time[peer] / time[own]
    logs[column] += log(r)
    ++cells[column]
    if (!(column in least) || r < least[column]) least[column] = r
    return sprintf("%.2f", r)
}
function gops(row, size,    d) {
    if (!(row in time)) return "-"
    split(size, d, "x")
    return sprintf("%.0f", 2 * d[1] * d[2] * d[3] / time[row])
}
function summary(name, columns, which,    i, line) {
    line = "| " name " | | "
    for (i = 1; i <= columns; ++i)
        line = line "| " (cells[i] == 0 ? "-" : sprintf("%.2f", which == "mean" ? exp(logs[i] / cells[i]) : least[i])) " "
    return line "|"
}
function own(widths, size, layer) { return "fused/" widths "/" size "/dense" (layer == "" ? "" : "/" layer) }

function products(    i, p, n, key, layer, size, line) {
    print "Products without zeros to skip: GOP/s, and times as fast as the peer.\n"
    print "| M x N x K | layer | 8x8 GOP/s | OpenBLAS sgemm | oneDNN f32 | oneDNN s8s8 | oneDNN u8s8 | oneDNN s8s8, packing | oneDNN u8s8, packing | gemmlowp | 12x12 / sgemm | 16x8 / sgemm | 16x16 / sgemm |"
    print "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for (i = 1; i <= row_count; ++i) {
        n = split(order[i], p, "/")
        if (p[1] != "fused" || p[4] != "dense" || p[2] != "8x8") continue
        size = p[3]
        layer = n > 4 ? p[5] : ""
        key = own("8x8", size, layer)
        line = "| " size " | " layer " | " gops(key, size)
        line = line " | " ratio(1, "openblas_sgemm/" size, key)
        line = line " | " ratio(2, "onednn_f32/" size "/packing:outside", key)
        line = line " | " ratio(3, "onednn_s8s8/" size "/packing:outside", key)
        line = line " | " ratio(4, "onednn_u8s8/" size "/packing:outside", key)
        line = line " | " ratio(5, "onednn_s8s8/" size "/packing:inside", key)
        line = line " | " ratio(6, "onednn_u8s8/" size "/packing:inside", key)
        line = line " | " ratio(7, "gemmlowp/" size, key)
        line = line " | " ratio(8, "openblas_sgemm/" size, own("12x12", size, layer))
        line = line " | " ratio(9, "openblas_sgemm/" size, own("16x8", size, layer))
        line = line " | " ratio(10, "openblas_sgemm/" size, own("16x16", size, layer))
        print line " |"
    }
    print summary("geometric mean", 10, "mean")
    print summary("lowest", 10, "least")
    print ""
}

# Rows with zeros, beside the same product without.
function skipping(    i, n, p, base, fused, same, shown, at) {
    for (i = 1; i <= row_count; ++i) {
        n = split(order[i], p, "/")
        at = p[1] == "sliced" ? 2 : p[1] == "fused" ? 1 : 0
        if (at == 0 || (p[at + 3] == "dense" && at == 1) || n > at + 3) continue
        base = p[1] "/" (at == 2 ? p[2] "/" : "") p[at + 1] "/" p[at + 2] "/dense"
        fused = own(p[at + 1], p[at + 2], "")
        if (!(base in time) || !(fused in time)) continue
        if (!shown++) {
            print "Zeros in the left operand (right_: in the right one): times as fast as the same without zeros, as fused without zeros, as fused with them.\n"
            print "| execution | widths | M x N x K | zeros | own dense | fused dense | fused, same zeros |"
            print "| --- | --- | --- | --- | ---: | ---: | ---: |"
        }
        same = "fused/" p[at + 1] "/" p[at + 2] "/" p[at + 3]
        printf "| %s | %s | %s | %s | %.2f | %.2f | %s |\n", p[1] (at == 2 ? ", " p[2] : ""), p[at + 1], p[at + 2], p[at + 3],
            time[base] / time[order[i]], time[fused] / time[order[i]],
            same in time ? sprintf("%.2f", time[same] / time[order[i]]) : "-"
    }
    if (shown) print ""
}

# ---- plot ---------------------------------------------------------------------------------------------------------------
function px(share) { return left + share * wide }
function py(speed) { return bottom - speed / top_speed * high }
function text(x, y, anchor, more, words) {
    printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>%s</text>\n", x, y, anchor, more == "" ? "" : " " more, words > plot
}
function stroke(x1, y1, x2, y2, style) {
    printf "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2, style > plot
}
# Points of a curve, in order of the zero share: share[i], speed[i].
function curve_points(prefix, kind,    i, j, n, p, s) {
    n = 1
    share[1] = 0
    speed[1] = time[reference] / time[prefix "dense"]
    for (i = 1; i <= row_count; ++i) {
        if (index(order[i], prefix kind ":") != 1) continue
        s = substr(order[i], length(prefix kind ":") + 1) + 0
        for (j = n; j > 0 && share[j] > s; --j) { share[j + 1] = share[j]; speed[j + 1] = speed[j] }
        share[j + 1] = s
        speed[j + 1] = time[reference] / time[order[i]]
        ++n
    }
    return n
}
function draw_plot(    c, i, n, size, steps, path, at, x) {
    size = "1024x1024x1024"
    reference = "fused/8x8/" size "/dense"
    if (!(reference in time)) { print "no plot: no row " reference > "/dev/stderr"; return }
    label[1] = "fused, 6 x 4 tiles";   prefix[1] = "fused/8x8/" size "/";                 kind[1] = "tiles";  colour[1] = "#0072b2"; dash[1] = ""
    label[2] = "fused, groups of 4";   prefix[2] = prefix[1];                             kind[2] = "groups"; colour[2] = "#0072b2"; dash[2] = "6 4"
    label[3] = "sliced, 6 x 4 tiles";  prefix[3] = "sliced/sign-magnitude/8x8/" size "/"; kind[3] = "tiles";  colour[3] = "#d55e00"; dash[3] = ""
    label[4] = "sliced, groups of 4";  prefix[4] = prefix[3];                             kind[4] = "groups"; colour[4] = "#d55e00"; dash[4] = "6 4"
    top_speed = 2
    for (c = 1; c <= 4; ++c) {
        if (!((prefix[c] "dense") in time)) continue
        n = curve_points(prefix[c], kind[c])
        for (i = 1; i <= n; ++i) if (speed[i] > top_speed) top_speed = speed[i]
    }
    steps = top_speed > 12 ? 4 : top_speed > 6 ? 2 : top_speed > 3 ? 1 : 0.5
    top_speed = steps * (int(top_speed / steps) + 1)
    left = 70; wide = 500; high = 320; bottom = 380
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"440\" viewBox=\"0 0 760 440\" font-family=\"sans-serif\" font-size=\"14\" fill=\"#222\">\n" > plot
    print "<rect width=\"760\" height=\"440\" fill=\"#fff\"/>" > plot
    text(left, 28, "start", "font-size=\"15\" font-weight=\"bold\"", "Speed against the share of zeros (8 x 8 bits, 1024 x 1024 x 1024, " (context["threads"] > 1 ? context["threads"] " threads" : "one thread") ")")
    for (i = 0; i * steps <= top_speed + 1e-9; ++i) {
        stroke(left, py(i * steps), left + wide, py(i * steps), "stroke=\"#ddd\"")
        text(left - 10, py(i * steps) + 5, "end", "", i * steps)
    }
    for (i = 0; i <= 5; ++i) {
        stroke(px(i / 5), bottom, px(i / 5), bottom + 5, "stroke=\"#222\"")
        text(px(i / 5), bottom + 22, "middle", "", i * 20 " %")
    }
    stroke(left, bottom, left + wide, bottom, "stroke=\"#222\"")
    stroke(left, py(1), left + wide, py(1), "stroke=\"#222\" stroke-width=\"1.5\"")
    text(left + wide / 2, bottom + 46, "middle", "", "zero groups or tiles of the left operand")
    text(0, 0, "middle", "transform=\"translate(24 " (bottom - high / 2) ") rotate(-90)\"", "speed, fused without zeros = 1")
    for (c = 1; c <= 4; ++c) {
        if (!((prefix[c] "dense") in time)) continue
        n = curve_points(prefix[c], kind[c])
        path = ""
        for (i = 1; i <= n; ++i) path = path sprintf("%.1f,%.1f ", px(share[i]), py(speed[i]))
        printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2.5\"%s/>\n", path, colour[c], dash[c] == "" ? "" : " stroke-dasharray=\"" dash[c] "\"" > plot
        for (i = 1; i <= n; ++i) printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", px(share[i]), py(speed[i]), colour[c] > plot
        at = 66 + 24 * c
        stroke(left + wide + 20, at - 5, left + wide + 48, at - 5, "stroke=\"" colour[c] "\" stroke-width=\"2.5\"" (dash[c] == "" ? "" : " stroke-dasharray=\"" dash[c] "\""))
        text(left + wide + 54, at, "start", "font-size=\"13\"", label[c])
        # Where the slices are as fast as the fused product without zeros.
        for (i = 2; i <= n && prefix[c] ~ /^sliced/; ++i) {
            if (speed[i - 1] >= 1 || speed[i] < 1) continue
            x = share[i - 1] + (1 - speed[i - 1]) / (speed[i] - speed[i - 1]) * (share[i] - share[i - 1])
            printf "Break-even of %s with fused without zeros: %.0f %% zeros.\n\n", label[c], 100 * x
        }
    }
    print "</svg>" > plot
}

END {
    if (row_count == 0) { print "no rows: is this the JSON of a run of bench/gemm?" > "/dev/stderr"; exit 1 }
    for (i = 1; i <= row_count; ++i) time[order[i]] = median(order[i])
    printf "OpenBLAS kernels %s, lamella path %s, threads %s, medians of %d.\n\n", context["openblas_core"], context["lamella_path"], context["threads"], runs[order[1]]
    products()
    skipping()
    if (plot != "") draw_plot()
}' "$1"
