// The tile for AVX-512 VNNI: bytes through vpdpbusd, words through vpdpwssd. 24 accumulators, whatever the shape:
// 6 rows x 64 columns, 8 x 48, 12 x 32 or 24 x 16, and lower tiles for the last rows.
//
// Every loop over accumulators must be unrolled, or the compiler keeps them in memory at half the speed.
#pragma once

#include "../core/path.hpp"
#include "drain_avx512.hpp"
#include "tile.hpp"

#if LAMELLA_X86
#include "../core/intrinsics.hpp"

namespace lamella::gemm::detail {

struct multiply_bytes {
    LAMELLA_TARGET_AVX512 static LAMELLA_ALWAYS_INLINE __m512i add(__m512i sum, __m512i right, __m512i left) {
        return _mm512_dpbusd_epi32(sum, right, left);
    }
};
struct multiply_unsigned_left {
    LAMELLA_TARGET_AVX512 static LAMELLA_ALWAYS_INLINE __m512i add(__m512i sum, __m512i right, __m512i left) {
        return _mm512_dpbusd_epi32(sum, left, right);
    }
};
struct multiply_words {
    LAMELLA_TARGET_AVX512 static LAMELLA_ALWAYS_INLINE __m512i add(__m512i sum, __m512i right, __m512i left) {
        return _mm512_dpwssd_epi32(sum, right, left);
    }
};

// Adds the two sums of each column of folded groups: two vectors become one.
LAMELLA_TARGET_AVX512 inline void unfold_avx512(std::int32_t* sums, int vectors) {
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    for (int v = 0; v < vectors; v += 2) {
        const __m512i x = _mm512_load_si512(sums + v * tile_lanes), y = _mm512_load_si512(sums + (v + 1) * tile_lanes);
        _mm512_store_si512(sums + v / 2 * tile_lanes, _mm512_add_epi32(_mm512_permutex2var_epi32(x, even, y),
                                                                       _mm512_permutex2var_epi32(x, odd, y)));
    }
}

LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m512i broadcast_avx512(std::int32_t group) {
    return _mm512_set1_epi32(group);
}
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE __m512i broadcast_avx512(std::int64_t pair) {
    return _mm512_set1_epi64(pair);
}

// Adds the products of a job's groups to the sums of its tile. With Quads, four neighbouring rows share a pointer and a
// constant distance, so that 24 rows need 6 pointers. Listed: the groups of the job's list instead of whole spans, at
// the same speed a group.
template <class Multiply, class Group, bool Quads, bool Listed, int Rows, int Vectors>
LAMELLA_TARGET_AVX512 LAMELLA_ALWAYS_INLINE void add_groups_avx512(const tile_job& job, __m512i (&sum)[Rows][Vectors]) {
    asm volatile("" ::: "memory");  // or g++ loads what follows before the kind is known, and keeps it on the stack
    constexpr int pointers = Quads ? Rows / 4 : Rows;
    const std::byte* start[pointers];
#pragma GCC unroll 24
    for (int q = 0; q < pointers; ++q) start[q] = job.left + job.rows[q * job.rows_step];
    const std::byte* right = job.right;
    const std::int64_t group_step = job.group_step, row_step = job.row_step;
    const group_span* span = job.spans;
    const std::uint32_t* list = job.list;
    const std::int64_t rounds = Listed ? job.list_count : job.span_count;
    for (std::int64_t round = 0; round < rounds; ++round) {
        std::int64_t at, left = 1;
        if constexpr (Listed) {
            const std::int64_t g = *list++;
            at = job.group_left[g];
            right = job.right + g * (Vectors * vector_bytes);
        } else {
            at = span->left;
            left = span++->groups;
        }
        const std::byte* row[pointers];
        if constexpr (Quads) {
#pragma GCC unroll 24
            for (int q = 0; q < pointers; ++q) row[q] = start[q] + at;
        }
        for (; left > 0; --left) {
            __m512i vector[Vectors];
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) vector[v] = _mm512_load_si512(right + v * vector_bytes);
#pragma GCC unroll 24
            for (int r = 0; r < Rows; ++r) {
                const std::byte* from = Quads ? row[r / 4] + (r % 4) * row_step : start[Quads ? 0 : r] + at;
                const __m512i group = broadcast_avx512(group_at<Group>(from));
#pragma GCC unroll 4
                for (int v = 0; v < Vectors; ++v) sum[r][v] = Multiply::add(sum[r][v], vector[v], group);
            }
            if constexpr (Listed) break;
            if constexpr (Quads) {
#pragma GCC unroll 24
                for (int q = 0; q < pointers; ++q) row[q] += group_step;
            }
            at += group_step;
            right += Vectors * vector_bytes;
        }
    }
}

