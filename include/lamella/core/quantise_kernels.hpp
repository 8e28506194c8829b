// The kernels behind core/quantise.hpp: filling with random bits, and rounding with clipping. One body
// in plain C++ for any machine (it is the definition, written so that compilers vectorise it), one for AVX2, one for
// AVX-512; all give the same bits.
//
// How rounding stays in 32 bits: with d dropped bits, 1 <= d <= 31, let f = x << (32 - d) hold the lost bits as a
// fraction of 2^32 and r = draw << 16. Then (x + floor(draw x 2^(d-16))) >> d = (x >> d) + carry, where carry is
// whether f + r passes 2^32: bits of r below those of f cannot matter. To nearest, ties to even, the carry is f > 2^31
// - odd, odd being the lowest bit of x >> d. Neither sum can overflow, whatever x is. See core/rounding.hpp for the
// definition.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "config.hpp"
#include "format.hpp"
#include "path.hpp"
#include "random.hpp"
#include "rounding.hpp"

#if LAMELLA_X86
#include "intrinsics.hpp"
#endif

namespace lamella::detail {

inline constexpr std::int64_t draw_group = 64;  // draws are made in groups of eight blocks

// Philox of one position, with what is the same for all of its blocks done once: half of the first two rounds.
// The counter's words 1..3 are constant, so after two rounds word 3 still is, and each other word depends on one
// product.
struct philox_stem {
    std::array<std::uint32_t, 10> key0, key1;
    std::uint32_t layer_xor;  // round 1: word 2 = high(M0 x block) ^ layer_xor
    std::uint32_t word0_xor;  // round 2: word 0 = high(M1 x word 2) ^ word0_xor
    std::uint32_t word2_xor;  // round 2: word 2 = low(M0 x block) ^ word2_xor
    std::uint32_t word3;      // round 2: word 3
};
inline constexpr std::uint32_t philox_m0 = 0xD2511F53u, philox_m1 = 0xCD9E8D57u;

constexpr philox_stem make_stem(const random_site& site, std::uint32_t position) noexcept {
    philox_stem s{};
    const philox_block c = site.counter(position, 0);
    std::array<std::uint32_t, 2> key = site.key();
    for (std::size_t i = 0; i < 10; ++i) {
        s.key0[i] = key[0];
        s.key1[i] = key[1];
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    const std::uint64_t b = std::uint64_t{philox_m1} * c[2];
    const std::uint32_t word0 = static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ s.key0[0];
    const std::uint64_t a = std::uint64_t{philox_m0} * word0;
    s.layer_xor = c[3] ^ s.key1[0];
    s.word0_xor = static_cast<std::uint32_t>(b) ^ s.key0[1];
    s.word2_xor = static_cast<std::uint32_t>(a >> 32) ^ s.key1[1];
    s.word3 = static_cast<std::uint32_t>(a);
    return s;
}

// How often things happened among rounded elements.
struct tally {
    std::uint64_t zeros_in = 0, zeros_out = 0, clipped = 0;
    constexpr void add(const tally& other) noexcept {
        zeros_in += other.zeros_in;
        zeros_out += other.zeros_out;
        clipped += other.clipped;
    }
};

// The three ways in which an element reaches its operand; `left` is d <= 0.
enum class step_kind { stochastic, nearest, left };

// Draws from the i-th on; only stochastic rounding has any.
template <step_kind Kind>
constexpr const std::uint16_t* draws_from(const std::uint16_t* draw, std::int64_t i) noexcept {
    return Kind == step_kind::stochastic ? draw + i : nullptr;
}

// ------------------------------------------------------------------------------------------------ plain C++

inline void fill_groups_plain(const random_site& site, std::uint32_t position, std::uint32_t first_block,
                              std::int64_t groups, std::uint16_t* out) noexcept {
    for (std::uint32_t i = 0; i < 8 * static_cast<std::uint32_t>(groups); ++i) {
        const philox_block block = philox4x32_10(site.counter(position, first_block + i), site.key());
        for (const std::uint32_t word : block) {
            *out++ = static_cast<std::uint16_t>(word);
            *out++ = static_cast<std::uint16_t>(word >> 16);
        }
    }
}

template <step_kind Kind, class Source, class Target>
inline tally round_plain(const Source* LAMELLA_RESTRICT x, const std::uint16_t* LAMELLA_RESTRICT draw,
                         Target* LAMELLA_RESTRICT out, std::int64_t n, int dropped, std::int32_t largest) noexcept {
    std::uint32_t zeros_in = 0, zeros_out = 0, clipped = 0;
    const int left = dropped < -16 ? 16 : -dropped;  // 16 bits up, all but 0 is clipped already
    for (std::int64_t i = 0; i < n; ++i) {
        const std::int32_t value = x[i];
        std::int32_t q;
        if constexpr (Kind == step_kind::left) {
            const std::int32_t limit = (largest >> left) + 1;  // beyond it, any value is clipped
            q = (value > limit ? limit : value < -limit ? -limit : value) << left;
        } else {
            const std::uint32_t lost = static_cast<std::uint32_t>(value) << (32 - dropped);
            q = value >> dropped;
            if constexpr (Kind == step_kind::stochastic)
                q += lost + (std::uint32_t{draw[i]} << 16) < lost ? 1 : 0;
            else
                q += lost > 0x80000000u - static_cast<std::uint32_t>(q & 1) ? 1 : 0;
        }
        const std::int32_t low = q < -largest ? -largest : q;
        const std::int32_t kept = low > largest ? largest : low;
        out[i] = static_cast<Target>(kept);
        zeros_in += value == 0 ? 1 : 0;
        zeros_out += kept == 0 ? 1 : 0;
        clipped += kept != q ? 1 : 0;
    }
    return {zeros_in, zeros_out, clipped};
}

#if LAMELLA_X86

// ------------------------------------------------------------------------------------------------ AVX2

// Philox on 64-bit lanes, a word in each lane's low half: vpmuludq ignores what the upper halves hold.
LAMELLA_TARGET_AVX2 inline void fill_groups_avx2(const philox_stem& s, std::uint32_t first_block, std::int64_t groups,
                                                 std::uint16_t* out) noexcept {
    const __m256i m0 = _mm256_set1_epi64x(philox_m0), m1 = _mm256_set1_epi64x(philox_m1);
    const auto wide = [](std::uint32_t word) { return static_cast<long long>(word); };
    for (std::int64_t half = 0; half < 2 * groups; ++half) {
        const __m256i block =
            _mm256_add_epi64(_mm256_set1_epi64x(wide(first_block + static_cast<std::uint32_t>(4 * half))),
                             _mm256_setr_epi64x(0, 2, 1, 3));
        const __m256i a1 = _mm256_mul_epu32(block, m0);
        const __m256i w2 = _mm256_xor_si256(_mm256_srli_epi64(a1, 32), _mm256_set1_epi64x(wide(s.layer_xor)));
        __m256i c1 = _mm256_mul_epu32(w2, m1);
        __m256i c0 = _mm256_xor_si256(_mm256_srli_epi64(c1, 32), _mm256_set1_epi64x(wide(s.word0_xor)));
        __m256i c2 = _mm256_xor_si256(a1, _mm256_set1_epi64x(wide(s.word2_xor)));
        __m256i c3 = _mm256_set1_epi64x(wide(s.word3));
        for (std::size_t round = 2; round < 10; ++round) {
            const __m256i a = _mm256_mul_epu32(c0, m0), b = _mm256_mul_epu32(c2, m1);
            c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(b, 32), c1),
                                  _mm256_set1_epi64x(wide(s.key0[round])));
            c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(a, 32), c3),
                                  _mm256_set1_epi64x(wide(s.key1[round])));
            c1 = b;
            c3 = a;
        }
        const __m256i low = _mm256_blend_epi32(c0, _mm256_slli_epi64(c1, 32), 0xAA);
        const __m256i high = _mm256_blend_epi32(c2, _mm256_slli_epi64(c3, 32), 0xAA);
        __m256i* to = reinterpret_cast<__m256i*>(out + 32 * half);
        _mm256_storeu_si256(to, _mm256_unpacklo_epi64(low, high));
        _mm256_storeu_si256(to + 1, _mm256_unpackhi_epi64(low, high));
    }
}

