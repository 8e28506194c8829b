// The controller concept: who decides the widths while training runs.
//
// A controller is asked for the widths of each layer before its GEMMs, may ask for one probe a step (a comparison of
// the same GEMM at two widths), sees every gemm_event as an observer does, and is part of the checkpoint. To write one,
// derive from `controller`; the network takes it by unique_ptr. Controllers here: fixed (below), laps.hpp.
#pragma once

#include <cstdint>
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../core/format.hpp"
#include "../core/state.hpp"
#include "../gemm/event.hpp"

namespace lamella::precision {

// Widths in bits of one layer's operands. FF multiplies activation x weight, EP error x weight, WG error x activation.
struct layer_widths {
    int activation = 8, weight = 8, error = 8;
    friend bool operator==(const layer_widths&, const layer_widths&) = default;
};

// "Compute layer's `where` GEMM at widths `low` and `high` and tell me how far apart the results are." FF requantises A
// and W, EP requantises E alone and compares WG's accumulators.
struct probe_request {
    int layer = 0;
    stage where = stage::feed_forward;
    int low = 0, high = 0;  // bits
};

__extension__ typedef unsigned __int128 uint128;

// sum |O_high - O_low| and sum |O_high|, in the same unit.
struct probe_result {
    probe_request request;
    uint128 distance = 0;
    uint128 magnitude = 0;
};

class controller {
  public:
    virtual ~controller() = default;

    // Called once, when the network is built. Layers are those with a GEMM, in order.
    virtual void attach(int layers) = 0;
    virtual layer_widths widths(int layer) const = 0;
    // Largest width that `widths` may ever return: memory and accumulators are planned for it.
    virtual int ceiling() const { return max_width; }
    virtual std::optional<probe_request> begin_step(std::uint64_t /*step*/) { return std::nullopt; }
    virtual void on_probe(const probe_result& /*result*/) {}
    virtual void on_gemm(const gemm::gemm_event& /*event*/) {}
    virtual bool wants_events() const { return false; }
    virtual void end_step() {}
    // Settings and state; the settings let a resumed run refuse another controller.
    virtual std::string description() const = 0;
    virtual void visit(state_visitor& visitor) = 0;
    virtual std::unique_ptr<controller> clone() const = 0;
};

// The same widths from the first step to the last: `feed_forward` bits for A and W, `error_propagation` bits for E, and
// optionally another width for the last layer's operands.
class fixed final : public controller {
  public:
    explicit fixed(int feed_forward, int error_propagation, std::optional<int> last_layer = std::nullopt)
        : forward_(checked_width(feed_forward, "precision fixed: feed-forward width")),
          backward_(checked_width(error_propagation, "precision fixed: error-propagation width")),
          last_(last_layer) {
        if (last_) checked_width(*last_, "last-layer width");
    }
    explicit fixed(int width) : fixed(width, width) {}

    void attach(int layers) override { layers_ = layers; }
    layer_widths widths(int layer) const override {
        if (last_ && layer == layers_ - 1) return {*last_, *last_, *last_};
        return {forward_, forward_, backward_};
    }
    int ceiling() const override { return std::max({forward_, backward_, last_.value_or(0)}); }
    std::string description() const override {
        std::string text = "fixed:" + std::to_string(forward_) + "," + std::to_string(backward_);
        if (last_) text += " last:" + std::to_string(*last_);
        return text;
    }
    void visit(state_visitor&) override {}
    std::unique_ptr<controller> clone() const override { return std::make_unique<fixed>(*this); }

  private:
    int forward_, backward_;
    std::optional<int> last_;
    int layers_ = 0;
};

}  // namespace lamella::precision
