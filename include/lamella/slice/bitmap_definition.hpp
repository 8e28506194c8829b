// How bitmap.hpp finds what is not zero.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "../core/config.hpp"
#include "../core/path.hpp"
#include "bitmap.hpp"

#if LAMELLA_X86
#include "../core/intrinsics.hpp"
#endif

namespace lamella::slice {

namespace detail {

inline void mark_nonzero_scalar(const std::int8_t* digits, std::int64_t words, std::uint64_t* bits) {
    constexpr std::uint64_t low = 0x7f7f7f7f7f7f7f7fu;
    for (std::int64_t w = 0; w < words; ++w) {
        std::uint64_t mask = 0;
        for (int byte = 0; byte < 64; byte += 8) {
            std::uint64_t x;
            std::memcpy(&x, digits + 64 * w + byte, 8);
            const std::uint64_t flags = ((((x & low) + low) | x) >> 7) & 0x0101010101010101u;
            mask |= ((flags * 0x0102040810204080u) >> 56) << byte;
        }
        bits[w] = mask;
    }
}

#if LAMELLA_X86
LAMELLA_TARGET_AVX2 inline void mark_nonzero_avx2(const std::int8_t* digits, std::int64_t words, std::uint64_t* bits) {
    const __m256i zero = _mm256_setzero_si256();
    for (std::int64_t w = 0; w < words; ++w) {
        const auto* from = reinterpret_cast<const __m256i*>(digits + 64 * w);
        const auto low =
            static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256(from), zero)));
        const auto high =
            static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256(from + 1), zero)));
        bits[w] = ~(std::uint64_t{low} | std::uint64_t{high} << 32);
    }
}

LAMELLA_TARGET_AVX512 inline void mark_nonzero_avx512(const std::int8_t* digits, std::int64_t words,
                                                      std::uint64_t* bits) {
    for (std::int64_t w = 0; w < words; ++w) {
        const __m512i x = _mm512_loadu_si512(digits + 64 * w);
        bits[w] = static_cast<std::uint64_t>(_mm512_test_epi8_mask(x, x));
    }
}
#endif

inline std::int64_t count_groups_scalar(const std::uint64_t* bits, std::int64_t words, std::uint64_t* groups) {
    std::int64_t count = 0;
    for (std::int64_t w = 0; w < words; ++w) {
        const std::uint64_t group = groups_of(bits[w]) << (16 * (w % 4));
        groups[w / 4] = w % 4 == 0 ? group : groups[w / 4] | group;
        count += std::popcount(bits[w]);
    }
    return count;
}

#if LAMELLA_X86
// One instruction gathers a word's group bits.
LAMELLA_TARGET_AVX2 inline std::int64_t count_groups_avx2(const std::uint64_t* bits, std::int64_t words,
                                                          std::uint64_t* groups) {
    auto* const to = reinterpret_cast<unsigned char*>(groups);
    std::int64_t count = 0;
    for (std::int64_t w = 0; w < words; ++w) {
        const std::uint64_t pairs = bits[w] | bits[w] >> 1;
        const auto group = static_cast<std::uint16_t>(_pext_u64(pairs | pairs >> 2, 0x1111111111111111u));
        std::memcpy(to + 2 * w, &group, sizeof group);
        count += static_cast<std::int64_t>(_mm_popcnt_u64(bits[w]));
    }
    const std::uint64_t rest[4] = {};
    std::memcpy(to + 2 * words, rest, static_cast<std::size_t>(2 * (-words & 3)));
    return count;
}
#endif

}  // namespace detail

LAMELLA_ONCE void mark_nonzero(path isa, const std::int8_t* digits, std::int64_t words, std::uint64_t* bits) {
#if LAMELLA_X86
    if (isa == path::avx512) return detail::mark_nonzero_avx512(digits, words, bits);
    if (has_avx2(isa)) return detail::mark_nonzero_avx2(digits, words, bits);
#endif
    (void)isa;
    detail::mark_nonzero_scalar(digits, words, bits);
}

LAMELLA_ONCE void count_groups(path isa, const std::uint64_t* bits, std::int64_t words, std::uint64_t* groups,
                               std::int64_t& nonzeros) {
#if LAMELLA_X86
    if (isa != path::scalar) {
        nonzeros = detail::count_groups_avx2(bits, words, groups);
        return;
    }
#endif
    (void)isa;
    nonzeros = detail::count_groups_scalar(bits, words, groups);
}

}  // namespace lamella::slice
