// Draws the precision trace of one run as SVG: the widths of every layer over the steps, in feed-forward and in error
// propagation, and below them what the controller compared with its thresholds; comparisons that a change followed are
// filled.
//
//   examples/run.sh mnist --data data/mnist --trace trace.csv
//   examples/run.sh plot_trace trace.csv trace.svg
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <lamella/precision/fields.hpp>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../shared/svg.hpp"

namespace {

using lamella::file_error;

struct comparison {
    double step, metric, threshold;
    bool changed = false;  // the width is another one in the next row
};
struct layer_line {
    std::vector<std::pair<double, int>> widths;  // where the width begins to hold, and the last step
    std::vector<comparison> compared;
};
using lines = std::map<int, layer_line>;  // a layer each

// FF rows tell of A (as wide as W), WG rows of E.
struct trace_lines {
    std::array<lines, 2> stages;
    double steps = 1;
};

trace_lines read(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw file_error(path, "opening", "a trace", "nothing that can be read");
    std::string text;
    std::getline(file, text);
    const std::vector<std::string> names = lamella::precision::detail::fields(text, ',');
    const auto column = [&](const char* name) {
        const auto at = std::find(names.begin(), names.end(), name);
        if (at == names.end()) throw file_error(path, "header", std::string("a column ") + name, text.substr(0, 60));
        return static_cast<std::size_t>(at - names.begin());
    };
    const std::size_t step = column("step"), layer = column("layer"), stage = column("stage"),
                      width = column("a_width"), metric = column("metric"), threshold = column("threshold");
    trace_lines result;
    for (std::size_t row = 2; std::getline(file, text); ++row) {
        const std::vector<std::string> cells = lamella::precision::detail::fields(text, ',');
        if (cells.size() != names.size())
            throw file_error(path, "line " + std::to_string(row), std::to_string(names.size()) + " columns",
                             std::to_string(cells.size()));
        if (cells[stage] == "error_propagation") continue;
        try {
            layer_line& line = result.stages[cells[stage] == "feed_forward" ? 0 : 1][std::stoi(cells[layer])];
            const double at = std::stod(cells[step]);
            const int bits = std::stoi(cells[width]);
            result.steps = std::max(result.steps, at);
            if (line.widths.empty() || line.widths.back().second != bits) {
                if (!line.widths.empty() && !line.compared.empty()) line.compared.back().changed = true;
                line.widths.emplace_back(at, bits);
            }
            if (!cells[metric].empty())
                line.compared.push_back({at, std::stod(cells[metric]), std::stod(cells[threshold])});
        } catch (const std::logic_error&) {
            throw file_error(path, "line " + std::to_string(row), "numbers", text.substr(0, 60));
        }
    }
    if (result.stages[0].empty()) throw file_error(path, "content", "at least one step", "none");
    return result;
}

const std::array<const char*, 8> colours{"#06c", "#c60", "#293", "#c33", "#74b", "#855", "#088", "#666"};
const char* colour_of(int layer) { return colours[static_cast<std::size_t>(layer) % colours.size()]; }

constexpr double left = 60, right = 900;

void draw_frame(example::svg& picture, const example::axis& y, const std::string& title) {
    picture.text(left, y.at_to - 8, title);
    picture.line(left, y.at_from, right, y.at_from, "#888");
    picture.line(left, y.at_from, left, y.at_to, "#888");
}

void draw_widths(example::svg& picture, const lines& layers, const example::axis& x, const example::axis& y,
                 const std::string& title) {
    draw_frame(picture, y, title);
    for (const int bits : {4, 8, 12, 16}) {
        picture.line(left, y(bits), right, y(bits), "#eee");
        picture.text(left - 6, y(bits) + 4, std::to_string(bits), "end");
    }
    for (const auto& [layer, line] : layers) {
        const double apart =
            0.16 * (layer - static_cast<double>(layers.size() - 1) / 2);  // bits, so that none hides another
        std::vector<std::pair<double, double>> corners;
        for (const auto& [step, bits] : line.widths) {
            if (!corners.empty()) corners.emplace_back(x(step), corners.back().second);
            corners.emplace_back(x(step), y(bits + apart));
        }
        corners.emplace_back(right, corners.back().second);
        picture.path(corners, colour_of(layer), 1.5);
    }
}

void draw_comparisons(example::svg& picture, const lines& layers, const example::axis& x, const example::axis& y,
                      const std::string& title) {
    draw_frame(picture, y, title);
    for (double tick = 1; tick >= y.from; tick /= 2)
        if (tick <= y.to) {
            picture.line(left, y(tick), right, y(tick), "#eee");
            picture.text(left - 6, y(tick) + 4, example::svg::number(tick, "%.3g"), "end");
        }
    std::vector<double> thresholds;
    for (const auto& [layer, line] : layers)
        for (const comparison& c : line.compared) {
            if (thresholds.size() < 4 &&
                std::find(thresholds.begin(), thresholds.end(), c.threshold) == thresholds.end())
                thresholds.push_back(c.threshold);
            const double at = y(std::clamp(c.metric, y.from, y.to));
            picture.circle(x(c.step), at, c.changed ? 4 : 1.5, colour_of(layer), c.changed ? colour_of(layer) : "none");
        }
    for (const double t : thresholds)
        if (t >= y.from && t <= y.to) picture.line(left, y(t), right, y(t), "#333", 1, "5 4");
}

std::string draw(const trace_lines& trace) {
    example::svg picture(930, 760);
    const example::axis x{0, trace.steps, left, right, false};
    double least = 1, most = 0;
    for (const lines& layers : trace.stages)
        for (const auto& [layer, line] : layers)
            for (const comparison& c : line.compared) {
                least = std::min({least, c.threshold, std::max(c.metric, 0.002)});
                most = std::max({most, c.threshold, c.metric});
            }
    const bool compared = most > 0;
    const auto panel = [](int place, double from, double to, bool logarithmic) {
        return example::axis{from, to, 170.0 + 175 * place, 40.0 + 175 * place, logarithmic};
    };
    const char* const stage_names[2] = {"feed-forward (A, W)", "error propagation (E)"};
    for (int s = 0; s < 2; ++s) {
        const lines& layers = trace.stages[static_cast<std::size_t>(s)];
        draw_widths(picture, layers, x, panel(2 * s, 3, 17, false), std::string("width in bits, ") + stage_names[s]);
        if (compared)
            draw_comparisons(
                picture, layers, x, panel(2 * s + 1, least / 1.2, most * 1.2, true),
                std::string("metric and thresholds (dashed), ") + stage_names[s] + "; filled: the width changed");
    }
    const double bottom = 170 + 175 * 3;
    for (int i = 0; i <= 5; ++i) {
        const double step = trace.steps * i / 5;
        picture.text(x(step), bottom + 18, example::svg::number(step, "%.0f"), "middle");
    }
    picture.text((left + right) / 2, bottom + 36, "step", "middle");
    double at = left;
    for (const auto& [layer, line] : trace.stages[0]) {
        picture.line(at, bottom + 48, at + 24, bottom + 48, colour_of(layer), 3);
        picture.text(at + 30, bottom + 52, "layer " + std::to_string(layer));
        at += 100;
    }
    return picture.finished();
}

}  // namespace

int main(int argc, char** argv) {
    std::string from, to;
    CLI::App app{"Draws a precision trace, as the programs' --trace writes it, as SVG."};
    app.add_option("trace", from, "CSV file")->required();
    app.add_option("picture", to, "SVG file to write")->required();
    CLI11_PARSE(app, argc, argv);
    try {
        const std::string picture = draw(read(from));
        std::ofstream file(to, std::ios::binary);
        if (!(file << picture).flush()) throw file_error(to, "writing", "success", "failure");
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "plot_trace: %s\n", failure.what());
        return 1;
    }
    return 0;
}
