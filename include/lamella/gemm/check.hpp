// What every execution checks before it touches memory. A problem that passes cannot overflow any accumulator, so the
// kernels need no saturation and no run-time overflow test. Cost: a few comparisons a GEMM.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "../core/errors.hpp"
#include "../core/format.hpp"
#include "../core/rounding.hpp"
#include "operation.hpp"

namespace lamella::gemm {
namespace detail {

// accumulator_bound without its overflow: false when the bound passes largest_bound.
constexpr bool bound_is_representable(int width_a, int width_b, std::int64_t k, std::int64_t bias) noexcept {
    const std::int64_t product = accumulator_bound(width_a, width_b, 1);
    return bias >= 0 && bias <= largest_bound && k <= (largest_bound - bias) / product;
}

inline void require(bool holds, const char* name, const char* expected, std::int64_t found) {
    if (!holds) throw argument_error(name, expected, std::to_string(found));
}

}  // namespace detail

// Throws argument_error unless: both widths are 2..16 bits; no extent is negative; both operands have the same depth;
// the output has as many rows as `a`; the bound of the accumulators, |bias| included, is at most largest_bound; exactly
// one destination is set; `narrow` has a bound below narrow_bound; bias, shift and histogram come with `wide` alone;
// the shift is 0..62 and large enough that every wide mantissa, rounded, fits 32 bits.
inline void check(const problem& p, const output& out) {
    using detail::require;
    checked_width(p.a.width, "a.width");
    checked_width(p.b.width, "b.width");
    for (const axis* x : {&p.a.rows, &p.a.depth, &p.b.rows, &p.b.depth, &out.rows})
        for (const std::int64_t extent : x->extent) require(extent >= 0, "extent", "0 or more", extent);
    if (p.b.depth.size() != p.a.depth.size())
        throw argument_error("b.depth", "the depth of a, " + std::to_string(p.a.depth.size()),
                             std::to_string(p.b.depth.size()));
    if (out.rows.size() != p.m())
        throw argument_error("output.rows", "the rows of a, " + std::to_string(p.m()), std::to_string(out.rows.size()));

    const int destinations = (out.narrow != nullptr) + (out.exact != nullptr) + (out.wide != nullptr);
    require(destinations == 1, "output", "exactly one destination", destinations);
    if (out.wide == nullptr) {
        require(out.bias == nullptr && out.largest_bias == 0, "output.bias", "none without a wide output",
                out.largest_bias);
        require(out.shift == 0, "output.shift", "0 without a wide output", out.shift);
        require(out.seen == nullptr, "output.seen", "none without a wide output", 1);
    }
    require(out.shift >= 0 && out.shift <= 62, "output.shift", "0..62 bits", out.shift);

    require(detail::bound_is_representable(p.a.width, p.b.width, p.k(), out.largest_bias), "depth",
            "an accumulator bound of at most 2^62", p.k());
    const std::int64_t bound = accumulator_bound(p.a.width, p.b.width, p.k(), out.largest_bias);
    if (out.narrow != nullptr)
        require(bound < narrow_bound, "output.narrow", "an accumulator bound below 2^31", bound);
    if (out.wide != nullptr)
        require(round_nearest(bound, out.shift) <= std::numeric_limits<std::int32_t>::max(), "output.shift",
                "bits enough for the wide tensor to fit 32", out.shift);
}

}  // namespace lamella::gemm
