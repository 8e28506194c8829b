// Packing for AVX-512: the two layouts that matter, 2 to 5 cycles a 64-byte vector.
#pragma once

#include "pack_portable.hpp"

#if LAMELLA_X86
#include "../core/intrinsics.hpp"

namespace lamella::gemm::detail {

// The vector(s) of one group: bytes get their offset, wide words are split into limbs.
struct group_writer {
    __m512i flip;
    std::int64_t limb_step;
    int limb_shift;
    bool words, offset;
    bool whole;  // all 16 lanes have a row; zeros are written for those that have none
    __mmask16 present;

    LAMELLA_TARGET_AVX512 static LAMELLA_ALWAYS_INLINE group_writer of(const pack_job& job, const lane_rows& rows) {
        return {_mm512_set1_epi8(-128),
                job.limb_step,
                job.limb_shift,
                job.words,
                job.offset,
                rows.count == tile_lanes,
                static_cast<__mmask16>((1u << rows.count) - 1)};
    }
    // `valid`: elements of the group that exist.
    LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE void store(std::byte* to, __m512i group, std::int64_t valid) const {
        if (!whole) group = _mm512_maskz_mov_epi32(present, group);
        if (!words) {
            if (offset) group = _mm512_xor_si512(group, flip);
            if (valid < 4)
                group = _mm512_and_si512(group, _mm512_set1_epi32(static_cast<int>((1u << (8 * valid)) - 1)));
            _mm512_store_si512(to, group);
            return;
        }
        if (valid < 2) group = _mm512_and_si512(group, _mm512_set1_epi32(0xffff));
        if (limb_shift == 0) {
            _mm512_store_si512(to, group);
        } else {
            const __m128i keep = _mm_cvtsi32_si128(16 - limb_shift);
            const __m512i low = _mm512_sra_epi16(_mm512_sll_epi16(group, keep), keep);
            const __m512i carry = _mm512_srli_epi16(low, 15);  // a negative low limb borrows one
            const __m512i high = _mm512_add_epi16(_mm512_sra_epi16(group, _mm_cvtsi32_si128(limb_shift)), carry);
            _mm512_store_si512(to, low);
            _mm512_store_si512(to + limb_step, high);
        }
    }
};

// Depth contiguous. Reads up to 15 bytes past a row's end (operation.hpp allows 64); writes zeros for them. Lanes
// without a row read the first one, in vain.
template <bool SourceBytes, bool Words>
LAMELLA_TARGET_AVX512 inline void pack_depth_avx512_body(const pack_job& job, const lane_rows& rows, std::byte* to) {
    constexpr int per_group = Words ? 2 : 4, per_chunk = 4 * per_group;
    constexpr std::int64_t size = SourceBytes ? 1 : 2;
    const group_writer writer = group_writer::of(job, rows);
    const std::byte* row[tile_lanes];
    for (int r = 0; r < tile_lanes; ++r)
        row[r] = static_cast<const std::byte*>(job.data) + rows.offset[r < rows.count ? r : 0] * size;
    for (std::int64_t s = job.first_segment; s < job.last_segment; ++s) {
        const depth_segment& part = job.walk->segments[static_cast<std::size_t>(s)];
        std::int64_t from = part.offset[job.side] * size;
        for (std::int64_t left = part.length; left > 0; left -= per_chunk, from += per_chunk * size) {
            __m512i x[4];  // x[i]: 16 bytes each of rows i, i + 4, i + 8, i + 12
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) {
                __m128i chunk[4];
#pragma GCC unroll 4
                for (int l = 0; l < 4; ++l) {
                    const auto* at = reinterpret_cast<const __m128i*>(row[4 * l + i] + from);
                    if constexpr (SourceBytes && Words)
                        chunk[l] = _mm_cvtepi8_epi16(_mm_loadl_epi64(at));
                    else
                        chunk[l] = _mm_loadu_si128(at);
                }
                x[i] = _mm512_castsi128_si512(chunk[0]);
                x[i] = _mm512_inserti32x4(x[i], chunk[1], 1);
                x[i] = _mm512_inserti32x4(x[i], chunk[2], 2);
                x[i] = _mm512_inserti32x4(x[i], chunk[3], 3);
            }
            // A 4 x 4 transposition in each 128-bit lane.
            const __m512i ab0 = _mm512_unpacklo_epi32(x[0], x[1]), ab1 = _mm512_unpackhi_epi32(x[0], x[1]);
            const __m512i cd0 = _mm512_unpacklo_epi32(x[2], x[3]), cd1 = _mm512_unpackhi_epi32(x[2], x[3]);
            const __m512i group[4] = {_mm512_unpacklo_epi64(ab0, cd0), _mm512_unpackhi_epi64(ab0, cd0),
                                      _mm512_unpacklo_epi64(ab1, cd1), _mm512_unpackhi_epi64(ab1, cd1)};
#pragma GCC unroll 4
            for (int g = 0; g < 4; ++g) {
                if (g * per_group >= left) break;
                writer.store(to, group[g], left - g * per_group);
                to += job.group_step;
            }
        }
    }
}

