// One width for all layers, raised when the gradients of successive samples grow alike.
//
// Rajagopal et al., MuPPET, ICML 2020 (rule as in their code). Once every `every` steps (an epoch there) the weight
// gradients of a batch are added up; after three of them the gradient diversity of a layer is the sum of |g|^2 over
// |sum of g|^2, and their mean over the layers is compared with the largest since the last change: when largest / mean
// exceeds 1 + 1.5 exp(-0.1 n) at the n-th sample (from 0), that is a violation, and the second one raises the width.
// In integers: a layer's gradients count in the units in which the window's first one has 24 bits; one 2^16 times as
// large saturates.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/elementary.hpp"
#include "../core/largest.hpp"
#include "../core/memory.hpp"
#include "../core/rounding.hpp"
#include "bounds.hpp"

namespace lamella::precision {

// Widths in their order, and when the rule looks.
struct gradient_diversity_settings {
    std::vector<int> widths{5, 8, 12, 16};  // bits, growing; 8-12-14-16 in the paper
    std::uint32_t every = 100;              // steps from one sample to the next
};

// Parses "widths:every", as in "8-12-16:100". Throws argument_error.
inline gradient_diversity_settings parse_gradient_diversity(std::string_view text) {
    const std::vector<std::string> field = detail::fields(text, ':');
    if (field.size() != 2) throw argument_error("gradient-diversity", "widths:every", std::string(text));
    gradient_diversity_settings s;
    s.widths = detail::growing_widths(field[0], "gradient-diversity widths");
    s.every = detail::whole_number(field[1], "gradient-diversity every", 1);
    return s;
}

class gradient_diversity final : public bounded_controller {
  public:
    static constexpr int window = 3, patience = 2;  // samples, violations

    explicit gradient_diversity(gradient_diversity_settings settings) : settings_(std::move(settings)) {
        if (settings_.widths.empty()) throw argument_error("gradient-diversity widths", "at least one", "none");
        for (const int width : settings_.widths) checked_width(width, "gradient-diversity widths");
        if (settings_.every == 0) throw argument_error("gradient-diversity every", "at least 1", "0");
    }

    void layer_built(int, std::int64_t weights) override {
        sums_.emplace_back().sum.resize(static_cast<std::size_t>(weights));
        sums_.back().sum.fill_zero();
    }
    std::optional<probe_request> begin_step(std::uint64_t step) override {
        step_ = step;
        return std::nullopt;
    }
    bool wants_gradients() const override { return sampling(); }
    void on_gradient(int layer, std::span<const std::int64_t> sums, int exponent) override {
        add(sums_.at(static_cast<std::size_t>(layer)), sums, exponent);
    }
    void end_step() override {
        if (!sampling()) return;
        if (++samples_ % window != 0) return;
        judge();
        for (layer_sums& layer : sums_) layer.clear();
    }

    std::size_t rung() const noexcept { return static_cast<std::size_t>(rung_); }

    void visit(state_visitor& visitor) override {
        visitor.integer("samples", samples_);
        visitor.integer("rung", rung_);
        visitor.integer("violations", violations_);
        visitor.integer("largest", largest_);
        rung_ = std::min<std::uint64_t>(rung_, settings_.widths.size() - 1);
        for (std::size_t i = 0; i < sums_.size(); ++i) {
            const state_visitor::scope scope(visitor, "layer" + std::to_string(i));
            layer_sums& layer = sums_[i];
            std::uint64_t norms[2] = {static_cast<std::uint64_t>(layer.norms >> 64),
                                      static_cast<std::uint64_t>(layer.norms)};
            visitor.integer("started", layer.started);
            visitor.integer("unit", layer.unit);
            visitor.integers("norms", std::span<std::uint64_t>(norms));
            visitor.integers("sum", layer.sum.span());
            layer.norms = uint128{norms[0]} << 64 | norms[1];
            // A checkpoint may hold anything; what is added to further must not overflow.
            layer.unit = std::clamp(layer.unit, -largest_unit, largest_unit);
            for (std::int64_t& x : layer.sum) x = std::clamp(x, -largest_sum, largest_sum);
        }
    }
    std::unique_ptr<controller> clone() const override { return std::make_unique<gradient_diversity>(*this); }

  private:
    static constexpr int largest_unit = 1 << 20;
    static constexpr std::int64_t largest_sum = std::int64_t{1} << 60;

