// What dot products of unsigned with signed bytes cost besides the multiplications (tile.hpp): a look at the operands
// for one without negative mantissas, and otherwise the sums of the left rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../core/path.hpp"
#include "tile.hpp"

#if LAMELLA_X86
#include "../core/intrinsics.hpp"
#endif

namespace lamella::gemm::detail {

LAMELLA_ALWAYS_INLINE void any_negative_body(const std::int8_t* from, std::int64_t count, bool& found) {
    found = false;
    while (count > 0 && !found) {
        const std::int64_t here = std::min<std::int64_t>(count, 1024);
        std::int8_t any = 0;
        for (std::int64_t i = 0; i < here; ++i) any = static_cast<std::int8_t>(any | from[i]);
        found = any < 0;
        from += here;
        count -= here;
    }
}
LAMELLA_MULTIVERSION(any_negative, (const std::int8_t* from, std::int64_t count, bool& found), (from, count, found))

// Modulo 2^32.
constexpr std::int32_t times_128(std::int32_t x) noexcept {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) * 128u);
}

LAMELLA_ALWAYS_INLINE void sum_rows_plain_body(const std::byte* left, const std::int64_t* rows, std::int64_t count,
                                               const group_span* spans, std::int64_t span_count, std::int32_t* into) {
    for (std::int64_t i = 0; i < count; ++i) {
        std::int32_t sum = 0;
        for (std::int64_t s = 0; s < span_count; ++s) {
            const auto* from = reinterpret_cast<const std::int8_t*>(left + rows[i] + spans[s].left);
            for (std::int64_t k = 0; k < spans[s].bytes; ++k) sum += from[k];
        }
        into[i] = times_128(sum);
    }
}
LAMELLA_MULTIVERSION(sum_rows_plain,
                     (const std::byte* left, const std::int64_t* rows, std::int64_t count, const group_span* spans,
                      std::int64_t span_count, std::int32_t* into),
                     (left, rows, count, spans, span_count, into))

LAMELLA_ALWAYS_INLINE void sum_packed_plain_body(const std::byte* packed, std::int64_t groups, std::int32_t* into) {
    const auto* from = reinterpret_cast<const std::int8_t*>(packed);
    std::int32_t sum[vector_bytes] = {};
    for (std::int64_t g = 0; g < groups; ++g, from += vector_bytes)
        for (int i = 0; i < vector_bytes; ++i) sum[i] += from[i];
    for (int lane = 0; lane < tile_lanes; ++lane)
        into[lane] = times_128(sum[4 * lane] + sum[4 * lane + 1] + sum[4 * lane + 2] + sum[4 * lane + 3]);
}
LAMELLA_MULTIVERSION(sum_packed_plain, (const std::byte* packed, std::int64_t groups, std::int32_t* into),
                     (packed, groups, into))

#if LAMELLA_X86
// Four rows at a time.
LAMELLA_TARGET_AVX512 inline void sum_rows_avx512(const std::byte* left, const std::int64_t* rows, std::int64_t count,
                                                  const group_span* spans, std::int64_t span_count,
                                                  std::int32_t* into) {
    const __m512i ones = _mm512_set1_epi8(1);
    for (std::int64_t i = 0; i < count; i += 4) {
        __m512i x[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) x[r] = _mm512_setzero_si512();
        for (std::int64_t s = 0; s < span_count; ++s) {
            const std::byte* from = left + spans[s].left;
            for (std::int64_t k = spans[s].bytes; k > 0; k -= vector_bytes, from += vector_bytes) {
                const std::uint64_t mask = k >= vector_bytes ? ~std::uint64_t{0} : (std::uint64_t{1} << k) - 1;
#pragma GCC unroll 4
                for (int r = 0; r < 4; ++r)
                    x[r] = _mm512_dpbusd_epi32(x[r], ones, _mm512_maskz_loadu_epi8(mask, from + rows[i + r]));
            }
        }
        const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[0], x[1]));
        const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(x[2], x[3]), _mm512_unpackhi_epi32(x[2], x[3]));
        const __m512i sums = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
        const __m128i total = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(into + i), _mm_slli_epi32(total, 7));
    }
}

LAMELLA_TARGET_AVX512 inline void sum_packed_avx512(const std::byte* packed, std::int64_t groups, std::int32_t* into) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sum = _mm512_setzero_si512();
    for (std::int64_t g = 0; g < groups; ++g)
        sum = _mm512_dpbusd_epi32(sum, ones, _mm512_load_si512(packed + g * vector_bytes));
    _mm512_storeu_si512(into, _mm512_slli_epi32(sum, 7));
}

LAMELLA_TARGET_AVX512 inline bool nonnegative_avx512(const std::int8_t* from, std::int64_t count) {
    for (; count >= vector_bytes; count -= vector_bytes, from += vector_bytes)
        if (_mm512_movepi8_mask(_mm512_loadu_si512(from)) != 0) return false;
    if (count == 0) return true;
    return _mm512_movepi8_mask(_mm512_maskz_loadu_epi8((std::uint64_t{1} << count) - 1, from)) == 0;
}
#endif

// True when no byte of [from, from + count) is negative. Stops soon after the first one.
inline bool nonnegative(path isa, const std::int8_t* from, std::int64_t count) {
#if LAMELLA_X86
    if (isa == path::avx512) return nonnegative_avx512(from, count);
#endif
    bool found;
    any_negative(isa, from, count, found);
    return !found;
}

// into[i] = 128 x the sum of the bytes of row i over the spans; both have room for a multiple of four rows. |sum| <
// 2^24 for every depth at which the products fit 32 bits.
inline void sum_rows(path isa, const std::byte* left, const std::int64_t* rows, std::int64_t count,
                     const group_span* spans, std::int64_t span_count, std::int32_t* into) {
#if LAMELLA_X86
    if (isa == path::avx512) return sum_rows_avx512(left, rows, count, spans, span_count, into);
#endif
    sum_rows_plain(isa, left, rows, count, spans, span_count, into);
}

// The same of the 16 rows of a packed vector.
inline void sum_packed(path isa, const std::byte* packed, std::int64_t groups, std::int32_t* into) {
#if LAMELLA_X86
    if (isa == path::avx512) return sum_packed_avx512(packed, groups, into);
#endif
    sum_packed_plain(isa, packed, groups, into);
}

}  // namespace lamella::gemm::detail