// Elements of 16 rows, in up to four runs of neighbours, at one depth. Reads past the end of the first run, as far as
// 16 rows would reach; what it finds there is replaced by the other runs or masked out by the writer.
template <int Pieces>
struct lane_reader {
    std::int64_t base[Pieces];
    __mmask16 mask[Pieces];

    explicit lane_reader(const lane_rows& rows) {
        for (int p = 0; p < Pieces; ++p) {
            const bool present = p < rows.pieces;
            base[p] = present ? rows.offset[rows.piece_start[p]] - rows.piece_start[p] : 0;
            mask[p] = present ? static_cast<__mmask16>(((1u << rows.piece_count[p]) - 1) << rows.piece_start[p])
                              : static_cast<__mmask16>(0);
        }
    }
    LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m128i bytes(const std::int8_t* at) const {
        __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + base[0]));
#pragma GCC unroll 4
        for (int p = 1; p < Pieces; ++p) x = _mm_mask_loadu_epi8(x, mask[p], at + base[p]);
        return x;
    }
    LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m256i words(const std::int16_t* at) const {
        __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + base[0]));
#pragma GCC unroll 4
        for (int p = 1; p < Pieces; ++p) x = _mm256_mask_loadu_epi16(x, mask[p], at + base[p]);
        return x;
    }
};

// The group of the elements at at[0], at[1] (and at[2], at[3]) of 16 rows.
template <bool SourceBytes, bool Words, int Pieces>
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m512i interleave_rows(const void* source,
                                                                    const lane_reader<Pieces>& reader,
                                                                    const std::int64_t* at) {
    if constexpr (!Words) {
        const __m512i quarters = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
        const __m512i bytes =
            _mm512_broadcast_i32x4(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
        const auto* data = static_cast<const std::int8_t*>(source);
        __m512i x = _mm512_castsi128_si512(reader.bytes(data + at[0]));
        x = _mm512_inserti32x4(x, reader.bytes(data + at[1]), 1);
        x = _mm512_inserti32x4(x, reader.bytes(data + at[2]), 2);
        x = _mm512_inserti32x4(x, reader.bytes(data + at[3]), 3);
        return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(quarters, x), bytes);
    } else {
        __m512i x0, x1;
        if constexpr (SourceBytes) {
            const auto* data = static_cast<const std::int8_t*>(source);
            x0 = _mm512_cvtepi8_epi32(reader.bytes(data + at[0]));
            x1 = _mm512_cvtepi8_epi32(reader.bytes(data + at[1]));
        } else {
            const auto* data = static_cast<const std::int16_t*>(source);
            x0 = _mm512_cvtepi16_epi32(reader.words(data + at[0]));
            x1 = _mm512_cvtepi16_epi32(reader.words(data + at[1]));
        }
        return _mm512_mask_blend_epi16(0xaaaaaaaau, x0, _mm512_slli_epi32(x1, 16));
    }
}

