// Batch normalisation in integers: what batch_norm (batch_norm.hpp) does in the arithmetic `fixed`. With the input x,
// the error E of the output, both cut to 16 bits (no_overflow, nearest: this layer's hop), and N elements a channel,
//
//   forward    mean = sum x / N,  variance = (N sum x^2 - (sum x)^2) / N^2      exact int64 sums, then Q32
//              x-hat = (x - mean) / sqrt(variance + 2^-17)                      Q12 in 16 bits: clipped at 8 deviations
//              out = scale x-hat + shift                                        wide
//   backward   gradient of scale = sum E x-hat,  of shift = sum E               exact int64 sums
//              E of the input = scale / sqrt(variance + 2^-17) (E - sum E / N - x-hat sum(E x-hat) / N)
//
// Only a channel's numbers are divided or rooted. An element is multiplied by one of them and added to another, in 32
// bits: once for x-hat, once for the output; its error is a sum of two products and a constant whose coefficients are
// rounded once a channel, to 16 bits.
//
// Inference goes the same way with running averages of mean and variance (an eighth of the batch's a step, the variance
// for N - 1), the cut's exponent included: the smallest at which no channel's mean +- 8 deviations is clipped.
//
// Ioffe and Szegedy, "Batch normalization", ICML 2015, algorithms 1 and 2. The fixed-point datapath: reconstruction.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "../core/elementary.hpp"
#include "../core/quantise.hpp"
#include "../core/rounding.hpp"
#include "../core/sdfxp.hpp"
#include "../core/threads.hpp"
#include "fixed.hpp"
#include "norm_kernels.hpp"

namespace lamella::nn {

class fixed::normaliser {
  public:
    void build(const image_shape& s) {
        channels_ = static_cast<std::size_t>(s.channels);
        lanes_.build(s.channels);
        for (buffer<std::int64_t>* b : {&first_, &second_, &running_mean_, &running_variance_}) b->resize(channels_);
    }

    // Fills `out`; in training keeps x-hat for `backward` and moves the running averages. Throws lamella::error when
    // evaluated before the first training step, argument_error beyond 2^30 elements a channel.
    void forward(engine& e, tensor& in, const fixed_parameter& scale, const fixed_parameter& shift, tensor& out) {
        if (e.training)
            measure(e, in);
        else
            recall(e, in);
        const detail::affine_output to = detail::affine_of(scale, shift);
        const int dropped = std::min(to.dropped, 31);  // a product has 30 bits: all are lost beyond
        for (std::size_t c = 0; c < channels_; ++c) {
            const auto channel = static_cast<std::int64_t>(c);
            lanes_.set(lanes_.scale, channel, to.dropped > 31 ? 0 : scale.mantissa[c]);
            const std::int64_t added = shift.mantissa[c];
            lanes_.set(lanes_.shift, channel, added == 0 ? 0 : round_nearest(added, to.exponent - shift.exponent));
        }
        out.reshape(in.samples, in.shape);
        out.exponent = to.exponent;
        out.bits = to.bits;
        parts(e, in.size(), [&](std::int64_t begin, std::int64_t n, std::int64_t) {
            detail::normalise(e.isa(), normal_.data() + begin, n, lanes_, dropped, out.data.data() + begin);
        });
    }

    // Leaves the sums over the batch in the parameters' gradients; fills in_error unless it is null.
    void backward(engine& e, tensor& error, fixed_parameter& scale, fixed_parameter& shift, tensor* in_error) {
        const int dropped = bits_to_cut(e.largest(error));
        error_.resize(error.data.size());
        sum(e, error, dropped, error_, normal_, shift.gradient, scale.gradient);
        shift.gradient_exponent = error.exponent + dropped;
        scale.gradient_exponent = shift.gradient_exponent - detail::normal_fraction;
        if (in_error == nullptr) return;

        in_error->reshape(error.samples, error.shape);
        in_error->exponent = shift.gradient_exponent + choose_coefficients(scale, shift);
        in_error->bits = 31;
        parts(e, error.size(), [&](std::int64_t begin, std::int64_t n, std::int64_t) {
            detail::normalised_error(e.isa(), error_.data() + begin, normal_.data() + begin, n, lanes_,
                                     in_error->data.data() + begin);
        });
    }