template <class Source>
LAMELLA_TARGET_AVX2 inline __m256i load_avx2(const Source* x) noexcept {
    if constexpr (sizeof(Source) == 2)
        return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
    else
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
}

// Counts in the lanes of `sum`, 32 bits each.
LAMELLA_TARGET_AVX2 inline std::uint64_t total_avx2(__m256i sum) noexcept {
    alignas(32) std::array<std::uint32_t, 8> lane;
    _mm256_store_si256(reinterpret_cast<__m256i*>(lane.data()), sum);
    std::uint64_t total = 0;
    for (const std::uint32_t l : lane) total += l;
    return total;
}

template <step_kind Kind, class Source, class Target>
LAMELLA_TARGET_AVX2 inline tally round_avx2(const Source* x, const std::uint16_t* draw, Target* out, std::int64_t n,
                                            int dropped, std::int32_t largest) noexcept {
    constexpr int parts = 4 / static_cast<int>(sizeof(Target));  // vectors of 32-bit results in one store
    const int left = dropped < -16 ? 16 : -dropped;
    const __m128i shift = _mm_cvtsi32_si128(Kind == step_kind::left ? left : dropped);
    const __m128i lost_shift = _mm_cvtsi32_si128(32 - dropped);
    const __m256i limit = _mm256_set1_epi32((largest >> (Kind == step_kind::left ? left : 0)) + 1);
    const __m256i top = _mm256_set1_epi32(largest), bottom = _mm256_set1_epi32(-largest);
    const __m256i sign = _mm256_set1_epi32(std::int32_t{-0x7fffffff} - 1), one = _mm256_set1_epi32(1);
    __m256i zeros_in = _mm256_setzero_si256(), zeros_out = zeros_in, kept_whole = zeros_in;
    std::int64_t i = 0;
    for (; i + 8 * parts <= n; i += 8 * parts) {
        __m256i result[parts];
        for (int p = 0; p < parts; ++p) {
            const __m256i value = load_avx2(x + i + 8 * p);
            __m256i q;
            if constexpr (Kind == step_kind::left) {
                const __m256i inside =
                    _mm256_max_epi32(_mm256_min_epi32(value, limit), _mm256_sub_epi32(_mm256_setzero_si256(), limit));
                q = _mm256_sll_epi32(inside, shift);
            } else {
                const __m256i lost = _mm256_xor_si256(_mm256_sll_epi32(value, lost_shift), sign);
                q = _mm256_sra_epi32(value, shift);
                if constexpr (Kind == step_kind::stochastic) {
                    const __m128i draws = _mm_loadu_si128(reinterpret_cast<const __m128i*>(draw + i + 8 * p));
                    const __m256i noise = _mm256_slli_epi32(_mm256_cvtepu16_epi32(draws), 16);
                    q = _mm256_sub_epi32(q, _mm256_cmpgt_epi32(lost, _mm256_add_epi32(lost, noise)));
                } else {  // f > 2^31 - odd, both sides with the sign bit flipped: lost > -odd
                    const __m256i odd = _mm256_and_si256(q, one);
                    q = _mm256_sub_epi32(q, _mm256_cmpgt_epi32(lost, _mm256_sub_epi32(_mm256_setzero_si256(), odd)));
                }
            }
            const __m256i kept = _mm256_min_epi32(_mm256_max_epi32(q, bottom), top);
            zeros_in = _mm256_sub_epi32(zeros_in, _mm256_cmpeq_epi32(value, _mm256_setzero_si256()));
            zeros_out = _mm256_sub_epi32(zeros_out, _mm256_cmpeq_epi32(kept, _mm256_setzero_si256()));
            kept_whole = _mm256_sub_epi32(kept_whole, _mm256_cmpeq_epi32(kept, q));
            result[p] = kept;
        }
        __m256i* to = reinterpret_cast<__m256i*>(out + i);
        if constexpr (parts == 4) {  // packing works within 128-bit lanes; the permutation restores the order
            const __m256i bytes =
                _mm256_packs_epi16(_mm256_packs_epi32(result[0], result[1]), _mm256_packs_epi32(result[2], result[3]));
            _mm256_storeu_si256(to, _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
        } else {
            _mm256_storeu_si256(to, _mm256_permute4x64_epi64(_mm256_packs_epi32(result[0], result[1]), 0xD8));
        }
    }
    tally seen = round_plain<Kind>(x + i, draws_from<Kind>(draw, i), out + i, n - i, dropped, largest);
    seen.zeros_in += total_avx2(zeros_in);
    seen.zeros_out += total_avx2(zeros_out);
    seen.clipped += static_cast<std::uint64_t>(i) - total_avx2(kept_whole);
    return seen;
}

// ------------------------------------------------------------------------------------------------ AVX-512

// As in AVX2, with `Chains` groups in flight: a round takes seven cycles from end to end, but three to issue.
template <int Chains>
LAMELLA_TARGET_AVX512 inline void fill_some_avx512(const philox_stem& s, std::uint32_t first_block,
                                                   std::uint16_t* out) noexcept {
    const __m512i m0 = _mm512_set1_epi64(philox_m0), m1 = _mm512_set1_epi64(philox_m1);
    __m512i c0[Chains], c1[Chains], c2[Chains], c3[Chains];
#pragma GCC unroll 4
    for (int i = 0; i < Chains; ++i) {
        const __m512i block = _mm512_add_epi64(_mm512_set1_epi64(first_block + 8u * static_cast<unsigned>(i)),
                                               _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
        const __m512i a = _mm512_mul_epu32(block, m0);
        const __m512i w2 = _mm512_xor_si512(_mm512_srli_epi64(a, 32), _mm512_set1_epi64(s.layer_xor));
        c1[i] = _mm512_mul_epu32(w2, m1);
        c0[i] = _mm512_xor_si512(_mm512_srli_epi64(c1[i], 32), _mm512_set1_epi64(s.word0_xor));
        c2[i] = _mm512_xor_si512(a, _mm512_set1_epi64(s.word2_xor));
        c3[i] = _mm512_set1_epi64(s.word3);
    }
#pragma GCC unroll 8
    for (std::size_t round = 2; round < 10; ++round) {
        const __m512i key0 = _mm512_set1_epi32(static_cast<int>(s.key0[round]));
        const __m512i key1 = _mm512_set1_epi32(static_cast<int>(s.key1[round]));
#pragma GCC unroll 4
        for (int i = 0; i < Chains; ++i) {
            const __m512i a = _mm512_mul_epu32(c0[i], m0), b = _mm512_mul_epu32(c2[i], m1);
            c0[i] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(b, 32), c1[i], key0, 0x96);
            c2[i] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(a, 32), c3[i], key1, 0x96);
            c1[i] = b;
            c3[i] = a;
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < Chains; ++i) {
        const __m512i low = _mm512_mask_shuffle_epi32(c0[i], 0xAAAA, c1[i], static_cast<_MM_PERM_ENUM>(0xA0));
        const __m512i high = _mm512_mask_shuffle_epi32(c2[i], 0xAAAA, c3[i], static_cast<_MM_PERM_ENUM>(0xA0));
        _mm512_storeu_si512(out + 64 * i, _mm512_unpacklo_epi64(low, high));
        _mm512_storeu_si512(out + 64 * i + 32, _mm512_unpackhi_epi64(low, high));
    }
}

LAMELLA_TARGET_AVX512 inline void fill_groups_avx512(const philox_stem& s, std::uint32_t first_block,
                                                     std::int64_t groups, std::uint16_t* out) noexcept {
    std::int64_t g = 0;
    for (; g + 4 <= groups; g += 4)
        fill_some_avx512<4>(s, first_block + 8 * static_cast<std::uint32_t>(g), out + draw_group * g);
    for (; g < groups; ++g)
        fill_some_avx512<1>(s, first_block + 8 * static_cast<std::uint32_t>(g), out + draw_group * g);
}

// The shifts and bounds of a job, one copy a lane: shifting by a lane's own count takes half the time of a shared one.
struct lanes_avx512 {
    __m512i shift, lost_shift, limit, top;
};

// The 16 elements from x on, or the first n of them and zeros when Whole is false.
template <bool Whole, class Source>
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m512i load_avx512(const Source* x, std::int64_t n) noexcept {
    __mmask16 lanes = 0xFFFF;
    if constexpr (!Whole)
        if (n < 16) lanes = static_cast<__mmask16>(n <= 0 ? 0u : (1u << n) - 1);
    if constexpr (sizeof(Source) == 2)
        return _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(lanes, x));
    else
        return _mm512_maskz_loadu_epi32(lanes, x);
}