// One segment, its elements either at `table` or every `stride` from `first` on. Returns where the next one goes.
template <bool SourceBytes, bool Words, int Pieces, bool Tabled>
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE std::byte* pack_segment_avx512(
    const void* source, const lane_reader<Pieces>& reader, const group_writer& writer, const std::int64_t* table,
    std::int64_t first, std::int64_t stride, std::int64_t left, std::int64_t group_step, std::byte* to) {
    constexpr int per_group = Words ? 2 : 4;
    const std::int64_t step[4] = {0, stride, 2 * stride, 3 * stride};
    for (; left >= per_group; left -= per_group, to += group_step) {
        std::int64_t at[per_group];
#pragma GCC unroll 4
        for (int e = 0; e < per_group; ++e) at[e] = Tabled ? table[e] : first + step[e];
        writer.store(to, interleave_rows<SourceBytes, Words>(source, reader, at), per_group);
        Tabled ? void(table += per_group) : void(first += per_group * stride);
    }
    if (left == 0) return to;
    std::int64_t at[per_group];  // absent elements repeat an existing one, and are masked out
    for (int e = 0; e < per_group; ++e) {
        const std::int64_t k = e < left ? e : 0;
        at[e] = Tabled ? table[k] : first + k * stride;
    }
    writer.store(to, interleave_rows<SourceBytes, Words>(source, reader, at), left);
    return to + group_step;
}

template <bool SourceBytes, bool Words, int Pieces>
LAMELLA_TARGET_AVX512 inline void pack_rows_avx512_body(const pack_job& job, const lane_rows& rows, std::byte* to) {
    const group_writer writer = group_writer::of(job, rows);
    const lane_reader<Pieces> reader(rows);
    const depth_walk& walk = *job.walk;
    const int side = job.side;
    const std::int64_t stride = walk.stride[side], group_step = job.group_step;
    const depth_segment* part = walk.segments.data() + job.first_segment;
    const depth_segment* const end = walk.segments.data() + job.last_segment;
    const std::int64_t* const table = walk.table[side].data();
    if (walk.tabled) {
        for (; part < end; ++part)
            to = pack_segment_avx512<SourceBytes, Words, Pieces, true>(job.data, reader, writer, table + part->first, 0,
                                                                       0, part->length, group_step, to);
    } else {
        for (; part < end; ++part)
            to = pack_segment_avx512<SourceBytes, Words, Pieces, false>(
                job.data, reader, writer, nullptr, part->offset[side], stride, part->length, group_step, to);
    }
}

inline void pack_depth_avx512(const pack_job& job, const lane_rows& rows, std::byte* into) {
    if (!job.words) return pack_depth_avx512_body<true, false>(job, rows, into);
    job.source_bytes ? pack_depth_avx512_body<true, true>(job, rows, into)
                     : pack_depth_avx512_body<false, true>(job, rows, into);
}

template <int Pieces>
inline void pack_pieces_avx512(const pack_job& job, const lane_rows& rows, std::byte* into) {
    if (!job.words) return pack_rows_avx512_body<true, false, Pieces>(job, rows, into);
    job.source_bytes ? pack_rows_avx512_body<true, true, Pieces>(job, rows, into)
                     : pack_rows_avx512_body<false, true, Pieces>(job, rows, into);
}

inline void pack_rows_avx512(const pack_job& job, const lane_rows& rows, std::byte* into) {
    if (rows.pieces == 1) return pack_pieces_avx512<1>(job, rows, into);
    if (rows.pieces == 2) return pack_pieces_avx512<2>(job, rows, into);
    pack_pieces_avx512<4>(job, rows, into);
}

}  // namespace lamella::gemm::detail
#endif
