// A report (report.hpp) as one HTML page that needs nothing else: no network, no other file. The report stands in it
// as JSON; a small script draws it and computes no figure. Every number on the page carries the JSON pointer of its
// figure (data-path), so that a test can hold the page against the report (tests/report_test.cpp).
#pragma once

#include <string>

#include "report.hpp"

namespace lamella::accelerator {
namespace detail {

inline constexpr const char* page_before = R"page(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Training run report</title>
<style>
:root { --ink: #1c2127; --soft: #667079; --line: #dde2e7; --paper: #fff; --shade: #f5f7f9; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 32px 60px; max-width: 1180px; background: var(--paper); color: var(--ink);
  font: 14px/1.45 system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; margin: 0 0 2px; }
h2 { font-size: 17px; margin: 34px 0 4px; } h3 { font-size: 13px; margin: 0 0 4px; }
p { margin: 2px 0 8px; } .soft, figcaption, .unit { color: var(--soft); }
.keys { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 18px 0 6px; }
.key { background: var(--shade); border-radius: 8px; padding: 10px 12px; }
.key b { display: block; font-size: 22px; font-weight: 600; } .key span.note { color: var(--soft); font-size: 12px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 6px 0 10px; font-size: 13px; }
.wide { overflow-x: auto; }
th, td { text-align: right; padding: 3px 9px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.own td { font-weight: 600; } td.left, th.left { text-align: left; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 18px 26px; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(500px, 1fr)); gap: 22px 34px; }
.dense { font-size: 12px; } .dense th, .dense td { padding: 2px 5px; }
.columns { columns: 4 200px; font-size: 12px; color: var(--soft); } .columns b { color: var(--ink); font-weight: 600; }
.columns div { overflow-wrap: anywhere; break-inside: avoid; padding: 1px 0; }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; overflow: visible; margin: 2px 0 6px; }
svg text { font: 11px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
svg .axis { fill: var(--soft); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 2px 0 8px; font-size: 12px; color: var(--soft); }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 5px;
  vertical-align: -1px; }
ul { margin: 4px 0; padding-left: 18px; } li { margin: 2px 0; overflow-wrap: anywhere; }
</style>
<body>
<script id="report" type="application/json">)page";
inline constexpr const char* page_after = R"page(</script>
<script>
"use strict";
// Everything shown is read from the report by its JSON pointer. data-path and data-value say which figure it is;
// data-factor and data-digits how it was printed; data-scale (and data-origin) what a length means.
const report = JSON.parse(document.getElementById("report").textContent);
const at = path => path.split("/").slice(1).reduce((o, key) => o[key], report);
const entities = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"};
const escape = text => String(text).replace(/[&<>"]/g, c => entities[c]);
const marks = path => `data-path="${path}" data-value="${at(path)}"`;
const prefixes = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "\u00b5"]];

// How a value is printed: factor, digits after the point, what follows.
function style(value, kind) {
  if (kind === "plain" || value === 0) return {factor: 1, digits: Number.isInteger(value) ? 0 : 2, tail: ""};
  if (kind === "percent") return {factor: 100, digits: 1, tail: "\u2009%"};
  if (kind === "percent2") return {factor: 100, digits: 2, tail: "\u2009%"};
  if (Number.isInteger(value) && Math.abs(value) < 1e4) return {factor: 1, digits: 0, tail: ""};
  let [unit, tail] = prefixes.find(([u]) => Math.abs(value) >= u) || prefixes[prefixes.length - 1];
  if (unit < 1 && kind === "count") [unit, tail] = [1, ""];
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value / unit))));
  return {factor: 1 / unit, digits: Math.min(digits, 4), tail: tail === "" ? "" : "\u2009" + tail};
}
function shown(path, kind) {
  const value = at(path), s = style(value, kind);
  const how = `data-factor="${s.factor}" data-digits="${s.digits}"`;
  return {marks: `${marks(path)} ${how}`, text: (value * s.factor).toFixed(s.digits), tail: s.tail};
}
const figure = (path, kind, unit) => {
  const s = shown(path, kind), space = s.tail === "" ? "\u2009" : "";
  const after = unit ? `<span class="unit">${space}${unit}</span>` : "";
  return `<span><span ${s.marks}>${s.text}</span>${s.tail}${after}</span>`;
};
const count = path => figure(path, "count"), plain = path => figure(path, "plain");
const percent = path => figure(path, "percent"), bytes = path => figure(path, "bytes", "B");
const plainText = value => typeof value === "string" ? value : JSON.stringify(value);
const words = path => `<span data-path="${path}" data-text="1">${escape(plainText(at(path)))}</span>`;

