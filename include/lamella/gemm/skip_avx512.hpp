// Zero masks and lists for AVX-512 (skip.hpp).
#pragma once

#include "../core/path.hpp"

#if LAMELLA_X86
#include <bit>

#include "../core/intrinsics.hpp"
#include "depth.hpp"
#include "skip.hpp"

namespace lamella::gemm::detail {

// One bit a group of a row that is read in place, 1 where any of its Bytes (4 or 8) is not zero. Depth past the end of
// a segment counts as zero.
template <int Bytes>
LAMELLA_TARGET_AVX512 inline void mask_row_avx512(const std::byte* row, const depth_segment* segments,
                                                  std::int64_t count, std::uint64_t* words) {
    std::uint64_t word = 0;
    int filled = 0;
    for (std::int64_t s = 0; s < count; ++s) {
        const std::byte* from = row + segments[s].offset[0];
        for (std::int64_t k = segments[s].length; k > 0; k -= vector_bytes, from += vector_bytes) {
            const __m512i x = k >= vector_bytes ? _mm512_loadu_si512(from)
                                                : _mm512_maskz_loadu_epi8((std::uint64_t{1} << k) - 1, from);
            const std::uint64_t mask =
                Bytes == 4 ? std::uint64_t{_mm512_test_epi32_mask(x, x)} : std::uint64_t{_mm512_test_epi64_mask(x, x)};
            const int here = static_cast<int>((std::min<std::int64_t>(k, vector_bytes) + Bytes - 1) / Bytes);
            word |= mask << filled;
            filled += here;
            if (filled < 64) continue;
            *words++ = word;
            filled -= 64;
            word = filled == 0 ? 0 : mask >> (here - filled);
        }
    }
    if (filled != 0) *words = word;
}

// The same of 16 packed rows, whose words are `stride` apart.
LAMELLA_TARGET_AVX512 inline void mask_packed_avx512(const std::byte* packed, std::int64_t groups, std::int64_t stride,
                                                     std::uint64_t* words) {
    alignas(64) std::uint16_t lanes[64];
    for (std::int64_t g = 0; g < groups; g += 64, ++words) {
        const int here = static_cast<int>(std::min<std::int64_t>(64, groups - g));
        for (int i = 0; i < here; ++i, packed += vector_bytes) {
            const __m512i x = _mm512_load_si512(packed);
            lanes[i] = _mm512_test_epi32_mask(x, x);
        }
        for (int i = here; i < 64; ++i) lanes[i] = 0;
        const __m512i low = _mm512_load_si512(lanes), high = _mm512_load_si512(lanes + 32);
        for (int r = 0; r < tile_lanes; ++r) {
            const __m512i bit = _mm512_set1_epi16(static_cast<short>(1u << r));
            words[r * stride] = std::uint64_t{_mm512_test_epi16_mask(low, bit)} |
                                std::uint64_t{_mm512_test_epi16_mask(high, bit)} << 32;
        }
    }
}

// Writes the numbers of the bits that are set, 15 entries more than there are. Returns their count.
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE std::int64_t list_bits_avx512(std::uint64_t word, std::uint32_t first,
                                                                          std::uint32_t* into) {
    const std::uint32_t* const start = into;
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (; word != 0; word >>= 16, first += 16) {
        const auto mask = static_cast<__mmask16>(word & 0xffff);
        const __m512i numbers = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(first)));
        _mm512_storeu_si512(into, _mm512_maskz_compress_epi32(mask, numbers));
        into += std::popcount(static_cast<std::uint32_t>(mask));
    }
    return into - start;
}

// The list of a tile: groups in which any of its rows is not zero.
LAMELLA_TARGET_AVX512 inline std::int64_t list_tile_avx512(const std::uint64_t* nonzero, std::int64_t words, int rows,
                                                           std::uint32_t* into) {
    std::int64_t count = 0;
    for (std::int64_t w = 0; w < words; ++w) {
        std::uint64_t any = 0;
        for (int r = 0; r < rows; ++r) any |= nonzero[r * words + w];
        count += list_bits_avx512(any, static_cast<std::uint32_t>(64 * w), into + count);
    }
    return count;
}

// The list of one row's words first .. last - 1, and the groups themselves.
LAMELLA_TARGET_AVX512 inline std::int64_t list_row_avx512(const std::uint64_t* nonzero, std::int64_t first,
                                                          std::int64_t last, const std::byte* row,
                                                          const std::int64_t* group_left, std::uint32_t* into,
                                                          std::int32_t* values) {
    std::int64_t count = 0;
    for (std::int64_t w = first; w < last; ++w)
        count += list_bits_avx512(nonzero[w], static_cast<std::uint32_t>(64 * w), into + count);
    for (std::int64_t i = 0; i < count; ++i) values[i] = group_at(row + group_left[into[i]]);
    return count;
}

