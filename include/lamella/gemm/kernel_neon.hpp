// The tile for NEON: words. A vector's even and odd words are separated while loading, so that each half of a left pair
// multiplies eight columns. 16 accumulators of 32 registers. With sdot: bytes, both of them signed, so that nothing is
// offset or corrected; 24 accumulators.
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
    if (vectors == 1) return {tile_neon<4, 1>, 4, 1};
    return {tile_neon<2, 2>, 2, 2};
}

#if LAMELLA_NEON_DOT
template <int Rows>
__attribute__((target("arch=armv8.2-a+dotprod"))) void tile_neon_dot(const tile_job& job) {
    int32x4_t sum[Rows][4];
    const std::byte* row[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
        row[r] = job.left + job.rows[r * job.rows_step];
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) sum[r][q] = vdupq_n_s32(0);
    }
    const std::byte* right = job.right;
    for (std::int64_t s = 0; s < job.span_count; ++s) {
        std::int64_t at = job.spans[s].left;
        for (std::int64_t g = 0; g < job.spans[s].groups; ++g, at += job.group_step, right += vector_bytes) {
            int8x16_t vector[4];
#pragma GCC unroll 4
            for (int q = 0; q < 4; ++q) vector[q] = vld1q_s8(reinterpret_cast<const std::int8_t*>(right) + 16 * q);
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) {
                const int8x16_t group = vreinterpretq_s8_s32(vdupq_n_s32(group_at(row[r] + at)));
#pragma GCC unroll 4
                for (int q = 0; q < 4; ++q) sum[r][q] = vdotq_s32(sum[r][q], vector[q], group);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) vst1q_s32(job.sums + (r * 4 + q) * 4, sum[r][q]);
}
#endif

}  // namespace lamella::gemm::detail
#endif
