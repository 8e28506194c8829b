// A report (report.hpp) as text: prints its figures, computes none.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "report.hpp"

namespace lamella::accelerator {
namespace detail {

// Columns as wide as their longest cell; the first one to the left, the others to the right.
class text_table {
  public:
    explicit text_table(std::vector<std::string> head) { add(std::move(head)); }
    void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
    std::string text() const {
        std::vector<std::size_t> width(rows_[0].size());
        for (const auto& row : rows_)
            for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
        std::string out;
        for (const auto& row : rows_) {
            std::string line;
            for (std::size_t i = 0; i < row.size(); ++i) {
                const std::string space(width[i] - row[i].size(), ' ');
                line += i == 0 ? row[i] + space : "  " + space + row[i];
            }
            out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
        }
        return out + "\n";
    }

  private:
    std::vector<std::vector<std::string>> rows_;
};

// Four significant digits; whole numbers up to a million as they are.
inline std::string number(const json_report& figure) {
    const double x = figure.get<double>();
    char text[32];
    if (x == std::floor(x) && std::fabs(x) < 1e6)
        std::snprintf(text, sizeof text, "%.0f", x);
    else
        std::snprintf(text, sizeof text, std::fabs(x) >= 1e-3 && std::fabs(x) < 1e6 ? "%.4g" : "%.3e", x);
    return text;
}
inline std::string percent(const json_report& share) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f %%", 100 * share.get<double>());
    return text;
}
inline std::string line_of(std::string_view name, const json_report& figure, bool share = false) {
    std::string line(name);
    line.resize(std::max<std::size_t>(24, line.size() + 1), ' ');
    return line +
           (share ? percent(figure["value"]) : number(figure["value"]) + " " + figure["unit"].get<std::string>()) +
           "  [" + figure["basis"].get<std::string>() + "]\n";
}

}  // namespace detail

// The same report as plain text, for a terminal.
inline std::string report_text(const json_report& r) {
    using detail::number;
    using detail::percent;
    const auto word = [](const json_report& j) { return j.get<std::string>(); };
    const json_report& run = r["run"];
    std::string out = word(run["network"]) + " on " + word(run["data"]) + ": " + word(run["layers"]) + "\n";
    out += "controller " + word(run["controller"]) + "; optimizer " + word(run["optimizer"]) + "; seed " +
           run["seed"].dump() + ", " + run["epochs"].dump() + " epochs of batch " + run["batch"].dump() +
           "; weights sha256 " + word(run["weights_sha256"]) + "\n\n";
    for (const auto& [name, figure] : run["split"].items()) out += detail::line_of(name, figure);
    out +=
        detail::line_of("test accuracy", run["test_accuracy"], true) + detail::line_of("test loss", run["test_loss"]);
    for (const std::string_view key :
         {"steps", "sampled_steps", "weights", "nonzero_weights", "macs", "effective_macs"})
        out += detail::line_of(key, run[std::string(key)]);
    for (const auto& [name, figure] : run["slice_products"].items()) out += detail::line_of(name, figure);
    for (const auto& [name, figure] : run["mean_width"].items()) out += detail::line_of("width " + name, figure);

    out += "\nA mean step, machine by machine [modelled]\n\n";
    detail::text_table machines({"machine", "cycles", "array", "dram", "bound by", "ms", "samples/s", "utilisation",
                                 "DRAM kB", "buffer kB", "network kB", "registers kB"});
    const auto thousand = [](const json_report& bytes) { return number(bytes.get<double>() / 1000); };
    for (const json_report& m : r["machines"])
        machines.add({word(m["name"]), number(m["cycles"]["value"]), number(m["compute_cycles"]["value"]),
                      number(m["dram_cycles"]["value"]), word(m["bound_by"]),
                      number(m["latency"]["value"].get<double>() * 1000), number(m["throughput"]["value"]),
                      percent(m["utilisation"]["value"]), thousand(m["bytes"]["dram"]), thousand(m["bytes"]["buffer"]),
                      thousand(m["bytes"]["network"]), thousand(m["bytes"]["registers"])});
    out += machines.text();

    for (const json_report& e : r["energy"]) {
        out += "Energy, " + word(e["table"]) + ", " + word(e["process"]) + ", " + word(e["unit"]) +
               " [modelled]; charged: " + word(e["charged"]) + "\n\n";
        detail::text_table table({"machine", "arithmetic", "registers", "network", "buffer", "dram", "total"});
        for (std::size_t m = 0; m < e["machines"].size(); ++m) {
            std::vector<std::string> row{word(r["machines"][m]["name"])};
            for (const auto& [name, value] : e["machines"][m].items()) row.push_back(number(value));
            table.add(std::move(row));
        }
        out += table.text();
        out += "Gain over dense 16 bit: " + number(e["gain"]["cheaper"]) + " (native " + number(e["gain"]["native"]) +
               ", slices " + number(e["gain"]["slices"]) + "); on the chip alone " +
               number(e["gain_on_chip"]["cheaper"]) + ". Largest part: " + word(e["limit"]["part"]) + ", " +
               percent(e["limit"]["share"]) + ".\n";
        if (e.contains("sensitivity")) {
            out += "DRAM at";
            for (const json_report& s : e["sensitivity"])
                out += " " + number(s["dram_bit"]) + " pJ a bit: " + number(s["gain"]) + ";";
            out.back() = '\n';
        }
        out += "\n";
    }

    out += "Bytes a step by tensor, machine / native baseline [modelled]\n\n";
    detail::text_table tensors(
        {"tensor", "DRAM", "native", "buffer", "native", "network", "native", "registers", "native"});
    for (const auto& [kind, levels] : r["traffic"]["machine"].items()) {
        std::vector<std::string> row{kind};
        for (const std::string_view level : {"dram", "buffer", "network", "registers"}) {
            row.push_back(number(levels[std::string(level)]));
            row.push_back(number(r["traffic"]["native"][kind][std::string(level)]));
        }
        tensors.add(std::move(row));
    }
    out += tensors.text();

    out += "Layer by layer, a mean step [sampled, modelled]; energy of " + word(r["energy"][0]["table"]) + ", " +
           word(r["energy"][0]["unit"]) + "\n\n";
    detail::text_table layers({"layer stage", "weights", "non-zero", "MACs", "effective", "products", "mean width",
                               "cycles", "utilisation", "DRAM kB", "energy"});
    for (const json_report& l : r["layers"])
        for (const auto& [name, costs] : l["stages"].items()) {
            const json_report& s = costs;  // what a lambda can capture
            const auto optional = [&](const char* key) { return s.contains(key) ? number(s[key]) : std::string("-"); };
            const bool first = name == "feed_forward";
            layers.add({l["layer"].dump() + " " + name, first ? number(l["weights"]["value"]) : "",
                        first ? number(l["nonzero_weights"]["value"]) : "", optional("macs"),
                        optional("effective_macs"), optional("products"), optional("mean_width"), number(s["cycles"]),
                        s.contains("utilisation") ? percent(s["utilisation"]) : "-", thousand(s["bytes"]["dram"]),
                        number(s["energy"][word(r["energy"][0]["table"])]["total"])});
        }
    out += layers.text();
    return out;
}

}  // namespace lamella::accelerator
