// Progressive precision: one width for all layers, raised when the training loss stalls.
//
// Fu et al., FracTrain, NeurIPS 2020 (PFQ; rule as in their code). The mean loss of every interval of steps is looked
// at; when those of the last four intervals all differ from the present one by at most eps x the mean loss of the first
// ten intervals (of as many as there were), training has stalled: the next width is taken, the window is emptied, and
// after the first two such turning points eps falls to 0.3 of itself. The paper's widths, 3-4-6-8 forward and 6-6-8-8
// backward, are two controllers here (per_stage.hpp).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/decimal.hpp"
#include "bounds.hpp"

namespace lamella::precision {

// Widths in their order, and when the loss counts as stalled.
struct progressive_settings {
    std::vector<int> widths{5, 8};  // bits, growing
    std::uint32_t every = 400;      // steps of an interval, 400 in their code
    std::uint32_t eps = 3277;       // in 2^-16 units (0.05)
};

// Parses "widths:every:eps", as in "5-8-12:400:0.05". Throws argument_error.
inline progressive_settings parse_progressive(std::string_view text) {
    const std::vector<std::string> field = detail::fields(text, ':');
    if (field.size() != 3) throw argument_error("progressive", "widths:every:eps", std::string(text));
    progressive_settings s;
    s.widths = detail::growing_widths(field[0], "progressive widths");
    s.every = detail::whole_number(field[1], "progressive every", 1);
    s.eps = static_cast<std::uint32_t>(parse_fraction(field[2], 16, "progressive eps"));
    return s;
}

class progressive final : public bounded_controller {
  public:
    explicit progressive(progressive_settings settings) : settings_(std::move(settings)), eps_(settings_.eps) {
        if (settings_.widths.empty()) throw argument_error("progressive widths", "at least one", "none");
        for (const int width : settings_.widths) checked_width(width, "progressive widths");
        if (settings_.every == 0) throw argument_error("progressive every", "at least 1", "0");
    }

    std::optional<probe_request> begin_step(std::uint64_t step) override {
        step_ = step;
        return std::nullopt;
    }
    bool wants_loss() const override { return true; }
    void on_loss(std::uint64_t sum, std::int64_t samples) override {
        sum_ += sum;
        samples_ += static_cast<std::uint64_t>(samples);
    }
    void end_step() override {
        if ((step_ + 1) % settings_.every != 0 || samples_ == 0) return;
        end_interval((sum_ << 8) / samples_);
        sum_ = samples_ = 0;
    }

    std::uint64_t turning_points() const noexcept { return turns_; }

    void visit(state_visitor& visitor) override {
        visitor.integer("sum", sum_);
        visitor.integer("samples", samples_);
        visitor.integer("turns", turns_);
        visitor.integer("eps", eps_);
        visitor.integer("first_sum", first_sum_);
        visitor.integer("first_count", first_count_);
        visitor.integer("held", held_);
        visitor.integers("window", std::span<std::uint64_t>(window_));
        turns_ = std::min<std::uint64_t>(turns_, settings_.widths.size() - 1);
        held_ = std::min<std::uint64_t>(held_, window_.size());
    }
    std::unique_ptr<controller> clone() const override { return std::make_unique<progressive>(*this); }

  private:
    // `loss`: the interval's mean, in units of 2^-24.
    void end_interval(std::uint64_t loss) {
        if (first_count_ < 10) {
            first_sum_ += loss;
            ++first_count_;
        }
        if (turns_ + 1 == settings_.widths.size()) return;
        if (held_ < window_.size()) {
            window_[held_++] = loss;
            return;
        }
        std::uint64_t farthest = 0;  // of the four intervals before
        for (const std::uint64_t before : window_)
            farthest = std::max(farthest, before > loss ? before - loss : loss - before);
        const uint128 change = uint128{farthest} * first_count_ << 16;  // x 2^16 x first_count_, as the threshold is
        const std::uint64_t share = first_sum_ == 0 ? 0 : static_cast<std::uint64_t>(change / first_sum_);
        note_everywhere(step_, static_cast<std::uint32_t>(std::min<std::uint64_t>(share, ~std::uint32_t{0})), eps_);
        if (change > uint128{eps_} * first_sum_) {
            for (std::size_t i = 1; i < window_.size(); ++i) window_[i - 1] = window_[i];
            window_.back() = loss;
            return;
        }
        held_ = 0;
        if (++turns_ <= 2) eps_ = eps_ * 3 / 10;
    }

    layer_widths wanted(int) const override {
        const int width = settings_.widths[static_cast<std::size_t>(turns_)];
        return {width, width, width};
    }
    int widest() const override { return settings_.widths.back(); }
    LAMELLA_SELDOM std::string settings_text() const override {
        return "progressive:" + detail::text_of(settings_.widths) + ":" + std::to_string(settings_.every) + ":" +
               std::to_string(settings_.eps);
    }

    progressive_settings settings_;
    std::uint32_t eps_;                               // present share, in 2^-16 units
    std::uint64_t step_ = 0, sum_ = 0, samples_ = 0;  // of the running interval
    std::uint64_t turns_ = 0;                         // turning points so far: index of the width
    std::uint64_t first_sum_ = 0, first_count_ = 0, held_ = 0;
    std::array<std::uint64_t, 4> window_{};  // losses of the intervals before, oldest first
};

}  // namespace lamella::precision
