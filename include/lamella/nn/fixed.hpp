// The integer arithmetic of a network: what travels between layers, and the settings and state of a run.
//
// `fixed` is one of the arithmetic policies that layers are templates on (real.hpp has the others). Wide tensors
// travel: int32 mantissas with one exponent. Operands of 2..16 bits are made at the GEMM that consumes them, in
// fixed_product.hpp: read that next.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "../core/histogram.hpp"
#include "../core/memory.hpp"
#include "../core/quantise.hpp"
#include "../core/sdfxp.hpp"
#include "../core/state.hpp"
#include "../gemm/event.hpp"
#include "../gemm/multiply.hpp"
#include "../precision/controller.hpp"
#include "feedback.hpp"
#include "parameter.hpp"
#include "shape.hpp"

namespace lamella::nn {

// The histogram of an operand over the run, in absolute magnitudes, so that steps with different exponents add up.
// Added to at every training step and in calibration, halved every 128 steps, part of the checkpoint; evaluation takes
// its exponents from it and so never depends on the batch.
class running_histogram {
  public:
    static constexpr int octaves = 192;   // exponents of the leading bit, -96 .. 95; beyond, the nearest of them
    static constexpr int lowest = -96;

    void add(const histogram& seen, int exponent) noexcept {
        ++steps();
        for (int bin = 0; bin < histogram::bins; ++bin) {
            const std::uint64_t count = seen.count[static_cast<std::size_t>(bin)];
            if (count == 0) continue;
            const int octave = std::clamp(bin / 4 + exponent - lowest, 0, octaves - 1);
            count_[static_cast<std::size_t>(4 * octave + bin % 4)] += count;
        }
    }
    void halve() noexcept {
        for (int bin = 0; bin < 4 * octaves; ++bin) count_[static_cast<std::size_t>(bin)] /= 2;
    }
    bool empty() const noexcept { return count_.back() == 0; }  // nothing was added

    // As a histogram of mantissas times 2^exponent, its largest magnitude just under 2^31. No magnitude at all when the
    // operand was zero in all steps that still count.
    histogram at(int& exponent) const noexcept {
        histogram relative;
        const int highest = top();
        exponent = 0;
        if (highest < 0) return relative;
        const int shift = highest / 4 - 30;  // octave that lands on bit length 1
        exponent = shift + lowest;
        for (int bin = 0; bin < histogram::bins; ++bin) {
            const int from = bin + 4 * shift;
            if (from >= 0 && from <= highest)
                relative.count[static_cast<std::size_t>(bin)] = count_[static_cast<std::size_t>(from)];
        }
        relative.maximum = histogram::highest_of(highest - 4 * shift);
        return relative;
    }
    void visit(state_visitor& visitor) { visitor.integers("running", std::span<std::uint64_t>(count_)); }

  private:
    int top() const noexcept {
        for (int bin = 4 * octaves - 1; bin >= 0; --bin)
            if (count_[static_cast<std::size_t>(bin)] != 0) return bin;
        return -1;
    }
    std::uint64_t& steps() noexcept { return count_.back(); }
    std::array<std::uint64_t, 4 * octaves + 1> count_{};  // a bin each, and the number of steps added
};

struct fixed {
    using value = std::int32_t;
    using parameter = fixed_parameter;
    static constexpr std::string_view name = "fixed";

    // A wide tensor: samples x height x width x channels mantissas, all times 2^exponent.
    struct tensor {
        std::int64_t samples = 0;
        image_shape shape;
        buffer<std::int32_t> data;
        int exponent = 0;
        int bits = 31;         // no mantissa is longer, whatever the batch
        histogram seen;        // of the mantissas, when `counted`; its maximum alone, when `measured`
        bool counted = false, measured = false;
        bool gated = false;    // values: one that is not positive passes no error back (it comes from a ReLU);
                               // errors: those that a ReLU stops are zero already

        std::int64_t size() const noexcept { return samples * shape.size(); }
        void reshape(std::int64_t count, const image_shape& s) {
            samples = count;
            shape = s;
            data.resize(static_cast<std::size_t>(size()));
            changed();
            gated = false;
        }
        void changed() noexcept { counted = measured = false; }
    };

    // Run-time choices of a run; none but `kernels` and `threads` in it may change during a run.
    struct settings {
        gemm::settings kernels;
        radix_policy activation{radix_rule::least_error, 0, 0};
        radix_policy weight{radix_rule::no_overflow, 0, 0};
        radix_policy error{radix_rule::least_error, 0, 0};
        rounding activation_rounding = rounding::stochastic;
        rounding weight_rounding = rounding::nearest;
        rounding error_rounding = rounding::stochastic;
        nn::feedback feedback = nn::feedback::propagated;
    };

    // What layers share during a step.
    struct engine {
        settings options;
        std::unique_ptr<precision::controller> controller;
        std::vector<gemm::observer*> observers;            // of training
        std::vector<gemm::observer*> inference_observers;  // of evaluation and prediction
        gemm::workspace workspace;
        std::uint64_t seed = 0;
        std::uint32_t step = 0;
        std::uint32_t first_position = 0;  // of this batch's first sample in the global batch
        bool training = false;
        bool calibrating = false;  // inference that adds to the running histograms
        std::optional<precision::probe_request> probe;
        tensor output_error;           // of this step; direct feedback alone
        buffer<std::int8_t> feedback;  // the matrix of the layer at work, direct feedback alone

        path isa() const noexcept { return options.kernels.isa; }
        int threads() const noexcept { return options.kernels.threads; }
        random_site site(std::uint16_t layer, stream use) const noexcept { return {seed, step, layer, use}; }
        void count(tensor& t) {
            if (t.counted) return;
            t.seen = histogram{};
            count_magnitudes(t.data.data(), t.size(), t.seen, isa(), threads());
            t.counted = t.measured = true;
        }
        // The largest magnitude of t's mantissas.
        std::uint32_t largest(tensor& t) {
            if (!t.measured) t.seen.maximum = largest_magnitude(t.data.data(), t.size(), isa(), threads());
            t.measured = true;
            return t.seen.maximum;
        }
        // Controllers and `observers` are told of training alone: evaluating must leave them and run totals as they
        // are.
        bool observed() const noexcept {
            return training ? !observers.empty() || controller->wants_events() : !inference_observers.empty();
        }
        void notify(const gemm::gemm_event& event) {
            if (training && controller->wants_events()) controller->on_gemm(event);
            for (gemm::observer* o : training ? observers : inference_observers) o->on_gemm(event);
        }
    };

    // Element-wise and pooling layers hand on what they know of a tensor they did not change the scale of.
    static void same_scale(const tensor& from, tensor& to) noexcept {
        to.exponent = from.exponent;
        to.bits = from.bits;
    }

    class product;     // the three GEMMs of a layer
    class normaliser;  // batch normalisation
};

}  // namespace lamella::nn
