// The three GEMMs of a layer in integers: quantise the operands, multiply, drain.
//
//   FF  out  = activation x weight + bias       operands at the layer's activation and weight widths
//   EP  in_error = error x weight                error at the error width
//       with direct feedback (feedback.hpp): output error x random matrix
//   WG  gradient = error x activation            exact int64 sums
//
// All three read the same stored operands through views (gemm/operation.hpp): patches, transposes and shifted errors are
// axis nests, so nothing is gathered or transposed in memory. One rounding a hop: a wide tensor is rounded here, where
// it is consumed, and nowhere else. LAPS' probes run here too, since only this place has the wide tensors.
#pragma once

#include <algorithm>
#include <cstring>

#include "../core/largest.hpp"
#include "../core/rounding.hpp"
#include "active_samples.hpp"
#include "channel_sums.hpp"
#include "fixed.hpp"

namespace lamella::nn {

class fixed::product {
  public:
    // `layer` is the ordinal for controllers and observers, `key` that of the random bits. Throws argument_error when
    // sums at the controller's largest width could pass 2^62, half of it left to the bias.
    void build(engine& e, const geometry& g, int layer, std::uint16_t key) {
        geometry_ = g;
        layer_ = layer;
        key_ = key;
        e.controller->layer_built(layer, g.weights());
        const int ceiling = e.controller->ceiling();
        const std::int64_t most = gemm::largest_bound / 2 / gemm::accumulator_bound(ceiling, ceiling, 1);
        for (const std::int64_t depth : {g.depth(), g.error_depth(), g.out_pixels()})
            if (depth > most)
                throw argument_error("layer " + std::to_string(layer) + " depth",
                                     "at most " + std::to_string(most) + " products of " + std::to_string(ceiling) + " bits",
                                     std::to_string(depth));
    }

    void forward(engine& e, tensor& in, const fixed_parameter& weight, const fixed_parameter& bias, tensor& out) {
        const geometry& g = geometry_;
        widths_ = e.controller->widths(layer_);
        quantise_activation(e, in);
        quantise_weight(e, weight);

        const bool empty = activation_.zero || weight_.zero;
        const int exponent = empty ? bias.exponent : activation_.exponent + weight_.exponent;
        const std::int64_t largest_bias = align(bias, exponent);
        const std::int64_t bound =
            gemm::accumulator_bound(widths_.activation, widths_.weight, g.depth(), largest_bias);
        const int shift = wide_shift(bound);

        out.reshape(in.samples, g.out);
        out.exponent = exponent + shift;
        out.bits = std::min(31, bit_length(static_cast<std::uint64_t>(empty ? largest_bias : bound)));
        for (std::int64_t group = 0; group < g.groups; ++group) {
            const gemm::problem p = forward_problem(activation_, weight_, in.samples, group);
            gemm::output to;
            to.rows = gemm::axis::linear(p.m(), g.out.channels);
            to.wide = out.data.data() + group * g.out_part();
            to.bias = aligned_.empty() ? nullptr : aligned_.data() + group * g.out_part();
            to.largest_bias = largest_bias;
            to.shift = shift;
            // Observers come first, while the operands are still in the cache.
            if (e.observed()) e.notify(describe(e, stage::feed_forward, p, in.samples, false, &in));
            gemm::multiply(p, to, e.options.kernels, e.workspace);
        }
        if (e.training) reserve_probes(in.samples);
        if (probed(e, stage::feed_forward)) probe_forward(e, in, weight);
    }

