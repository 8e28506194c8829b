// Losses: turn logits (samples x classes) and labels into the error that is sent back, the gradient of the sum over the
// batch (OPTC divides it), and keep what the loss was, so that it can be reported.
//
//   net.set_loss({.kind = nn::loss_kind::mean_square});
//   net.set_loss({.smoothing = parse_fraction("0.1", 16, "smoothing")});
//
// Softmax cross-entropy: E = p - target. In integers: subtract the maximum, exp as a power of two in fixed point, exact
// division by the sum. Label smoothing s (Szegedy et al., CVPR 2016, section 7) takes (1 - s) + s / classes as the
// label's target and s / classes as the others'. What is reported is the cross-entropy of the labels themselves, so
// that runs with and without smoothing compare. Mean square: half the sum over classes of (logit - one-hot)^2, E =
// logit - one-hot, aligned as the sums of residual blocks are (add.hpp). Reports are floating point; the step itself
// never looks at one.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "../core/elementary.hpp"
#include "../core/memory.hpp"
#include "add.hpp"
#include "fixed.hpp"
#include "real.hpp"

namespace lamella::nn {

// Losses by name: what they compute stands at the head of this page.
enum class loss_kind : std::uint8_t { cross_entropy, mean_square };
inline constexpr std::array<std::string_view, 2> loss_names{"cross-entropy", "mean-square"};

// Which loss a network learns from.
struct loss_settings {
    loss_kind kind = loss_kind::cross_entropy;
    std::uint64_t smoothing = 0;  // cross-entropy: share of a label given to all classes alike, 2^-16 units, up to 2^16
};

// Sums over samples of what a batch's outputs said.
struct batch_score {
    std::int64_t samples = 0;
    std::int64_t correct = 0;  // the largest logit (the first, in a tie) is the label's
};

namespace detail {

inline constexpr int probability_bits = 28;  // cross-entropy's E = mantissa x 2^-28

// Softmax of one sample's `classes` logits x 2^exponent, as fractions of 2^probability_bits.
inline void softmax(const std::int32_t* logits, std::int64_t classes, int exponent, std::int32_t* probability,
                    std::uint32_t* power) noexcept {
    const std::int32_t top = *std::max_element(logits, logits + classes);
    std::uint64_t sum = 0;
    for (std::int64_t c = 0; c < classes; ++c) {
        power[c] = exp_negative(static_cast<std::uint32_t>(std::int64_t{top} - logits[c]), exponent);
        sum += power[c];
    }
    for (std::int64_t c = 0; c < classes; ++c)
        probability[c] = static_cast<std::int32_t>(((std::uint64_t{power[c]} << probability_bits) + sum / 2) / sum);
}

template <class T>
void softmax(const T* logits, std::int64_t classes, T* probability) {
    const T top = *std::max_element(logits, logits + classes);
    T sum{0};
    for (std::int64_t c = 0; c < classes; ++c) sum += probability[c] = std::exp(logits[c] - top);
    for (std::int64_t c = 0; c < classes; ++c) probability[c] /= sum;
}

}  // namespace detail

template <class A>
class loss {
    using value = typename A::value;
    using tensor = typename A::tensor;
    static constexpr bool integers = std::is_same_v<A, fixed>;

  public:
    loss() = default;
    // Throws argument_error for a smoothing above 1, or of the mean square.
    explicit loss(const loss_settings& settings) : settings_(settings) {
        const bool smooths = settings.kind == loss_kind::cross_entropy;
        if (settings.smoothing > (smooths ? std::uint64_t{1} << 16 : 0))
            throw argument_error("label smoothing", smooths ? "0 .. 2^16 (2^-16 units)" : "none with mean square",
                                 std::to_string(settings.smoothing));
    }
    const loss_settings& settings() const noexcept { return settings_; }

    // Throws argument_error unless there is a label for each sample, every one 0 .. classes - 1.
    static void require_labels(std::span<const std::uint8_t> labels, std::int64_t samples, std::int64_t classes) {
        if (static_cast<std::int64_t>(labels.size()) != samples)
            throw argument_error("labels", std::to_string(samples) + " (one a sample)", std::to_string(labels.size()));
        for (const std::uint8_t label : labels)
            if (label >= classes)
                throw argument_error("label", "0 .. " + std::to_string(classes - 1), std::to_string(label));
    }

    // The error of the logits. Throws argument_error as require_labels does.
    tensor& operator()(const tensor& logits, std::span<const std::uint8_t> labels) {
        const std::int64_t classes = logits.shape.size();
        require_labels(labels, logits.samples, classes);
        error_.reshape(logits.samples, logits.shape);
        score_ = {logits.samples, 0};
        for (std::int64_t s = 0; s < logits.samples; ++s) {
            const value* from = logits.data.data() + s * classes;
            score_.correct += std::max_element(from, from + classes) - from == labels[static_cast<std::size_t>(s)];
        }
        if (settings_.kind == loss_kind::cross_entropy)
            cross_entropy(logits, labels);
        else
            mean_square(logits, labels);
        return error_;
    }

    const batch_score& score() const noexcept { return score_; }

