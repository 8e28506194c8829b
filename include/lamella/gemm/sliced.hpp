// The execution that does on the CPU what the accelerator does: plane pair by plane pair in the configured encoding,
// digits in bytes, skipping zero planes, zero panels (a tile's rows x 256 k) and zero groups (1 row x 4 k) where it
// pays. Same bits as reference.hpp for every width and encoding.
//
// A tile of C is combined diagonal by diagonal (plane pairs (i, j) of one weight i + j), highest first:
// sum = (sum << radix_bits) + next diagonal, in 32 bits while that is exact. Otherwise diagonals are gathered in as
// many *segments* as 32 bits require, added up in 64 bits. The left operand is the broadcast one: its zeros are
// skipped.
//
// Read sliced_tile.hpp first (what a kernel computes).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "../core/quantise.hpp"
#include "../slice/encoding.hpp"
#include "../slice/sliced_matrix.hpp"
#include "check.hpp"
#include "depth.hpp"
#include "drain.hpp"
#include "operation.hpp"
#include "sliced_avx2.hpp"
#include "sliced_avx512.hpp"
#include "sliced_memory.hpp"
#include "sliced_tile.hpp"
#include "threads.hpp"
#include "workspace.hpp"

namespace lamella::gemm {

namespace detail {

enum panel_kind : std::uint8_t { zero_panel, dense_panel, sparse_panel };

struct sliced_kernels {
    dense_kernel dense = nullptr;
    sparse_kernel sparse = nullptr;
    int sparse_percent = 0;  // share of non-zero groups up to which `sparse` is the faster one
};

template <int Vectors>
sliced_kernels sliced_kernels_of(path isa) noexcept {
#if LAMELLA_X86
    if (isa == path::avx512) return {add_runs_avx512<Vectors>, add_groups_avx512<Vectors>, 50};
    if (has_avx2(isa)) return {add_runs_avx2<Vectors>, nullptr, 0};
#endif
    (void)isa;
    return {add_runs_portable<Vectors>, add_groups_portable<Vectors>, 20};
}
inline sliced_kernels sliced_kernels_of(path isa, int vectors) noexcept {
    return vectors == 1   ? sliced_kernels_of<1>(isa)
           : vectors == 2 ? sliced_kernels_of<2>(isa)
                          : sliced_kernels_of<4>(isa);
}

// The part of 0 .. count - 1 that a thread handles.
struct share {
    std::int64_t first, last;
    share(std::int64_t count, std::int64_t thread, std::int64_t threads) noexcept
        : first(count * thread / threads), last(count * (thread + 1) / threads) {}
};

// Rows that are read together, since their elements share cache lines when depth is strided: whole tile rows of any
// shape.
inline constexpr std::int64_t gather_rows = 24;

// Hands `each(row, contiguous mantissas)` the rows first .. first + count - 1 (at most gather_rows) of an operand.
template <class Mantissa, class Each>
void gather(const operand_view& x, const axis& depth, std::int64_t first, std::int64_t count, Mantissa* into,
            const Each& each) {
    const auto* const data = static_cast<const Mantissa*>(x.data);
    const std::int64_t size = depth.size(), run = depth.extent[2];
    std::array<std::int64_t, gather_rows> at{};
    fill_offsets(x.rows, first, count, 1, at.data());
    if (depth.stride[2] == 1 && run == size) {
        for (std::int64_t r = 0; r < count; ++r) each(first + r, data + at[static_cast<std::size_t>(r)]);
        return;
    }
    if (depth.stride[2] == 1) {
        for (std::int64_t r = 0; r < count; ++r) {
            offset_walker from(depth, 0);
            for (std::int64_t k = 0; k < size; k += run, from.advance(run))
                std::copy_n(data + at[static_cast<std::size_t>(r)] + from.offset(), run, into + r * size + k);
        }
    } else {
        offset_walker from(depth, 0);
        for (std::int64_t k = 0; k < size; ++k, from.advance(1))
            for (std::int64_t r = 0; r < count; ++r)
                into[r * size + k] = data[at[static_cast<std::size_t>(r)] + from.offset()];
    }
    for (std::int64_t r = 0; r < count; ++r) each(first + r, into + r * size);
}

class sliced_product {
  public:
    sliced_product(const problem& p, const output& out, const settings& how, sliced_memory& memory)
        : p_(p), out_(out), how_(how), memory_(memory), threads_(threads_worth(how.threads, p.m() * p.n() * p.k())) {
        vectors_ = p.n() <= 16 ? 1 : p.n() <= 32 ? 2 : 4;
        kernels_ = sliced_kernels_of(how.isa, vectors_);
        height_ = tile_rows(vectors_);
        columns_ = tile_columns(vectors_);
        a_.reset(how.digits, p.a.width, p.m(), p.k(), height_);
        b_.reset(how.digits, p.b.width, p.n(), p.k(), columns_);
        groups_ = a_.padded_depth() / slice::group_digits;
        panels_ = b_.padded_rows() / columns_;
        tile_rows_ = a_.padded_rows() / height_;
        words_ = a_.group_words();
        const auto most = static_cast<std::size_t>(slice::slice_count(how.digits, max_width));
        memory.packed.resize(most * static_cast<std::size_t>(b_.padded_rows() * a_.padded_depth()));
        memory.b_used.resize(most * static_cast<std::size_t>(panels_ * words_));
        memory.a_kind.resize(most * static_cast<std::size_t>(tile_rows_ * words_));
        memory.prefix.resize(most * static_cast<std::size_t>(a_.padded_rows() * (words_ + 1)));
        memory.gathered.resize(static_cast<std::size_t>(threads_ * gather_rows * p.k()));
        memory.tiles.resize(static_cast<std::size_t>(threads_ * tiles_together * tile_size));
    }

