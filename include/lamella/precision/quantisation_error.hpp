// The least width, tensor by tensor, that keeps the mean magnitude.
//
// Zhang et al., Fixed-Point Back-Propagation Training, CVPR 2020 (AFP; formula recalled, not read), and Cambricon's
// US20220156562 (claims): the mean magnitudes of a tensor before and after rounding are compared, and the width grows
// until they agree: log2(1 + |mean|x| - mean|x'|| / mean|x||) <= T, T = 0.03, which is a share of 0.021 in the
// threshold here. Every `every` steps the activations, the weights and the error of each layer are rounded to nearest
// at the rungs of the encoding's ladder, from the lowest on, with the same top bit as the operand in use; the first
// rung that meets the threshold is taken from the next step on, the highest when none does. (Stochastic rounding keeps
// the mean by itself and would tell nothing.) The paper's widths are 8, 16, 24, and its interval adapts; ours do not.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../core/decimal.hpp"
#include "../core/rounding.hpp"
#include "../slice/encoding.hpp"
#include "bounds.hpp"

namespace lamella::precision {

// The threshold, and how often it is looked at.
struct quantisation_error_settings {
    std::uint32_t threshold = 1376;  // in 2^-16 units (0.021)
    std::uint32_t every = 100;       // steps from one comparison to the next; the first one is at once
    slice::encoding digits = slice::encoding::sign_magnitude;
};

// Parses "threshold:every". Throws argument_error.
inline quantisation_error_settings parse_quantisation_error(std::string_view text,
                                                            quantisation_error_settings base = {}) {
    const std::vector<std::string> field = detail::fields(text, ':');
    if (field.size() != 2) throw argument_error("quantisation-error", "threshold:every", std::string(text));
    base.threshold = static_cast<std::uint32_t>(parse_fraction(field[0], 16, "quantisation-error threshold"));
    base.every = detail::whole_number(field[1], "quantisation-error every", 1);
    return base;
}

class quantisation_error final : public bounded_controller {
  public:
    explicit quantisation_error(const quantisation_error_settings& settings)
        : settings_(settings), ladder_(slice::ladder_of(settings.digits)) {
        if (settings.every == 0) throw argument_error("quantisation-error every", "at least 1", "0");
    }

    std::optional<probe_request> begin_step(std::uint64_t step) override {
        step_ = step;
        return std::nullopt;
    }
    bool wants_events() const override { return step_ % settings_.every == 0; }
    void on_gemm(const gemm::gemm_event& event) override {
        if (event.probe) return;
        if (event.where == stage::feed_forward && serves(stage::feed_forward)) {
            decide(event.layer, event.a);
            decide(event.layer, event.b);
        }
        if (event.where == stage::weight_gradient && serves(stage::error_propagation)) decide(event.layer, event.a);
    }

    void visit(state_visitor& visitor) override { visitor.integers("widths", std::span<std::int64_t>(widths_)); }
    std::unique_ptr<controller> clone() const override { return std::make_unique<quantisation_error>(*this); }

  private:
    static constexpr std::size_t roles = 3;  // activation, weight, error

    void start() override { widths_.assign(roles * static_cast<std::size_t>(layers()), ladder_.width[1]); }

    void decide(int layer, const gemm::event_operand& o) {
        const gemm::operand_source& from = o.source;
        const int dropped = o.view.exponent - from.exponent;
        int chosen = 0;
        std::uint32_t share = 0;
        for (int r = 0; r < ladder_.rungs; ++r) {
            const int width = ladder_.width[static_cast<std::size_t>(r)];
            if (r + 1 < ladder_.rungs && width < bounds(layer).lowest) continue;
            chosen = width;
            const int at = dropped + o.view.width - width;
            share = from.wide != nullptr ? change(from.wide, from.size, width, at)
                                         : change(from.master, from.size, width, at);
            if (share <= settings_.threshold || width >= bounds(layer).highest) break;
        }
        widths_[roles * static_cast<std::size_t>(layer) + static_cast<std::size_t>(o.what)] = chosen;
        note(step_, {layer, o.what == role::error ? stage::error_propagation : stage::feed_forward, share,
                     settings_.threshold});
    }

    // |sum |x| - sum |x'|| over sum |x| in 2^-16 units, x' the nearest mantissa of `width` bits after `dropped` bits.
    template <class Mantissa>
    static std::uint32_t change(const Mantissa* values, std::int64_t size, int width, int dropped) {
        const std::int64_t largest = largest_mantissa(width);
        const std::int64_t top = dropped >= 0 ? largest : dropped <= -31 ? 0 : largest >> -dropped;
        const int right = std::clamp(dropped, 0, 40);
        std::uint64_t before = 0, after = 0;
        for (std::int64_t i = 0; i < size; ++i) {
            const std::int64_t x = values[i] < 0 ? -std::int64_t{values[i]} : std::int64_t{values[i]};
            before += static_cast<std::uint64_t>(x);
            after += static_cast<std::uint64_t>(std::min(round_nearest(x, right), top));
        }
        if (before == 0) return 0;
        const uint128 scaled = uint128{after} << right;
        const uint128 distance = scaled > before ? scaled - before : before - scaled;
        return static_cast<std::uint32_t>(std::min((distance << 16) / before, uint128{0xFFFFFFFFu}));
    }

    layer_widths wanted(int layer) const override {
        const std::int64_t* w = widths_.data() + roles * static_cast<std::size_t>(layer);
        return {checked(w[0]), checked(w[1]), checked(w[2])};
    }
    // A checkpoint may hold anything.
    static int checked(std::int64_t width) noexcept {
        return static_cast<int>(std::clamp<std::int64_t>(width, min_width, max_width));
    }
    LAMELLA_SELDOM std::string settings_text() const override {
        return "quantisation-error:" + std::to_string(settings_.threshold) + ":" + std::to_string(settings_.every) +
               " " + std::string(name_of(settings_.digits));
    }

    quantisation_error_settings settings_;
    slice::ladder ladder_;
    std::uint64_t step_ = 0;
    std::vector<std::int64_t> widths_;  // a layer's activation, weight, error
};

}  // namespace lamella::precision
