// A zero-skipping bit-slice accelerator as data: the sizes of its blocks and what they may skip. Start here, then read
// datapath.hpp (what is counted), ioss.hpp (cores), ran.hpp (the tree that merges and drains), optc_cycles.hpp,
// control.hpp.
//
// Sourced (abstracts of COOL CHIPS 2021, JSSC 2021 and IEEE Micro 2022, Han et al.): a slice-level reconfigurable core
// that skips zero slices "in-out", a double-buffered aggregation network of adaptive bandwidth that keeps cores busy at
// every width, one optimizer core for momentum and Adam; iterative channel reordering in the sequel.
// Ours: every number here, and how the blocks work inside. None of it is the authors' design.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../core/errors.hpp"
#include "../slice/encoding.hpp"

namespace lamella::accelerator {

// How the positions of non-zero slices are stored. Changes traffic, never cycles.
enum class index_format : std::uint8_t { bitmap, run_length };
// How the rows of a tile are dealt to lanes: in turn; longest first by their own cycles; longest first by those that
// the same rows took in the step before.
enum class lane_balance : std::uint8_t { none, greedy, iterative };
// What the cores share among them (ran.hpp).
enum class dimension : std::uint8_t { plane_pairs, output_channels, input_channels, batch };
// A sum beyond the accumulator: counted only, or also cut to the accumulator's bits.
enum class overflow : std::uint8_t { report, wrap };
// What stays in a PE (dataflow.hpp).
enum class dataflow : std::uint8_t { weight_stationary, output_stationary, row_stationary, no_local_reuse };
// What one product is: a slice product at the present widths; the same with every operand cut as 16 bits; or a
// product of whole 16-bit mantissas (the two dense baselines, when nothing is skipped).
enum class product_kind : std::uint8_t { slices, sixteen_bit_slices, native };

inline constexpr std::array<std::string_view, 2> index_format_names{"bitmap", "run-length"};
inline constexpr std::array<std::string_view, 3> lane_balance_names{"none", "greedy", "iterative"};
inline constexpr std::array<std::string_view, 4> dimension_names{"plane-pairs", "output-channels", "input-channels",
                                                                 "batch"};
inline constexpr std::array<std::string_view, 2> overflow_names{"report", "wrap"};
inline constexpr std::array<std::string_view, 4> dataflow_names{"weight-stationary", "output-stationary",
                                                                "row-stationary", "no-local-reuse"};
inline constexpr std::array<std::string_view, 3> product_kind_names{"slices", "sixteen-bit-slices", "native"};
constexpr std::string_view name_of(index_format f) noexcept { return index_format_names[static_cast<std::size_t>(f)]; }
constexpr std::string_view name_of(lane_balance b) noexcept { return lane_balance_names[static_cast<std::size_t>(b)]; }
constexpr std::string_view name_of(dimension d) noexcept { return dimension_names[static_cast<std::size_t>(d)]; }
constexpr std::string_view name_of(overflow o) noexcept { return overflow_names[static_cast<std::size_t>(o)]; }
constexpr std::string_view name_of(dataflow d) noexcept { return dataflow_names[static_cast<std::size_t>(d)]; }
constexpr std::string_view name_of(product_kind p) noexcept { return product_kind_names[static_cast<std::size_t>(p)]; }

// Most cores that a configuration may have.
inline constexpr int max_cores = 64;

// An accelerator, with every choice that its counts depend on; `validated` says what is allowed together.
struct configuration {
    std::string name = "hnpu";
    int cores = 16;         // a power of two up to 64: the leaves of a binary tree
    int lanes = 16;         // of a core, 1..256; each walks one row of the streamed operand
    int multipliers = 4;    // slice multipliers of a lane, 1..1024
    int rows_a_lane = 8;    // rows that a lane walks before all lanes meet, 1..256; a tile has lanes x rows_a_lane rows
    int window = 16;        // digits that the zero detector sees at once, aligned; a power of two up to 64
    index_format index = index_format::bitmap;
    int run_bits = 4;       // of a run length, 1..16
    bool input_skip = true;   // zero slices of the streamed operand are not issued
    bool output_skip = true;  // outputs that nothing needs are not computed
    lane_balance balance = lane_balance::greedy;
    int banks = 2;          // of accumulators, 1..8; with one, nothing overlaps
    int drain_width = 4;    // outputs a cycle that leave one core's port of the tree, 1..4096
    std::array<dimension, 4> order{dimension::batch, dimension::output_channels, dimension::plane_pairs,
                                   dimension::input_channels};  // filled first to last; each once
    int accumulator_bits = 48;  // 8..64
    accelerator::overflow overflow = accelerator::overflow::report;
    int native_multipliers =
        4;  // 16-bit multipliers of a core in the native baseline, 1..256: one for each of its lanes
    product_kind products = product_kind::slices;
    slice::encoding encoding = slice::encoding::sign_magnitude;
    int optc_lanes = 16;    // elements that the optimizer core takes up a cycle, 1..4096
    int clock_mhz = 200;    // only to turn cycles into time, 1..10000
    // Memory ("dataflow" in files): changes accesses, never cycles.
    accelerator::dataflow flow = accelerator::dataflow::output_stationary;
    int register_bytes = 128;   // of a lane's register file, 1..65536
    int sums_a_lane = 16;       // partners whose sums a lane holds, output-stationary, 1..4096
    int buffer_kbytes = 512;    // on the chip, 1..65536
    int buffer_rows = 512, buffer_partners = 64, buffer_depth = 192;  // of the tile in it, 1..65536
    int word_bits = 32;         // of the buffer, 8..1024
    bool transposable = true;   // reads a column of weights as cheaply as a row; otherwise each element costs a word
    int dram_bits_a_cycle = 128;  // 1..65536

