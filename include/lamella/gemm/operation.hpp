// The one operation that training is made of, C[m][n] = sum over k of a(m, k) x b(n, k), and how its operands are
// described: read in place, whatever their layout. Start reading the gemm room here.
//
//   operand_view   element (row, k) is data[rows.offset(row) + depth.offset(k)]. An axis nests up to three extents, so
//                  a plain matrix, its transpose, the patches of a convolution and the shifted errors of its backward
//                  passes are all views of the same stored tensor; no im2col matrix and no transposed copy exists.
//   output         exact accumulators (int32 or int64), or the *wide* tensor that layers hand each other: accumulator
//                  plus bias, shifted right to nearest, with the histogram that the next quantiser needs.
//   settings       which execution, path, encoding and number of threads. They never change a bit of the result.
#pragma once

#include <array>
#include <cstdint>

#include "../core/format.hpp"
#include "../core/histogram.hpp"
#include "../core/path.hpp"
#include "../slice/encoding.hpp"

namespace lamella::gemm {

// Maps an index to an element offset: index = ((i0 * extent[1]) + i1) * extent[2] + i2, offset = sum i_d * stride[d].
// Outermost first; unused levels have extent 1. Strides in elements, of either sign.
struct axis {
    std::array<std::int64_t, 3> extent{1, 1, 1};
    std::array<std::int64_t, 3> stride{0, 0, 0};

    static constexpr axis linear(std::int64_t count, std::int64_t stride) noexcept {
        return {{1, 1, count}, {0, 0, stride}};
    }
    // Three nested extents, with neighbours merged where one stride continues the other: kernels look for long runs.
    static constexpr axis nested(std::array<std::int64_t, 3> extent, std::array<std::int64_t, 3> stride) noexcept {
        axis merged;
        int level = 2;  // the level being filled, innermost first
        for (int d = 2; d >= 0; --d) {
            const auto from = static_cast<std::size_t>(d), to = static_cast<std::size_t>(level);
            if (extent[from] == 1) continue;
            if (merged.extent[to] == 1) {
                merged.extent[to] = extent[from];
                merged.stride[to] = stride[from];
            } else if (stride[from] == merged.stride[to] * merged.extent[to]) {
                merged.extent[to] *= extent[from];
            } else {
                --level;
                merged.extent[to - 1] = extent[from];
                merged.stride[to - 1] = stride[from];
            }
        }
        return merged;
    }
    constexpr std::int64_t size() const noexcept { return extent[0] * extent[1] * extent[2]; }
    constexpr std::int64_t offset(std::int64_t index) const noexcept {
        const std::int64_t i2 = index % extent[2];
        const std::int64_t rest = index / extent[2];
        return (rest / extent[1]) * stride[0] + (rest % extent[1]) * stride[1] + i2 * stride[2];
    }
};

// One operand, not owned. Width up to 8 bits: data points to int8; above: to int16. 64 bytes after the last element
// reached may be read.
struct operand_view {
    const void* data = nullptr;
    int width = 8;     // bits of a mantissa
    int exponent = 0;  // one a tensor
    axis rows;         // M of the left operand, N of the right one
    axis depth;        // K

    bool in_bytes() const noexcept { return width <= byte_width; }
    std::int64_t at(std::int64_t row, std::int64_t k) const noexcept {
        const std::int64_t offset = rows.offset(row) + depth.offset(k);
        return in_bytes() ? static_cast<const std::int8_t*>(data)[offset]
                          : static_cast<const std::int16_t*>(data)[offset];
    }
};

// C[m][n] = sum over k of a(m, k) x b(n, k).
struct problem {
    operand_view a;
    operand_view b;
    std::int64_t m() const noexcept { return a.rows.size(); }
    std::int64_t n() const noexcept { return b.rows.size(); }
    std::int64_t k() const noexcept { return a.depth.size(); }
};

// Largest magnitude that an accumulator can reach: (2^(wa-1) - 1)(2^(wb-1) - 1) K, plus the largest |bias|.
constexpr std::int64_t accumulator_bound(int width_a, int width_b, std::int64_t k, std::int64_t bias = 0) noexcept {
    return std::int64_t{largest_mantissa(width_a)} * largest_mantissa(width_b) * k + bias;
}
// int32 accumulators are exact below this bound, int64 ones up to `largest_bound`.
inline constexpr std::int64_t narrow_bound = std::int64_t{1} << 31;
inline constexpr std::int64_t largest_bound = std::int64_t{1} << 62;

// Where C goes. Element (m, n) has the offset rows.offset(m) + n (columns are contiguous). Exactly one of `wide`,
// `narrow` and `exact` is set.
struct output {
    axis rows;
    std::int32_t* narrow = nullptr;  // exact accumulators; the problem's bound must be below narrow_bound
    std::int64_t* exact = nullptr;   // exact accumulators
    std::int32_t* wide = nullptr;    // round_nearest(accumulator + bias[n], shift)
    const std::int64_t* bias = nullptr;  // N values in the accumulator's exponent, or null; `wide` only
    std::int64_t largest_bias = 0;       // largest |bias[n]|
    int shift = 0;                       // bits dropped, to nearest; `wide` only
    histogram* seen = nullptr;           // counts |wide| into it (adds), or null
};

// The three ways to compute a product, of equal bits.
enum class execution : std::uint8_t { fused, sliced, reference };
inline constexpr std::array<std::string_view, 3> execution_names{"fused", "sliced", "reference"};
constexpr std::string_view name_of(execution e) noexcept { return execution_names[static_cast<std::size_t>(e)]; }

// How products are computed: nothing in it changes a result.
struct settings {
    execution how = execution::fused;
    path isa = best_path();
    slice::encoding digits = slice::encoding::sign_magnitude;  // of `sliced` and `reference`
    int threads = 1;
    bool skip_zeros = true;  // `fused` (skip.hpp) and a layer's backward GEMMs look for zeros to leave out
};

}  // namespace lamella::gemm
