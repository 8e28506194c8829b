// The momentum lane of OPTC in one pass over registers, for AVX-512: the same bits as optc_lanes.hpp, which defines them,
// without its working arrays. Serves whole blocks of the usual step (no decay, the exponents stay); optc.hpp leaves every
// other one to the lanes.
#pragma once

#include "optc_lanes.hpp"

#if LAMELLA_X86
#include "../core/intrinsics.hpp"

namespace lamella::accelerator::detail {

// True when a plan's block may go through optc_momentum_avx512.
constexpr bool is_plain_momentum(const optc_plan& p) noexcept {
    const auto shifts_left = [](const optc_term& t) { return t.factor == 1 && t.right == 0; };
    const auto multiplies = [](const optc_term& t) { return t.factor != 0 && t.left == 0; };
    const auto usual = [](const optc_write& w) { return !w.vanishes && !w.saturates && w.dropped >= 16; };
    return p.direction == optc_direction::moment && !p.decays && !p.long_product && p.inverse_batch == 1 &&
           shifts_left(p.fresh) && multiplies(p.first) && shifts_left(p.weight) && multiplies(p.update) &&
           p.shrink.factor == 0 && usual(p.first_write) && usual(p.weight_write);
}

LAMELLA_TARGET_AVX512 inline __m512i round_at_random_avx512(__m512i value, __m128i up, const std::uint16_t* draw) noexcept {
    const __m512i noise = _mm512_cvtepu16_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(draw)));
    return _mm512_srai_epi64(_mm512_add_epi64(_mm512_sra_epi64(value, up), noise), 16);
}

LAMELLA_TARGET_AVX512 inline std::uint64_t largest_avx512(__m512i lowest, __m512i highest) noexcept {
    const auto below = 0u - static_cast<std::uint64_t>(_mm512_reduce_min_epi64(lowest));
    return std::max(below, static_cast<std::uint64_t>(_mm512_reduce_max_epi64(highest)));
}

// One block of optc_block elements. Precondition: is_plain_momentum(p).
LAMELLA_TARGET_AVX512 inline void optc_momentum_avx512(const optc_plan& p, const std::int64_t* sum,
                                                       const std::int16_t* weight, const std::int32_t* first,
                                                       const std::uint16_t* weight_draw, const std::uint16_t* first_draw,
                                                       std::int16_t* weight_out, std::int32_t* first_out,
                                                       optc_found& found) noexcept {
    const std::int64_t odd = p.mean_dropped > 0 ? 1 : 0;
    const __m512i mean_odd = _mm512_set1_epi64(odd), mean_half = _mm512_set1_epi64(((std::int64_t{1} << p.mean_dropped) >> 1) - odd);
    const __m512i first_factor = _mm512_set1_epi64(p.first.factor), first_half = _mm512_set1_epi64(p.first.half);
    const __m512i update_factor = _mm512_set1_epi64(p.update.factor), update_half = _mm512_set1_epi64(p.update.half);
    const __m512i moment_half = _mm512_set1_epi64(std::int64_t{1} << 31);
    const __m128i sum_left = _mm_cvtsi32_si128(p.sum_shift), mean_dropped = _mm_cvtsi32_si128(p.mean_dropped), fresh_left = _mm_cvtsi32_si128(p.fresh.left);
    const __m128i first_right = _mm_cvtsi32_si128(p.first.right), weight_left = _mm_cvtsi32_si128(p.weight.left);
    const __m128i update_right = _mm_cvtsi32_si128(p.update.right);
    const __m128i first_up = _mm_cvtsi32_si128(p.first_write.dropped - 16), weight_up = _mm_cvtsi32_si128(p.weight_write.dropped - 16);
    __m512i moment_low = _mm512_setzero_si512(), moment_high = moment_low, low = moment_low, high = moment_low;

    for (std::size_t i = 0; i < optc_block; i += 8) {
        const __m512i x = _mm512_sll_epi64(_mm512_loadu_si512(sum + i), sum_left);
        const __m512i even = _mm512_and_si512(_mm512_sra_epi64(x, mean_dropped), mean_odd);
        const __m512i g = _mm512_sra_epi64(_mm512_add_epi64(_mm512_add_epi64(x, mean_half), even), mean_dropped);

        const __m512i m = _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(first + i)));
        const __m512i kept =
            _mm512_sra_epi64(_mm512_add_epi64(_mm512_mul_epi32(m, first_factor), first_half), first_right);
        const __m512i moment = _mm512_add_epi64(_mm512_sll_epi64(g, fresh_left), kept);
        moment_low = _mm512_min_epi64(moment_low, moment);
        moment_high = _mm512_max_epi64(moment_high, moment);

        const __m512i u = _mm512_srai_epi64(_mm512_add_epi64(moment, moment_half), 32);
        const __m512i w = _mm512_cvtepi16_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weight + i)));
        const __m512i moved =
            _mm512_sra_epi64(_mm512_add_epi64(_mm512_mul_epi32(u, update_factor), update_half), update_right);
        const __m512i fresh = _mm512_add_epi64(_mm512_sll_epi64(w, weight_left), moved);
        low = _mm512_min_epi64(low, fresh);
        high = _mm512_max_epi64(high, fresh);

        _mm_storeu_si128(reinterpret_cast<__m128i*>(weight_out + i),
                         _mm512_cvtepi64_epi16(round_at_random_avx512(fresh, weight_up, weight_draw + i)));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(first_out + i),
                            _mm512_cvtepi64_epi32(round_at_random_avx512(moment, first_up, first_draw + i)));
    }
    found.moment = std::max(found.moment, largest_avx512(moment_low, moment_high));
    found.fresh = std::max(found.fresh, largest_avx512(low, high));
}

}  // namespace lamella::accelerator::detail

#endif