LAMELLA_TARGET_AVX512 inline tile_counts count_tile_avx512(const std::uint64_t* nonzero, std::int64_t words, int rows) {
    tile_counts n;
    for (std::int64_t w = 0; w < words; ++w) {
        std::uint64_t any = 0;
        for (int r = 0; r < rows; ++r) {
            n.rows += std::popcount(nonzero[r * words + w]);
            any |= nonzero[r * words + w];
        }
        n.tile += std::popcount(any);
    }
    return n;
}

// Looks for depth at which all rows of one side are zero. The rows, 64 at most, are neighbours in memory, so that one
// load covers the rows of several indices of depth.
class depth_scan {
  public:
    depth_scan(const void* data, std::int64_t rows, std::int64_t stride) noexcept
        : data_(static_cast<const std::byte*>(data)), rows_(static_cast<int>(rows)), stride_(stride) {
        if (stride >= rows && stride <= vector_bytes)
            for (std::int64_t at = 0; at + rows <= vector_bytes; at += stride) starts_ |= std::uint64_t{1} << at;
        else
            starts_ = 1;
        indices_ = std::popcount(starts_);
    }
    int indices() const noexcept { return indices_; }  // that a load covers
    // A bit for each of the next indices from the one at `offset`: set where any row is not zero.
    LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE std::uint64_t kept(std::int64_t offset, std::int64_t left) const {
        const __m512i x = _mm512_loadu_si512(data_ + offset);
        std::uint64_t any = _mm512_test_epi8_mask(x, x);
        int covered = 1;  // bit i tells of bytes i .. i + covered - 1
        for (; 2 * covered <= rows_; covered *= 2) any |= any >> covered;
        if (covered < rows_) any |= any >> (rows_ - covered);
        const std::uint64_t bits = _pext_u64(any, starts_);
        return left >= indices_ ? bits : bits & ((std::uint64_t{1} << left) - 1);
    }
    // The number of indices kept among `length` from `offset` on.
    LAMELLA_TARGET_AVX512 std::int64_t count(std::int64_t offset, std::int64_t length) const {
        std::int64_t n = 0;
        for (std::int64_t i = 0; i < length; i += indices_) n += std::popcount(kept(offset + i * stride_, length - i));
        return n;
    }
    // Appends the offsets, on two sides, of the indices kept among `length`: `offset` and `strides` of the sides,
    // [side] being the scanned one. Writes up to 15 entries more. Returns the number of entries appended.
    LAMELLA_TARGET_AVX512 std::int64_t list(int side, const std::int64_t (&offset)[2], const std::int64_t (&strides)[2],
                                            std::int64_t length, std::int64_t* left, std::int64_t* right) const {
        std::int64_t n = 0;
        for (std::int64_t i = 0; i < length; i += indices_) {
            std::uint64_t bits = kept(offset[side] + i * stride_, length - i);
            for (std::int64_t j = i; bits != 0; bits >>= 16, j += 16) {
                const auto mask = static_cast<__mmask16>(bits & 0xffff);
                append(mask, offset[0] + j * strides[0], strides[0], left + n);
                append(mask, offset[1] + j * strides[1], strides[1], right + n);
                n += std::popcount(static_cast<std::uint32_t>(mask));
            }
        }
        return n;
    }

  private:
    LAMELLA_TARGET_AVX512 static LAMELLA_ALWAYS_INLINE void append(__mmask16 mask, std::int64_t first,
                                                                   std::int64_t stride, std::int64_t* into) {
        const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const __m512i steps = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(static_cast<int>(stride)));
        const __m512i kept = _mm512_maskz_compress_epi32(mask, steps), base = _mm512_set1_epi64(first);
        const __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(kept, 1));
        _mm512_storeu_si512(into, _mm512_add_epi64(base, _mm512_cvtepi32_epi64(_mm512_castsi512_si256(kept))));
        _mm512_storeu_si512(into + 8, _mm512_add_epi64(base, high));
    }

    const std::byte* data_;
    int rows_;
    std::int64_t stride_;
    std::uint64_t starts_ = 0;
    int indices_ = 1;
};

}  // namespace lamella::gemm::detail
#endif
