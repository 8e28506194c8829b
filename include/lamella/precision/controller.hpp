// The controller concept: who decides the widths while training runs.
//
// A controller is asked for the widths of each layer before its GEMMs, may ask for one probe a step (a comparison of
// the same GEMM at two widths), sees every gemm_event as an observer does, and is part of the checkpoint. To write one,
// derive from `controller`, or from bounded_controller (bounds.hpp) to have floors, ceilings and single stages; the
// network takes it by unique_ptr. The library's own are in this folder, one header each; parse.hpp makes any from text.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
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

// What a rule compared to decide on a layer and stage (FF or EP): a share and its threshold, in units of 2^-16.
struct measurement {
    int layer = 0;
    stage where = stage::feed_forward;
    std::uint32_t metric = 0, threshold = 0;
};

class controller {
  public:
    virtual ~controller() = default;

    // Called for each layer with a GEMM, in order, while the network is built; then `attach`, once.
    virtual void layer_built(int /*layer*/, std::int64_t /*weights*/) {}
    virtual void attach(int layers) = 0;
    virtual layer_widths widths(int layer) const = 0;
    // The exponent of an operand whose radix point does not follow the data; none: the radix policy decides.
    virtual std::optional<int> exponent(int /*layer*/, role /*what*/) const { return std::nullopt; }
    // Largest width that `widths` may ever return: memory and accumulators are planned for it.
    virtual int ceiling() const { return max_width; }
    virtual std::optional<probe_request> begin_step(std::uint64_t /*step*/) { return std::nullopt; }
    virtual void on_probe(const probe_result& /*result*/) {}
    virtual void on_gemm(const gemm::gemm_event& /*event*/) {}
    virtual bool wants_events() const { return false; }
    // The batch's loss: the sum over its samples of -log2(probability of the label), in units of 2^-16.
    virtual void on_loss(std::uint64_t /*sum*/, std::int64_t /*samples*/) {}
    virtual bool wants_loss() const { return false; }
    // A layer's weight gradient: the exact sums over the batch, times 2^exponent. Valid only during the call.
    virtual void on_gradient(int /*layer*/, std::span<const std::int64_t> /*sums*/, int /*exponent*/) {}
    virtual bool wants_gradients() const { return false; }
    virtual void end_step() {}
    // Hands out what was compared in that step, if it was the last one in which anything was. For reports.
    virtual void each_measurement(std::uint64_t step, const std::function<void(const measurement&)>& visit) const {
        if (step != measured_at_) return;
        for (const measurement& m : measured_) visit(m);
    }
    // Settings and state; the settings let a resumed run refuse another controller.
    virtual std::string description() const = 0;
    virtual void visit(state_visitor& visitor) = 0;
    virtual std::unique_ptr<controller> clone() const = 0;

  protected:
    void reserve_measurements(std::size_t most) { measured_.reserve(most); }
    void note(std::uint64_t step, const measurement& m) {
        if (step != measured_at_) measured_.clear();
        measured_at_ = step;
        measured_.push_back(m);
    }

  private:
    std::vector<measurement> measured_;
    std::uint64_t measured_at_ = 0;
};

// The feed-forward widths of layers 0 .. layers - 1, activation/weight: "5/5 8/8". For readers of a checkpoint that
// know no controllers.
inline std::string widths_text(const controller& decides, int layers) {
    std::string text;
    for (int layer = 0; layer < layers; ++layer) {
        const layer_widths w = decides.widths(layer);
        text += (layer == 0 ? "" : " ") + std::to_string(w.activation) + "/" + std::to_string(w.weight);
    }
    return text;
}

}  // namespace lamella::precision