    void run() {
        parallel(threads_, [&](std::int64_t thread, std::int64_t) {
            prepare_a(thread);
            prepare_b(thread);
        });
        plan();
        parallel(threads_, [&](std::int64_t thread, std::int64_t) { multiply(thread); });
        if (out_.seen != nullptr) count_magnitudes_of_output();
    }

  private:
    static constexpr std::int64_t tiles_together = 16;  // tiles that share a block of b in the cache when depth is long
    static constexpr std::int64_t cached = 1 << 20;     // bytes of b in that block
    static constexpr std::int64_t word_digits = slice::sliced_matrix::panel_depth;

    static constexpr std::size_t most_tile_rows = 24;

    struct plane_pair {
        int a, b;
        int diagonal() const noexcept { return a + b; }
    };
    // Pairs first .. last - 1, summed in 32 bits; their sum has the weight 2^weight.
    struct segment_of_pairs {
        int first, last, weight;
    };

    std::uint32_t* prefix(int plane, std::int64_t tile_row, std::int64_t word) const noexcept {
        return memory_.prefix.data() + ((plane * tile_rows_ + tile_row) * (words_ + 1) + word) * height_;
    }
    std::uint8_t* a_kind(int plane, std::int64_t tile_row) const noexcept {
        return memory_.a_kind.data() + (plane * tile_rows_ + tile_row) * words_;
    }
    std::uint8_t* b_used(int plane, std::int64_t panel) const noexcept {
        return memory_.b_used.data() + (plane * panels_ + panel) * words_;
    }
    std::uint8_t* packed(int plane, std::int64_t panel) const noexcept {
        return memory_.packed.data() + (plane * panels_ + panel) * groups_ * 4 * columns_;
    }
    std::int64_t digits_in(std::int64_t word) const noexcept {
        return std::min(word_digits, a_.padded_depth() - word * word_digits);
    }

    // Makes the planes of the rows first .. last - 1.
    void split(const operand_view& x, const axis& depth, std::int64_t first, std::int64_t last, std::int64_t thread,
               slice::sliced_matrix& into) {
        if (depth.size() == 0) return;
        std::int16_t* const space = memory_.gathered.data() + thread * gather_rows * p_.k();
        const auto set = [&](std::int64_t row, const auto* mantissas) { into.set_row(row, mantissas, how_.isa); };
        for (last = std::min(last, into.rows()); first < last; first += gather_rows) {
            const std::int64_t count = std::min(gather_rows, last - first);
            if (x.in_bytes())
                gather(x, depth, first, count, reinterpret_cast<std::int8_t*>(space), set);
            else
                gather(x, depth, first, count, space, set);
        }
    }