const section = (title, note, body) => document.body.insertAdjacentHTML("beforeend",
  `<h2>${title}</h2>${note ? `<p class="soft">${note}</p>` : ""}${body}`);
const row = (cells, own) => `<tr${own ? ' class="own"' : ""}>${cells.map(c => `<td>${c}</td>`).join("")}</tr>`;
const head = cells => `<tr>${cells.map(c => `<th>${c}</th>`).join("")}</tr>`;
const legend = (names, colours) => `<div class="legend">` +
  names.map((n, i) => `<span><i style="background:${colours[i]}"></i>${escape(n)}</span>`).join("") + `</div>`;
const panels = (kind, figures) => `<div class="${kind}">${figures.map(f => `<figure>${f}</figure>`).join("")}</div>`;

const stages = ["feed_forward", "error_propagation", "weight_gradient", "weight_update"];
const stageNames = ["feed-forward", "error propagation", "weight gradient", "weight update"];
const stageColours = ["#0072b2", "#e69f00", "#009e73", "#b8bfc6"];
const levels = ["arithmetic", "registers", "network", "buffer", "dram"];
const levelNames = ["arithmetic", "registers", "network", "buffer", "DRAM"];
const levelColours = ["#0072b2", "#56b4e9", "#cc79a7", "#e69f00", "#7a828a"];
const roles = ["activation", "weight", "error"];
const layerColour = (i, n) => `hsl(${Math.round(250 - 215 * i / Math.max(n - 1, 1))} 62% ${42 + 8 * (i % 2)}%)`;
const last = report.machines.length - 1;

// Drawings. At most as large as drawn, so that text keeps its size.
const drawing = (width, height, body) =>
  `<svg viewBox="0 0 ${width} ${height}" style="max-width:${width}px">${body}</svg>`;
const text = (x, y, anchor, body, more) =>
  `<text x="${x}" y="${y}" text-anchor="${anchor}" ${more || ""}>${body}</text>`;
const label = (x, y, anchor, path, kind, unit) => {
  const s = shown(path, kind);
  return text(x, y, anchor, `<tspan ${s.marks}>${s.text}</tspan>${s.tail}${unit || ""}`);
};

// Stacked horizontal bars: rows of {name, paths, total, kind, unit}; `most` fills the space, or the longest does.
function bars(rows, colours, own, most) {
  const left = 176, room = 300, high = 17, gap = 7;
  const sums = rows.map(r => r.paths.reduce((sum, p) => sum + at(p), 0));
  const scale = room / (most || Math.max(...sums, 1e-30));
  const body = rows.map((r, i) => {
    const y = i * (high + gap);
    let x = left;
    const parts = r.paths.map((p, k) => {
      const place = `x="${x}" y="${y}" width="${at(p) * scale}" height="${high}" fill="${colours[k]}"`;
      x += at(p) * scale;
      return `<rect ${place} ${marks(p)} data-scale="${scale}"><title>${escape(p)} ${at(p)}</title></rect>`;
    });
    return text(left - 8, y + 12.5, "end", escape(r.name), i === own ? 'font-weight="600"' : "") + parts.join("") +
      label(x + 6, y + 12.5, "start", r.total, r.kind, r.unit);
  });
  return drawing(left + room + 84, rows.length * (high + gap), body.join(""));
}

// Shares over x: series of {name, colour, paths, xs}; `xs` and theirs are paths too. Values from `low` to 1.
function lines(xs, series, low, xName) {
  const left = 44, top = 8, width = 330, height = 150, right = 12, end = width - right, bottom = top + height + 15;
  const x0 = at(xs[0]), x1 = Math.max(at(xs[xs.length - 1]), x0 + 1);
  const scale = height / (1 - low), origin = top + height + low * scale;
  const sx = x => left + (x - x0) / (x1 - x0) * (end - left), sy = value => origin - value * scale;
  const grid = [0, 0.25, 0.5, 0.75, 1].map(t => low + t * (1 - low)).map(t =>
    `<line x1="${left}" x2="${end}" y1="${sy(t)}" y2="${sy(t)}" stroke="#dde2e7"/>` +
    text(left - 6, sy(t) + 4, "end", `${(100 * t).toFixed(low > 0.8 ? 1 : 0)}\u2009%`, 'class="axis"'));
  const body = series.map(s => {
    const points = s.paths.map((p, i) => [sx(at((s.xs || xs)[i])), sy(at(p))]);
    const radius = points.length > 40 ? 1.2 : points.length > 1 ? 2 : 4;
    const dots = s.paths.map((p, i) => `<circle cx="${points[i][0]}" cy="${points[i][1]}" r="${radius}" ` +
      `fill="${s.colour}" ${marks(p)} data-scale="${scale}" data-origin="${origin}">` +
      `<title>${escape(s.name)}: ${at(p)}</title></circle>`);
    return `<polyline fill="none" stroke="${s.colour}" stroke-width="1.6" points="${points.join(" ")}"/>` +
      dots.join("");
  });
  return drawing(width, top + height + 22, grid.join("") + body.join("") +
    label(left, bottom, "start", xs[0], "plain") +
    (xs.length > 1 ? label(end, bottom, "end", xs[xs.length - 1], "plain") : "") +
    text((left + end) / 2, bottom, "middle", xName, 'class="axis"'));
}