    // Mean and variance in units of 2^-32, learned: they are part of what the network computes.
    void visit(state_visitor& visitor) {
        const std::size_t shape[1] = {channels_};
        visitor.tensor("running_mean", state_kind::parameter, shape, running_mean_.span(), 63, nullptr);
        visitor.tensor("running_variance", state_kind::parameter, shape, running_variance_.span(), 63, nullptr);
        visitor.integer("started", started_);
    }

  private:
    using int128 = lamella::detail::int128;
    using uint128 = lamella::detail::uint128;

    static int bits_to_cut(std::uint32_t maximum) noexcept {
        return maximum == 0 ? 0 : lamella::detail::no_overflow_bits(maximum, detail::normal_width);
    }
    static void cut(const engine& e, const tensor& wide, int dropped, std::int64_t begin, std::int64_t n,
                    std::int16_t* to) {
        const quantise_job job{wide.data.data() + begin, 1,  n, std::clamp(dropped, -31, 48), detail::normal_width,
                               rounding::nearest,        {}, 0};
        quantise(job, to + begin, e.isa(), 1);
    }
    // Calls run(begin, n, id) for parts of whole rows of lanes, each on thread id.
    template <class Run>
    void parts(const engine& e, std::int64_t size, Run&& run) const {
        const std::int64_t rows = (size + lanes_.run - 1) / lanes_.run;
        const int threads = lamella::detail::threads_worth(e.threads(), size, lamella::detail::elements_a_thread);
        lamella::detail::parallel(threads, [&](std::int64_t id, std::int64_t count) {
            const std::int64_t begin = rows * id / count * lanes_.run;
            const std::int64_t end = std::min(size, rows * (id + 1) / count * lanes_.run);
            run(begin, end - begin, id);
        });
    }
    // Cuts a wide tensor into x, and sums x and x y over each channel. y may be x.
    void sum(const engine& e, const tensor& wide, int dropped, buffer<std::int16_t>& x, const buffer<std::int16_t>& y,
             buffer<std::int64_t>& first, buffer<std::int64_t>& second) {
        const auto run = static_cast<std::size_t>(lanes_.run);
        partial_.resize(2 * run * static_cast<std::size_t>(e.threads()));
        partial_.fill_zero();
        first.fill_zero();
        second.fill_zero();
        parts(e, wide.size(), [&](std::int64_t begin, std::int64_t n, std::int64_t id) {
            std::int64_t* const mine = partial_.data() + 2 * static_cast<std::int64_t>(run) * id;
            const std::int64_t chunk = std::max<std::int64_t>(1, 8192 / lanes_.run) * lanes_.run;  // stays in the cache
            for (std::int64_t from = begin; from < begin + n; from += chunk) {
                const std::int64_t count = std::min(chunk, begin + n - from);
                cut(e, wide, dropped, from, count, x.data());
                detail::lane_sums(e.isa(), x.data() + from, y.data() + from, count, lanes_.run, mine, mine + run);
            }
            lamella::detail::one_at_a_time([&] {
                for (std::size_t i = 0; i < run; ++i) {
                    first[i % channels_] += mine[i];
                    second[i % channels_] += mine[run + i];
                }
            });
        });
    }