    int tile_rows() const noexcept { return lanes * rows_a_lane; }
    int all_multipliers() const noexcept { return cores * lanes * multipliers; }
    friend bool operator==(const configuration&, const configuration&) = default;
};

// Calls visit(name, value, lowest, highest) for every number of a configuration; in the order of a configuration file.
template <class Configuration, class Visit>
void each_number(Configuration& c, Visit&& visit) {
    visit("cores", c.cores, 1, max_cores);
    visit("lanes", c.lanes, 1, 256);
    visit("multipliers", c.multipliers, 1, 1024);
    visit("rows_a_lane", c.rows_a_lane, 1, 256);
    visit("window", c.window, 1, 64);
    visit("run_bits", c.run_bits, 1, 16);
    visit("banks", c.banks, 1, 8);
    visit("drain_width", c.drain_width, 1, 4096);
    visit("accumulator_bits", c.accumulator_bits, 8, 64);
    visit("native_multipliers", c.native_multipliers, 1, 256);
    visit("optc_lanes", c.optc_lanes, 1, 4096);
    visit("clock_mhz", c.clock_mhz, 1, 10000);
    visit("register_bytes", c.register_bytes, 1, 65536);
    visit("sums_a_lane", c.sums_a_lane, 1, 4096);
    visit("buffer_kbytes", c.buffer_kbytes, 1, 65536);
    visit("buffer_rows", c.buffer_rows, 1, 65536);
    visit("buffer_partners", c.buffer_partners, 1, 65536);
    visit("buffer_depth", c.buffer_depth, 1, 65536);
    visit("word_bits", c.word_bits, 8, 1024);
    visit("dram_bits_a_cycle", c.dram_bits_a_cycle, 1, 65536);
}

// Returns c. Throws argument_error, naming the field, for a number out of its range, an order that is none, and tiles
// or sums that do not fit their memory.
inline const configuration& validated(const configuration& c) {
    each_number(c, require_between);
    if (!std::has_single_bit(static_cast<unsigned>(c.cores)))
        throw argument_error("cores", "a power of two", std::to_string(c.cores));
    if (!std::has_single_bit(static_cast<unsigned>(c.window)))
        throw argument_error("window", "a power of two", std::to_string(c.window));
    auto sorted = c.order;
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t i = 0; i < sorted.size(); ++i)
        if (sorted[i] != static_cast<dimension>(i))
            throw argument_error("order", "plane-pairs, output-channels, input-channels and batch, each once",
                                 "one that lacks " + std::string(dimension_names[i]));
    const auto wide = [](int x) { return static_cast<std::int64_t>(x); };
    const std::int64_t tile = wide(c.buffer_rows + c.buffer_partners) * c.buffer_depth * max_width +
                              wide(c.buffer_rows) * c.buffer_partners * c.accumulator_bits;
    if (tile > wide(c.buffer_kbytes) * 8192)
        throw argument_error("buffer_kbytes",
                             "room for a tile of " + std::to_string(tile) + " bits, operands of 16 bits",
                             std::to_string(wide(c.buffer_kbytes) * 8192) + " bits");
    if (c.flow == dataflow::output_stationary && wide(c.sums_a_lane) * c.accumulator_bits > wide(c.register_bytes) * 8)
        throw argument_error("register_bytes", "room for sums_a_lane sums of accumulator_bits",
                             std::to_string(c.register_bytes));
    return c;
}

// Reconstruction: the public abstracts give blocks and purposes, no sizes. 1 024 slice multipliers; the native baseline
// has 64 of 16 bits, each of which does the work of sixteen.
inline configuration hnpu() { return {}; }

// The dense machines that gains are measured against, every operand of 16 bits and nothing skipped: sixteen slice
// products for each pair of mantissas on the same array, or one product on the native multipliers. The native lanes
// share out the same tiles, and no multiplier of theirs is left over when partners are few.
inline configuration dense_16_slices(configuration c) {
    c.products = product_kind::sixteen_bit_slices;
    c.input_skip = c.output_skip = false;
    c.balance = lane_balance::none;
    return c;
}
inline configuration dense_16_native(configuration c) {
    c = dense_16_slices(std::move(c));
    c.products = product_kind::native;
    c.rows_a_lane = std::clamp(c.tile_rows() / c.native_multipliers, 1, 256);
    c.lanes = c.native_multipliers;
    c.multipliers = 1;
    return c;
}
// At the widths that training chose, nothing skipped.
inline configuration dense_present(configuration c) {
    c = dense_16_slices(std::move(c));
    c.products = product_kind::slices;
    return c;
}

// A configuration under the name that a report shows it by.
struct machine {
    std::string name;
    configuration how;
};
// From the dense baselines to c, one thing more at a time.
inline std::vector<machine> ladder(const configuration& c) {
    configuration input = dense_present(c), both, balanced;
    input.input_skip = true;
    both = input;
    both.output_skip = true;
    balanced = both;
    balanced.balance = c.balance == lane_balance::none ? lane_balance::greedy : c.balance;
    return {{"dense 16 bit, native multiplier", dense_16_native(c)},
            {"dense 16 bit, slice by slice", dense_16_slices(c)},
            {"dense at the widths chosen", dense_present(c)},
            {"+ input skip", input},
            {"+ output skip", both},
            {"+ balance (" + std::string(name_of(balanced.balance)) + ")", balanced}};
}

}  // namespace lamella::accelerator
