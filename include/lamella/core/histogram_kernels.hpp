// Counting magnitudes into a histogram, the kernels behind count_magnitudes (core/quantise.hpp).
//
// Adding to a counter in memory costs an element 1.6 cycles whatever is done about neighbours that share a bin. So
// AVX-512 counts without memory: an element's bin is a byte, whose upper bits choose a *group* of eight bins (two
// octaves) and whose lower three bits become one bit of a byte, its *mark*. For each group, the marks of its elements
// are added up by carry-save adders, 512 at a time, one vector of bits for each binary place of the 512 counts (the
// *planes*); counts of bits in the planes give the bins in the end. The number of groups present decides the speed.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "config.hpp"
#include "format.hpp"
#include "histogram.hpp"
#include "path.hpp"

#if LAMELLA_X86
#include "intrinsics.hpp"
#endif

namespace lamella::detail {

inline constexpr std::int64_t count_chunk = 1 << 16;     // elements that one call of a kernel may count
inline constexpr std::int64_t count_worth_planes = 512;  // below, the planes cost more to read than they save

// One at a time, branch-free. Neighbours count in different sets, so that equal ones need not wait for each other.
template <class Source>
LAMELLA_ALWAYS_INLINE void count_plain_body(const Source* x, std::int64_t n, histogram& into) noexcept {
    // Index 4 x bit length + the three leading bits: 0 for zero, otherwise the histogram's bin + 8. Room for 2^31.
    std::array<std::array<std::uint32_t, 136>, 4> count{};
    std::uint32_t maximum = into.maximum;
    const auto add = [&](std::int32_t value, std::array<std::uint32_t, 136>& set) {
        const std::int32_t sign = value >> 31;
        const std::uint32_t magnitude = static_cast<std::uint32_t>(value ^ sign) - static_cast<std::uint32_t>(sign);
        const unsigned length = 63u - static_cast<unsigned>(__builtin_clzll(2 * std::uint64_t{magnitude} + 1));
        ++set[4 * length + ((std::uint64_t{magnitude} << 3) >> length)];
        maximum = magnitude > maximum ? magnitude : maximum;
    };
    std::int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        add(x[i], count[0]);
        add(x[i + 1], count[1]);
        add(x[i + 2], count[2]);
        add(x[i + 3], count[3]);
    }
    for (; i < n; ++i) add(x[i], count[0]);
    into.maximum = maximum;
    for (const auto& set : count) {
        into.zeros += set[0];
        for (std::size_t bin = 0; bin < into.count.size(); ++bin) into.count[bin] += set[bin + 8];
    }
}
LAMELLA_MULTIVERSION_TEMPLATE(count_plain, (class Source), (const Source* x, std::int64_t n, histogram& into),
                              (x, n, into))

#if LAMELLA_X86

inline constexpr int count_vectors = 16;  // vectors of 64 bins that are added up together
inline constexpr std::int64_t count_block = 64 * count_vectors;
inline constexpr std::size_t count_groups = 16;  // of eight bins
inline constexpr std::size_t count_planes = 11;  // a byte's marks in a chunk: at most 2^16 / 64 < 2^11

struct marked_block {
    __m512i group[count_vectors], mark[count_vectors];
};

LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m512i carry_save(__m512i& sum, __m512i a, __m512i b) noexcept {
    const __m512i carry = _mm512_ternarylogic_epi64(sum, a, b, 0xE8);
    sum = _mm512_ternarylogic_epi64(sum, a, b, 0x96);
    return carry;
}

// Adds 2^Level vectors of marks to the planes 0 .. Level - 1 and returns the carry into plane Level.
template <std::size_t Level>
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m512i add_marks(const marked_block& block, std::size_t first,
                                                              __m512i group, __m512i* plane) noexcept {
    if constexpr (Level == 0) {
        const __mmask64 here = _mm512_cmpeq_epi8_mask(block.group[first], group);
        return _mm512_maskz_mov_epi8(here, block.mark[first]);
    } else {
        const __m512i a = add_marks<Level - 1>(block, first, group, plane);
        const __m512i b = add_marks<Level - 1>(block, first + (std::size_t{1} << (Level - 1)), group, plane);
        return carry_save(plane[Level - 1], a, b);
    }
}

// The 16 magnitudes from x on, or the first n of them and zeros when Whole is false.
template <bool Whole, class Source>
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m512i magnitudes_avx512(const Source* x, std::int64_t n) noexcept {
    __mmask16 lanes = 0xFFFF;
    if constexpr (!Whole)
        if (n < 16) lanes = static_cast<__mmask16>(n <= 0 ? 0u : (1u << n) - 1);
    if constexpr (sizeof(Source) == 2)
        return _mm512_abs_epi32(_mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(lanes, x)));
    else
        return _mm512_abs_epi32(_mm512_maskz_loadu_epi32(lanes, x));
}

// What the bins of a block were, as groups: an empty range when all elements are zero.
struct group_range {
    int first, last;
};

