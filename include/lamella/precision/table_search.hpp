// Finding a table (table.hpp): integer bits from the ranges that operands take, then the fewest fraction bits, layer by
// layer and role by role, under a bound on an error.
//
//   std::vector<table_row> rows = starting_table(tops);                        // 16 bits everywhere
//   for (const role what : {role::activation, role::weight, role::error})
//       lower_fractions(rows, what, error(rows), tolerance, error);
//
// `error(rows)` is the caller's, a whole number: in examples/taxonn what rounding does to single samples' gradients
// (train/gradient_error.hpp), in millionths; it may as well be wrong answers or a loss, as far as noise does not hide
// what a bit does to them. What it costs is the search's cost, about four calls a layer and role.
//
// Hojabr et al., TaxoNN, arXiv 2010.05197 (abstract: fixed point of low width layer by layer). How its formats were
// found is not public: ranges, bisection and order here are a reconstruction.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../core/format.hpp"
#include "table.hpp"

namespace lamella::precision {

// For activation, weight and error of a layer: no magnitude is above 2^top.
using operand_tops = std::array<int, 3>;

// The least top of a magnitude, ceil(log2 x); 0 for one that is 0. Throws argument_error for what is no magnitude.
inline int top_of(double magnitude) {
    if (!(magnitude >= 0) || std::isinf(magnitude))
        throw argument_error("largest magnitude", "a finite number that is not negative", std::to_string(magnitude));
    if (magnitude == 0) return 0;
    int exponent = 0;
    const double fraction =
        std::frexp(magnitude, &exponent);  // magnitude = fraction x 2^exponent, fraction in [0.5, 1)
    return fraction == 0.5 ? exponent - 1 : exponent;
}

// The widest table that holds such magnitudes: I = top + 1, F = width - I. Throws argument_error for a width that is
// none, and for tops beyond +-24.
inline std::vector<table_row> starting_table(std::span<const operand_tops> tops, int width = max_width) {
    checked_width(width, "width to start from");
    std::vector<table_row> rows;
    for (const operand_tops& layer : tops) {
        table_row& row = rows.emplace_back();
        for (std::size_t i = 0; i < row.size(); ++i) {
            if (layer[i] < -24 || layer[i] > 24)
                throw argument_error("top of " + std::string(name_of(static_cast<role>(i))) + " in layer " +
                                         std::to_string(rows.size() - 1),
                                     "-24..24", std::to_string(layer[i]));
            row[i] = {layer[i] + 1, width - layer[i] - 1};
        }
    }
    return rows;
}

// Gives `what` of each layer, from the first, the least F at which error(rows) is at most `start` and the layer's part
// of the tolerance, so that no layer leaves nothing to the next: layer l of n may come to start + tolerance (l + 1) /
// n. F is found by bisection between a width of 2 bits and the present F. Where more bits never make a larger error, no
// F of `what` could be less by one afterwards; where they do, as with noise, each F is still one that was tried and
// allowed, or the present one. Returns the number of calls. Throws argument_error for a role that a table does not
// have.
template <class Error>
int lower_fractions(std::vector<table_row>& rows, role what, std::uint64_t start, std::uint64_t tolerance,
                    Error&& error) {
    if (what == role::gradient) throw argument_error("role", "activation, weight or error", std::string(name_of(what)));
    int calls = 0;
    for (std::size_t layer = 0; layer < rows.size(); ++layer) {
        const std::uint64_t allowed = start + tolerance * (layer + 1) / rows.size();
        fixed_point& format = rows[layer][static_cast<std::size_t>(what)];
        int good = format.fraction, bad = min_width - format.integer - 1;
        while (good - bad > 1) {
            format.fraction = bad + (good - bad) / 2;
            ++calls;
            (error(std::as_const(rows)) <= allowed ? good : bad) = format.fraction;
        }
        format.fraction = good;
    }
    return calls;
}

}  // namespace lamella::precision