// One row a layer, one cell a sampled step, coloured by bits; the bits are written where they change.
function strips(role) {
  const n = report.series.layers.length, steps = report.series.steps.length;
  const left = 52, room = 300, cell = room / steps, high = Math.min(20, 200 / n), bottom = n * (high + 2);
  const body = report.series.layers.map((layer, l) => {
    const y = l * (high + 2), middle = y + high / 2 + 4;
    const cells = layer.width[role].map((bits, i) => {
      const path = `/series/layers/${l}/width/${role}/${i}`, x = left + i * cell;
      const place = `x="${x}" y="${y}" width="${cell + 0.4}" height="${high}" fill="hsl(210 58% ${96 - 4 * bits}%)"`;
      const fresh = high >= 9 && (i === 0 || layer.width[role][i - 1] !== bits);
      const colour = `style="fill:${bits > 9 ? "#fff" : "#1c2127"}"`;
      return `<rect ${place} ${marks(path)}><title>${bits} bits</title></rect>` +
        (fresh ? text(x + 3, middle, "start", bits, `${colour} ${shown(path, "plain").marks}`) : "");
    });
    return text(left - 7, middle, "end", `layer ${l}`) + cells.join("");
  });
  const under = bottom + 12;
  return drawing(left + room + 6, bottom + 18, body.join("") + label(left, under, "start", "/series/steps/0", "plain") +
    (steps > 1 ? label(left + room, under, "end", `/series/steps/${steps - 1}`, "plain") : "") +
    text(left + room / 2, under, "middle", "step", 'class="axis"'));
}

// The page, from its head to its foot.
const run = report.run;
document.title = `${run.network} on ${run.data}`;
document.body.insertAdjacentHTML("beforeend", `<h1>${words("/run/network")} on ${words("/run/data")}</h1>
<p class="soft">${words("/run/layers")}<br>controller ${words("/run/controller")}; optimizer ${words("/run/optimizer")};
seed ${plain("/run/seed")}, epochs ${plain("/run/epochs")}, batch ${plain("/run/batch")};
${plain("/run/split/train/value")} training, ${plain("/run/split/validation/value")} validation,
${plain("/run/split/test/value")} test images; weights sha256 ${words("/run/weights_sha256")}</p>`);

const key = (body, note) => `<div class="key"><b>${body}</b><span class="note">${note}</span></div>`;
document.body.insertAdjacentHTML("beforeend", `<div class="keys">` +
  key(figure("/run/test_accuracy/value", "percent2"), "test accuracy, measured") +
  report.energy.slice(0, 3).map((_, i) => `/energy/${i}`).map(e => key(count(`${e}/gain/cheaper`) + "\u00d7",
    `less energy than dense 16 bit, ${words(`${e}/table`)}, modelled; ${words(`${e}/limit/part`)} is ` +
    percent(`${e}/limit/share`))).join("") +
  key(count(`/machines/${last}/throughput/value`), `training samples a second at ${plain("/machine/clock_mhz")} MHz, ` +
    `modelled, bound by ${words(`/machines/${last}/bound_by`)}`) +
  key(percent(`/machines/${last}/utilisation/value`), "of multiplier cycles issue, modelled") + `</div>`);

const fact = (name, path) => `<tr><td>${name.replaceAll("_", " ")}</td><td>${count(`${path}/value`)}</td>` +
  `<td class="left unit">${words(`${path}/unit`)}</td><td class="left unit">${words(`${path}/basis`)}</td></tr>`;