    // Leaves the sums over the batch in the parameters' gradients; fills in_error unless it is null.
    void backward(engine& e, const tensor& in, tensor& error, fixed_parameter& weight, fixed_parameter& bias,
                  tensor* in_error) {
        const bool direct = e.options.feedback == feedback::direct;
        ep_ = in_error != nullptr && !direct ? error_padding() : border{};
        quantise_error(e, error);
        choose_samples(e, in.samples);
        weight_gradient(e, in.samples, error, weight, bias);
        if (probed(e, stage::error_propagation)) probe_error(e, in.samples, error);
        if (in_error == nullptr) return;
        if (direct)
            project(e, in, *in_error);
        else
            propagate(e, in, error, *in_error);
    }

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
        const void* at(std::int64_t element) const noexcept { return data + element * (width <= byte_width ? 1 : 2); }
    };
    // Zeros around each image of an operand, in pixels.
    struct border {
        std::int64_t top = 0, bottom = 0, left = 0, right = 0;
        bool none() const noexcept { return top + bottom + left + right == 0; }
    };

    // Bits that the wide tensor of accumulators up to `bound` drops: max(0, bit length - 31), and one more when the bound
    // itself would round up to 2^31.
    static int wide_shift(std::int64_t bound) noexcept {
        const int shift = std::max(0, bit_length(static_cast<std::uint64_t>(bound)) - 31);
        return round_nearest(bound, shift) >> 31 == 0 ? shift : shift + 1;
    }

    void choose(const engine& e, operand& o, role what, const radix_policy& policy, const histogram& seen, int exponent,
                int width, rounding mode, std::uint16_t draw) const {
        o.width = width;
        o.zero = seen.maximum == 0;
        const std::optional<int> given = e.controller->exponent(layer_, what);
        o.dropped = o.zero ? 0 : given ? *given - exponent : dropped_bits(policy, seen, width, mode, draw);
        o.exponent = o.zero ? 0 : exponent + o.dropped;
    }

    std::uint16_t allowance_draw(const engine& e, role what) const {
        return random_16(e.site(key_, stream::allowance), 0, static_cast<std::uint64_t>(what));
    }

    // Beyond these, every bit is clipped or lost anyway.
    static int storable(int dropped) noexcept { return std::clamp(dropped, -31, 48); }

    // Quantises `samples` images of a wide tensor into o at o.width, dropping o.dropped bits, and adds the border.
    void store(const engine& e, operand& o, const std::int32_t* wide, std::int64_t samples, const image_shape& shape,
               rounding mode, stream use, const border& edge) const {
        o.bytes.resize(static_cast<std::size_t>(2 * samples * shape.size()));
        const quantise_job job{
            wide, samples, shape.size(), storable(o.dropped), o.width, mode, e.site(key_, use), e.first_position};
        o.clips = quantise(job, o.bytes.data(), e.isa(), e.threads());
        o.data = o.bytes.data();
        if (!edge.none()) add_border(o, samples, shape, edge);
    }

    static void add_border(operand& o, std::int64_t samples, const image_shape& s, const border& edge) {
        const std::int64_t unit = o.width <= byte_width ? 1 : 2;
        const std::int64_t height = s.height + edge.top + edge.bottom, width = s.width + edge.left + edge.right;
        o.bordered.resize(static_cast<std::size_t>(2 * samples * height * width * s.channels));
        const std::int64_t pixel = s.channels * unit, row = s.width * pixel;
        std::int8_t* to = o.bordered.data();
        const std::int8_t* from = o.bytes.data();
        const auto zeros = [&](std::int64_t count) {
            std::memset(to, 0, static_cast<std::size_t>(count * pixel));
            to += count * pixel;
        };
        for (std::int64_t i = 0; i < samples; ++i) {
            zeros(edge.top * width + edge.left);
            for (std::int64_t y = 0; y < s.height; ++y, from += row) {
                std::memcpy(to, from, static_cast<std::size_t>(row));
                to += row;
                zeros(y + 1 < s.height ? edge.right + edge.left : edge.right);
            }
            zeros(edge.bottom * width);
        }
        o.data = o.bordered.data();
    }