// A function for all kinds of groups, since compiling what becomes of 24 sums takes several times as long as a loop.
template <class Group, int Rows, int Vectors, bool Quads>
LAMELLA_TARGET_AVX512 void tile_avx512(const tile_job& job) {
    __m512i sum[Rows][Vectors];
#pragma GCC unroll 24
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_setzero_si512();
    if (job.list == nullptr) {
        switch (job.kind) {
            case group_kind::words: add_groups_avx512<multiply_words, Group, Quads, false>(job, sum); break;
            case group_kind::bytes: add_groups_avx512<multiply_bytes, Group, Quads, false>(job, sum); break;
            default: add_groups_avx512<multiply_unsigned_left, Group, Quads, false>(job, sum);
        }
    } else if (job.kind == group_kind::bytes) {  // words are never skipped (skip.hpp)
        add_groups_avx512<multiply_bytes, Group, Quads, true>(job, sum);
    } else {
        add_groups_avx512<multiply_unsigned_left, Group, Quads, true>(job, sum);
    }
    if (job.drain != nullptr) {
        if constexpr (sizeof(Group) == 4) return drain_registers_avx512<Rows, Vectors>(*job.drain, sum);
        if constexpr (Vectors == 1) return drain_folded_avx512<Rows>(*job.drain, sum);
    }
    std::int32_t* const sums = job.sums;
#pragma GCC unroll 24
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) _mm512_store_si512(sums + (r * Vectors + v) * tile_lanes, sum[r][v]);
    if constexpr (sizeof(Group) == 8) {
        asm volatile("" ::: "memory");  // or g++ 12 folds registers instead, and spills all of them in the loop above
        unfold_avx512(sums, Rows * Vectors);
    }
}

// One row's non-zero groups, listed with their values, times all columns of a panel. Several sets of accumulators hide
// the latency of the dot product.
template <class Multiply, int Vectors>
LAMELLA_TARGET_AVX512 void row_avx512(const std::uint32_t* groups, const std::int32_t* values, std::int64_t count,
                                      const std::byte* right, std::int32_t* sums, bool add) {
    constexpr int sets = Vectors == 1 ? 4 : 2;
    __m512i sum[sets][Vectors];
#pragma GCC unroll 4
    for (int s = 0; s < sets; ++s)
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v)
            sum[s][v] = s == 0 && add ? _mm512_load_si512(sums + v * tile_lanes) : _mm512_setzero_si512();
    for (; count >= sets; count -= sets, groups += sets, values += sets) {
#pragma GCC unroll 4
        for (int s = 0; s < sets; ++s) {
            const std::byte* from = right + std::size_t{groups[s]} * (Vectors * vector_bytes);
            const __m512i group = _mm512_set1_epi32(values[s]);
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v)
                sum[s][v] = Multiply::add(sum[s][v], _mm512_load_si512(from + v * vector_bytes), group);
        }
    }
    for (; count > 0; --count) {
        const std::byte* from = right + std::size_t{*groups++} * (Vectors * vector_bytes);
        const __m512i group = _mm512_set1_epi32(*values++);
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v)
            sum[0][v] = Multiply::add(sum[0][v], _mm512_load_si512(from + v * vector_bytes), group);
    }
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
#pragma GCC unroll 4
        for (int s = 1; s < sets; ++s) sum[0][v] = _mm512_add_epi32(sum[0][v], sum[s][v]);
        _mm512_store_si512(sums + v * tile_lanes, sum[0][v]);
    }
}

template <class Group, int Rows, int Vectors, bool Quads>
constexpr tile_kernel described_avx512(group_kind kind) noexcept {
    tile_kernel kernel{tile_avx512<Group, Rows, Vectors, Quads>, Rows, Vectors, Quads,
                       sizeof(Group) == 4 || Vectors == 1};
    if constexpr (sizeof(Group) == 4) {
        if (kind == group_kind::bytes) kernel.run_row = row_avx512<multiply_bytes, Vectors>;
        if (kind == group_kind::bytes_unsigned_left) kernel.run_row = row_avx512<multiply_unsigned_left, Vectors>;
    }
    return kernel;
}

// The kernel for tiles of so many vectors when `rows` are left: the full height, or a lower one that suffices.
inline tile_kernel kernel_avx512(group_kind kind, int fold, int vectors, bool quads, std::int64_t rows) noexcept {
    using one = std::int32_t;
    using two = std::int64_t;
    if (fold == 2) {  // at most eight columns: one vector, or the two limbs of words
        if (vectors != 1)
            return quads ? described_avx512<two, 12, 2, true>(kind) : described_avx512<two, 12, 2, false>(kind);
        return quads ? described_avx512<two, 24, 1, true>(kind) : described_avx512<two, 24, 1, false>(kind);
    }
    switch (vectors) {
        case 1:
            if (rows <= 8) return described_avx512<one, 8, 1, false>(kind);
            return quads ? described_avx512<one, 24, 1, true>(kind) : described_avx512<one, 24, 1, false>(kind);
        case 2:
            if (rows <= 6) return described_avx512<one, 6, 2, false>(kind);
            return quads ? described_avx512<one, 12, 2, true>(kind) : described_avx512<one, 12, 2, false>(kind);
        case 3:
            if (rows <= 4) return described_avx512<one, 4, 3, false>(kind);
            return described_avx512<one, 8, 3, false>(kind);
        default:
            if (rows <= 3) return described_avx512<one, 3, 4, false>(kind);
            return described_avx512<one, 6, 4, false>(kind);
    }
}

}  // namespace lamella::gemm::detail
#endif