// Rounds 16 elements; `noise` holds their draws in the upper halves.
template <step_kind Kind>
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m512i step_avx512(__m512i value, __m512i noise,
                                                                const lanes_avx512& by) noexcept {
    const __m512i zero = _mm512_setzero_si512();
    if constexpr (Kind == step_kind::left)
        return _mm512_sllv_epi32(_mm512_max_epi32(_mm512_min_epi32(value, by.limit), _mm512_sub_epi32(zero, by.limit)),
                                 by.shift);
    const __m512i lost = _mm512_sllv_epi32(value, by.lost_shift);
    const __m512i q = _mm512_srav_epi32(value, by.shift);
    __mmask16 carry;
    if constexpr (Kind == step_kind::stochastic) {
        carry = _mm512_cmplt_epu32_mask(_mm512_add_epi32(lost, noise), lost);
    } else {
        const __m512i odd = _mm512_and_si512(q, _mm512_set1_epi32(1));
        carry = _mm512_cmpgt_epu32_mask(lost, _mm512_sub_epi32(_mm512_set1_epi32(std::int32_t{-0x7fffffff} - 1), odd));
    }
    return _mm512_mask_sub_epi32(q, carry, q, _mm512_set1_epi32(-1));
}

LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE std::uint64_t ones_in(std::uint64_t mask) noexcept {
    return static_cast<std::uint64_t>(__builtin_popcountll(mask));
}

