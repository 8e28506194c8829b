// What the program prints, as Markdown tables. Percentages and energies are floating point: reports only.
#pragma once

#include <algorithm>
#include <cstdio>
#include <lamella/inference/choice.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace example {

using lamella::inference::candidate;
using lamella::inference::characterisation;
using lamella::inference::choice;

inline double percent(std::uint64_t part, std::uint64_t all) {
    return all == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(all);
}
// Thousand units of the table, nJ for one in pJ, of an image.
inline double an_image(std::uint64_t energy, std::uint64_t images) {
    return images == 0 ? 0 : static_cast<double>(energy) * 1e-6 / static_cast<double>(images);
}
inline std::string unit_of(const characterisation& c, std::size_t table) {
    return c.tables[table].unit == "pJ" ? "nJ" : "1000 " + c.tables[table].unit;
}
inline std::string text_of(const lamella::inference::chain& x) {
    std::string text;
    for (const int width : x.widths) text += (text.empty() ? "" : " > ") + std::to_string(width);
    return text + (x.widths.size() == 1 ? " always" : "");
}
// A threshold as a probability; of classes, from the smallest to the largest.
inline std::string text_of(const std::vector<lamella::inference::margin_t>& level) {
    const auto [low, high] = std::minmax_element(level.begin(), level.end());
    const auto number = [](lamella::inference::margin_t t) {
        char digits[16];
        std::snprintf(digits, sizeof digits, "%.4f", std::max(t, 0) / 268435456.0);
        return t < 0 ? std::string("never") : std::string(digits);
    };
    return *low == *high ? number(*low) : number(*low) + ".." + number(*high);
}

inline void print_widths(const characterisation& c, const characterisation& test) {
    std::printf("\n| width | calibration | test | cycles");
    for (std::size_t t = 0; t < c.tables.size(); ++t)
        std::printf(" | %s, %s an image", c.tables[t].table.c_str(), unit_of(c, t).c_str());
    std::printf(" |\n|---|---|---|---");
    for (std::size_t t = 0; t < c.tables.size(); ++t) std::printf("|---");
    std::printf("|\n");
    for (std::size_t i = 0; i < c.widths.size(); ++i) {
        const auto& r = c.widths[i];
        std::printf("| %d | %.2f %% | %.2f %% | %llu", r.width, percent(r.correct, c.samples()),
                    percent(test.widths[i].correct, test.samples()), static_cast<unsigned long long>(r.cycles));
        for (const std::uint64_t e : r.energy) std::printf(" | %.1f", an_image(e, 1));
        std::printf(" |\n");
    }
    std::printf("| static 16 | | |");
    for (const auto& t : c.tables) std::printf(" | %.1f", an_image(t.static16, 1));
    std::printf(
        " |\n\nStatic 16: the cheaper of a dense machine with native 16-bit multipliers and, where it is "
        "characterised, "
        "this one.\n");
}

// Of the Pareto set, what loses at most five points.
inline void print_front(const characterisation& c, const characterisation& test, std::size_t table) {
    const auto all = lamella::inference::pareto_set(c, table);
    std::vector<lamella::inference::operating_point> near;
    for (const auto& p : all)
        if (p.correct + c.samples() / 20 >= c.widths.back().correct) near.push_back(p);
    constexpr std::size_t most = 16;
    std::printf(
        "\n## %s: Pareto set, %zu chains, %zu of them within 5 points%s\n\n| widths | thresholds | calibration | test "
        "| %s an "
        "image | of images, to the second, third width |\n|---|---|---|---|---|---|\n",
        c.tables[table].table.c_str(), all.size(), near.size(), near.size() > most ? ", 16 of those" : "",
        unit_of(c, table).c_str());
    for (std::size_t k = 0; k < std::min(most, near.size()); ++k) {
        const auto& p = near[near.size() <= most ? k : k * (near.size() - 1) / (most - 1)];
        const auto x = p.to_chain(c);
        const auto o = lamella::inference::apply(c, table, x), seen = lamella::inference::apply(test, table, x);
        std::string thresholds, reached;
        for (std::size_t l = 0; l + 1 < p.levels; ++l) {
            thresholds += (l == 0 ? "" : ", ") + text_of(x.thresholds[l]);
            char share[16];
            std::snprintf(share, sizeof share, "%s%.2f %%", l == 0 ? "" : ", ", percent(o.reached[l + 1], c.samples()));
            reached += share;
        }
        std::printf("| %s | %s | %.2f %% | %.2f %% | %.1f | %s |\n", text_of(x).c_str(), thresholds.c_str(),
                    percent(o.correct, c.samples()), percent(seen.correct, test.samples()),
                    an_image(o.energy, c.samples()), reached.c_str());
    }
}