    void prepare_a(std::int64_t thread) {
        const axis depth = merged(p_.a.depth);
        const std::int64_t together = gather_rows / height_;  // tile rows
        const share part((tile_rows_ + together - 1) / together, thread, threads_);
        for (std::int64_t index = part.first; index < part.last; ++index) {
            split(p_.a, depth, index * gather_rows, (index + 1) * gather_rows, thread, a_);
            const std::int64_t end = std::min(tile_rows_, (index + 1) * together);
            for (std::int64_t t = index * together; t < end; ++t)
                for (int s = 0; s < a_.planes(); ++s) summarise(s, t);
        }
    }

    // Digit sums of a tile row, and what its panels are worth skipping.
    void summarise(int plane, std::int64_t tile_row) {
        const std::int64_t row = tile_row * height_;
        std::fill_n(prefix(plane, tile_row, 0), height_, std::uint32_t{0});
        for (std::int64_t w = 0; w < words_; ++w) {
            const std::int64_t depth = digits_in(w);
            for (std::int64_t r = 0; r < height_; ++r) {
                std::int32_t sum = 0;
                sum_digits(how_.isa, a_.row(plane, row + r) + w * word_digits, depth / 64, sum);
                prefix(plane, tile_row, w + 1)[r] = prefix(plane, tile_row, w)[r] + static_cast<std::uint32_t>(sum);
            }
            std::int64_t used = 0;
            for (std::int64_t r = 0; r < height_; ++r) used += std::popcount(a_.groups(plane, row + r)[w]);
            const std::int64_t all = height_ * depth / slice::group_digits;
            a_kind(plane, tile_row)[w] = used == 0                                     ? zero_panel
                                         : used * 100 <= all * kernels_.sparse_percent ? sparse_panel
                                                                                       : dense_panel;
        }
    }

    void prepare_b(std::int64_t thread) {
        const axis depth = merged(p_.b.depth);
        const share part(panels_, thread, threads_);
        for (std::int64_t panel = part.first; panel < part.last; ++panel) {
            split(p_.b, depth, panel * columns_, (panel + 1) * columns_, thread, b_);
            for (int s = 0; s < b_.planes(); ++s) pack(s, panel);
        }
    }

    void pack(int plane, std::int64_t panel) {
        const std::int64_t row = panel * columns_;
        std::uint8_t* const used = b_used(plane, panel);
        std::fill_n(used, words_, std::uint8_t{0});
        for (std::int64_t c = 0; c < columns_; ++c)
            for (std::int64_t w = 0; w < words_; ++w)
                if (b_.groups(plane, row + c)[w] != 0) used[w] = 1;
        for (std::int64_t first = 0; first < groups_; first += 16)  // a cache line of each row
            for (std::int64_t c = 0; c < columns_; c += 4)
                for (std::int64_t g = first; g < first + 16; g += 4)
                    pack_square(b_.row(plane, row + c) + 4 * g, b_.row_stride(),
                                packed(plane, panel) + 4 * (g * columns_ + c), 4 * columns_);
    }

    // Lists the pairs of planes that are not zero, and cuts them into segments.
    void plan() {
        std::array<bool, slice::max_slices> a_any{}, b_any{};
        for (int s = 0; s < a_.planes(); ++s) a_any[static_cast<std::size_t>(s)] = a_.nonzeros(s) != 0;
        for (int s = 0; s < b_.planes(); ++s) b_any[static_cast<std::size_t>(s)] = b_.nonzeros(s) != 0;
        for (int diagonal = a_.planes() + b_.planes() - 2; diagonal >= 0; --diagonal)
            for (int i = std::min(diagonal, a_.planes() - 1); i >= 0 && diagonal - i < b_.planes(); --i)
                if (a_any[static_cast<std::size_t>(i)] && b_any[static_cast<std::size_t>(diagonal - i)])
                    pairs_[static_cast<std::size_t>(pair_count_++)] = {i, diagonal - i};

        const std::int64_t bytes = b_.planes() * columns_ * word_digits;
        block_words_ = std::max<std::int64_t>(1, cached / bytes);
        const std::int64_t bound = accumulator_bound(p_.a.width, p_.b.width, p_.k());
        in_32_bits_ = bound < narrow_bound && words_ <= block_words_;

        const int bits = slice::radix_bits(how_.digits);
        const std::int64_t largest = how_.digits == slice::encoding::signed_slice ? 8 * 8 : 15 * 15;
        const std::int64_t pair_bound = largest * std::min(words_, block_words_) * word_digits;
        std::int64_t reached = 0;
        for (int q = 0; q < pair_count_; ++q) {
            const plane_pair pair = pairs_[static_cast<std::size_t>(q)];
            const int before = q > 0 ? pairs_[static_cast<std::size_t>(q - 1)].diagonal() : 0;
            const std::int64_t next =
                (q > 0 ? reached << std::min(30, bits * (before - pair.diagonal())) : 0) + pair_bound;
            if (q == 0 || (!in_32_bits_ && next >= narrow_bound)) {
                segments_[static_cast<std::size_t>(segment_count_++)] = {q, q, 0};
                reached = pair_bound;
            } else {
                reached = std::min(next, narrow_bound);
            }
            segment_of_pairs& segment = segments_[static_cast<std::size_t>(segment_count_ - 1)];
            segment.last = q + 1;
            segment.weight = bits * pair.diagonal();
        }
    }

