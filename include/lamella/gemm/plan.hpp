// How the fused execution runs one problem: which operand is broadcast, bytes or words, where sums are cut, tile
// shapes.
//
// Everything that sizes memory follows from shapes and layouts alone, so a change of width takes no memory; only the
// kind of group and the number of limbs follow from the widths:
//
//   both widths <= 8               bytes, one limb, where the path has dot products of bytes
//   wa + wb <= 27                  words, one limb each: sums of at least 64 products fit 32 bits (512 at 12 x 12 bits)
//   above                          words, the right operand as two balanced limbs (512 products at 16 x 16 bits)
//
// A *deep* product (a weight gradient: small result, long depth) is cut along the depth into chunks that are packed,
// multiplied and added to 64-bit accumulators one after the other; threads take different chunks. All others pack the
// right operand once, and threads take different rows.
//
// Up to eight columns (a convolution with few channels out) would leave half of a vector empty: groups are *folded*,
// twice as long, their halves in neighbouring lanes whose sums are added at the end.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "../core/path.hpp"
#include "depth.hpp"
#include "kernel_avx2.hpp"
#include "kernel_avx512.hpp"
#include "kernel_neon.hpp"
#include "kernel_scalar.hpp"
#include "operation.hpp"
#include "tile.hpp"

namespace lamella::gemm::detail {

inline constexpr std::int64_t most_sum = narrow_bound - 1;

// The kernel for tiles of `vectors` when `rows` are left to multiply.
inline tile_kernel kernel_of(path isa, group_kind kind, int fold, int vectors, bool quads, std::int64_t rows) noexcept {
#if LAMELLA_X86
    if (isa == path::avx512) return kernel_avx512(kind, fold, vectors, quads, rows);
    if (isa == path::avx_vnni) return kernel_avx_vnni(kind, vectors);
    if (isa == path::avx2) return kernel_avx2<add_pairs_avx2>(vectors);
#endif
#if LAMELLA_NEON
#if LAMELLA_NEON_DOT
    if (isa == path::neon_dot && kind != group_kind::words) return {tile_neon_dot<6>, 6, 1};
#endif
    if (isa == path::neon || isa == path::neon_dot) return word_kernel_neon(vectors);
#endif
    static_cast<void>(isa);
    static_cast<void>(kind);
    static_cast<void>(fold);
    static_cast<void>(quads);
    static_cast<void>(rows);
    return word_kernel_scalar(vectors);
}

constexpr bool multiplies_bytes(path isa) noexcept {
    return isa == path::avx512 || isa == path::avx_vnni || isa == path::neon_dot;
}

constexpr std::int64_t whole(std::int64_t x, std::int64_t unit) noexcept { return (x + unit - 1) / unit; }

// An operand with its axes merged, and what reading it costs.
struct fused_side {
    operand_view view;
    bool contiguous_depth = false;
    bool contiguous_rows = false;

    fused_side() = default;
    explicit fused_side(const operand_view& x) noexcept : view(x) {
        view.rows = merged(x.rows);
        view.depth = merged(x.depth);
        contiguous_depth = view.depth.stride[2] == 1;
        contiguous_rows = view.rows.stride[2] == 1 && view.rows.extent[2] >= 4;
    }
    std::int64_t vectors() const noexcept { return whole(view.rows.size(), tile_lanes); }
    // The range of elements that the view reaches, and whether it is not much larger than the view.
    offset_range storage() const noexcept {
        const offset_range rows = range_of(view.rows), depth = range_of(view.depth);
        return {rows.low + depth.low, rows.high + depth.high};
    }
    bool dense() const noexcept { return storage().size() <= 2 * view.rows.size() * view.depth.size() + 4096; }
    // Cycles to pack a vector with AVX-512, measured.
    std::int64_t pack_cost() const noexcept { return contiguous_depth ? 3 : contiguous_rows ? 8 : 60; }
};

struct fused_plan {
    fused_side left, right;
    bool deep = false;
    bool swapped = false;  // left is the problem's b: the result comes out transposed; deep products only
    int fold = 1;          // lanes a column
    bool direct = false;   // left rows are read where they lie
    bool widened = false;  // ... after a copy of the bytes as words
    bool words = true;
    int limb_shift = 0;                                          // 0: one limb
    std::int64_t rows = 0, columns = 0, depth = 0, vectors = 0;  // vectors: of the columns
    std::int64_t longest = 0;                                    // depth of a block
    std::int64_t chunk_blocks = 0;                               // blocks packed and multiplied together
    int panel = 1;                                               // vectors of columns in a tile
    bool tabled = false;

    int limbs() const noexcept { return limb_shift == 0 ? 1 : 2; }
    std::int64_t elements_a_group() const noexcept { return (words ? 2 : 4) * fold; }
    int lane_columns() const noexcept { return tile_lanes / fold; }  // columns of a vector
    std::int64_t chunk_depth() const noexcept {
        return std::clamp<std::int64_t>((std::int64_t{1} << 17) / (vectors * tile_lanes) / 512 * 512, 512, 8192);
    }