const facts = ["weights", "nonzero_weights", "macs", "effective_macs", "steps", "sampled_steps", "test_loss"];
section("The run", "Each figure says where it comes from: " +
  Object.keys(report.basis).map(b => `<b>${b}</b>, ${words(`/basis/${b}`)}`).join("; ") + ".", `<table>` +
  facts.map(k => fact(k, `/run/${k}`)).join("") +
  Object.keys(run.slice_products).map(k => fact(`slice products, ${k}`, `/run/slice_products/${k}`)).join("") +
  Object.keys(run.mean_width).map(k => fact(`mean width, ${k}`, `/run/mean_width/${k}`)).join("") + `</table>`);

if (run.training) {
  const epochs = run.training.map((_, i) => `/run/training/${i}`);
  const lowest = Math.min(run.test_accuracy.value, ...run.training.map(e => e.accuracy));
  const low = Math.floor(20 * lowest) / 20;
  const xs = epochs.map(e => `${e}/epoch`), test = ["/run/test_accuracy/value"];
  const score = (name, accuracy, loss, own) => row([name, figure(accuracy, "percent2"), count(loss)], own);
  section("Accuracy", "Training batches of each epoch, and the test set at the end; measured.", panels("panels", [
    lines(xs, [{name: "training", colour: stageColours[0], paths: epochs.map(e => `${e}/accuracy`)},
               {name: "test", colour: stageColours[1], paths: test, xs: xs.slice(-1)}], Math.min(low, 0.95), "epoch") +
      legend(["training batches", "test set"], stageColours),
    `<table>${head(["epoch", "accuracy", "loss"])}` +
      epochs.map(e => score(plain(`${e}/epoch`), `${e}/accuracy`, `${e}/loss`)).join("") +
      score("test", test[0], "/run/test_loss/value", true) + `</table>`]));
}

section("Widths over steps", "Bits of each layer's operands in the sampled steps.",
  panels("panels", roles.map(r => `<h3>${r}</h3>${strips(r)}`)));
const steps = report.series.steps.map((_, i) => `/series/steps/${i}`);
const layers = report.series.layers.map((_, l, all) => ({name: `layer ${l}`, colour: layerColour(l, all.length)}));
const zeroSlices = r => layers.map((layer, l) =>
  ({...layer, paths: report.series.steps.map((_, i) => `/series/layers/${l}/zero_slices/${r}/${i}`)}));
section("Zero slices over steps", "Share of each operand's slices that are zero, in the sampled steps.",
  legend(layers.map(l => l.name), layers.map(l => l.colour)) +
  panels("panels", roles.map(r => `<h3>${r}</h3>${lines(steps, zeroSlices(r), 0, "step")}`)));

const machineColumns = ["machine", "cycles", "array", "DRAM", "bound by", "latency", "samples/s", "utilisation", "DRAM",
  "buffer", "network", "registers"];
section("Machines", "A mean step; modelled. A step takes the longer of the array's cycles and DRAM's.",
  `<div class="wide"><table>${head(machineColumns)}` +
  report.machines.map((_, i) => `/machines/${i}`).map((m, i) => row([
    words(`${m}/name`), ...["cycles", "compute_cycles", "dram_cycles"].map(k => count(`${m}/${k}/value`)),
    words(`${m}/bound_by`), figure(`${m}/latency/value`, "seconds", "s"), count(`${m}/throughput/value`),
    percent(`${m}/utilisation/value`),
    ...["dram", "buffer", "network", "registers"].map(l => bytes(`${m}/bytes/${l}`))], i === last)).join("") +
  `</table></div><h3>Array cycles by stage</h3>` + legend(stageNames, stageColours) +
  bars(report.machines.map((m, i) => ({name: m.name, paths: stages.map(s => `/machines/${i}/stages/${s}/cycles`),
    total: `/machines/${i}/compute_cycles/value`, kind: "count"})), stageColours, last) +
  `<p class="soft">Beside each bar: the schedule's end, with updates beside the array.</p>`);

const gains = e => `Gain over dense 16 bit ${count(`${e}/gain/cheaper`)}\u00d7 ` +
  `(native ${count(`${e}/gain/native`)}\u00d7, slices ${count(`${e}/gain/slices`)}\u00d7), ` +
  `on the chip alone ${count(`${e}/gain_on_chip/cheaper`)}\u00d7. ` +
  `Largest part: ${words(`${e}/limit/part`)}, ${percent(`${e}/limit/share`)}. `;
