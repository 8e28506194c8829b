// Draining tiles for AVX-512.
#pragma once

#include "drain_portable.hpp"

#if LAMELLA_X86
#include "../core/intrinsics.hpp"

namespace lamella::gemm::detail {

LAMELLA_TARGET_AVX512 inline void widen_avx512(const widen_job& job) {
    const int columns = job.columns, limbs = job.limb_shift == 0 ? 1 : 2;
    const __m128i shift = _mm_cvtsi32_si128(job.limb_shift);
    for (int r = 0; r < job.row_count; ++r) {
        const __m256i correction =
            _mm256_set1_epi32(job.correction != nullptr ? job.correction[r * job.correction_step] : 0);
        const std::int32_t* low = job.sums + r * limbs * columns;
        std::int64_t* into = job.into + r * job.pitch;
        for (int c = 0; c < columns; c += 8) {
            const auto at = [&](const std::int32_t* from) { return reinterpret_cast<const __m256i*>(from + c); };
            __m512i x = _mm512_cvtepi32_epi64(_mm256_sub_epi32(_mm256_load_si256(at(low)), correction));
            if (limbs == 2)
                x = _mm512_add_epi64(
                    x, _mm512_sll_epi64(_mm512_cvtepi32_epi64(_mm256_load_si256(at(low + columns))), shift));
            if (job.add) x = _mm512_add_epi64(x, _mm512_load_si512(into + c));
            _mm512_store_si512(into + c, x);
        }
    }
}

// The columns of a tile from c on that exist.
constexpr __mmask16 columns_avx512(int columns, int c) noexcept {
    return static_cast<__mmask16>(columns - c >= tile_lanes ? 0xffffu : (1u << (columns - c)) - 1);
}

LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE void store_avx512(std::int32_t* to, __mmask16 mask, __m512i x,
                                                              bool stream) {
    if (stream && mask == 0xffff)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to), x);
    else
        _mm512_mask_storeu_epi32(to, mask, x);
}

LAMELLA_TARGET_AVX512 inline void drain_narrow_avx512(const drain_job& job, const std::int32_t* sums) {
    std::int32_t* const out = (job.out->narrow != nullptr ? job.out->narrow : job.out->wide) + job.first_column;
    const std::int64_t* const rows = job.rows;
    const std::int64_t pitch = job.pitch, correction_step = job.correction_step;
    const int row_count = job.row_count;
    for (int c = 0; c < job.columns; c += tile_lanes) {
        const __mmask16 mask = columns_avx512(job.columns, c);
        const __m512i bias =
            job.bias != nullptr ? _mm512_loadu_si512(job.bias + job.first_column + c) : _mm512_setzero_si512();
        const std::int32_t* sum = sums + c;
        const std::int32_t* correction = job.correction;
        for (int r = 0; r < row_count; ++r, sum += pitch) {
            __m512i x = _mm512_add_epi32(_mm512_maskz_loadu_epi32(mask, sum), bias);
            if (correction != nullptr) x = _mm512_sub_epi32(x, _mm512_set1_epi32(correction[r * correction_step]));
            store_avx512(out + rows[r] + c, mask, x, job.stream);
        }
    }
}

// The same of a tile that is still in registers. The stores wait for their lines while the next tile is multiplied.
// Each choice is made once for all rows: a branch a row takes several times as long to compile as the products
// themselves. Rows past row_count have corrections, too, whatever they are.
template <int Rows, int Vectors>
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE void drain_registers_avx512(const drain_job& job,
                                                                        __m512i (&sum)[Rows][Vectors]) {
    std::int32_t* const out = (job.out->narrow != nullptr ? job.out->narrow : job.out->wide) + job.first_column;
    const __mmask16 last = columns_avx512(job.columns, (Vectors - 1) * tile_lanes);  // the vectors before are whole
    if (job.spare != nullptr) {
        const __m512i lane = _mm512_set1_epi32(job.columns);  // of the last vector, modulo 16
#pragma GCC unroll 24
        for (int r = 0; r < Rows; ++r) {
            const __m512i off = _mm512_permutexvar_epi32(lane, sum[r][Vectors - 1]);
            job.spare[r] = _mm_cvtsi128_si32(_mm512_castsi512_si128(off));
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_sub_epi32(sum[r][v], off);
        }
    } else if (job.correction != nullptr) {
#pragma GCC unroll 24
        for (int r = 0; r < Rows; ++r) {
            const __m512i off = _mm512_set1_epi32(job.correction[r]);
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_sub_epi32(sum[r][v], off);
        }
    }
    if (job.bias != nullptr) {
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) {
            const __m512i bias = _mm512_loadu_si512(job.bias + job.first_column + v * tile_lanes);
#pragma GCC unroll 24
            for (int r = 0; r < Rows; ++r) sum[r][v] = _mm512_add_epi32(sum[r][v], bias);
        }
    }
    const std::int64_t* const rows = job.rows;
    const int row_count = job.row_count;
    if (job.stream && last == 0xffff) {
#pragma GCC unroll 24
        for (int r = 0; r < Rows; ++r) {
            if (r >= row_count) return;
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v)
                _mm512_stream_si512(reinterpret_cast<__m512i*>(out + rows[r] + v * tile_lanes), sum[r][v]);
        }
        return;
    }
