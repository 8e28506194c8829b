// The three GEMMs of a layer in integers: quantise the operands, multiply, drain.
//
//   FF  out  = activation x weight + bias       operands at the layer's activation and weight widths
//   EP  in_error = error x weight                error at the error width
//       with direct feedback (feedback.hpp): output error x random matrix
//   WG  gradient = error x activation            exact int64 sums
//
// All three read the same stored operands through views (gemm/operation.hpp): patches, transposes and shifted errors
// are axis nests, so nothing is gathered or transposed in memory. One rounding a hop: a wide tensor is rounded here,
// where it is consumed, and nowhere else. LAPS' probes run here too, since only this place has the wide tensors.
//
// Read next, in this order: fixed_product_definition.hpp, the GEMMs themselves; fixed_operands.hpp, how operands are
// made; fixed_views.hpp, how they are read; fixed_probes.hpp.
#pragma once

#include <algorithm>
#include <cstdint>

#include "active_samples.hpp"
#include "channel_sums.hpp"
#include "fixed.hpp"

namespace lamella::nn {

class fixed::product {
  public:
    // `layer` is the ordinal for controllers and observers, `key` that of the random bits. Throws argument_error when
    // sums at the controller's largest width could pass 2^62, half of it left to the bias.
    void build(engine& e, const geometry& g, int layer, std::uint16_t key);
    void forward(engine& e, tensor& in, const fixed_parameter& weight, const fixed_parameter& bias, tensor& out);
    // Leaves the sums over the batch in the parameters' gradients; fills in_error unless it is null.
    void backward(engine& e, const tensor& in, tensor& error, fixed_parameter& weight, fixed_parameter& bias,
                  tensor* in_error);
    void halve() noexcept { running_.halve(); }
    void visit(state_visitor& visitor) { running_.visit(visitor); }

  private:
    using widths_t = precision::layer_widths;

    // Mantissas of an operand, int8 or int16 by its width, contiguous or with a border of zeros around each image.
    struct operand {
        buffer<std::int8_t> bytes, bordered;  // two bytes an element are reserved, so that a width change takes none
        const std::int8_t* data = nullptr;
        int width = 8, exponent = 0, dropped = 0;
        bool zero = true;
        clip_counts clips;
        int unit() const noexcept { return width <= byte_width ? 1 : 2; }  // bytes an element
        const void* at(std::int64_t element) const noexcept { return data + element * unit(); }
    };
    // Zeros around each image of an operand, in pixels.
    struct border {
        std::int64_t top = 0, bottom = 0, left = 0, right = 0;
        bool none() const noexcept { return top + bottom + left + right == 0; }
    };

    // --- the backward GEMMs ------------------------------------------------------------------------------------------

    // Leaves samples without an error out of the backward GEMMs where that pays. Events tell of the whole batch.
    void choose_samples(const engine& e, std::int64_t samples);
    void weight_gradient(engine& e, std::int64_t samples, const tensor& error, fixed_parameter& weight,
                         fixed_parameter& bias);
    void propagate(engine& e, const tensor& in, const tensor& error, tensor& in_error);
    void propagate(engine& e, const tensor& in, const tensor& error, tensor& in_error, int shift, std::int64_t group);
    // EP of direct feedback: the output's error, rounded for this layer, times the layer's random signs.
    void project(engine& e, const tensor& in, tensor& in_error);

    // --- operands (fixed_operands.hpp) -------------------------------------------------------------------------------

    void quantise_activation(engine& e, tensor& in);
    void quantise_weight(engine& e, const fixed_parameter& weight);
    void quantise_error(engine& e, tensor& error);
    void choose(const engine& e, operand& o, role what, const radix_policy& policy, const histogram& seen, int exponent,
                int width, rounding mode, std::uint16_t draw) const;
    std::uint16_t allowance_draw(const engine& e, role what) const {
        return random_16(e.site(key_, stream::allowance), 0, static_cast<std::uint64_t>(what));
    }
    // Quantises `samples` images of a wide tensor into o at o.width, dropping o.dropped bits, and adds the border.
    void store(const engine& e, operand& o, const std::int32_t* wide, std::int64_t samples, const image_shape& shape,
               rounding mode, stream use, const border& edge) const;
    void store_weight(const engine& e, operand& o, const fixed_parameter& weight, rounding mode) const;
    static void add_border(operand& o, std::int64_t samples, const image_shape& s, const border& edge);
    border input_border() const noexcept {
        return {geometry_.padding, geometry_.padding, geometry_.padding, geometry_.padding};
    }
    border error_padding() const noexcept;
    // Bias in units of 2^exponent, left exact, right nearest; returns the largest magnitude. A bias beyond 2^61 units
    // (activations smaller than it by more than 45 bits) saturates.
    std::int64_t align(const fixed_parameter& bias, int exponent);

    // --- views and events (fixed_views.hpp) --------------------------------------------------------------------------

    gemm::operand_view patches(const operand& o, std::int64_t samples, std::int64_t group) const;
    gemm::problem forward_problem(const operand& a, const operand& w, std::int64_t samples, std::int64_t group) const;
    gemm::problem gradient_problem(const operand& err, const operand& a, std::int64_t samples,
                                   std::int64_t group) const;
    static gemm::stored_images images(const operand& o, std::int64_t samples, const image_shape& s,
                                      const border& edge) {
        return {o.data, samples, s.height, s.width, s.channels, edge.top, edge.bottom, edge.left, edge.right};
    }
    gemm::gemm_event describe(const engine& e, stage where, const gemm::problem& p, std::int64_t samples, bool probe,
                              const tensor* from) const;

    // --- probes (fixed_probes.hpp) -----------------------------------------------------------------------------------

    static constexpr std::int64_t probe_rows = 1024;  // the first ones are compared
    std::int64_t probe_samples(std::int64_t samples) const noexcept {
        return std::min(samples, (probe_rows + geometry_.out_pixels() - 1) / geometry_.out_pixels());
    }
    bool probed(const engine& e, stage where) const noexcept {
        return e.training && e.probe && e.probe->layer == layer_ && e.probe->where == where;
    }
    void reserve_probes(std::int64_t samples);
    void at_width(operand& o, const operand& present, int width) const;
    void probe_forward(engine& e, const tensor& in, const fixed_parameter& weight);
    void probe_error(engine& e, std::int64_t samples, const tensor& error);
    void probe_multiply(engine& e, stage where, const gemm::problem& p, std::int64_t samples, std::int64_t row,
                        std::int64_t* result);
    void compare(engine& e, std::int64_t count, int shift);

    geometry geometry_;
    int layer_ = 0;
    std::uint16_t key_ = 0;
    border ep_;  // around the quantised error; none when no error is propagated
    widths_t widths_;
    operand activation_, weight_, error_, probe_a_, probe_w_, active_error_, active_input_, output_error_;
    detail::active_samples active_;
    std::int64_t multiplied_ = 0;  // samples in the backward GEMMs
    histogram weight_seen_;        // of the master weights; the maximum alone when no more is needed
    gemm::operand_source weight_source_;
    running_histogram running_;
    buffer<std::int64_t> aligned_, high_, low_;
    detail::channel_sums channel_sums_;
};

}  // namespace lamella::nn

#if !LAMELLA_SEPARATE
#include "fixed_product_definition.hpp"
#endif