    // Runs that wait for the dense kernel, and what their offset adds too much, a row.
    struct pending {
        static constexpr int most = 32;
        sliced_run run[most];
        int count = 0;
        std::array<std::uint32_t, most_tile_rows> surplus{};
    };

    void flush(pending& work, std::int32_t* tile) const {
        if (work.count != 0) kernels_.dense(work.run, work.count, a_.row_stride(), tile);
        work.count = 0;
    }
    void add(pending& work, const sliced_run& run, std::int32_t* tile) const {
        if (work.count == pending::most) flush(work, tile);
        work.run[work.count++] = run;
    }

    // tile = sum over the pairs of a segment, over the depth words first .. last - 1.
    void compute(const segment_of_pairs& segment, std::int64_t tile_row, std::int64_t panel, std::int64_t first,
                 std::int64_t last, std::int32_t* tile) const {
        std::fill_n(tile, tile_size, 0);
        pending work;
        const int bits = slice::radix_bits(how_.digits);
        int diagonal = pairs_[static_cast<std::size_t>(segment.first)].diagonal();
        for (int q = segment.first; q < segment.last; ++q) {
            const plane_pair pair = pairs_[static_cast<std::size_t>(q)];
            if (pair.diagonal() != diagonal) {
                const int shift = bits * (diagonal - pair.diagonal());
                add(work, {nullptr, nullptr, 0, shift}, tile);
                for (std::uint32_t& s : work.surplus) s <<= shift;
                diagonal = pair.diagonal();
            }
            const std::uint8_t* const kinds = a_kind(pair.a, tile_row);
            const std::uint8_t* const used = b_used(pair.b, panel);
            for (std::int64_t w = first; w < last;) {
                const std::uint8_t kind = used[w] != 0 ? kinds[w] : std::uint8_t{zero_panel};
                std::int64_t end = w + 1;
                while (end < last && (used[end] != 0 ? kinds[end] : std::uint8_t{zero_panel}) == kind) ++end;
                if (kind != zero_panel) add_run(work, pair, kind, tile_row, panel, w, end, tile);
                w = end;
            }
        }
        flush(work, tile);
        take_off(how_.isa, tile, work.surplus.data(), static_cast<int>(columns_));
    }

    void add_run(pending& work, const plane_pair& pair, std::uint8_t kind, std::int64_t tile_row, std::int64_t panel,
                 std::int64_t word, std::int64_t end, std::int32_t* tile) const {
        const std::int64_t row = tile_row * height_;
        const std::int64_t k = word * word_digits;
        const std::int64_t depth = std::min(end * word_digits, a_.padded_depth()) - k;
        const std::uint32_t* const before = prefix(pair.a, tile_row, word);
        const std::uint32_t* const after = prefix(pair.a, tile_row, end);
        for (std::int64_t r = 0; r < height_; ++r)
            work.surplus[static_cast<std::size_t>(r)] += digit_offset * (after[r] - before[r]);
        const sliced_run run{a_.row(pair.a, row) + k, packed(pair.b, panel) + k * columns_, depth / slice::group_digits,
                             0};
        if (kind == dense_panel) return add(work, run, tile);
        flush(work, tile);
        kernels_.sparse(run, a_.groups(pair.a, row) + word, words_, a_.row_stride(), tile);
    }