#pragma GCC unroll 24
    for (int r = 0; r < Rows; ++r) {
        if (r >= row_count) return;
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v)
            _mm512_mask_storeu_epi32(out + rows[r] + v * tile_lanes, v + 1 < Vectors ? __mmask16{0xffff} : last,
                                     sum[r][v]);
    }
}

// The same of folded groups: the two sums of each of eight columns lie in neighbouring lanes.
template <int Rows>
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE void drain_folded_avx512(const drain_job& job, __m512i (&sum)[Rows][1]) {
    std::int32_t* const out = (job.out->narrow != nullptr ? job.out->narrow : job.out->wide);
    const auto mask = static_cast<__mmask8>((1u << job.columns) - 1);
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    __m512i both[Rows / 2];  // two rows, eight lanes each
#pragma GCC unroll 24
    for (int r = 0; r < Rows; r += 2)
        both[r / 2] = _mm512_add_epi32(_mm512_permutex2var_epi32(sum[r][0], even, sum[r + 1][0]),
                                       _mm512_permutex2var_epi32(sum[r][0], odd, sum[r + 1][0]));
    if (job.spare != nullptr) {
        const __m512i lane = _mm512_inserti64x4(_mm512_set1_epi32(job.columns), _mm256_set1_epi32(job.columns + 8), 1);
#pragma GCC unroll 12
        for (__m512i& x : both) x = _mm512_sub_epi32(x, _mm512_permutexvar_epi32(lane, x));
    } else if (job.correction != nullptr) {
#pragma GCC unroll 24
        for (int r = 0; r < Rows; r += 2)
            both[r / 2] = _mm512_sub_epi32(
                both[r / 2],
                _mm512_inserti64x4(_mm512_set1_epi32(job.correction[r]), _mm256_set1_epi32(job.correction[r + 1]), 1));
    }
    if (job.bias != nullptr) {
        const __m512i bias = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(job.bias)));
#pragma GCC unroll 12
        for (__m512i& x : both) x = _mm512_add_epi32(x, bias);
    }
    const std::int64_t* const rows = job.rows;
    const int row_count = job.row_count;
#pragma GCC unroll 24
    for (int r = 0; r < Rows; r += 2) {
        if (r >= row_count) return;
        _mm256_mask_storeu_epi32(out + rows[r], mask, _mm512_castsi512_si256(both[r / 2]));
        if (r + 1 >= row_count) return;
        _mm256_mask_storeu_epi32(out + rows[r + 1], mask, _mm512_extracti64x4_epi64(both[r / 2], 1));
    }
}

// Ties to even: half - 1, and one more where the quotient is odd.
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m512i round_nearest_avx512(__m512i x, __m128i shift, __m512i below_half) {
    const __m512i odd = _mm512_and_si512(_mm512_sra_epi64(x, shift), _mm512_set1_epi64(1));
    return _mm512_sra_epi64(_mm512_add_epi64(x, _mm512_add_epi64(below_half, odd)), shift);
}

template <class Sum>
LAMELLA_TARGET_AVX512 inline void drain_exact_avx512(const drain_job& job, const Sum* sums) {
    const output& out = *job.out;
    const __m128i shift = _mm_cvtsi32_si128(out.shift);
    const __m512i below_half = _mm512_set1_epi64((std::int64_t{1} << out.shift >> 1) - 1);
    for (int r = 0; r < job.row_count; ++r) {
        const __m256i correction = _mm256_set1_epi32(job.correction_of(r));
        const std::int64_t to = job.rows[r] + job.first_column;
        const Sum* sum = sums + r * job.pitch;
        for (int c = 0; c < job.columns; c += 8) {
            const auto mask = static_cast<__mmask8>(job.columns - c >= 8 ? 0xffu : (1u << (job.columns - c)) - 1);
            __m512i x;
            if constexpr (sizeof(Sum) == 4)
                x = _mm512_cvtepi32_epi64(
                    _mm256_sub_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(sum + c)), correction));
            else
                x = _mm512_load_si512(sum + c);
            if (out.exact != nullptr) {
                if (job.stream && mask == 0xff)
                    _mm512_stream_si512(reinterpret_cast<__m512i*>(out.exact + to + c), x);
                else
                    _mm512_mask_storeu_epi64(out.exact + to + c, mask, x);
                continue;
            }
            if (out.bias != nullptr)
                x = _mm512_add_epi64(x, _mm512_maskz_loadu_epi64(mask, out.bias + job.first_column + c));
            if (out.shift != 0) x = round_nearest_avx512(x, shift, below_half);
            _mm512_mask_cvtepi64_storeu_epi32((out.narrow != nullptr ? out.narrow : out.wide) + to + c, mask, x);
        }
    }
}

}  // namespace lamella::gemm::detail
#endif