    void set_normal(std::size_t c, std::int64_t mean, std::int64_t variance) {
        const detail::channel_normal normal = detail::normal_of(mean, variance, exponent_);
        const auto channel = static_cast<std::int64_t>(c);
        lanes_.set(lanes_.factor, channel, normal.factor);
        lanes_.set(lanes_.offset, channel, normal.offset);
        lanes_.set(lanes_.dropped, channel, normal.dropped);
    }
    // The batch's own statistics.
    void measure(engine& e, tensor& in) {
        elements_ = in.samples * in.shape.height * in.shape.width;
        if (elements_ > std::int64_t{1} << 30)
            throw argument_error("batch_norm elements a channel", "at most 2^30", std::to_string(elements_));
        const int dropped = bits_to_cut(e.largest(in));
        exponent_ = in.exponent + dropped;
        normal_.resize(in.data.size());
        sum(e, in, dropped, normal_, normal_, first_, second_);
        for (std::size_t c = 0; c < channels_; ++c) {
            using lamella::detail::quotient_nearest;
            const std::int64_t n = elements_, most = detail::largest_statistic;
            const int128 squares = int128{n} * second_[c] - int128{first_[c]} * first_[c];
            const int fraction = detail::statistic_fraction;
            const std::int64_t mean = quotient_nearest(first_[c], n, exponent_ + fraction, most);
            const std::int64_t variance = quotient_nearest(squares, n * n, 2 * exponent_ + fraction, most);
            const std::int64_t unbiased =
                n == 1 ? 0 : quotient_nearest(squares, n * (n - 1), 2 * exponent_ + fraction, most);
            set_normal(c, mean, variance);
            const auto follow = [&](std::int64_t& average, std::int64_t now) {
                average = started_ ? average + round_nearest(now - average, detail::running_shift) : now;
            };
            follow(running_mean_[c], mean);
            follow(running_variance_[c], unbiased);
        }
        started_ = true;
    }
    // The running statistics.
    void recall(engine& e, const tensor& in) {
        if (!started_) throw error("evaluation needs a network that was trained for at least one step");
        std::uint64_t largest = 1;
        for (std::size_t c = 0; c < channels_; ++c)
            largest = std::max(largest, detail::reach_of(running_mean_[c], running_variance_[c]));
        exponent_ = bit_length(largest) - (detail::normal_width - 1) - detail::statistic_fraction;
        normal_.resize(in.data.size());
        parts(e, in.size(), [&](std::int64_t begin, std::int64_t n, std::int64_t) {
            cut(e, in, exponent_ - in.exponent, begin, n, normal_.data());
        });
        for (std::size_t c = 0; c < channels_; ++c) set_normal(c, running_mean_[c], running_variance_[c]);
    }

    // The coefficients of the error: with G = scale / deviation, G, -G sum(E x-hat) / N and -G sum E / N, all times one
    // power of two: the largest at which no element's sum of magnitudes passes 2^30, half of what an int32 holds.
    // Returns the exponent that the products have beside that of E.
    int choose_coefficients(const fixed_parameter& scale, const fixed_parameter& shift) {
        constexpr int most = detail::normal_fraction + 31;  // places of factor
        const std::int64_t n = elements_;
        const auto gain = [&](std::size_t c) {  // in units of 2^-most, beside the exponents of scale and x
            const int places = lanes_.dropped[c] + detail::normal_fraction;
            return (std::int64_t{scale.mantissa[c]} * lanes_.factor[c]) << (most - places);
        };
        const auto magnitude = [](std::int64_t x) { return static_cast<std::uint64_t>(x < 0 ? -x : x); };
        const auto elements = static_cast<std::uint64_t>(n);
        uint128 largest = 0;
        for (std::size_t c = 0; c < channels_; ++c) {
            const std::uint64_t reach = (1u << 15) + magnitude(shift.gradient[c]) / elements +
                                        (magnitude(scale.gradient[c]) >> (detail::normal_fraction - 3)) / elements + 3;
            largest = std::max(largest, uint128{magnitude(gain(c))} * reach);
        }
        const int dropped = std::max(0, lamella::detail::bit_length(largest) - 30);
        for (std::size_t c = 0; c < channels_; ++c) {
            using lamella::detail::quotient_nearest;
            constexpr std::int64_t limit = 1 << 30;
            const auto channel = static_cast<std::int64_t>(c);
            const int128 g = gain(c);
            lanes_.set(lanes_.by_error, channel, round_nearest(gain(c), dropped));
            lanes_.set(lanes_.by_normal, channel,
                       quotient_nearest(-g * scale.gradient[c], n, -dropped - 2 * detail::normal_fraction, limit));
            lanes_.set(lanes_.rest, channel, quotient_nearest(-g * shift.gradient[c], n, -dropped, limit));
        }
        return scale.exponent - exponent_ - most + dropped;
    }

    std::size_t channels_ = 0;
    std::int64_t elements_ = 0;  // of a channel in the batch
    int exponent_ = 0;           // of x
    bool started_ = false;
    detail::norm_lanes lanes_;
    buffer<std::int16_t> normal_;  // x, then x-hat
    buffer<std::int16_t> error_;
    buffer<std::int64_t> first_, second_, partial_;
    buffer<std::int64_t> running_mean_, running_variance_;
};

}  // namespace lamella::nn