    void multiply(std::int64_t thread) {
        std::uint64_t* const sums = memory_.tiles.data() + thread * tiles_together * tile_size;
        alignas(64) std::array<std::int32_t, tile_size> tile;
        const share tiles(panels_ * tile_rows_, thread, threads_);
        for (std::int64_t index = tiles.first; index < tiles.last;) {
            const std::int64_t panel = index / tile_rows_, tile_row = index % tile_rows_;
            if (in_32_bits_) {
                if (pair_count_ == 0) {
                    tile.fill(0);
                } else {
                    compute(segments_[0], tile_row, panel, 0, words_, tile.data());
                    shift_tile(tile.data(), segments_[0].weight);
                }
                store(tile_row, panel, tile.data());
                ++index;
                continue;
            }
            const std::int64_t together =
                std::min({tiles_together, tiles.last - index, tile_rows_ - tile_row});
            std::fill_n(sums, together * tile_size, std::uint64_t{0});
            for (std::int64_t word = 0; word < words_; word += block_words_)
                for (std::int64_t t = 0; t < together; ++t)
                    for (int s = 0; s < segment_count_; ++s) {
                        const segment_of_pairs& segment = segments_[static_cast<std::size_t>(s)];
                        compute(segment, tile_row + t, panel, word, std::min(words_, word + block_words_), tile.data());
                        fold(how_.isa, tile.data(), segment.weight, sums + t * tile_size);
                    }
            for (std::int64_t t = 0; t < together; ++t)
                store(tile_row + t, panel, reinterpret_cast<std::int64_t*>(sums) + t * tile_size);
            index += together;
        }
    }

    template <class Sum>
    void store(std::int64_t tile_row, std::int64_t panel, const Sum* tile) const {
        std::array<std::int64_t, most_tile_rows> rows{};
        const std::int64_t m = tile_row * height_, n = panel * columns_;
        drain_job job;
        job.out = &out_;
        job.rows = rows.data();
        job.row_count = static_cast<int>(std::min(height_, p_.m() - m));
        job.columns = static_cast<int>(std::min(columns_, p_.n() - n));
        job.first_column = n;
        job.pitch = columns_;
        fill_offsets(out_.rows, m, job.row_count, 1, rows.data());
        job.narrow = out_.bias == nullptr && drains_narrow(out_, accumulator_bound(p_.a.width, p_.b.width, p_.k()));
        drain_sums(how_.isa, job, tile);
    }

    void count_magnitudes_of_output() const {
        const axis rows = merged(out_.rows);
        const bool together = rows.extent[2] == p_.m() && rows.stride[2] == p_.n();
        const std::int64_t runs = together ? 1 : p_.m(), length = together ? p_.m() * p_.n() : p_.n();
        for (std::int64_t m = 0; m < runs; ++m)
            count_magnitudes(out_.wide + rows.offset(m), length, *out_.seen, how_.isa, threads_);
    }

    const problem& p_;
    const output& out_;
    const settings& how_;
    sliced_memory& memory_;
    slice::sliced_matrix &a_ = memory_.a, &b_ = memory_.b;
    sliced_kernels kernels_;
    int threads_ = 1, vectors_ = 4;
    std::int64_t height_ = 0, columns_ = 0, groups_ = 0, panels_ = 0, tile_rows_ = 0, words_ = 0, block_words_ = 0;
    bool in_32_bits_ = true;
    std::array<plane_pair, slice::max_slices * slice::max_slices> pairs_{};
    std::array<segment_of_pairs, slice::max_slices * slice::max_slices> segments_{};
    int pair_count_ = 0, segment_count_ = 0;
};

}  // namespace detail

// C[m][n] = sum over k of a(m, k) x b(n, k). Throws argument_error (check.hpp).
inline void multiply_sliced(const problem& p, const output& out, const settings& how, workspace& memory) {
    check(p, out);
    if (p.m() == 0 || p.n() == 0) return;
    detail::sliced_product(p, out, how, memory.sliced).run();
}

}  // namespace lamella::gemm
