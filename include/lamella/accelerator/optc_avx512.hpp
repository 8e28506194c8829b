// The momentum lane of OPTC in one pass over registers, for AVX-512: the same bits as optc_lanes.hpp, which defines
// them, without its working arrays. Serves whole blocks of the usual step (no decay, the exponents stay);
// optc_definition.hpp leaves every other one to the lanes.
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
    return p.direction == optc_direction::moment && !p.decays && !p.long_product && shifts_left(p.fresh) &&
           multiplies(p.first) && shifts_left(p.weight) && multiplies(p.update) && p.shrink.factor == 0 &&
           usual(p.first_write) && usual(p.weight_write);
}
// True when the mean is a shift to the left: a batch of a power of two whose sums are short.
constexpr bool has_exact_mean(const optc_plan& p) noexcept { return p.inverse_batch == 1 && p.mean_dropped == 0; }

LAMELLA_TARGET_AVX512 inline std::uint64_t largest_avx512(__m512i lowest, __m512i highest) noexcept {
    const auto below = 0u - static_cast<std::uint64_t>(_mm512_reduce_min_epi64(lowest));
    return std::max(below, static_cast<std::uint64_t>(_mm512_reduce_max_epi64(highest)));
}

// One block of optc_block elements, 32 at a time. Precondition: is_plain_momentum(p). ExactMean: has_exact_mean(p).
//
// Of the bits that a write-back drops, 16 are those that the draw is added to. A permutation collects what stands above
// them.
template <bool ExactMean>
LAMELLA_TARGET_AVX512 inline void optc_momentum_avx512(const optc_plan& p, const std::int64_t* sum,
                                                       const std::int16_t* weight, const std::int32_t* first,
                                                       const std::uint16_t* weight_draw,
                                                       const std::uint16_t* first_draw, std::int16_t* weight_out,
                                                       std::int32_t* first_out, optc_found& found) noexcept {
    const std::int64_t odd_bit = p.mean_dropped > 0 ? 1 : 0;
    const __m512i sum_left = _mm512_set1_epi64(p.sum_shift), inverse_batch = _mm512_set1_epi64(p.inverse_batch);
    const __m512i mean_dropped = _mm512_set1_epi64(p.mean_dropped), mean_odd = _mm512_set1_epi64(odd_bit);
    const __m512i mean_half = _mm512_set1_epi64(((std::int64_t{1} << p.mean_dropped) >> 1) - odd_bit);
    const __m512i fresh_left = _mm512_set1_epi64(ExactMean ? p.sum_shift + p.fresh.left : p.fresh.left);
    const __m512i first_factor = _mm512_set1_epi64(p.first.factor), first_half = _mm512_set1_epi64(p.first.half),
                  first_right = _mm512_set1_epi64(p.first.right);
    const __m512i update_factor = _mm512_set1_epi64(p.update.factor), update_half = _mm512_set1_epi64(p.update.half),
                  update_right = _mm512_set1_epi64(p.update.right);
    const __m512i weight_left = _mm512_set1_epi64(p.weight.left),
                  moment_half = _mm512_set1_epi64(std::int64_t{1} << 31);
    const __m512i first_up = _mm512_set1_epi64(p.first_write.dropped - 16);
    const __m512i weight_up = _mm512_set1_epi64(p.weight_write.dropped - 16);
    __m512i moment_low = _mm512_setzero_si512(), moment_high = moment_low, low = moment_low, high = moment_low;
    // Pairs of 16-bit indices into the words of two vectors: (1, 2), (5, 6), .. and (1, 5), (9, 13), ..
    const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i middle_words =
        _mm512_add_epi32(_mm512_set1_epi32(0x00020001), _mm512_mullo_epi32(count, _mm512_set1_epi32(0x00040004)));
    const __m512i second_words =
        _mm512_add_epi32(_mm512_set1_epi32(0x00050001), _mm512_mullo_epi32(count, _mm512_set1_epi32(0x00080008)));

    for (std::size_t i = 0; i < optc_block; i += 32) {
        __m512i moment[4], fresh[4];  // as they are rounded
#pragma GCC unroll 4
        for (std::size_t v = 0; v < 4; ++v) {
            const std::size_t at = i + 8 * v;
            __m512i g = _mm512_loadu_si512(sum + at);
            if constexpr (!ExactMean) {
                g = _mm512_mullo_epi64(_mm512_sllv_epi64(g, sum_left), inverse_batch);
                const __m512i odd = _mm512_and_si512(_mm512_srav_epi64(g, mean_dropped), mean_odd);
                g = _mm512_srav_epi64(_mm512_add_epi64(_mm512_add_epi64(g, mean_half), odd), mean_dropped);
            }
            const __m512i m = _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(first + at)));
            const __m512i kept =
                _mm512_srav_epi64(_mm512_add_epi64(_mm512_mul_epi32(m, first_factor), first_half), first_right);
            const __m512i sent = _mm512_add_epi64(_mm512_sllv_epi64(g, fresh_left), kept);
            moment_low = _mm512_min_epi64(moment_low, sent);
            moment_high = _mm512_max_epi64(moment_high, sent);
            const __m512i noise =
                _mm512_cvtepu16_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first_draw + at)));
            moment[v] = _mm512_add_epi64(_mm512_srav_epi64(sent, first_up), noise);

            const __m512i u = _mm512_srli_epi64(_mm512_add_epi64(sent, moment_half), 32);
            const __m512i w = _mm512_cvtepi16_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weight + at)));
            const __m512i moved =
                _mm512_srav_epi64(_mm512_add_epi64(_mm512_mul_epi32(u, update_factor), update_half), update_right);
            const __m512i next = _mm512_add_epi64(_mm512_sllv_epi64(w, weight_left), moved);
            low = _mm512_min_epi64(low, next);
            high = _mm512_max_epi64(high, next);
            const __m512i weight_noise =
                _mm512_cvtepu16_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weight_draw + at)));
            fresh[v] = _mm512_add_epi64(_mm512_srav_epi64(next, weight_up), weight_noise);
        }
        for (std::size_t half = 0; half < 2; ++half)
            _mm512_storeu_si512(first_out + i + 16 * half,
                                _mm512_permutex2var_epi16(moment[2 * half], middle_words, moment[2 * half + 1]));
        const __m512i low_half = _mm512_permutex2var_epi16(fresh[0], second_words, fresh[1]);
        const __m512i high_half = _mm512_permutex2var_epi16(fresh[2], second_words, fresh[3]);
        _mm512_storeu_si512(weight_out + i, _mm512_inserti64x4(low_half, _mm512_castsi512_si256(high_half), 1));
    }
    found.moment = std::max(found.moment, largest_avx512(moment_low, moment_high));
    found.fresh = std::max(found.fresh, largest_avx512(low, high));
}

}  // namespace lamella::accelerator::detail

#endif
