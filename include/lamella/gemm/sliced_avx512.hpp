// The kernels of the `sliced` execution for AVX-512 VNNI: vpdpbusd takes b's unsigned digits from a vector and four
// signed digits of a from a broadcast. The 24 accumulators of a tile stay in registers over all runs of a call. Every
// loop over accumulators needs its unroll pragma: one without it makes GCC spill all of them.
#pragma once

#include "../core/config.hpp"

#if LAMELLA_X86

#include "../core/intrinsics.hpp"
#include "sliced_tile.hpp"

namespace lamella::gemm::detail {

LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m512i broadcast_group(const std::int8_t* a) {
    std::int32_t four;
    std::memcpy(&four, a, 4);
    return _mm512_set1_epi32(four);
}

template <int Vectors>
LAMELLA_TARGET_AVX512 void add_runs_avx512(const sliced_run* runs, int count, std::int64_t stride, std::int32_t* tile) {
    constexpr int rows = tile_rows(Vectors);
    __m512i sum[rows][Vectors];
#pragma GCC unroll 24
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_loadu_si512(tile + 16 * (r * Vectors + v));
    for (int i = 0; i < count; ++i) {
        const __m128i shift = _mm_cvtsi32_si128(runs[i].shift);
#pragma GCC unroll 24
        for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_sll_epi32(sum[r][v], shift);
        const std::int8_t* a = runs[i].a;
        const std::uint8_t* b = runs[i].b;
        for (std::int64_t g = runs[i].groups; g > 0; --g, a += 4, b += 64 * Vectors) {
            __m512i x[Vectors];
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) x[v] = _mm512_loadu_si512(b + 64 * v);
            const std::int8_t* row = a;
#pragma GCC unroll 24
            for (int r = 0; r < rows; ++r, row = r % 3 == 0 ? row + 3 * stride : row) {
                const __m512i y = broadcast_group(row + (r % 3) * stride);
#pragma GCC unroll 4
                for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], x[v], y);
            }
        }
    }
#pragma GCC unroll 24
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) _mm512_storeu_si512(tile + 16 * (r * Vectors + v), sum[r][v]);
}

// Adds the lowest group that `word` marks, and takes it out of the word.
template <int Vectors>
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE void add_lowest_group(std::uint64_t& word, const std::int8_t* a,
                                                                  const std::uint8_t* b, __m512i (&sum)[Vectors]) {
    const auto g = static_cast<std::uint64_t>(std::countr_zero(word));
    word &= word - 1;
    const __m512i y = broadcast_group(a + 4 * g);
    b += 64 * Vectors * g;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sum[v] = _mm512_dpbusd_epi32(sum[v], _mm512_loadu_si512(b + 64 * v), y);
}

// Depth is outermost, so that the 256 k of b which a word covers are read from memory once for all rows. Two sets of
// accumulators hide the latency of the dot product.
template <int Vectors>
LAMELLA_TARGET_AVX512 void add_groups_avx512(const sliced_run& run, const std::uint64_t* words,
                                             std::int64_t word_stride, std::int64_t stride, std::int32_t* tile) {
    const std::int8_t* a = run.a;
    const std::uint8_t* b = run.b;
    for (std::int64_t i = 0; 64 * i < run.groups; ++i, a += 256, b += 64 * 64 * Vectors)
        for (int r = 0; r < tile_rows(Vectors); ++r) {
            std::uint64_t word = words[r * word_stride + i];
            if (word == 0) continue;
            std::int32_t* const t = tile + 16 * Vectors * r;
            const std::int8_t* const row = a + r * stride;
            __m512i even[Vectors], odd[Vectors];
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) {
                even[v] = _mm512_loadu_si512(t + 16 * v);
                odd[v] = _mm512_setzero_si512();
            }
            const int count = std::popcount(word);
            for (int pair = count / 2; pair > 0; --pair) {
                add_lowest_group<Vectors>(word, row, b, even);
                add_lowest_group<Vectors>(word, row, b, odd);
            }
            if (count % 2 != 0) add_lowest_group<Vectors>(word, row, b, odd);
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) _mm512_storeu_si512(t + 16 * v, _mm512_add_epi32(even[v], odd[v]));
        }
}

}  // namespace lamella::gemm::detail

#endif
