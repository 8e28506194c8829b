// What a study's runs come to: means, paired differences, who is beaten, a Markdown table and a picture. Floating
// point: reports only.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "../shared/svg.hpp"

namespace example {

struct sample {
    double mean = 0, standard_error = 0;
    std::size_t count = 0;

    explicit sample(const std::vector<double>& values) : count(values.size()) {
        for (const double v : values) mean += v / static_cast<double>(count);
        double squares = 0;
        for (const double v : values) squares += (v - mean) * (v - mean);
        if (count > 1)
            standard_error = std::sqrt(squares / static_cast<double>(count - 1) / static_cast<double>(count));
    }
    // Half of the 95 % interval of the mean, by Student's t.
    double half_interval() const {
        constexpr std::array<double, 30> quantile{
            12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
            2.120,  2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
        if (count < 2) return 0;
        return standard_error *
               (count - 2 < quantile.size() ? quantile[count - 2] : 1.96 + 2.5 / static_cast<double>(count));
    }
};

// All seeds of one controller.
struct outcome {
    std::string controller;
    std::vector<std::uint64_t> seeds;
    std::vector<double> accuracy;               // %, a seed each
    std::vector<double> difference;             // to the twin of the same seed, points
    double forward = 0, error = 0, weight = 0;  // MAC-weighted mean widths of FF, EP, WG, bits
    double dense = 0, issued = 0;               // slice products relative to dense 16 bit, before and after skipping
    std::string beaten_by;                      // empty: on the Pareto front
};

// x is beaten when another is at least as accurate and takes no more slice products, and either more accurate by over
// two standard errors of the paired difference or cheaper by over 5 %.
inline void mark_beaten(std::vector<outcome>& all) {
    for (outcome& x : all) {
        const double accuracy = sample(x.accuracy).mean;
        for (const outcome& y : all) {
            if (sample(y.accuracy).mean < accuracy || y.issued > x.issued || y.seeds != x.seeds) continue;
            std::vector<double> gain(x.accuracy.size());
            for (std::size_t i = 0; i < gain.size(); ++i) gain[i] = y.accuracy[i] - x.accuracy[i];
            const sample g(gain);
            if (g.mean > 2 * g.standard_error || y.issued < 0.95 * x.issued) {
                if (&y != &x) x.beaten_by = y.controller;
            }
        }
    }
}

inline std::string markdown(const std::vector<outcome>& all, const std::vector<double>& twin) {
    const auto list = [](const std::vector<double>& values) {
        std::string text;
        for (const double v : values) text += (text.empty() ? "" : " ") + svg::number(v, "%.2f");
        return text;
    };
    std::string text =
        "| controller | accuracy of each seed, % | mean | difference to the twin (95 % interval) | mean width FF, EP, "
        "WG "
        "| slice products / dense16: dense, issued | beaten by |\n|---|---|---|---|---|---|---|\n";
    for (const outcome& o : all) {
        const sample accuracy(o.accuracy), difference(o.difference);
        text += "| `" + o.controller + "` | " + list(o.accuracy) + " | " + svg::number(accuracy.mean, "%.3f") + " | ";
        if (difference.count != 0) text += svg::number(difference.mean, "%+.3f");
        if (difference.count > 1)
            text += " (" + svg::number(difference.mean - difference.half_interval(), "%+.3f") + " .. " +
                    svg::number(difference.mean + difference.half_interval(), "%+.3f") + ")";
        text += " | " + svg::number(o.forward, "%.2f") + ", " + svg::number(o.error, "%.2f") + ", " +
                svg::number(o.weight, "%.2f") + " | " + svg::number(o.dense, "%.4f") + ", " +
                svg::number(o.issued, "%.4f") + " | " + (o.beaten_by.empty() ? "" : "`" + o.beaten_by + "`") + " |\n";
    }
    if (!twin.empty())
        text += "| float32 twin | " + list(twin) + " | " + svg::number(sample(twin).mean, "%.3f") + " | | | | |\n";
    return text;
}

inline std::string shortened(const std::string& text) { return text.size() <= 32 ? text : text.substr(0, 30) + ".."; }

// Accuracy against slice products after skipping; bars are standard errors, filled points are beaten by nobody.
inline std::string pareto_picture(const std::vector<outcome>& all, const std::vector<double>& twin,
                                  const std::string& title) {
    svg picture(860, 520);
    double low = 100, high = 0, least = 1, most = 0;
    const auto include = [&](const std::vector<double>& values) {
        const sample s(values);
        low = std::min(low, s.mean - s.standard_error);
        high = std::max(high, s.mean + s.standard_error);
    };
    for (const outcome& o : all) {
        include(o.accuracy);
        least = std::min(least, o.issued);
        most = std::max(most, o.issued);
    }
    if (!twin.empty()) include(twin);
    const double margin = std::max(0.02, 0.08 * (high - low));
    const axis x{least / 1.3, most * 1.6, 70, 840, true}, y{low - margin, high + margin, 470, 40, false};

    picture.text(430, 20, title, "middle");
    picture.line(70, 470, 840, 470, "#888");
    picture.line(70, 40, 70, 470, "#888");
    picture.text(455, 510, "slice products issued, relative to dense 16 bit (logarithmic)", "middle");
    picture.text(10, 34, "test accuracy, %");
    for (double tick = 1; tick > x.from; tick /= 2)
        if (tick < x.to) {
            picture.line(x(tick), 470, x(tick), 475, "#888");
            picture.text(x(tick), 490, "1/" + svg::number(1 / tick), "middle");
        }
    const double step = high - low > 4 ? 1 : high - low > 0.8 ? 0.2 : high - low > 0.4 ? 0.1 : 0.05;
    for (double tick = std::ceil(y.from / step) * step; tick < y.to; tick += step) {
        picture.line(66, y(tick), 840, y(tick), "#eee");
        picture.text(62, y(tick) + 4, svg::number(tick, "%.2f"), "end");
    }
    if (!twin.empty()) {
        const double at = y(sample(twin).mean);
        picture.line(70, at, 840, at, "#c33", 1, "6 4");
        picture.text(838, at - 4, "float32 twin", "end", "#c33");
    }
    std::vector<std::pair<double, double>> front;
    for (const outcome& o : all) {
        const sample s(o.accuracy);
        const bool best = o.beaten_by.empty();
        if (best) front.emplace_back(x(o.issued), y(s.mean));
        const std::string colour = o.controller.starts_with("laps") ? "#06c" : best ? "#222" : "#999";
        picture.line(x(o.issued), y(s.mean - s.standard_error), x(o.issued), y(s.mean + s.standard_error), colour);
        picture.circle(x(o.issued), y(s.mean), 5, colour, best ? colour : "white");
        picture.text(x(o.issued) + 8, y(s.mean) + 4, shortened(o.controller), "start", colour);
    }
    std::sort(front.begin(), front.end());
    picture.path(front, "#bbb", 1, "2 3");
    return picture.finished();
}

}  // namespace example