    fused_plan(const problem& p, path isa) noexcept : left(p.a), right(p.b) {
        depth = p.k();
        deep = depth >= 2048 && p.m() * p.n() <= (1 << 16);
        swapped = deep && cost(right, left) < cost(left, right);
        if (swapped) std::swap(left, right);
        rows = left.view.rows.size();
        columns = right.view.rows.size();
        vectors = right.vectors();
        tabled = depth_walk::needs_table(left.view.depth, right.view.depth);
        choose_groups(isa);
        widened = words && left.view.in_bytes() && widenable();
        direct = contiguous_left() && (widened || !words || !left.view.in_bytes());
        if (isa == path::avx512 && !deep && direct && columns <= tile_lanes / 2) fold = 2;
        choose_panel(isa);
    }

    bool contiguous_left() const noexcept { return left.contiguous_depth && !tabled; }
    // A copy of all that the left rows reach costs less than packing them.
    bool widenable() const noexcept { return contiguous_left() && left.dense(); }
    // Tiles may read every fourth row's offset alone.
    bool quads() const noexcept { return !direct || left.view.rows.extent[2] % 4 == 0; }

    // The side at whose zeros depth may be left out before packing (skip.hpp), or -1. Both sides are packed from
    // neighbouring rows then; follows from shapes alone.
    int scanned_side() const noexcept {
        if (!deep || !left.contiguous_rows || !right.contiguous_rows) return -1;
        const auto scannable = [](const fused_side& x) {
            const axis& all = x.view.rows;
            return all.extent[0] * all.extent[1] == 1 && all.extent[2] <= vector_bytes;
        };
        for (const fused_side* x : {&left, &right})
            if (std::abs(x->view.depth.stride[2]) >= (std::int64_t{1} << 26)) return -1;
        return scannable(left) ? 0 : scannable(right) ? 1 : -1;
    }
    // Both sides are packed, index by index of depth, from a table.
    void gather_depth() noexcept { tabled = true, direct = false; }
    // Cycles, roughly, of the product, and of one that packs a share kept / of of its depth from a table.
    std::int64_t cost() const noexcept { return cost(left, right); }
    std::int64_t gathered_cost(std::int64_t kept, std::int64_t of) const noexcept {
        const std::int64_t packs = 10 * (left.vectors() + right.vectors());
        return whole(depth, 4) * (whole(left.view.rows.size(), 6) * 3 * right.vectors() + packs) / of * kept +
               2 * depth;
    }

  private:
    // Cycles, roughly, on one AVX-512 core: multiplications and packing.
    static std::int64_t cost(const fused_side& l, const fused_side& r) noexcept {
        const std::int64_t groups = whole(l.view.depth.size(), 4);
        const bool in_place = l.contiguous_depth && !depth_walk::needs_table(l.view.depth, r.view.depth);
        return groups * (whole(l.view.rows.size(), 6) * 3 * r.vectors() + r.vectors() * r.pack_cost() +
                         (in_place ? 0 : l.vectors() * l.pack_cost()));
    }

    void choose_groups(path isa) noexcept {
        const std::int64_t most_left = largest_mantissa(left.view.width),
                           most_right = largest_mantissa(right.view.width);
        longest = most_sum / (most_left * most_right);
        // Corrections are made for one block alone, which a deep product makes of each chunk.
        words = !multiplies_bytes(isa) || !left.view.in_bytes() || !right.view.in_bytes() || (!deep && longest < depth);
        if (words && longest < std::min(depth, depth_walk::smallest_block)) {
            limb_shift = (right.view.width + 1) / 2;
            const std::int64_t half = std::int64_t{1} << (limb_shift - 1);
            longest = most_sum / (most_left * std::max(half, (most_right + half) >> limb_shift));
        }
        if (deep) longest = std::min(longest, chunk_depth());
        longest = longest >= depth ? depth : longest / 4 * 4;
        chunk_blocks = deep ? std::max<std::int64_t>(1, chunk_depth() / longest) : depth;
    }

    // The widest tile, or a narrower one that multiplies fewer rows and columns in vain.
    void choose_panel(path isa) noexcept {
        const int most = isa == path::avx512 ? most_vectors / limbs() : 1;
        const group_kind kind = words ? group_kind::words : group_kind::bytes;
        const auto work = [&](int v) {  // rows x vectors multiplied
            if (v == 0) return std::int64_t{0};
            const int height = kernel_of(isa, kind, fold, v * limbs(), true, rows).rows;
            const std::int64_t rest = rows % height;
            return (rows - rest + (rest == 0 ? 0 : kernel_of(isa, kind, fold, v * limbs(), true, rest).rows)) * v;
        };
        std::int64_t best = 0;
        for (int v = most; v >= 1; --v) {
            const std::int64_t total = vectors / v * work(v) + work(static_cast<int>(vectors % v));
            if (v == most || 20 * total < 19 * best) {
                best = total;
                panel = v;
            }
        }
    }
};

}  // namespace lamella::gemm::detail