    // The last batch's loss, summed over its samples, in units of 2^-16 (cross-entropy: of bits), for controllers. A
    // probability that rounded to zero counts as one unit.
    std::uint64_t loss_sum() const requires integers {
        std::uint64_t sum = 0;
        for (const value p : probability_)
            sum +=
                (std::uint64_t{detail::probability_bits} << 16) - logarithm(static_cast<std::uint64_t>(std::max(p, 1)));
        for (const std::uint64_t square : square_) sum += square;
        return sum;
    }

    // Mean loss of the last batch (cross-entropy in nats): for reports only. A probability that rounded to zero counts
    // as half a unit.
    double mean_loss() const {
        double sum = 0;
        for (const value p : probability_) {
            double q = static_cast<double>(p);
            if constexpr (integers) q = std::ldexp(std::max(q, 0.5), -detail::probability_bits);
            sum -= std::log(std::max(q, 1e-300));
        }
        for (const auto square : square_) sum += std::ldexp(static_cast<double>(square), integers ? -16 : 0);
        return score_.samples == 0 ? 0 : sum / static_cast<double>(score_.samples);
    }

  private:
    void cross_entropy(const tensor& logits, std::span<const std::uint8_t> labels) {
        const std::int64_t classes = logits.shape.size();
        probability_.resize(labels.size());
        const auto targets = [&](value one, value rest) {  // of the label, beside what every class gets
            for (std::int64_t s = 0; s < logits.samples; ++s) {
                value* to = error_.data.data() + s * classes;
                const auto label = static_cast<std::int64_t>(labels[static_cast<std::size_t>(s)]);
                if constexpr (integers)
                    detail::softmax(logits.data.data() + s * classes, classes, logits.exponent, to, power_.data());
                else
                    detail::softmax(logits.data.data() + s * classes, classes, to);
                probability_[static_cast<std::size_t>(s)] = to[label];
                if (rest != 0)
                    for (std::int64_t c = 0; c < classes; ++c) to[c] -= rest;
                to[label] -= one;
            }
        };
        if constexpr (integers) {
            error_.exponent = -detail::probability_bits;
            error_.bits = detail::probability_bits + 1;
            power_.resize(static_cast<std::size_t>(classes));
            const auto n = static_cast<std::uint64_t>(classes);
            const std::uint64_t rest = ((settings_.smoothing << (detail::probability_bits - 16)) + n / 2) / n;
            targets(static_cast<value>((std::uint64_t{1} << detail::probability_bits) - n * rest),
                    static_cast<value>(rest));
        } else {
            const value smoothing = std::ldexp(static_cast<value>(settings_.smoothing), -16);
            targets(1 - smoothing, smoothing / static_cast<value>(classes));
        }
    }

    void mean_square(const tensor& logits, std::span<const std::uint8_t> labels) {
        const std::int64_t classes = logits.shape.size();
        square_.resize(labels.size());
        value one = 1;
        [[maybe_unused]] int shift = 0;  // of a sum of squares, to units of 2^-16
        if constexpr (integers) {
            const int top = std::max(logits.bits + logits.exponent, 1);
            error_.exponent = std::max(std::min(logits.exponent, 0), top - 30);
            error_.bits = std::min(31, top - error_.exponent + 1);
            const detail::alignment of_logits(logits.exponent, error_.exponent), of_one(0, error_.exponent);
            const auto placed = [](std::int32_t x, const detail::alignment& by) {
                return by.dropped != 0 ? detail::aligned<true>(x, by) : detail::aligned<false>(x, by);
            };
            for (std::size_t i = 0; i < logits.data.size(); ++i) error_.data[i] = placed(logits.data[i], of_logits);
            one = placed(1, of_one);
            shift = 2 * error_.exponent - 1 + 16;
        } else {
            std::copy(logits.data.begin(), logits.data.end(), error_.data.begin());
        }
        for (std::int64_t s = 0; s < logits.samples; ++s) {
            value* to = error_.data.data() + s * classes;
            to[labels[static_cast<std::size_t>(s)]] -= one;
            auto& square = square_[static_cast<std::size_t>(s)];
            if constexpr (integers) {
                lamella::detail::uint128 sum = 0;
                for (std::int64_t c = 0; c < classes; ++c)
                    sum += static_cast<std::uint64_t>(std::int64_t{to[c]} * to[c]);
                constexpr int most = 40;  // bits of a sample's loss; a batch's sum stays within 64
                if (sum == 0 || lamella::detail::bit_length(sum) + shift <= 0)
                    square = 0;
                else if (lamella::detail::bit_length(sum) + shift > most)
                    square = std::uint64_t{1} << most;
                else
                    square = static_cast<std::uint64_t>(shift < 0 ? sum >> -shift : sum << shift);
            } else {
                square = 0;
                for (std::int64_t c = 0; c < classes; ++c) square += to[c] * to[c] / 2;
            }
        }
    }

    loss_settings settings_;
    tensor error_;
    buffer<value> probability_;                                          // cross-entropy: of each label
    buffer<std::conditional_t<integers, std::uint64_t, value>> square_;  // mean square: each sample's loss
    buffer<std::uint32_t> power_;
    batch_score score_;
};

}  // namespace lamella::nn
