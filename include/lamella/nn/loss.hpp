// Softmax cross-entropy: turns logits (samples x classes) and labels into the error that is sent back, E = p - onehot,
// not divided by the batch (OPTC divides the gradient). In integers: subtract the maximum, exp as a power of two in
// fixed point, exact division by the sum. The probability of each true label is kept, so that the loss can be reported
// (in floating point, by observers; the step itself never looks at it).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include "../core/elementary.hpp"
#include "../core/memory.hpp"
#include "fixed.hpp"
#include "real.hpp"

namespace lamella::nn {

// Sums over samples of what a batch's outputs said.
struct batch_score {
    std::int64_t samples = 0;
    std::int64_t correct = 0;  // the largest logit (the first, in a tie) is the label's
};

namespace detail {

inline constexpr int probability_bits = 28;  // E = mantissa x 2^-28

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
class softmax_cross_entropy {
    using value = typename A::value;

  public:
    // Throws argument_error unless there is a label for each sample, every one 0 .. classes - 1.
    static void require_labels(std::span<const std::uint8_t> labels, std::int64_t samples, std::int64_t classes) {
        if (static_cast<std::int64_t>(labels.size()) != samples)
            throw argument_error("labels", std::to_string(samples) + " (one a sample)", std::to_string(labels.size()));
        for (const std::uint8_t label : labels)
            if (label >= classes)
                throw argument_error("label", "0 .. " + std::to_string(classes - 1), std::to_string(label));
    }

    // The error of the logits. Throws argument_error as require_labels does.
    typename A::tensor& operator()(const typename A::tensor& logits, std::span<const std::uint8_t> labels) {
        const std::int64_t classes = logits.shape.size();
        require_labels(labels, logits.samples, classes);
        error_.reshape(logits.samples, logits.shape);
        probability_.resize(labels.size());
        score_ = {logits.samples, 0};
        if constexpr (std::is_same_v<value, std::int32_t>) {
            error_.exponent = -detail::probability_bits;
            error_.bits = detail::probability_bits + 1;
            power_.resize(static_cast<std::size_t>(classes));
        }
        for (std::int64_t s = 0; s < logits.samples; ++s) {
            const auto label = static_cast<std::int64_t>(labels[static_cast<std::size_t>(s)]);
            const value* from = logits.data.data() + s * classes;
            value* to = error_.data.data() + s * classes;
            score_.correct += std::max_element(from, from + classes) - from == label;
            if constexpr (std::is_same_v<value, std::int32_t>) {
                detail::softmax(from, classes, logits.exponent, to, power_.data());
                probability_[static_cast<std::size_t>(s)] = to[label];
                to[label] -= std::int32_t{1} << detail::probability_bits;
            } else {
                detail::softmax(from, classes, to);
                probability_[static_cast<std::size_t>(s)] = to[label];
                to[label] -= value{1};
            }
        }
        return error_;
    }

    const batch_score& score() const noexcept { return score_; }

    // Sum over the last batch of -log2(probability of the label), in units of 2^-16, for controllers. A probability that
    // rounded to zero counts as one unit.
    std::uint64_t loss_sum() const
        requires std::is_same_v<value, std::int32_t>
    {
        std::uint64_t sum = 0;
        for (const value p : probability_)
            sum += (std::uint64_t{detail::probability_bits} << 16) - logarithm(static_cast<std::uint64_t>(std::max(p, 1)));
        return sum;
    }

    // Mean cross-entropy of the last batch, in nats: for reports only. A probability that rounded to zero counts as
    // half a unit.
    double mean_loss() const {
        double sum = 0;
        for (const value p : probability_) {
            double q = static_cast<double>(p);
            if constexpr (std::is_same_v<value, std::int32_t>)
                q = std::ldexp(std::max(q, 0.5), -detail::probability_bits);
            sum -= std::log(std::max(q, 1e-300));
        }
        return probability_.empty() ? 0 : sum / static_cast<double>(probability_.size());
    }

  private:
    typename A::tensor error_;
    buffer<value> probability_;
    buffer<std::uint32_t> power_;
    batch_score score_;
};

}  // namespace lamella::nn
