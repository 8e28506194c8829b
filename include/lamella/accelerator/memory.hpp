// Bits that a training step moves at each level of the memory, by what they are: operands as they are stored, sums at
// the width that they need, masters, moments, and what waits for the backward pass.
//
// Sourced: what training adds to inference (Han et al., OJ-SSCS 2022: activations kept until WG, transposed weights,
// optimizer state). Reconstruction: the schedule, which follows this library's arithmetic (one rounding a hop):
//
//   between layers  the wide tensor that a layer hands on goes to DRAM at the width of its sums (at most 32 bits),
//   after ReLU
//                   and pooling, and is read once by the next layer, whose quantiser stands between DRAM and buffer.
//                   Both are counted with the layer that reads. The same for errors, on the way back. The first layer
//                   reads 8-bit pixels; the last layer's WG counts what the loss moves.
//   FF              the operand made of it is written to DRAM, where WG finds it: `stored_activation`
//   WG              likewise for the error, which EP needs again; writes the exact gradient sums
//   weights         16-bit masters, quantised on their way into the buffer, in FF and again in EP (a transposed read)
//   EP              reads the mask of outputs that are alive, a bit each, which FF wrote; both are counted here
//   WU              reads gradient, master and moments, writes master and moments, past the buffer
//
// Signs of direct feedback are made beside the PEs: no traffic of theirs is counted, nor what the generator takes.
// An operand that the dataflow's tiles ask for again comes from its stored copy. What pooling remembers is not counted.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <string_view>
#include <utility>
#include <vector>

#include "dataflow.hpp"
#include "optc_cycles.hpp"
#include "ran.hpp"
#include "stored_slices.hpp"

namespace lamella::accelerator {

// What a training step moves between levels of memory, by the tensor that it belongs to.
enum class tensor_kind : std::uint8_t {
    activation,
    stored_activation,
    weight,
    error,
    partial_sum,
    wide,
    gradient,
    mask,
    optimizer_state
};
inline constexpr std::array<std::string_view, 9> tensor_kind_names{
    "activation", "stored_activation", "weight", "error", "partial_sum", "wide", "gradient", "mask", "optimizer_state"};
constexpr std::string_view name_of(tensor_kind k) noexcept { return tensor_kind_names[static_cast<std::size_t>(k)]; }

// Elements and bits.
struct traffic {
    std::uint64_t reads = 0, writes = 0, read_bits = 0, write_bits = 0;
    std::uint64_t bits() const noexcept { return read_bits + write_bits; }
    friend bool operator==(const traffic&, const traffic&) = default;
    traffic& operator+=(const traffic& o) noexcept {
        reads += o.reads;
        writes += o.writes;
        read_bits += o.read_bits;
        write_bits += o.write_bits;
        return *this;
    }
};

// Sums over GEMMs and updates.
struct memory_counts {
    std::array<std::array<traffic, 4>, 9> of{};  // [tensor][level]
    std::uint64_t transposed = 0;                // weights that EP reads from the buffer across their order

    traffic& at(tensor_kind k, memory_level l) noexcept {
        return of[static_cast<std::size_t>(k)][static_cast<std::size_t>(l)];
    }
    const traffic& at(tensor_kind k, memory_level l) const noexcept {
        return of[static_cast<std::size_t>(k)][static_cast<std::size_t>(l)];
    }
    traffic total(memory_level l) const noexcept {
        traffic sum;
        for (const auto& levels : of) sum += levels[static_cast<std::size_t>(l)];
        return sum;
    }
    friend bool operator==(const memory_counts&, const memory_counts&) = default;
    memory_counts& operator+=(const memory_counts& o) noexcept {
        for (std::size_t k = 0; k < of.size(); ++k)
            for (std::size_t l = 0; l < of[k].size(); ++l) of[k][l] += o.of[k][l];
        transposed += o.transposed;
        return *this;
    }
};

// Width of the accumulator that a GEMM's sums need on this machine, sign included.
inline int sum_bits(const gemm::gemm_event& event, const configuration& c) noexcept {
    const auto width = [&](const gemm::event_operand& o) {
        return c.products == product_kind::slices ? o.view.width : max_width;
    };
    const std::int64_t bound = gemm::accumulator_bound(width(event.a), width(event.b), event.a.view.depth.size());
    return bit_length(static_cast<std::uint64_t>(bound)) + 1;
}

// The array that a configuration's cores and lanes make for a GEMM. Output-stationary takes the shape that the cores
// have been given (ran.hpp; cores that share plane pairs count as one); the others a grid of lanes by cores.
inline tiling tiling_of(const configuration& c, const datapath_view& v, std::int64_t filter_rows) {
    tiling t;
    t.buffer_rows = c.buffer_rows;
    t.buffer_partners = c.buffer_partners;
    t.buffer_depth = c.buffer_depth;
    t.array_partners = c.cores;
    if (c.flow == dataflow::output_stationary) {
        const ran_mapping map(c, v);
        t.array_rows = std::int64_t{map.clusters} * c.lanes;
        t.array_partners = map.outputs;
        t.array_depth = map.inputs;
        t.sums = c.sums_a_lane;
    } else if (c.flow == dataflow::row_stationary) {
        t.array_depth = std::min<std::int64_t>(c.lanes, filter_rows);
        t.array_rows = c.lanes / t.array_depth;
    } else {
        t.array_depth = c.lanes;
    }
    return t;
}

// Counts GEMM by GEMM, in the order of a training step. Remembers what one layer leaves to the next.
class memory_model {
  public:
    static constexpr std::uint64_t pixel_bits = 8, loss_bits = 32, master_bits = optc_weight_width;

