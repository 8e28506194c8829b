// What is known of a trained network at several widths, on images with labels, and what follows from it without another
// inference: which widths to run, and when to go on to a wider one.
//
//   level 1 runs the narrowest width of a chain. An input whose score margin is above the threshold of that level (and
//   of the class that it says) is answered; any other runs the next width, up to the last one, which always answers.
//
// Verified (Jahier Pagliari, Macii, Poncino, ISLPED 2018, abstract, doi 10.1145/3218603.3218611): widths that follow
// the input, an automatic characterisation, no retraining, energies of a real chip. Everything else is a
// reconstruction: the score margin with its strict threshold is that of the same group's EDEN code, thresholds of
// classes are those of ICECS 2020 (arXiv 2204.03431, abstract), the search is ours. Energies here are of modelled
// machines (width_cost.hpp).
//
// All decisions are made in integers: a characterisation gives the same chain on every machine.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "../core/errors.hpp"
#include "../core/format.hpp"

namespace lamella::inference {

// Probability of the best class less that of the second best, a fraction of 2^28.
using margin_t = std::int32_t;
inline constexpr margin_t largest_margin = margin_t{1} << 28;
inline constexpr margin_t never = -1;               // as a threshold: nothing goes on to the next width
inline constexpr margin_t always = largest_margin;  // everything does

// One width, over the calibration set.
struct width_record {
    int width = 0;
    std::uint64_t cycles = 0;               // of an image
    std::vector<std::uint64_t> energy;      // of an image, one a table, in thousandths of the table's unit
    std::vector<std::uint8_t> predictions;  // one an image
    std::vector<margin_t> margins;          // one an image
    std::uint64_t correct = 0;

    friend bool operator==(const width_record&, const width_record&) = default;
};

// A table of energies that records were priced by.
struct energy_basis {
    std::string table, unit;
    std::uint64_t static16 = 0;  // of an image, the cheaper of dense native 16 bits and the machine itself at 16 bits

    friend bool operator==(const energy_basis&, const energy_basis&) = default;
};

struct characterisation {
    std::string weights_sha256;  // of the network that it is about
    std::string network;         // its layers
    std::string data;            // calibration set
    int classes = 0;
    std::vector<std::uint8_t> labels;
    std::vector<energy_basis> tables;
    std::vector<width_record> widths;  // ascending

    std::uint64_t samples() const noexcept { return labels.size(); }
    friend bool operator==(const characterisation&, const characterisation&) = default;
};

// Returns widths. Throws argument_error unless there is one, all of them are 2..16, and they ascend.
inline const std::vector<int>& require_ascending(const std::vector<int>& widths) {
    if (widths.empty()) throw argument_error("widths", "at least one", "none");
    for (std::size_t i = 0; i < widths.size(); ++i) {
        checked_width(widths[i], "widths");
        if (i > 0 && widths[i] <= widths[i - 1])
            throw argument_error("widths", "ascending ones",
                                 std::to_string(widths[i]) + " after " + std::to_string(widths[i - 1]));
    }
    return widths;
}

// What `predict` runs. thresholds[k][class] belongs to widths[k]; the last width has none.
struct chain {
    std::vector<int> widths;
    std::vector<std::vector<margin_t>> thresholds;

