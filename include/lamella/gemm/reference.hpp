// The specification of the GEMM: plain loops over (m, n, k) and over pairs of slices. Slow, and meant to be read first.
// The other executions give the same bits (tests/gemm_test.cpp). Next: fused.hpp, sliced.hpp.
#pragma once

#include <cstdint>

#include "../core/rounding.hpp"
#include "../slice/encoding.hpp"
#include "check.hpp"
#include "operation.hpp"

namespace lamella::gemm {

// The output rule without the histogram: what becomes of one exact accumulator of column n. 64-bit arithmetic; check()
// has shown that nothing overflows.
inline void store_uncounted(const output& out, std::int64_t at, std::int64_t n, std::int64_t accumulator) noexcept {
    if (out.exact != nullptr) {
        out.exact[at] = accumulator;
    } else if (out.narrow != nullptr) {
        out.narrow[at] = static_cast<std::int32_t>(accumulator);
    } else {
        const std::int64_t sum = accumulator + (out.bias != nullptr ? out.bias[n] : 0);
        out.wide[at] = static_cast<std::int32_t>(round_nearest(sum, out.shift));
    }
}

// The output rule: stores an exact accumulator of element (m, n) and counts what becomes of it.
inline void store_accumulator(const output& out, std::int64_t m, std::int64_t n, std::int64_t accumulator) {
    const std::int64_t at = out.rows.offset(m) + n;
    store_uncounted(out, at, n, accumulator);
    if (out.seen != nullptr) out.seen->add(out.wide[at]);
}

// One product of mantissas as the sum of its slice products, digit x digit x radix^(i + j).
constexpr std::int64_t multiply_slices(slice::encoding digits, std::int64_t x, int width_x, std::int64_t y,
                                       int width_y) noexcept {
    const slice::slices left = slice::split(digits, static_cast<int>(x), width_x);
    const slice::slices right = slice::split(digits, static_cast<int>(y), width_y);
    const int radix_bits = slice::radix_bits(digits);
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < left.size(); ++i)
        for (std::size_t j = 0; j < right.size(); ++j)
            sum += std::int64_t{left[i]} * right[j] * (std::int64_t{1} << (radix_bits * static_cast<int>(i + j)));
    return sum;
}

// C[m][n] = sum over k of a(m, k) x b(n, k), slice by slice. Throws argument_error (check.hpp).
inline void multiply_reference(const problem& p, const output& out, slice::encoding digits) {
    check(p, out);
    for (std::int64_t m = 0; m < p.m(); ++m)
        for (std::int64_t n = 0; n < p.n(); ++n) {
            std::int64_t accumulator = 0;
            for (std::int64_t k = 0; k < p.k(); ++k)
                accumulator += multiply_slices(digits, p.a.at(m, k), p.a.width, p.b.at(n, k), p.b.width);
            store_accumulator(out, m, n, accumulator);
        }
}

}  // namespace lamella::gemm
