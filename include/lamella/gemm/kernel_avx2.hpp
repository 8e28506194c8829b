// The tile of 32-byte vectors: 12 accumulators of 16 registers, and a policy for what a group is multiplied by.
//
//   avx2      words through vpmaddwd, which sums two 16 x 16 bit products exactly. (Bytes through vpmaddubsw saturate,
//             and cost as many instructions once that is avoided.)
//   avx_vnni  words through vpdpwssd, bytes through vpdpbusd. Both encodings of them are here: that of AVX-VNNI, and
//   that
//             of AVX-512 VL, with which the path runs, and is tested, on CPUs without AVX-VNNI.
//
// Dot products are written in assembly: a template has one target attribute, and these instructions have two.
#pragma once

#include "../core/path.hpp"
#include "tile.hpp"

#if LAMELLA_X86
#include "../core/intrinsics.hpp"

namespace lamella::gemm::detail {

struct add_pairs_avx2 {
    static constexpr int low_rows = 3;  // of the tile of two vectors: operands in memory need no register
    LAMELLA_TARGET_AVX2 static LAMELLA_ALWAYS_INLINE __m256i add(__m256i sum, __m256i right, __m256i left) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(left, right));
    }
};

#define LAMELLA_DOT_AVX_VNNI(name, instruction, first, second)                                                   \
    struct name {                                                                                                \
        static constexpr int low_rows = 2; /* 8 accumulators, 4 vectors and a group are 13 registers */          \
        LAMELLA_TARGET_AVX2 static LAMELLA_ALWAYS_INLINE __m256i add(__m256i sum, __m256i right, __m256i left) { \
            asm(instruction " %2, %1, %0" : "+x"(sum) : "x"(first), "x"(second));                                \
            return sum;                                                                                          \
        }                                                                                                        \
    };
LAMELLA_DOT_AVX_VNNI(words_avx_vnni, "%{vex%} vpdpwssd", right, left)
LAMELLA_DOT_AVX_VNNI(bytes_avx_vnni, "%{vex%} vpdpbusd", right, left)
LAMELLA_DOT_AVX_VNNI(unsigned_left_avx_vnni, "%{vex%} vpdpbusd", left, right)
LAMELLA_DOT_AVX_VNNI(words_avx512_vnni, "vpdpwssd", right, left)
LAMELLA_DOT_AVX_VNNI(bytes_avx512_vnni, "vpdpbusd", right, left)
LAMELLA_DOT_AVX_VNNI(unsigned_left_avx512_vnni, "vpdpbusd", left, right)
#undef LAMELLA_DOT_AVX_VNNI

template <class Dot, int Rows, int Vectors>
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
                const __m256i group = _mm256_set1_epi32(group_at(row[r] + at));
#pragma GCC unroll 8
                for (int h = 0; h < halves; ++h) sum[r][h] = Dot::add(sum[r][h], vector[h], group);
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

template <class Dot>
inline tile_kernel kernel_avx2(int vectors) noexcept {
    if (vectors == 1) return {tile_avx2<Dot, 6, 1>, 6, 1};
    return {tile_avx2<Dot, Dot::low_rows, 2>, Dot::low_rows, 2};
}

template <class Words, class Bytes, class UnsignedLeft>
inline tile_kernel kernel_avx_vnni(group_kind kind, int vectors) noexcept {
    if (kind == group_kind::words) return kernel_avx2<Words>(vectors);
    return kind == group_kind::bytes ? kernel_avx2<Bytes>(vectors) : kernel_avx2<UnsignedLeft>(vectors);
}
inline tile_kernel kernel_avx_vnni(group_kind kind, int vectors) noexcept {
    static const bool older = lamella::detail::has_avx_vnni();
    if (older) return kernel_avx_vnni<words_avx_vnni, bytes_avx_vnni, unsigned_left_avx_vnni>(kind, vectors);
    return kernel_avx_vnni<words_avx512_vnni, bytes_avx512_vnni, unsigned_left_avx512_vnni>(kind, vectors);
}

}  // namespace lamella::gemm::detail
#endif