    struct layer_sums {
        bool started = false;  // a gradient that is not all zero has set the unit
        int unit = 0;          // exponent of `sum`
        uint128 norms = 0;     // sum over the window of |g|^2, in squared units
        buffer<std::int64_t> sum;
        void clear() {
            started = false;
            norms = 0;
            sum.fill_zero();
        }
    };

    bool sampling() const noexcept { return step_ % settings_.every == settings_.every - 1; }

    static void add(layer_sums& layer, std::span<const std::int64_t> gradient, int exponent) {
        const auto magnitude = [](std::int64_t x) { return static_cast<std::uint64_t>(x < 0 ? -x : x); };
        if (!layer.started) {
            const std::uint64_t most = largest_magnitude(path::scalar, gradient.data(), std::ssize(gradient));
            if (most == 0) return;
            layer.started = true;
            layer.unit = exponent + bit_length(most) - 24;
        }
        constexpr std::int64_t limit = std::int64_t{1} << 40;
        const int right = std::min(layer.unit - exponent, 63);
        for (std::size_t i = 0; i < gradient.size(); ++i) {
            std::int64_t g = gradient[i];
            if (right > 0)
                g = round_nearest(g, right);
            else if (g != 0)
                g = bit_length(magnitude(g)) - right > 41 ? (g < 0 ? -limit : limit) : g * (std::int64_t{1} << -right);
            g = std::clamp(g, -limit, limit);
            layer.sum[i] += g;
            layer.norms += uint128{magnitude(g)} * magnitude(g);
        }
    }

    // Sum of |g|^2 over |sum of g|^2 in units of 2^-32, at most 2^48; 0 when the sum is zero.
    static std::uint64_t diversity(const layer_sums& layer) noexcept {
        uint128 norms = layer.norms, whole = 0;
        for (const std::int64_t s : layer.sum) {
            const auto m = static_cast<std::uint64_t>(s < 0 ? -s : s);
            whole += uint128{m} * m;
        }
        while (norms >> 94 != 0) {
            norms >>= 1;
            whole >>= 1;
        }
        if (whole == 0) return 0;
        constexpr uint128 most = uint128{1} << 48;
        return static_cast<std::uint64_t>(std::min(most, (norms << 32) / whole));
    }

    void judge() {
        std::uint64_t total = 0, counted = 0;
        for (const layer_sums& layer : sums_) {
            const std::uint64_t d = diversity(layer);
            total += d;
            counted += d != 0;
        }
        if (counted == 0) return;
        const std::uint64_t mean = std::max<std::uint64_t>(total / counted, 1);
        const std::uint64_t threshold = threshold_at(samples_ - 1);
        const std::uint64_t most = std::max(largest_, mean);
        const uint128 ratio = (uint128{most} << 16) / mean;
        note_everywhere(step_, static_cast<std::uint32_t>(std::min(ratio, uint128{0xFFFFFFFFu})),
                        static_cast<std::uint32_t>(threshold >> 15));
        largest_ = most;
        if (uint128{most} << 31 <= uint128{threshold} * mean || ++violations_ < patience) return;
        violations_ = 0;
        if (rung_ + 1 == settings_.widths.size()) return;
        ++rung_;
        largest_ = 0;
    }
    // 1 + 1.5 exp(-0.1 n) in Q31.
    static std::uint64_t threshold_at(std::uint64_t n) noexcept {
        constexpr std::uint64_t tenth = 6710886;  // Q26
        const std::uint64_t power =
            exp_negative(static_cast<std::uint32_t>(std::min<std::uint64_t>(n, 600) * tenth), -26);
        return (std::uint64_t{1} << 31) + power + power / 2;
    }

    layer_widths wanted(int) const override {
        const int width = settings_.widths[static_cast<std::size_t>(rung_)];
        return {width, width, width};
    }
    int widest() const override { return settings_.widths.back(); }
    LAMELLA_SELDOM std::string settings_text() const override {
        return "gradient-diversity:" + detail::text_of(settings_.widths) + ":" + std::to_string(settings_.every);
    }

    gradient_diversity_settings settings_;
    std::vector<layer_sums> sums_;
    std::uint64_t step_ = 0, samples_ = 0, rung_ = 0, violations_ = 0;
    std::uint64_t largest_ = 0;  // mean diversity since the last change, in units of 2^-32
};

}  // namespace lamella::precision
