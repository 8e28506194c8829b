// What is drained, and how on any machine: drain.hpp chooses between this and drain_avx512.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../core/path.hpp"
#include "../core/rounding.hpp"
#include "operation.hpp"
#include "tile.hpp"

namespace lamella::gemm::detail {

// A tile of rows x columns sums, `pitch` apart. Row r goes to offset rows[r] + first_column.
struct drain_job {
    const output* out = nullptr;
    const std::int64_t* rows = nullptr;
    int row_count = 0;
    int columns = 0;
    std::int64_t first_column = 0;
    std::int64_t pitch = 0;
    const std::int32_t* correction = nullptr;  // taken off every sum of its row, modulo 2^32; null: none
    std::int64_t correction_step = 0;
    // Kernels that drain: the correction is the sum of the column past the last one, and is kept here. Null: it is not.
    std::int32_t* spare = nullptr;
    const std::int32_t* bias = nullptr;  // of `narrow` results: N values, filled up with zeros to whole vectors
    bool narrow = false;                 // drains_narrow()
    bool stream = false;                 // streams_result()
    std::int32_t correction_of(int row) const noexcept {
        return correction != nullptr ? correction[row * correction_step] : 0;
    }
};

// True when the result is better written past the caches: it is too large for the second level, nobody counts it while
// it is there, and all rows begin at a cache line.
inline bool streams_result(const output& out, const axis& rows, std::int64_t columns) noexcept {
    constexpr std::int64_t least = 1 << 21;  // bytes
    const std::int64_t size = out.exact != nullptr ? 8 : 4;
    const void* const start = out.exact != nullptr    ? static_cast<const void*>(out.exact)
                              : out.narrow != nullptr ? out.narrow
                                                      : out.wide;
    if (out.seen != nullptr || rows.size() * columns * size < least) return false;
    std::uintptr_t address = reinterpret_cast<std::uintptr_t>(start);
    for (std::size_t d = 0; d < 3; ++d)
        if (rows.extent[d] > 1) address |= static_cast<std::uintptr_t>(rows.stride[d] * size);
    return address % vector_bytes == 0;
}

// True when 32-bit arithmetic gives the result: exact sums, or wide ones that nothing is shifted out of.
constexpr bool drains_narrow(const output& out, std::int64_t bound) noexcept {
    return out.exact == nullptr && out.shift == 0 && bound < narrow_bound;
}

constexpr std::int32_t wrapping_difference(std::int32_t x, std::int32_t y) noexcept {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) - static_cast<std::uint32_t>(y));
}

template <class Sum>
LAMELLA_ALWAYS_INLINE void drain_tile_body(const drain_job& job, const Sum* sums) {
    const output& out = *job.out;
    for (int r = 0; r < job.row_count; ++r) {
        const Sum* sum = sums + r * job.pitch;
        const std::int64_t to = job.rows[r] + job.first_column;
        const std::int32_t correction = job.correction_of(r);
        const auto exact = [&](int c) -> std::int64_t {
            if constexpr (sizeof(Sum) == 4)
                return wrapping_difference(sum[c], correction);
            else
                return sum[c];
        };
        if (out.exact != nullptr) {
            for (int c = 0; c < job.columns; ++c) out.exact[to + c] = exact(c);
        } else if (out.narrow != nullptr) {
            for (int c = 0; c < job.columns; ++c) out.narrow[to + c] = static_cast<std::int32_t>(exact(c));
        } else if (out.bias == nullptr) {
            for (int c = 0; c < job.columns; ++c)
                out.wide[to + c] = static_cast<std::int32_t>(round_nearest(exact(c), out.shift));
        } else {
            const std::int64_t* bias = out.bias + job.first_column;
            for (int c = 0; c < job.columns; ++c)
                out.wide[to + c] = static_cast<std::int32_t>(round_nearest(exact(c) + bias[c], out.shift));
        }
    }
}
LAMELLA_MULTIVERSION_TEMPLATE(drain_tile, (class Sum), (const drain_job& job, const Sum* sums), (job, sums))

// into[row][column] (+)= low + high x 2^limb_shift. The high limb's columns, whole eights, follow the low one's.
struct widen_job {
    const std::int32_t* sums = nullptr;
    int row_count = 0;
    int columns = 0;
    int limb_shift = 0;  // 0: one limb
    const std::int32_t* correction = nullptr;
    std::int64_t correction_step = 0;
    std::int64_t* into = nullptr;
    std::int64_t pitch = 0;
    bool add = false;  // otherwise what was there is overwritten
};

LAMELLA_ALWAYS_INLINE void widen_portable_body(const widen_job& job) {
    const int limbs = job.limb_shift == 0 ? 1 : 2;
    for (int r = 0; r < job.row_count; ++r) {
        const std::int32_t correction = job.correction != nullptr ? job.correction[r * job.correction_step] : 0;
        const std::int32_t* low = job.sums + r * limbs * job.columns;
        const std::int32_t* high = low + job.columns;
        std::int64_t* into = job.into + r * job.pitch;
        for (int c = 0; c < job.columns; ++c) {
            const std::int64_t sum = limbs == 1 ? std::int64_t{wrapping_difference(low[c], correction)}
                                                : low[c] + (std::int64_t{high[c]} << job.limb_shift);
            into[c] = job.add ? into[c] + sum : sum;
        }
    }
}
LAMELLA_MULTIVERSION(widen_portable, (const widen_job& job), (job))

}  // namespace lamella::gemm::detail