    // Throws argument_error for a configuration that validated() refuses.
    explicit memory_model(configuration c) : how_(std::move(c)) { validated(how_); }

    // `products` and `outputs` are the datapath's for this GEMM, `operands` the census of a and b. Valid until the next
    // call.
    const memory_counts& count(const gemm::gemm_event& event, bool a_streams,
                               const std::array<slice_census, 2>& operands, std::uint64_t products,
                               std::uint64_t outputs) {
        counts_ = {};
        // A layer's stage may be several GEMMs: the input classes of a stride, groups of channels.
        const bool first = event.step != step_ || event.layer != layer_ || event.where != where_;
        step_ = event.step;
        layer_ = event.layer;
        where_ = event.where;
        const bool rows_slide = how_.flow == dataflow::row_stationary;  // in WG along the activations, else along a
        const bool a_moves = rows_slide ? event.where != stage::weight_gradient : a_streams;
        const gemm_accesses n = loops_of(event, a_streams, a_moves).count(products, outputs);
        const stored_bits a = store(operands[0], how_), b = store(operands[1], how_);
        operand(event, event.a, a, a_moves ? n.moving : n.resident, !a_moves);
        operand(event, event.b, b, a_moves ? n.resident : n.moving, a_moves);
        const auto width = static_cast<std::uint64_t>(sum_bits(event, how_));
        for (std::size_t l = 0; l < n.sums.size(); ++l) {
            access_count sums = n.sums[l];
            if (l == static_cast<std::size_t>(memory_level::dram)) sums.writes -= outputs;  // results: hand_over
            move(tensor_kind::partial_sum, static_cast<memory_level>(l), sums.reads, sums.writes, width);
        }
        hand_over(event, a, outputs, width, first);
        return counts_;
    }

    // The update of a layer after its WG; `moments` as in optc_update.
    const memory_counts& update(int layer, std::uint64_t elements, int moments) {
        counts_ = {};
        move(tensor_kind::gradient, memory_level::dram, elements, 0,
             gradient_bits_.at(static_cast<std::size_t>(layer)));
        move(tensor_kind::weight, memory_level::dram, elements, elements, master_bits);
        const optc_counts own = optc_update(elements, moments, how_), plain = optc_update(elements, 0, how_);
        move(tensor_kind::optimizer_state, memory_level::dram, elements, elements,
             elements == 0 ? 0 : (own.written_bits - plain.written_bits) / elements);
        return counts_;
    }

  private:
    struct known_loops {
        detail::event_plan::shape of;
        bool a_moves;
        tiling tiles;
        gemm_loops loops;
    };
    const gemm_loops& loops_of(const gemm::gemm_event& event, bool a_streams, bool a_moves) {
        const gemm::event_operand &moving = a_moves ? event.a : event.b, &resident = a_moves ? event.b : event.a;
        const std::int64_t filter_rows = moving.view.depth.size() / moving.view.depth.extent[2];
        const tiling tiles = tiling_of(how_, datapath_view(event, how_, a_streams), filter_rows);
        const detail::event_plan::shape of = detail::event_plan::shape_of(event);
        for (const known_loops& k : known_)
            if (k.a_moves == a_moves && k.tiles == tiles && k.of == of) return k.loops;
        return known_.emplace_back(known_loops{of, a_moves, tiles, gemm_loops(moving, resident, how_.flow, tiles)})
            .loops;
    }

    void move(tensor_kind k, memory_level l, std::uint64_t reads, std::uint64_t writes, std::uint64_t width) {
        counts_.at(k, l) += {reads, writes, reads * width, writes * width};
    }