const sensitivity = e => !at(e).sensitivity ? "" : "Gain with DRAM at " + at(e).sensitivity.map((_, k) =>
  `${count(`${e}/sensitivity/${k}/dram_bit`)}: ${count(`${e}/sensitivity/${k}/gain`)}\u00d7`).join(", ") +
  ` pJ a bit. `;
section("Energy by level", "A mean step, each table by itself; modelled. Processes are never mixed in one total; " +
  "DRAM is off the chip, at the stated energy a bit.", legend(levelNames, levelColours) +
  panels("pairs", report.energy.map((_, i) => `/energy/${i}`).map(e =>
    `<h3>${words(`${e}/table`)}, ${words(`${e}/process`)}, ${words(`${e}/unit`)}; ` +
    `DRAM ${count(`${e}/source/dram/bit`)} a bit</h3>` +
    bars(report.machines.map((m, k) => ({name: m.name, paths: levels.map(l => `${e}/machines/${k}/${l}`),
      total: `${e}/machines/${k}/total`, kind: "count"})), levelColours, last) +
    `<figcaption>${gains(e)}${sensitivity(e)}Charged: ${words(`${e}/charged`)}.</figcaption>`)));

const tensors = Object.keys(report.traffic.machine);
const mostBytes = Math.max(...["machine", "native"].flatMap(k => tensors.map(t => report.traffic[k][t].dram)));
const traffic = k => bars(tensors.map(t => ({name: t.replaceAll("_", " "), paths: [`/traffic/${k}/${t}/dram`],
  total: `/traffic/${k}/${t}/dram`, kind: "bytes", unit: "B"})), [levelColours[4]], -1, mostBytes);
section("DRAM traffic by tensor", "Bytes of a mean step; modelled. Stored activations wait for the weight gradient; " +
  "wide tensors are what layers hand on before it is rounded.", panels("pairs", [
    `<h3>${words(`/machines/${last}/name`)}</h3>${traffic("machine")}`,
    `<h3>${words("/machines/0/name")}</h3>${traffic("native")}`]));

const layerColumns = ["layer", "weights", "non-zero", "stage", "MACs", "effective", "products", "mean bits", "cycles",
  "utilisation", "DRAM", ...levelNames, "total"];
const layerRow = (l, s, k) => {
  const path = `${l}/stages/${s}`;
  const cell = (name, kind) => at(path)[name] === undefined ? "" : figure(`${path}/${name}`, kind);
  const once = [plain(`${l}/layer`), count(`${l}/weights/value`), count(`${l}/nonzero_weights/value`)];
  return row([...once.map(c => k === 0 ? c : ""), stageNames[k],
    ...["macs", "effective_macs", "products", "mean_width", "cycles"].map(name => cell(name, "count")),
    cell("utilisation", "percent"), bytes(`${path}/bytes/dram`),
    ...[...levels, "total"].map(e => count(`${path}/energy/${report.energy[0].table}/${e}`))]);
};
section("Layers", `A mean step on the last machine, energy of ${words("/energy/0/table")} in ` +
  `${words("/energy/0/unit")}.`,
  `<div class="wide"><table class="dense">${head(layerColumns)}` +
  report.layers.map((_, i) => stages.map((s, k) => layerRow(`/layers/${i}`, s, k)).join("")).join("") +
  `</table></div>`);

const settings = Object.keys(report.machine);
const setting = k => typeof report.machine[k] === "number" ? plain(`/machine/${k}`) : words(`/machine/${k}`);
section("The machine", "Sizes are this project's; accelerator/configuration.hpp says what each means.",
  `<div class="columns">${settings.map(k => `<div>${k} <b>${setting(k)}</b></div>`).join("")}</div>`);

section("Sources of the energies", "", `<ul>` + report.energy.map((e, i) => `/energy/${i}`).map(e =>
  `<li><b>${words(`${e}/table`)}</b>: ${words(`${e}/source/arithmetic/source`)}` +
  (at(e).source.memory ? `; memory: ${words(`${e}/source/memory/source`)}` : "") +
  `; DRAM: ${words(`${e}/source/dram/source`)}</li>`).join("") + `</ul>`);
</script>
</body>
</html>
)page";

}  // namespace detail

// The page of a report.
inline std::string report_page(const json_report& report) {
    std::string data;
    for (const char c : report.dump()) data += c == '<' ? std::string("\\u003c") : std::string(1, c);  // ends no script
    return detail::page_before + data + detail::page_after;
}

}  // namespace lamella::accelerator
