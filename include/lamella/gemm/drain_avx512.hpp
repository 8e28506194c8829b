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

LAMELLA_TARGET_AVX512 inline void drain_narrow_avx512(const drain_job& job, const std::int32_t* sums) {
    std::int32_t* const out = (job.out->narrow != nullptr ? job.out->narrow : job.out->wide) + job.first_column;
    const std::int64_t* const rows = job.rows;
    const std::int64_t pitch = job.pitch, correction_step = job.correction_step;
    const int row_count = job.row_count;
    for (int c = 0; c < job.columns; c += tile_lanes) {
        const auto mask =
            static_cast<__mmask16>(job.columns - c >= tile_lanes ? 0xffffu : (1u << (job.columns - c)) - 1);
        const __m512i bias =
            job.bias != nullptr ? _mm512_loadu_si512(job.bias + job.first_column + c) : _mm512_setzero_si512();
        const std::int32_t* sum = sums + c;
        const std::int32_t* correction = job.correction;
        for (int r = 0; r < row_count; ++r, sum += pitch) {
            __m512i x = _mm512_add_epi32(_mm512_maskz_loadu_epi32(mask, sum), bias);
            if (correction != nullptr) x = _mm512_sub_epi32(x, _mm512_set1_epi32(correction[r * correction_step]));
            _mm512_mask_storeu_epi32(out + rows[r] + c, mask, x);
        }
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