    bool answers(std::size_t level, int said, margin_t margin) const {
        return level + 1 == widths.size() || margin > thresholds[level][static_cast<std::size_t>(said)];
    }
    friend bool operator==(const chain&, const chain&) = default;
};

// Returns x. Throws argument_error for widths that require_ascending refuses, and unless each but the last has a
// threshold, -1 .. 2^28, for every class.
inline const chain& validated(const chain& x, int classes) {
    require_ascending(x.widths);
    if (x.thresholds.size() + 1 != x.widths.size())
        throw argument_error("thresholds", "those of " + std::to_string(x.widths.size() - 1) + " levels",
                             std::to_string(x.thresholds.size()));
    for (const std::vector<margin_t>& level : x.thresholds) {
        if (level.size() != static_cast<std::size_t>(classes))
            throw argument_error("thresholds", "one for each of " + std::to_string(classes) + " classes",
                                 std::to_string(level.size()));
        for (const margin_t t : level)
            if (t < never || t > always) throw argument_error("threshold", "-1 .. 2^28", std::to_string(t));
    }
    return x;
}

// A chain at work on the calibration set. Energy is the sum over its images.
struct outcome {
    std::uint64_t correct = 0, energy = 0;
    std::vector<std::uint64_t> reached;  // images that ran each level
    friend bool operator==(const outcome&, const outcome&) = default;
};

namespace detail {

inline std::size_t place_of(const characterisation& c, int width) {
    for (std::size_t i = 0; i < c.widths.size(); ++i)
        if (c.widths[i].width == width) return i;
    throw argument_error("width", "one that was characterised", std::to_string(width));
}

}  // namespace detail

// Throws argument_error for a chain that validated refuses or a width that was not characterised.
inline outcome apply(const characterisation& c, std::size_t table, const chain& x) {
    validated(x, c.classes);
    outcome o;
    o.reached.assign(x.widths.size(), 0);
    std::vector<const width_record*> records;
    for (const int width : x.widths) records.push_back(&c.widths[detail::place_of(c, width)]);
    for (std::size_t i = 0; i < c.labels.size(); ++i)
        for (std::size_t level = 0;; ++level) {
            const width_record& r = *records[level];
            ++o.reached[level];
            o.energy += r.energy.at(table);
            if (!x.answers(level, r.predictions[i], r.margins[i])) continue;
            o.correct += r.predictions[i] == c.labels[i];
            break;
        }
    return o;
}

// A chain of up to three of the characterised widths, one threshold a level for all classes, and what comes of it.
struct operating_point {
    std::size_t levels = 1;
    std::array<std::size_t, 3> record{};  // in characterisation::widths
    std::array<margin_t, 2> threshold{never, never};
    std::uint64_t correct = 0, energy = 0;