    void operand(const gemm::gemm_event& event, const gemm::event_operand& o, const stored_bits& bits,
                 const std::array<access_count, 4>& n, bool resident) {
        if (event.generated && &o == &event.b) return;
        const tensor_kind kind = o.what == role::weight  ? tensor_kind::weight
                                 : o.what == role::error ? tensor_kind::error
                                                         : tensor_kind::activation;
        const auto [registers, network, buffer, dram] = n;
        const auto digit = static_cast<std::uint64_t>(digit_bits(how_));
        // What is fetched for a product is one slice.
        const bool sent_a_product =
            resident && (how_.flow == dataflow::output_stationary || how_.flow == dataflow::no_local_reuse);
        const bool read_a_product = resident && how_.flow == dataflow::no_local_reuse;
        counts_.at(kind, memory_level::registers) +=
            {registers.reads, registers.writes, registers.reads * digit, bits.of_reads(registers.writes)};
        counts_.at(kind, memory_level::network) +=
            {network.reads, 0, sent_a_product ? network.reads * digit : bits.of_reads(network.reads), 0};
        std::uint64_t read_bits = read_a_product ? buffer.reads * digit : bits.of_reads(buffer.reads);
        if (event.where == stage::error_propagation && kind == tensor_kind::weight) {
            counts_.transposed += buffer.reads;
            if (!how_.transposable)
                read_bits = std::max(read_bits, buffer.reads * static_cast<std::uint64_t>(how_.word_bits));
        }
        counts_.at(kind, memory_level::buffer) +=
            {buffer.reads, buffer.writes, read_bits, bits.of_elements(buffer.writes)};

        if (kind == tensor_kind::weight) return move(kind, memory_level::dram, dram.reads, 0, master_bits);
        const bool made_here =
            event.where == stage::feed_forward || (event.where == stage::weight_gradient && kind == tensor_kind::error);
        const std::uint64_t again = made_here ? dram.reads - std::min(dram.reads, bits.touched) : dram.reads;
        const tensor_kind stored = event.where == stage::weight_gradient && kind == tensor_kind::activation
                                       ? tensor_kind::stored_activation
                                       : kind;
        counts_.at(stored, memory_level::dram) += {again, 0, bits.of_elements(again), 0};
    }

    void hand_over(const gemm::gemm_event& event, const stored_bits& a, std::uint64_t outputs, std::uint64_t width,
                   bool first) {
        const std::uint64_t result = std::min<std::uint64_t>(32, width);
        if (event.where == stage::feed_forward) {
            if (!first) return;
            error_left_ = false;
            if (event.layer == 0)
                move(tensor_kind::wide, memory_level::dram, a.elements, 0, pixel_bits);
            else
                move(tensor_kind::wide, memory_level::dram, a.elements, a.elements, forward_bits_);
            counts_.at(tensor_kind::stored_activation, memory_level::dram) += {0, a.elements, 0, a.all};
            forward_bits_ = result;
        } else if (event.where == stage::weight_gradient) {
            move(tensor_kind::gradient, memory_level::dram, 0, outputs, width);
            if (!first) return;
            if (!error_left_) {  // the last layer: logits out and in, errors out and in
                move(tensor_kind::wide, memory_level::dram, a.elements, a.elements, forward_bits_);
                error_elements_ = a.elements;
                error_bits_ = loss_bits;
                move(tensor_kind::wide, memory_level::dram, 0, a.elements, loss_bits);
            }
            move(tensor_kind::wide, memory_level::dram, error_elements_, 0, error_bits_);
            if (event.layer > 0) counts_.at(tensor_kind::error, memory_level::dram) += {0, a.elements, 0, a.all};
            gradient_bits_.resize(std::max(gradient_bits_.size(), static_cast<std::size_t>(event.layer) + 1));
            gradient_bits_[static_cast<std::size_t>(event.layer)] = width;
        } else {
            if (first) error_elements_ = 0;
            error_left_ = true;
            error_elements_ += outputs;
            error_bits_ = result;
            move(tensor_kind::wide, memory_level::dram, 0, outputs, result);
            if (event.gate != nullptr) {
                const auto gates = static_cast<std::uint64_t>(event.a.view.rows.size() * event.b.view.rows.size());
                move(tensor_kind::mask, memory_level::dram, gates, gates, 1);
            }
        }
    }

    configuration how_;
    memory_counts counts_;
    std::deque<known_loops> known_;
    std::uint64_t forward_bits_ = 0;                     // of the wide tensor that the layer before has left
    std::uint64_t error_elements_ = 0, error_bits_ = 0;  // of the error that EP has left
    bool error_left_ = false;
    std::uint64_t step_ = ~std::uint64_t{0};  // of the GEMM before
    int layer_ = -1;
    stage where_ = stage::feed_forward;
    std::vector<std::uint64_t> gradient_bits_;  // of each layer
};

}  // namespace lamella::accelerator
