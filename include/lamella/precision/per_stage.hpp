// Two controllers for one network: one decides on A and W in feed-forward, the other on E in error propagation.
//
// A step has at most one probe. When both ask in the same step, or one waits, feed-forward's goes first and the other's
// runs in the next step; at most one waits, a further one is not made.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "bounds.hpp"

namespace lamella::precision {

class per_stage final : public controller {
  public:
    // Throws argument_error when one is missing.
    per_stage(std::unique_ptr<bounded_controller> feed_forward, std::unique_ptr<bounded_controller> error_propagation)
        : parts_{std::move(feed_forward), std::move(error_propagation)} {
        for (const auto& part : parts_)
            if (part == nullptr) throw argument_error("per_stage", "a controller for either stage", "none");
        parts_[0]->serve_only(stage::feed_forward);
        parts_[1]->serve_only(stage::error_propagation);
    }

    void layer_built(int layer, std::int64_t weights) override {
        for (const auto& part : parts_) part->layer_built(layer, weights);
    }
    void attach(int layers) override {
        for (const auto& part : parts_) part->attach(layers);
    }
    layer_widths widths(int layer) const override {
        const layer_widths forward = parts_[0]->widths(layer);
        return {forward.activation, forward.weight, parts_[1]->widths(layer).error};
    }
    std::optional<int> exponent(int layer, role what) const override {
        return parts_[what == role::error ? 1 : 0]->exponent(layer, what);
    }
    int ceiling() const override { return std::max(parts_[0]->ceiling(), parts_[1]->ceiling()); }

    std::optional<probe_request> begin_step(std::uint64_t step) override {
        std::optional<probe_request> now = std::exchange(waiting_, std::nullopt);
        for (const auto& part : parts_)
            if (const auto request = part->begin_step(step)) (now ? waiting_ : now) = request;
        return now;
    }
    void on_probe(const probe_result& result) override {
        parts_[result.request.where == stage::feed_forward ? 0 : 1]->on_probe(result);
    }
    bool wants_events() const override { return parts_[0]->wants_events() || parts_[1]->wants_events(); }
    void on_gemm(const gemm::gemm_event& event) override {
        for (const auto& part : parts_)
            if (part->wants_events()) part->on_gemm(event);
    }
    bool wants_loss() const override { return parts_[0]->wants_loss() || parts_[1]->wants_loss(); }
    void on_loss(std::uint64_t sum, std::int64_t samples) override {
        for (const auto& part : parts_) part->on_loss(sum, samples);
    }
    bool wants_gradients() const override { return parts_[0]->wants_gradients() || parts_[1]->wants_gradients(); }
    void on_gradient(int layer, std::span<const std::int64_t> sums, int exponent) override {
        for (const auto& part : parts_)
            if (part->wants_gradients()) part->on_gradient(layer, sums, exponent);
    }
    void end_step() override {
        for (const auto& part : parts_) part->end_step();
    }
    void each_measurement(std::uint64_t step, const std::function<void(const measurement&)>& visit) const override {
        for (const auto& part : parts_) part->each_measurement(step, visit);
    }
    std::string description() const override { return parts_[0]->description() + " / " + parts_[1]->description(); }
    void visit(state_visitor& visitor) override {
        constexpr std::array<const char*, 2> names{"feed_forward", "error_propagation"};
        for (std::size_t i = 0; i < parts_.size(); ++i) {
            const state_visitor::scope scope(visitor, names[i]);
            parts_[i]->visit(visitor);
        }
        const probe_request held = waiting_.value_or(probe_request{});
        std::int64_t waiting[5] = {waiting_.has_value(), held.layer, held.where == stage::error_propagation, held.low,
                                   held.high};
        visitor.integers("waiting", std::span<std::int64_t>(waiting));
        waiting_.reset();
        if (waiting[0] != 0)
            waiting_ = probe_request{static_cast<int>(waiting[1]),
                                     waiting[2] == 0 ? stage::feed_forward : stage::error_propagation,
                                     static_cast<int>(std::clamp<std::int64_t>(waiting[3], min_width, max_width)),
                                     static_cast<int>(std::clamp<std::int64_t>(waiting[4], min_width, max_width))};
    }
    std::unique_ptr<controller> clone() const override {
        const auto copy = [](const bounded_controller& part) {
            return std::unique_ptr<bounded_controller>(static_cast<bounded_controller*>(part.clone().release()));
        };
        auto both = std::make_unique<per_stage>(copy(*parts_[0]), copy(*parts_[1]));
        both->waiting_ = waiting_;
        return both;
    }

  private:
    std::array<std::unique_ptr<bounded_controller>, 2> parts_;
    std::optional<probe_request> waiting_;
};

}  // namespace lamella::precision