    chain to_chain(const characterisation& c) const {
        chain x;
        for (std::size_t k = 0; k < levels; ++k) x.widths.push_back(c.widths[record[k]].width);
        for (std::size_t k = 0; k + 1 < levels; ++k)
            x.thresholds.emplace_back(static_cast<std::size_t>(c.classes), threshold[k]);
        return x;
    }
};

namespace detail {

inline std::vector<operating_point> static_points(const characterisation& c, std::size_t table) {
    std::vector<operating_point> points;
    for (std::size_t i = 0; i < c.widths.size(); ++i) {
        operating_point p;
        p.record[0] = i;
        p.correct = c.widths[i].correct;
        p.energy = c.samples() * c.widths[i].energy.at(table);
        points.push_back(p);
    }
    return points;
}

// Images from the smallest margin at `r` to the largest.
inline std::vector<std::size_t> by_margin(const width_record& r) {
    std::vector<std::size_t> order(r.margins.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return r.margins[a] < r.margins[b]; });
    return order;
}

// What going on from `low` to `high` changes in the number of right answers, for one image.
inline std::int64_t gain_of(const characterisation& c, const width_record& low, const width_record& high,
                            std::size_t i) {
    return std::int64_t{high.predictions[i] == c.labels[i]} - std::int64_t{low.predictions[i] == c.labels[i]};
}

// Every threshold that tells images apart.
inline void add_pairs(const characterisation& c, std::size_t table, std::vector<operating_point>& points) {
    for (std::size_t low = 0; low < c.widths.size(); ++low) {
        const std::vector<std::size_t> order = by_margin(c.widths[low]);
        for (std::size_t high = low + 1; high < c.widths.size(); ++high) {
            operating_point p;
            p.levels = 2;
            p.record = {low, high, 0};
            auto correct = static_cast<std::int64_t>(c.widths[low].correct);
            p.energy = c.samples() * c.widths[low].energy.at(table);
            for (std::size_t n = 0; n < order.size(); ++n) {
                correct += gain_of(c, c.widths[low], c.widths[high], order[n]);
                p.energy += c.widths[high].energy.at(table);
                p.threshold[0] = c.widths[low].margins[order[n]];
                p.correct = static_cast<std::uint64_t>(correct);
                if (n + 1 == order.size() || c.widths[low].margins[order[n + 1]] != p.threshold[0]) points.push_back(p);
            }
        }
    }
}

// Thresholds of a grid: `cuts` quantiles of the margins of each of the first two levels.
inline void add_triples(const characterisation& c, std::size_t table, std::vector<operating_point>& points) {
    constexpr std::size_t cuts = 64;
    const auto grid_of = [](const width_record& r) {
        std::vector<margin_t> sorted = r.margins, grid;
        std::sort(sorted.begin(), sorted.end());
        for (std::size_t k = 0; k < cuts; ++k) grid.push_back(sorted[(sorted.size() - 1) * k / (cuts - 1)]);
        grid.erase(std::unique(grid.begin(), grid.end()), grid.end());
        return grid;
    };
    // The first threshold that does not let the margin answer: cut k and all after it send the image on.
    const auto bin_of = [](const std::vector<margin_t>& grid, margin_t margin) {
        return static_cast<std::size_t>(std::lower_bound(grid.begin(), grid.end(), margin) - grid.begin());
    };
    std::vector<std::vector<margin_t>> grids;
    for (const width_record& r : c.widths) grids.push_back(grid_of(r));
    struct sums {
        std::int64_t images = 0, gain_middle = 0, gain_high = 0;
    };
    for (std::size_t low = 0; low < c.widths.size(); ++low)
        for (std::size_t middle = low + 1; middle < c.widths.size(); ++middle)
            for (std::size_t high = middle + 1; high < c.widths.size(); ++high) {
                const width_record &a = c.widths[low], &b = c.widths[middle], &d = c.widths[high];
                const std::size_t rows = grids[low].size(), columns = grids[middle].size();
                // [first cut that goes on][first cut that goes on again]; an image past a grid's last cut never does.
                std::vector<sums> cell((rows + 1) * (columns + 1));
                for (std::size_t i = 0; i < c.labels.size(); ++i) {
                    sums& s =
                        cell[bin_of(grids[low], a.margins[i]) * (columns + 1) + bin_of(grids[middle], b.margins[i])];
                    ++s.images;
                    s.gain_middle += gain_of(c, a, b, i);
                    s.gain_high += gain_of(c, b, d, i);
                }
                std::vector<sums> above(columns + 1);  // of all rows up to this one
                for (std::size_t k = 0; k < rows; ++k) {
                    sums second;
                    std::int64_t gone = 0, gain = 0;
                    for (std::size_t m = 0; m <= columns; ++m) {
                        above[m].images += cell[k * (columns + 1) + m].images;
                        above[m].gain_middle += cell[k * (columns + 1) + m].gain_middle;
                        above[m].gain_high += cell[k * (columns + 1) + m].gain_high;
                        gone += above[m].images;
                        gain += above[m].gain_middle;
                    }
                    for (std::size_t m = 0; m < columns; ++m) {
                        second.images += above[m].images;
                        second.gain_high += above[m].gain_high;
                        operating_point p;
                        p.levels = 3;
                        p.record = {low, middle, high};
                        p.threshold = {grids[low][k], grids[middle][m]};
                        p.correct =
                            static_cast<std::uint64_t>(static_cast<std::int64_t>(a.correct) + gain + second.gain_high);
                        p.energy = c.samples() * a.energy.at(table) +
                                   static_cast<std::uint64_t>(gone) * b.energy.at(table) +
                                   static_cast<std::uint64_t>(second.images) * d.energy.at(table);
                        points.push_back(p);
                    }
                }
            }
}

// Cheapest first, each with more right answers than all before it; of equals the one with fewer levels.
inline std::vector<operating_point> front_of(std::vector<operating_point> points) {
    std::stable_sort(points.begin(), points.end(), [](const operating_point& x, const operating_point& y) {
        if (x.energy != y.energy) return x.energy < y.energy;
        if (x.correct != y.correct) return x.correct > y.correct;
        return x.levels < y.levels;
    });
    std::vector<operating_point> front;
    for (const operating_point& p : points)
        if (front.empty() || p.correct > front.back().correct) front.push_back(p);
    return front;
}

}  // namespace detail

// No other chain of up to `levels` (1..3) widths is both cheaper and more often right on the calibration set. Pairs:
// every threshold; chains of three: 64 quantiles of each margin.
inline std::vector<operating_point> pareto_set(const characterisation& c, std::size_t table, std::size_t levels = 3) {
    if (levels < 1 || levels > 3) throw argument_error("levels", "1..3", std::to_string(levels));
    std::vector<operating_point> points = detail::static_points(c, table);
    if (levels >= 2) detail::add_pairs(c, table, points);
    if (levels >= 3) detail::add_triples(c, table, points);
    return detail::front_of(std::move(points));
}

}  // namespace lamella::inference