// Rounds 64 elements to int8, or 32 to int16, or the first n of them when Whole is false. What is past n counts as
// zero.
template <step_kind Kind, bool Whole, class Source, class Target>
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE void round_some_avx512(const Source* x, const std::uint16_t* draw,
                                                                   Target* out, std::int64_t n, const lanes_avx512& by,
                                                                   tally& seen) noexcept {
    constexpr int parts = 4 / static_cast<int>(sizeof(Target));
    const __m512i zero = _mm512_setzero_si512(), bottom = _mm512_sub_epi32(zero, by.top);
    __m512i q[parts];
#pragma GCC unroll 4
    for (int p = 0; p < parts; ++p) {
        const __m512i value = load_avx512<Whole>(x + 16 * p, n - 16 * p);
        __m512i noise = zero;
        if constexpr (Kind == step_kind::stochastic) {
            const __m256i draws = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(draw + 16 * p));
            noise = _mm512_slli_epi32(_mm512_cvtepu16_epi32(draws), 16);
        }
        q[p] = step_avx512<Kind>(value, noise, by);
        seen.zeros_in += ones_in(_mm512_testn_epi32_mask(value, value));
    }
    // Packing saturates and works within 128-bit lanes; the permutation restores the order.
    if constexpr (parts == 4) {
        const __m512i halves[2] = {_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3])};
        const __m512i top16 = _mm512_packs_epi32(by.top, by.top);
        for (const __m512i half : halves)
            seen.clipped += ones_in(_mm512_cmpgt_epu16_mask(_mm512_abs_epi16(half), top16));
        const __m512i top8 = _mm512_packs_epi16(top16, top16), bytes = _mm512_packs_epi16(halves[0], halves[1]);
        const __m512i kept = _mm512_min_epi8(_mm512_max_epi8(bytes, _mm512_sub_epi8(zero, top8)), top8);
        const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        const __m512i result = _mm512_permutexvar_epi32(order, kept);
        seen.zeros_out += ones_in(_mm512_testn_epi8_mask(kept, kept));
        if constexpr (Whole)
            _mm512_storeu_si512(out, result);
        else
            _mm512_mask_storeu_epi8(out, (std::uint64_t{1} << n) - 1, result);
    } else {
        __m512i kept[2];
        for (int p = 0; p < 2; ++p) {
            kept[p] = _mm512_min_epi32(_mm512_max_epi32(q[p], bottom), by.top);
            seen.clipped += ones_in(_mm512_cmpneq_epi32_mask(kept[p], q[p]));
        }
        const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
        const __m512i result = _mm512_permutexvar_epi64(order, _mm512_packs_epi32(kept[0], kept[1]));
        seen.zeros_out += ones_in(_mm512_testn_epi16_mask(result, result));
        if constexpr (Whole)
            _mm512_storeu_si512(out, result);
        else
            _mm512_mask_storeu_epi16(out, static_cast<__mmask32>((std::uint64_t{1} << n) - 1), result);
    }
}