    border input_border() const noexcept {
        return {geometry_.padding, geometry_.padding, geometry_.padding, geometry_.padding};
    }
    // EP reads errors at (input + padding - tap) / stride: the zeros that this reaches outside the error image.
    border error_padding() const noexcept {
        const geometry& g = geometry_;
        const auto before = [&](std::int64_t kernel) { return (kernel - 1 - g.padding) / g.stride; };
        const auto after = [&](std::int64_t in, std::int64_t out) {
            return std::max<std::int64_t>(0, (in - 1 + g.padding) / g.stride - (out - 1));
        };
        return {before(g.kernel_height), after(g.in.height, g.out.height), before(g.kernel_width),
                after(g.in.width, g.out.width)};
    }

    void quantise_activation(engine& e, tensor& in) {
        if (e.training) {
            e.count(in);
            running_.add(in.seen, in.exponent);
            choose(e, activation_, role::activation, e.options.activation, in.seen, in.exponent, widths_.activation,
                   e.options.activation_rounding, allowance_draw(e, role::activation));
            store(e, activation_, in.data.data(), in.samples, geometry_.in, e.options.activation_rounding,
                  stream::activation, input_border());
            return;
        }
        if (e.calibrating) {
            e.count(in);
            running_.add(in.seen, in.exponent);
        }
        if (running_.empty())
            throw error("evaluation needs a network that was trained for at least one step, or calibrated");
        int exponent = 0;
        const histogram seen = running_.at(exponent);
        radix_policy policy = e.options.activation;
        policy.allowance = 0;
        choose(e, activation_, role::activation, policy, seen, exponent, widths_.activation, rounding::nearest, 0);
        // What was nothing but zero in training stays zero: there is no exponent for it.
        activation_.dropped = activation_.zero ? 48 : activation_.exponent - in.exponent;
        store(e, activation_, in.data.data(), in.samples, geometry_.in, rounding::nearest, stream::activation,
              input_border());
    }

    void quantise_weight(engine& e, const fixed_parameter& weight) {
        weight_seen_ = histogram{};
        const auto count = static_cast<std::int64_t>(weight.mantissa.size());
        weight_source_ = {nullptr, weight.mantissa.data(), count, weight.exponent};
        radix_policy policy = e.options.weight;
        if (policy.rule == radix_rule::no_overflow && !e.observed())  // nobody looks at anything else
            weight_seen_.maximum = static_cast<std::uint32_t>(largest_magnitude(e.isa(), weight.mantissa.data(), count));
        else
            count_magnitudes(weight.mantissa.data(), count, weight_seen_, e.isa(), e.threads());
        if (!e.training) policy.allowance = 0;
        const rounding mode = e.training ? e.options.weight_rounding : rounding::nearest;
        choose(e, weight_, role::weight, policy, weight_seen_, weight.exponent, widths_.weight, mode,
               allowance_draw(e, role::weight));
        store_weight(e, weight_, weight, mode);
    }

    void store_weight(const engine& e, operand& o, const fixed_parameter& weight, rounding mode) const {
        const auto count = static_cast<std::int64_t>(weight.mantissa.size());
        o.bytes.resize(static_cast<std::size_t>(2 * count));
        const basic_quantise_job<std::int16_t> job{
            weight.mantissa.data(), 1, count, storable(o.dropped), o.width, mode, e.site(key_, stream::weight), 0};
        o.clips = quantise(job, o.bytes.data(), e.isa(), e.threads());
        o.data = o.bytes.data();
    }

    void quantise_error(engine& e, tensor& error) {
        e.count(error);
        choose(e, error_, role::error, e.options.error, error.seen, error.exponent, widths_.error, e.options.error_rounding,
               allowance_draw(e, role::error));
        store(e, error_, error.data.data(), error.samples, geometry_.out, e.options.error_rounding, stream::error, ep_);
    }

