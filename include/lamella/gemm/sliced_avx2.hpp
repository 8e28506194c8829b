// The dense kernel of the `sliced` execution for AVX2: unsigned x signed byte products in pairs (they cannot saturate,
// sliced_tile.hpp), summed in 16 bits over 32 groups, then widened.
#pragma once

#include "../core/config.hpp"

#if LAMELLA_X86

#include "../core/intrinsics.hpp"
#include "sliced_tile.hpp"

namespace lamella::gemm::detail {

// Adds six rows x 16 columns; `columns` of the tile and of b.
LAMELLA_TARGET_AVX2 inline void add_block_avx2(const std::int8_t* a, std::int64_t stride, const std::uint8_t* b,
                                               std::int64_t columns, std::int64_t groups, std::int32_t* tile) {
    constexpr int rows = 6;
    constexpr std::int64_t most = 32;  // 2 x 32 products of at most 15 x 31 a lane
    const __m256i ones = _mm256_set1_epi16(1);
    for (std::int64_t first = 0; first < groups; first += most) {
        __m256i sum[rows][2];
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        for (std::int64_t g = std::min(most, groups - first); g > 0; --g, a += 4, b += 4 * columns) {
            const __m256i b0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
            const __m256i b1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 32));
#pragma GCC unroll 6
            for (int r = 0; r < rows; ++r) {
                std::int32_t four;
                std::memcpy(&four, a + r * stride, 4);
                const __m256i x = _mm256_set1_epi32(four);
                sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(b0, x));
                sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(b1, x));
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
            for (int v = 0; v < 2; ++v) {
                auto* const t = reinterpret_cast<__m256i*>(tile + r * columns + 8 * v);
                _mm256_storeu_si256(t, _mm256_add_epi32(_mm256_loadu_si256(t), _mm256_madd_epi16(sum[r][v], ones)));
            }
    }
}

template <int Vectors>
void add_runs_avx2(const sliced_run* runs, int count, std::int64_t stride, std::int32_t* tile) {
    constexpr int columns = tile_columns(Vectors);
    for (int i = 0; i < count; ++i) {
        shift_tile(tile, runs[i].shift);
        if (runs[i].groups == 0) continue;
        for (int r = 0; r < tile_rows(Vectors); r += 6)
            for (int c = 0; c < columns; c += 16)
                add_block_avx2(runs[i].a + r * stride, stride, runs[i].b + 4 * c, columns, runs[i].groups,
                               tile + r * columns + c);
    }
}

}  // namespace lamella::gemm::detail

#endif