template <step_kind Kind, class Source, class Target>
LAMELLA_TARGET_AVX512 inline tally round_avx512(const Source* x, const std::uint16_t* draw,
                                                Target* LAMELLA_RESTRICT out, std::int64_t n, int dropped,
                                                std::int32_t largest) noexcept {
    constexpr std::int64_t together = 64 / static_cast<std::int64_t>(sizeof(Target));
    const int left = dropped < -16 ? 16 : -dropped;
    const lanes_avx512 by{_mm512_set1_epi32(Kind == step_kind::left ? left : dropped), _mm512_set1_epi32(32 - dropped),
                          _mm512_set1_epi32((largest >> (Kind == step_kind::left ? left : 0)) + 1),
                          _mm512_set1_epi32(largest)};
    tally seen;
    std::int64_t i = 0;
    for (; i + together <= n; i += together)
        round_some_avx512<Kind, true>(x + i, draws_from<Kind>(draw, i), out + i, together, by, seen);
    if (i < n) {
        round_some_avx512<Kind, false>(x + i, draws_from<Kind>(draw, i), out + i, n - i, by, seen);
        const std::uint64_t past = static_cast<std::uint64_t>(together - (n - i));
        seen.zeros_in -= past;
        seen.zeros_out -= past;
    }
    return seen;
}

#endif  // LAMELLA_X86

}  // namespace lamella::detail
