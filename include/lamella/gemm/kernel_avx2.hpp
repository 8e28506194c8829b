// The tile for AVX2: words through vpmaddwd, which sums two 16 x 16 bit products exactly. (Bytes through vpmaddubsw
// saturate, and cost as many instructions once that is avoided.) 12 accumulators of 16 registers.
#pragma once

#include "../core/path.hpp"
#include "tile.hpp"

#if LAMELLA_X86
#include "../core/intrinsics.hpp"

namespace lamella::gemm::detail {

template <int Rows, int Vectors>
LAMELLA_TARGET_AVX2 void tile_avx2(const tile_job& job) {
    constexpr int halves = 2 * Vectors;
    __m256i sum[Rows][halves];
    const std::byte* row[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
        row[r] = job.left + job.rows[r * job.rows_step];
#pragma GCC unroll 8
        for (int h = 0; h < halves; ++h) sum[r][h] = _mm256_setzero_si256();
    }
    const std::byte* right = job.right;
    for (std::int64_t s = 0; s < job.span_count; ++s) {
        std::int64_t at = job.spans[s].left;
        for (std::int64_t g = 0; g < job.spans[s].groups; ++g) {
            __m256i vector[halves];
#pragma GCC unroll 8
            for (int h = 0; h < halves; ++h) vector[h] = _mm256_load_si256(reinterpret_cast<const __m256i*>(right) + h);
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) {
                const __m256i pair = _mm256_set1_epi32(group_at(row[r] + at));
#pragma GCC unroll 8
                for (int h = 0; h < halves; ++h)
                    sum[r][h] = _mm256_add_epi32(sum[r][h], _mm256_madd_epi16(pair, vector[h]));
            }
            at += job.group_step;
            right += Vectors * vector_bytes;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int h = 0; h < halves; ++h)
            _mm256_store_si256(reinterpret_cast<__m256i*>(job.sums) + r * halves + h, sum[r][h]);
}

inline tile_kernel word_kernel_avx2(int vectors) noexcept {
    if (vectors == 1) return {tile_avx2<6, 1>, 6, 1, false};
    return {tile_avx2<3, 2>, 3, 2, false};
}

}  // namespace lamella::gemm::detail
#endif