inline void print_choices_head(const characterisation& c, std::size_t table) {
    std::printf(
        "\n## %s: cheapest within a bound, energy and shares on the test set\n\n| points lost at most | | widths | "
        "thresholds | "
        "calibration | test | %s an image | less than static 16 | less than best static | p | r | 1 - r | cycles at "
        "worst |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        c.tables[table].table.c_str(), unit_of(c, table).c_str());
}

// Rows of one bound, and what chance and an oracle would make of the pair; returns the chosen one for the JSON line.
inline nlohmann::ordered_json print_choice(const characterisation& c, const characterisation& test, std::size_t table,
                                           double bound, const choice& found) {
    using namespace lamella::inference;
    const outcome still = apply(test, table, found.best_static.run);
    const double best = an_image(still.energy, test.samples()), dense = an_image(c.tables[table].static16, 1);
    nlohmann::ordered_json chosen;
    const auto row = [&](const char* name, const candidate& x) {
        const outcome o = apply(test, table, x.run);
        const double energy = an_image(o.energy, test.samples());
        std::uint64_t cycles = 0;
        std::string thresholds;
        for (std::size_t k = 0; k < x.run.widths.size(); ++k) {
            cycles += c.widths[detail::place_of(c, x.run.widths[k])].cycles;
            if (k > 0) thresholds += (k == 1 ? "" : ", ") + text_of(x.run.thresholds[k - 1]);
        }
        std::printf("| %.2f | %s%s | %s | %s | %.2f %% | %.2f %% | %.1f | %.1f %% | %.1f %% |", bound, name,
                    x.run == found.chosen.run ? ", chosen" : "", text_of(x.run).c_str(), thresholds.c_str(),
                    percent(x.result.correct, c.samples()), percent(o.correct, test.samples()), energy,
                    100 * (1 - energy / dense), 100 * (1 - energy / best));
        if (x.run.widths.size() == 2) {
            const double r = an_image(c.widths[detail::place_of(c, x.run.widths[0])].energy[table], 1) /
                             an_image(c.widths[detail::place_of(c, x.run.widths[1])].energy[table], 1);
            std::printf(" %.2f %% | %.3f | %.3f |", percent(o.reached[1], test.samples()), r, 1 - r);
        } else {
            std::printf(x.run.widths.size() == 1 ? " | | |" : " %.2f, %.2f %% | | |",
                        x.run.widths.size() == 1 ? 0.0 : percent(o.reached[1], test.samples()),
                        x.run.widths.size() == 1 ? 0.0 : percent(o.reached[2], test.samples()));
        }
        std::printf(" %llu |\n", static_cast<unsigned long long>(cycles));
        if (x.run == found.chosen.run)
            chosen = {{"table", c.tables[table].table},
                      {"bound", bound},
                      {"widths", x.run.widths},
                      {"beats_static", found.beats_static},
                      {"test_accuracy", percent(o.correct, test.samples()) / 100},
                      {"reference_accuracy", percent(test.widths.back().correct, test.samples()) / 100},
                      {"energy", energy},
                      {"saving_static16", 1 - energy / dense},
                      {"saving_best_static", 1 - energy / best},
                      {"escalated", percent(o.reached.size() > 1 ? o.reached[1] : 0, test.samples()) / 100},
                      {"worst_cycles", cycles}};
    };
    row("best static width", found.best_static);
    if (found.pair) row("pair", *found.pair);
    if (found.per_class && (!found.pair || found.per_class->run != found.pair->run))
        row("pair, thresholds of classes", *found.per_class);
    if (found.triple) row("three widths", *found.triple);
    if (found.pair) {
        const std::uint64_t gone = apply(test, table, found.pair->run).reached[1];
        const auto limits = bounds_of(test, found.pair->run.widths[0], found.pair->run.widths[1], gone);
        std::printf("| %.2f | the pair's images at random / by an oracle | | | | %.2f / %.2f %% | | | | | | | |\n",
                    bound,
                    static_cast<double>(limits.random_times_samples) * 100 /
                        (static_cast<double>(test.samples()) * static_cast<double>(test.samples())),
                    percent(limits.oracle, test.samples()));
    }
    if (!found.beats_static)
        std::printf("| %.2f | no chain is cheaper than the best static width: %d bits it is | | | | | | | | | | | |\n",
                    bound, found.best_static.run.widths[0]);
    return chosen;
}

}  // namespace example
