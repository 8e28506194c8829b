// The tile for NEON: words. A vector's even and odd words are separated while loading, so that each half of a left pair
// multiplies eight columns. 16 accumulators of 32 registers.
#pragma once

#include "../core/config.hpp"
#include "tile.hpp"

#if LAMELLA_NEON
#include <arm_neon.h>

namespace lamella::gemm::detail {

template <int Rows, int Vectors>
void tile_neon(const tile_job& job) {
    constexpr int quarters = 4 * Vectors;
    int32x4_t sum[Rows][quarters];
    const std::byte* row[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
        row[r] = job.left + job.rows[r * job.rows_step];
#pragma GCC unroll 8
        for (int q = 0; q < quarters; ++q) sum[r][q] = vdupq_n_s32(0);
    }
    const std::byte* right = job.right;
    for (std::int64_t s = 0; s < job.span_count; ++s) {
        std::int64_t at = job.spans[s].left;
        for (std::int64_t g = 0; g < job.spans[s].groups; ++g) {
            int16x4_t pair[Rows];
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) pair[r] = vreinterpret_s16_s32(vdup_n_s32(group_at(row[r] + at)));
#pragma GCC unroll 8
            for (int q = 0; q < quarters; q += 2) {
                const int16x8x2_t vector = vld2q_s16(reinterpret_cast<const std::int16_t*>(right) + 8 * q);
#pragma GCC unroll 8
                for (int r = 0; r < Rows; ++r) {
                    sum[r][q] = vmlal_lane_s16(sum[r][q], vget_low_s16(vector.val[0]), pair[r], 0);
                    sum[r][q] = vmlal_lane_s16(sum[r][q], vget_low_s16(vector.val[1]), pair[r], 1);
                    sum[r][q + 1] = vmlal_lane_s16(sum[r][q + 1], vget_high_s16(vector.val[0]), pair[r], 0);
                    sum[r][q + 1] = vmlal_lane_s16(sum[r][q + 1], vget_high_s16(vector.val[1]), pair[r], 1);
                }
            }
            at += job.group_step;
            right += Vectors * vector_bytes;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int q = 0; q < quarters; ++q) vst1q_s32(job.sums + (r * quarters + q) * 4, sum[r][q]);
}

inline tile_kernel word_kernel_neon(int vectors) noexcept {
    if (vectors == 1) return {tile_neon<4, 1>, 4, 1, false};
    return {tile_neon<2, 2>, 2, 2, false};
}

}  // namespace lamella::gemm::detail
#endif