// Marks min(n, count_block) elements. `maximum` holds the largest magnitudes so far.
template <bool Whole, class Source>
LAMELLA_TARGET_AVX512 inline group_range mark_block(const Source* x, std::int64_t n, marked_block& block,
                                                    __m512i& maximum) noexcept {
    const __m512i marks = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201u));  // 1 << i for i = 0..7
    __m512i largest = maximum;
    __m512i lowest = _mm512_set1_epi8(-1), highest = _mm512_set1_epi8(-1);
    for (int v = 0; v < count_vectors; ++v) {
        __m512i bin[4];
#pragma GCC unroll 4
        for (int p = 0; p < 4; ++p) {
            // 4 x (31 - leading zeros) + the two bits after the leading one; for zero 0xF8.
            const std::int64_t from = 64 * v + 16 * p;
            const __m512i magnitude = magnitudes_avx512<Whole>(x + from, n - from);
            largest = _mm512_max_epu32(largest, magnitude);
            const __m512i zeros = _mm512_lzcnt_epi32(magnitude);
            const __m512i leading = _mm512_srli_epi32(_mm512_sllv_epi32(magnitude, zeros), 29);
            bin[p] = _mm512_ternarylogic_epi32(_mm512_slli_epi32(zeros, 2), leading, _mm512_set1_epi32(0x78), 0x96);
        }
        // Which element a bin came from does not matter, so neither does the order in which they are packed.
        const __m512i bins =
            _mm512_packus_epi16(_mm512_packus_epi32(bin[0], bin[1]), _mm512_packus_epi32(bin[2], bin[3]));
        lowest = _mm512_min_epu8(lowest, bins);
        highest = _mm512_max_epi8(highest, bins);
        block.group[v] = _mm512_and_si512(_mm512_srli_epi16(bins, 3), _mm512_set1_epi8(0x1F));
        block.mark[v] = _mm512_shuffle_epi8(marks, bins);  // none for zero, whose bit 7 is set
    }
    maximum = largest;
    __m128i low = _mm_min_epu8(_mm512_castsi512_si128(lowest), _mm512_extracti32x4_epi32(lowest, 1));
    low = _mm_min_epu8(low, _mm_min_epu8(_mm512_extracti32x4_epi32(lowest, 2), _mm512_extracti32x4_epi32(lowest, 3)));
    __m128i high = _mm_max_epi8(_mm512_castsi512_si128(highest), _mm512_extracti32x4_epi32(highest, 1));
    high =
        _mm_max_epi8(high, _mm_max_epi8(_mm512_extracti32x4_epi32(highest, 2), _mm512_extracti32x4_epi32(highest, 3)));
    low = _mm_min_epu8(low, _mm_srli_si128(low, 8));
    high = _mm_max_epi8(high, _mm_srli_si128(high, 8));
    low = _mm_min_epu8(low, _mm_srli_epi64(low, 32));
    high = _mm_max_epi8(high, _mm_srli_epi64(high, 32));
    low = _mm_min_epu8(low, _mm_srli_epi32(low, 16));
    high = _mm_max_epi8(high, _mm_srli_epi32(high, 16));
    low = _mm_min_epu8(low, _mm_srli_epi16(low, 8));
    high = _mm_max_epi8(high, _mm_srli_epi16(high, 8));
    return {(_mm_cvtsi128_si32(low) & 0xFF) >> 3, static_cast<std::int8_t>(_mm_cvtsi128_si32(high) & 0xFF) >> 3};
}

// n <= count_chunk.
template <class Source>
LAMELLA_TARGET_AVX512 inline void count_avx512(const Source* x, std::int64_t n, histogram& into) noexcept {
    marked_block block;
    __m512i plane[count_groups][count_planes];
    bool used[count_groups] = {};
    __m512i maximum = _mm512_set1_epi32(static_cast<int>(into.maximum));
    std::size_t levels = 4;  // planes that may hold bits by now
    for (std::int64_t start = 0; start < n; start += count_block) {
        const group_range range = n - start >= count_block ? mark_block<true>(x + start, n - start, block, maximum)
                                                           : mark_block<false>(x + start, n - start, block, maximum);
        while ((start / count_block + 1) * count_vectors >= std::int64_t{1} << levels) ++levels;
        for (int group = range.first; group <= range.last; ++group) {
            __m512i* const own = plane[group];
            if (!used[group]) {
                used[group] = true;
                for (std::size_t level = 0; level < count_planes; ++level) own[level] = _mm512_setzero_si512();
            }
            __m512i low[4] = {own[0], own[1], own[2], own[3]};
            __m512i carry = add_marks<4>(block, 0, _mm512_set1_epi8(static_cast<char>(group)), low);
#pragma GCC unroll 4
            for (int level = 0; level < 4; ++level) own[level] = low[level];
            for (std::size_t level = 4; level < levels; ++level) {
                const __m512i next = _mm512_and_si512(own[level], carry);
                own[level] = _mm512_xor_si512(own[level], carry);
                carry = next;
            }
        }
    }
    into.maximum = _mm512_reduce_max_epu32(maximum);
    std::uint64_t counted = 0;
    for (std::size_t group = 0; group < count_groups; ++group) {
        if (!used[group]) continue;
        for (int i = 0; i < 8; ++i) {
            std::uint64_t count = 0;
            for (std::size_t level = 0; level < levels; ++level)
                count += static_cast<std::uint64_t>(__builtin_popcountll(_cvtmask64_u64(
                             _mm512_test_epi8_mask(plane[group][level], _mm512_set1_epi8(static_cast<char>(1 << i))))))
                         << level;
            counted += count;
            const std::size_t bin = 8 * group + static_cast<std::size_t>(i);
            if (bin < into.count.size()) into.count[bin] += count;
        }
    }
    into.zeros += static_cast<std::uint64_t>(n) - counted;
}

#endif  // LAMELLA_X86

}  // namespace lamella::detail
