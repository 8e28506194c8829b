// From a characterisation to the chain that is run: the cheapest that loses at most a given share of right answers
// against the widest width, with what it must be compared with. If none is cheaper than the best static width, that
// width is it.
#pragma once

#include <optional>
#include <utility>

#include "characterisation.hpp"

namespace lamella::inference {

// A chain with its outcome on the calibration set.
struct candidate {
    chain run;
    outcome result;
};

struct choice {
    std::uint64_t needed = 0;            // right answers
    candidate best_static;               // the cheapest single width that has them
    std::optional<candidate> pair;       // two widths, one threshold
    std::optional<candidate> per_class;  // two widths, a threshold for each class that the first one says
    std::optional<candidate> triple;     // three widths, two thresholds
    candidate chosen;                    // the cheapest of them; of equals the one named first
    bool beats_static = false;
};

// Right answers that are left when `bound` (in hundredths of a percentage point) of all images may be lost against the
// widest width. Throws argument_error for a bound over 100 points, and without a width or an image.
inline std::uint64_t needed_answers(const characterisation& c, std::uint64_t bound) {
    if (bound > 10000)
        throw argument_error("accuracy bound", "at most 100 points", std::to_string(bound) + " hundredths");
    if (c.widths.empty() || c.samples() == 0) throw argument_error("characterisation", "a width and an image", "none");
    const std::uint64_t lost = c.samples() * bound / 10000, reference = c.widths.back().correct;
    return reference - std::min(reference, lost);
}

namespace detail {

// Escalating images of one class in the order of their margins: after `images` of them, right answers have grown by
// `gain`; `threshold` is the margin of the last.
struct escalation {
    std::uint64_t images = 0;
    std::int64_t gain = 0;
    margin_t threshold = never;
};

// The steps worth taking: those on the upper hull, so that the gain an image falls from step to step.
inline std::vector<escalation> upper_hull(const std::vector<escalation>& all) {
    std::vector<escalation> hull;
    for (const escalation& next : all) {
        const auto below = [&](const escalation& a, const escalation& b) {  // b is not above the line from a to next
            return (b.gain - a.gain) * static_cast<std::int64_t>(next.images - a.images) <=
                   (next.gain - a.gain) * static_cast<std::int64_t>(b.images - a.images);
        };
        while (hull.size() >= 2 && below(hull[hull.size() - 2], hull.back())) hull.pop_back();
        hull.push_back(next);
    }
    while (hull.size() > 1 && hull.back().gain <= hull[hull.size() - 2].gain) hull.pop_back();
    return hull;
}

// Thresholds of classes for two widths: step by step where a class gains most an image, until there are enough right
// answers; the last step goes no further than needed. Null when even all steps do not bring them.
inline std::optional<chain> class_thresholds(const characterisation& c, std::size_t low, std::size_t high,
                                             std::uint64_t needed) {
    const width_record &a = c.widths[low], &b = c.widths[high];
    std::vector<std::vector<escalation>> every(static_cast<std::size_t>(c.classes), {escalation{}}), hulls;
    for (const std::size_t i : by_margin(a)) {
        std::vector<escalation>& of = every[a.predictions[i]];
        const escalation next{of.back().images + 1, of.back().gain + gain_of(c, a, b, i), a.margins[i]};
        if (next.threshold == of.back().threshold)
            of.back() = next;
        else
            of.push_back(next);
    }
    for (const auto& of : every) hulls.push_back(upper_hull(of));

    chain x{{a.width, b.width}, {std::vector<margin_t>(hulls.size(), never)}};
    std::vector<std::size_t> at(hulls.size(), 0);
    std::int64_t missing = static_cast<std::int64_t>(needed) - static_cast<std::int64_t>(a.correct);
    while (missing > 0) {
        std::optional<std::size_t> best;
        const auto step = [&](std::size_t k) {
            const escalation &from = hulls[k][at[k]], &to = hulls[k][at[k] + 1];
            return std::pair{to.gain - from.gain, static_cast<std::int64_t>(to.images - from.images)};
        };
        for (std::size_t k = 0; k < hulls.size(); ++k)
            if (at[k] + 1 < hulls[k].size() &&
                (!best || step(k).first * step(*best).second > step(*best).first * step(k).second))
                best = k;
        if (!best) return std::nullopt;
        const std::int64_t before = hulls[*best][at[*best]].gain;
        const escalation* to = &hulls[*best][++at[*best]];
        if (to->gain - before >= missing)
            to = &*std::find_if(every[*best].begin(), every[*best].end(),
                                [&](const escalation& e) { return e.gain - before >= missing; });
        missing -= to->gain - before;
        x.thresholds[0][*best] = to->threshold;
    }
    return x;
}

inline std::optional<candidate> cheapest(const characterisation& c, std::size_t table,
                                         const std::vector<operating_point>& points, std::size_t levels,
                                         std::uint64_t needed) {
    const operating_point* best = nullptr;
    for (const operating_point& p : points)
        if (p.levels == levels && p.correct >= needed && (best == nullptr || p.energy < best->energy)) best = &p;
    if (best == nullptr) return std::nullopt;
    const chain x = best->to_chain(c);
    return candidate{x, apply(c, table, x)};
}

}  // namespace detail

// Throws argument_error as needed_answers does, and for a table that the characterisation does not have.
inline choice choose(const characterisation& c, std::size_t table, std::uint64_t bound) {
    if (table >= c.tables.size())
        throw argument_error("table", "0.." + std::to_string(c.tables.size()) + " exclusive", std::to_string(table));
    choice found;
    found.needed = needed_answers(c, bound);
    std::vector<operating_point> points = detail::static_points(c, table);
    detail::add_pairs(c, table, points);
    detail::add_triples(c, table, points);
    found.best_static = *detail::cheapest(c, table, points, 1, found.needed);  // the widest always has them
    found.pair = detail::cheapest(c, table, points, 2, found.needed);
    found.triple = detail::cheapest(c, table, points, 3, found.needed);

    found.per_class = found.pair;  // one threshold for all classes is a choice, too
    for (std::size_t low = 0; low < c.widths.size(); ++low)
        for (std::size_t high = low + 1; high < c.widths.size(); ++high) {
            const std::optional<chain> x = detail::class_thresholds(c, low, high, found.needed);
            if (!x) continue;
            const outcome o = apply(c, table, *x);
            if (o.reached[1] == 0) continue;  // a static width
            if (!found.per_class || o.energy < found.per_class->result.energy) found.per_class = candidate{*x, o};
        }

    found.chosen = found.best_static;
    for (const std::optional<candidate>* other : {&found.pair, &found.per_class, &found.triple})
        if (*other && (*other)->result.energy < found.chosen.result.energy) {
            found.chosen = **other;
            found.beats_static = true;
        }
    return found;
}

// What two widths could do at best, and what chance would do, when as many images escalate: right answers if just those
// escalated that gain by it, and, times the number of images, the expectation if images were drawn at random.
struct escalation_bounds {
    std::uint64_t oracle = 0;
    std::uint64_t random_times_samples = 0;
};
inline escalation_bounds bounds_of(const characterisation& c, int low, int high, std::uint64_t escalated) {
    const width_record &a = c.widths[detail::place_of(c, low)], &b = c.widths[detail::place_of(c, high)];
    std::uint64_t gains = 0;
    for (std::size_t i = 0; i < c.labels.size(); ++i) gains += detail::gain_of(c, a, b, i) > 0;
    return {a.correct + std::min(gains, escalated), (c.samples() - escalated) * a.correct + escalated * b.correct};
}

}  // namespace lamella::inference