    // Bias in units of 2^exponent, left exact, right nearest; returns the largest magnitude. A bias beyond 2^61 units
    // (activations smaller than it by more than 45 bits) saturates.
    std::int64_t align(const fixed_parameter& bias, int exponent) {
        const std::size_t count = bias.mantissa.size();
        aligned_.resize(count);
        const int left = bias.exponent - exponent;
        constexpr std::int64_t limit = std::int64_t{1} << 61;
        std::int64_t largest = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const std::int64_t mantissa = bias.mantissa[i];
            if (left > 45)
                aligned_[i] = mantissa > 0 ? limit : mantissa < 0 ? -limit : 0;
            else
                aligned_[i] = round_nearest(mantissa, -left);
            largest = std::max(largest, aligned_[i] < 0 ? -aligned_[i] : aligned_[i]);
        }
        return largest;
    }

    // --- views ---------------------------------------------------------------------------------------------------

    // A group's patches of the stored activation: (samples, OH, OW) x (KH, KW x IC).
    gemm::operand_view patches(const operand& o, std::int64_t samples, std::int64_t group) const {
        const geometry& g = geometry_;
        const std::int64_t row = (g.in.width + 2 * g.padding) * g.in.channels;
        const std::int64_t image = (g.in.height + 2 * g.padding) * row;
        return {o.at(group * g.in_part()), o.width, o.exponent,
                gemm::axis::nested({samples, g.out.height, g.out.width},
                                   {image, g.stride * row, g.stride * g.in.channels}),
                gemm::axis::nested({g.kernel_height, g.kernel_width, g.in_part()}, {row, g.in.channels, 1})};
    }

    gemm::problem forward_problem(const operand& a, const operand& w, std::int64_t samples, std::int64_t group) const {
        const std::int64_t depth = geometry_.depth(), rows = geometry_.out_part();
        return {patches(a, samples, group),
                {w.at(group * rows * depth), w.width, w.exponent, gemm::axis::linear(rows, depth),
                 gemm::axis::linear(depth, 1)}};
    }

    // OC x (samples, OH, OW) errors times the patches read the other way: (KH, KW x IC) x (samples, OH, OW).
    gemm::problem gradient_problem(const operand& err, const operand& a, std::int64_t samples, std::int64_t group) const {
        const geometry& g = geometry_;
        const std::int64_t row = (g.out.width + ep_.left + ep_.right) * g.out.channels;
        const std::int64_t image = (g.out.height + ep_.top + ep_.bottom) * row;
        gemm::operand_view p = patches(a, samples, group);
        std::swap(p.rows, p.depth);
        return {{err.at(ep_.top * row + ep_.left * g.out.channels + group * g.out_part()), err.width, err.exponent,
                 gemm::axis::linear(g.out_part(), 1),
                 gemm::axis::nested({samples, g.out.height, g.out.width}, {image, row, g.out.channels})},
                p};
    }

    // Leaves samples without an error out of the backward GEMMs where that pays. Events tell of the whole batch.
    void choose_samples(const engine& e, std::int64_t samples) {
        const geometry& g = geometry_;
        const auto unit = [](const operand& o) { return o.width <= byte_width ? 1 : 2; };
        const auto reserve = [&](operand& o, const image_shape& s, const border& edge) {
            const std::int64_t image = (s.height + edge.top + edge.bottom) * (s.width + edge.left + edge.right) * s.channels;
            o.bytes.resize(static_cast<std::size_t>(2 * samples * image));
            return image;
        };
        const std::int64_t error_image = reserve(active_error_, g.out, ep_);
        const std::int64_t input_image = reserve(active_input_, g.in, input_border());
        active_.find(error_.bytes.data(), samples, g.out.size() * unit(error_));
        multiplied_ = e.options.kernels.skip_zeros && active_.pays() ? active_.count() : samples;
        if (multiplied_ == samples || multiplied_ == 0) return;
        const auto take = [&](const operand& from, std::int64_t image, operand& to) {
            active_.gather(from.data, image * unit(from), to.bytes.data());
            to.data = to.bytes.data();
            to.width = from.width;
            to.exponent = from.exponent;
        };
        take(error_, error_image, active_error_);
        take(activation_, input_image, active_input_);
    }

    // --- the backward GEMMs ----------------------------------------------------------------------------------------

    void weight_gradient(engine& e, std::int64_t samples, const tensor& error, fixed_parameter& weight,
                         fixed_parameter& bias) {
        if (multiplied_ == 0) weight.gradient.fill_zero();
        for (std::int64_t group = 0; group < geometry_.groups; ++group) {
            const gemm::problem p = gradient_problem(error_, activation_, samples, group);
            if (e.observed()) e.notify(describe(e, stage::weight_gradient, p, samples, false, &error));
            if (multiplied_ == 0) continue;
            gemm::output to;
            to.rows = gemm::axis::linear(p.m(), p.n());
            to.exact = weight.gradient.data() + group * p.m() * p.n();
            gemm::multiply(multiplied_ == samples ? p : gradient_problem(active_error_, active_input_, multiplied_, group),
                           to, e.options.kernels, e.workspace);
        }
        weight.gradient_exponent = error_.exponent + activation_.exponent;
        if (e.controller->wants_gradients())
            e.controller->on_gradient(layer_, weight.gradient.span(), weight.gradient_exponent);

        if (bias.gradient.empty()) return;
        const auto sum = [&](const auto* mantissas) {
            channel_sums_(e.isa(), mantissas, geometry_.out.size(), active_.places(), bias.gradient.span());
        };
        if (error_.width <= byte_width)
            sum(error_.bytes.data());
        else
            sum(reinterpret_cast<const std::int16_t*>(error_.bytes.data()));
        bias.gradient_exponent = error_.exponent;
    }

    // EP in gather form. With a stride, the input pixels of one residue class see a fixed subset of the taps: one GEMM a
    // class, and no zero that a stride inserts is ever multiplied.
    void propagate(engine& e, const tensor& in, const tensor& error, tensor& in_error) {
        const geometry& g = geometry_;
        in_error.reshape(in.samples, g.in);
        const std::int64_t bound = gemm::accumulator_bound(widths_.error, widths_.weight, g.error_depth());
        const int shift = wide_shift(bound);
        in_error.exponent = error_.exponent + weight_.exponent + shift;
        in_error.bits = std::min(31, bit_length(static_cast<std::uint64_t>(bound)));
        if (multiplied_ == 0 || g.stride > g.kernel_height || g.stride > g.kernel_width) in_error.data.fill_zero();
        for (std::int64_t group = 0; group < g.groups; ++group) propagate(e, in, error, in_error, shift, group);
        if (multiplied_ != in.samples && multiplied_ != 0) active_.scatter(in_error.data.data(), g.in.size());
    }
    void propagate(engine& e, const tensor& in, const tensor& error, tensor& in_error, int shift, std::int64_t group) {
        const geometry& g = geometry_;
        const bool whole = multiplied_ == in.samples;
        const std::int64_t row = (g.out.width + ep_.left + ep_.right) * g.out.channels;
        const std::int64_t image = (g.out.height + ep_.top + ep_.bottom) * row;
        for (std::int64_t y = 0; y < std::min(g.stride, g.in.height); ++y)
            for (std::int64_t x = 0; x < std::min(g.stride, g.in.width); ++x) {
                const std::int64_t top = (y + g.padding) % g.stride, left = (x + g.padding) % g.stride;
                const std::int64_t taps_down = (g.kernel_height - top + g.stride - 1) / g.stride;
                const std::int64_t taps_across = (g.kernel_width - left + g.stride - 1) / g.stride;
                if (taps_down <= 0 || taps_across <= 0) continue;
                const std::int64_t down = (g.in.height - y + g.stride - 1) / g.stride;
                const std::int64_t across = (g.in.width - x + g.stride - 1) / g.stride;
                const std::int64_t first_row = (y + g.padding - top) / g.stride + ep_.top;
                const std::int64_t first_column = (x + g.padding - left) / g.stride + ep_.left;
                const std::int64_t depth = g.depth(), first_channel = group * g.out_part();

                const auto errors = [&](const operand& o, std::int64_t samples) {
                    return gemm::operand_view{
                        o.at(first_row * row + first_column * g.out.channels + first_channel), o.width, o.exponent,
                        gemm::axis::nested({samples, down, across}, {image, row, g.out.channels}),
                        gemm::axis::nested({taps_down, taps_across, g.out_part()}, {-row, -g.out.channels, 1})};
                };
                const auto places = [&](std::int64_t samples) {
                    return gemm::axis::nested({samples, down, across}, {g.in.size(), g.stride * g.in.width * g.in.channels,
                                                                        g.stride * g.in.channels});
                };
                gemm::problem p;
                p.a = errors(error_, in.samples);
                p.b = {weight_.at(first_channel * depth + (top * g.kernel_width + left) * g.in_part()), weight_.width,
                       weight_.exponent, gemm::axis::linear(g.in_part(), 1),
                       gemm::axis::nested({taps_down, taps_across, g.out_part()},
                                          {g.stride * g.kernel_width * g.in_part(), g.stride * g.in_part(), depth})};
                const std::int64_t origin = (y * g.in.width + x) * g.in.channels + group * g.in_part();
                if (multiplied_ != 0) {
                    gemm::output to;
                    to.rows = places(multiplied_);
                    to.wide = in_error.data.data() + origin;
                    to.shift = shift;
                    gemm::multiply(whole ? p : gemm::problem{errors(active_error_, multiplied_), p.b}, to,
                                   e.options.kernels, e.workspace);
                }
                if (e.observed()) {
                    const std::int64_t rows_inside = inside(down, taps_down, (y + g.padding - top) / g.stride, g.out.height);
                    const std::int64_t columns_inside =
                        inside(across, taps_across, (x + g.padding - left) / g.stride, g.out.width);
                    gemm::gemm_event event = describe(e, stage::error_propagation, p, in.samples, false, &error);
                    event.macs = in.samples * rows_inside * columns_inside * g.in_part() * g.out_part();
                    if (in.gated) event.gate = in.data.data() + origin;
                    event.gate_rows = places(in.samples);
                    e.notify(event);
                }
            }
    }
    // EP of direct feedback: the output's error, rounded for this layer, times the layer's random signs.
    void project(engine& e, const tensor& in, tensor& in_error) {
        const std::int64_t inputs = geometry_.in.size(), outputs = e.output_error.shape.size();
        tensor& from = e.output_error;
        e.count(from);
        choose(e, output_error_, role::error, e.options.error, from.seen, from.exponent, widths_.error,
               e.options.error_rounding, random_16(e.site(key_, stream::feedback_allowance), 0, 0));
        store(e, output_error_, from.data.data(), in.samples, from.shape, e.options.error_rounding,
              stream::feedback_error, border{});
        e.feedback.resize(static_cast<std::size_t>(inputs * outputs));
        detail::fill_feedback(e.isa(), e.seed, key_, std::int8_t{1}, e.feedback.span());

        const std::int64_t bound = gemm::accumulator_bound(widths_.error, detail::feedback_width, outputs);
        gemm::output to;
        to.shift = wide_shift(bound);
        in_error.reshape(in.samples, geometry_.in);
        in_error.exponent = output_error_.exponent + detail::feedback_exponent(inputs) + to.shift;
        in_error.bits = std::min(31, bit_length(static_cast<std::uint64_t>(bound)));
        to.rows = gemm::axis::linear(in.samples, inputs);
        to.wide = in_error.data.data();
        const gemm::axis depth = gemm::axis::linear(outputs, 1);
        gemm::problem p;
        p.a = {output_error_.data, output_error_.width, output_error_.exponent,
               gemm::axis::linear(in.samples, outputs), depth};
        p.b = {e.feedback.data(), detail::feedback_width, detail::feedback_exponent(inputs),
               gemm::axis::linear(inputs, outputs), depth};
        gemm::multiply(p, to, e.options.kernels, e.workspace);
        if (!e.observed()) return;
        gemm::gemm_event event;
        event.step = e.step;
        event.layer = layer_;
        event.where = stage::error_propagation;
        event.samples = in.samples;
        event.macs = in.samples * inputs * outputs;
        event.a = {p.a, images(output_error_, in.samples, from.shape, border{}), role::error, &from.seen,
                   output_error_.clips, {from.data.data(), nullptr, from.size(), from.exponent}};
        event.b = {p.b, {e.feedback.data(), 1, 1, 1, inputs * outputs}, role::weight, nullptr, {}, {}};
        event.generated = true;
        if (in.gated) event.gate = in.data.data();
        event.gate_rows = to.rows;
        e.notify(event);
    }
    // Pairs (position, tap) whose error pixel first + position - tap lies inside the error image.
    static std::int64_t inside(std::int64_t positions, std::int64_t taps, std::int64_t first, std::int64_t size) noexcept {
        std::int64_t count = 0;
        for (std::int64_t u = 0; u < positions; ++u)
            for (std::int64_t t = 0; t < taps; ++t) count += first + u - t >= 0 && first + u - t < size;
        return count;
    }

    static gemm::stored_images images(const operand& o, std::int64_t samples, const image_shape& s, const border& edge) {
        return {o.data, samples, s.height, s.width, s.channels, edge.top, edge.bottom, edge.left, edge.right};
    }

    // --- events ----------------------------------------------------------------------------------------------------

    gemm::gemm_event describe(const engine& e, stage where, const gemm::problem& p, std::int64_t samples, bool probe,
                              const tensor* from) const {
        const bool forward = where == stage::feed_forward, gradient = where == stage::weight_gradient;
        const histogram* seen_a = from == nullptr || !from->counted ? nullptr : &from->seen;
        const operand& a = probe ? probe_a_ : forward ? activation_ : error_;
        const operand& b = gradient ? activation_ : probe ? probe_w_ : weight_;
        gemm::gemm_event event;
        event.step = e.step;
        event.layer = layer_;
        event.where = where;
        event.probe = probe;
        event.samples = samples;
        event.macs = samples * geometry_.macs() / geometry_.groups;
        if (!forward && !probe) event.active = &active_.index();
        event.a = {p.a, forward ? images(a, samples, geometry_.in, input_border()) : images(a, samples, geometry_.out, ep_),
                   forward ? role::activation : role::error, seen_a, a.clips, {}, a.clips.left()};
        event.b = {p.b, gradient ? images(b, samples, geometry_.in, input_border())
                                 : gemm::stored_images{b.data, 1, 1, 1, geometry_.weights()},
                   gradient ? role::activation : role::weight, gradient ? nullptr : &weight_seen_, b.clips, {}, b.clips.left()};
        if (from != nullptr) event.a.source = {from->data.data(), nullptr, from->size(), from->exponent};
        if (forward && !probe) event.b.source = weight_source_;
        return event;
    }

    // --- probes ----------------------------------------------------------------------------------------------------

    static constexpr std::int64_t probe_rows = 1024;  // the first ones are compared
    std::int64_t probe_samples(std::int64_t samples) const noexcept {
        return std::min(samples, (probe_rows + geometry_.out_pixels() - 1) / geometry_.out_pixels());
    }
    bool probed(const engine& e, stage where) const noexcept {
        return e.training && e.probe && e.probe->layer == layer_ && e.probe->where == where;
    }
    void reserve_probes(std::int64_t samples) {
        const geometry& g = geometry_;
        const std::int64_t results = std::max(probe_samples(samples) * g.out.size(), g.weights());
        const std::int64_t padded_in = (g.in.height + 2 * g.padding) * (g.in.width + 2 * g.padding) * g.in.channels;
        const border edge = error_padding();
        const std::int64_t padded_out =
            (g.out.height + edge.top + edge.bottom) * (g.out.width + edge.left + edge.right) * g.out.channels;
        const std::int64_t bytes = 2 * std::max(probe_samples(samples) * padded_in, samples * padded_out);
        high_.resize(static_cast<std::size_t>(results));
        low_.resize(static_cast<std::size_t>(results));
        probe_a_.bytes.resize(static_cast<std::size_t>(bytes));
        probe_a_.bordered.resize(static_cast<std::size_t>(bytes));
        probe_w_.bytes.resize(static_cast<std::size_t>(2 * g.weights()));
    }

    // Both sides round to nearest from the same wide tensor with the same top bit, so that the probe sees the width alone.
    void at_width(operand& o, const operand& present, int width) const {
        o.width = width;
        o.zero = present.zero;
        o.dropped = present.dropped + present.width - width;
        o.exponent = present.exponent + present.width - width;
    }

    void probe_forward(engine& e, const tensor& in, const fixed_parameter& weight) {
        const std::int64_t samples = probe_samples(in.samples);
        const auto run = [&](int width, buffer<std::int64_t>& result) {
            at_width(probe_a_, activation_, width);
            at_width(probe_w_, weight_, width);
            store(e, probe_a_, in.data.data(), samples, geometry_.in, rounding::nearest, stream::activation, input_border());
            store_weight(e, probe_w_, weight, rounding::nearest);
            for (std::int64_t group = 0; group < geometry_.groups; ++group)
                probe_multiply(e, stage::feed_forward, forward_problem(probe_a_, probe_w_, samples, group), samples,
                               geometry_.out.channels, result.data() + group * geometry_.out_part());
            return std::min(samples * geometry_.out_pixels(), probe_rows) * geometry_.out.channels;
        };
        run(e.probe->high, high_);
        compare(e, run(e.probe->low, low_), 2 * (e.probe->high - e.probe->low));
    }
    void probe_error(engine& e, std::int64_t samples, const tensor& error) {
        const auto run = [&](int width, buffer<std::int64_t>& result) {
            at_width(probe_a_, error_, width);
            store(e, probe_a_, error.data.data(), samples, geometry_.out, rounding::nearest, stream::error, ep_);
            const std::int64_t depth = geometry_.depth(), rows = geometry_.out_part();
            for (std::int64_t group = 0; group < geometry_.groups; ++group)
                probe_multiply(e, stage::weight_gradient, gradient_problem(probe_a_, activation_, samples, group), samples,
                               depth, result.data() + group * rows * depth);
            return std::min(geometry_.out.channels, probe_rows) * depth;
        };
        run(e.probe->high, high_);
        compare(e, run(e.probe->low, low_), e.probe->high - e.probe->low);
    }
    void probe_multiply(engine& e, stage where, const gemm::problem& p, std::int64_t samples, std::int64_t row,
                        std::int64_t* result) {
        gemm::output to;
        to.rows = gemm::axis::linear(p.m(), row);
        to.exact = result;
        gemm::multiply(p, to, e.options.kernels, e.workspace);
        if (e.observed()) e.notify(describe(e, where, p, samples, true, nullptr));
    }
    void compare(engine& e, std::int64_t count, int shift) {
        precision::probe_result result{*e.probe, 0, 0};
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int64_t high = high_[static_cast<std::size_t>(i)];
            const std::int64_t difference = high - (low_[static_cast<std::size_t>(i)] << shift);
            result.distance += static_cast<std::uint64_t>(difference < 0 ? -difference : difference);
            result.magnitude += static_cast<std::uint64_t>(high < 0 ? -high : high);
        }
        e.controller->on_probe(result);
    }

    geometry geometry_;
    int layer_ = 0;
    std::uint16_t key_ = 0;
    border ep_;  // around the quantised error; none when no error is propagated
    widths_t widths_;
    operand activation_, weight_, error_, probe_a_, probe_w_, active_error_, active_input_, output_error_;
    detail::active_samples active_;
    std::int64_t multiplied_ = 0;  // samples in the backward GEMMs
    histogram weight_seen_;  // of the master weights; the maximum alone when no more is needed
    gemm::operand_source weight_source_;
    running_histogram running_;
    buffer<std::int64_t> aligned_, high_, low_;
    detail::channel_sums channel_sums_;
};

}  // namespace lamella::nn
