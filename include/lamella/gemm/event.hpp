// One record instead of many mechanisms: every GEMM of a training step tells the observers that the network was given
// what was multiplied. Counts, the precision trace, reports, RTL vectors and operand capture are observers; with none,
// a GEMM costs nothing more.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "../core/histogram.hpp"
#include "../core/quantise.hpp"
#include "operation.hpp"

namespace lamella::gemm {

// How a tensor of images lies in memory: samples x (top + height + bottom) x (left + width + right) x channels, where
// the border (in pixels) is zeros that stand for padding: they are never multiplied in hardware and never counted.
// A matrix (weights) is one image without a border.
struct stored_images {
    const void* data = nullptr;  // the first mantissa, border included; int8 or int16 like the view's
    std::int64_t samples = 1, height = 1, width = 1, channels = 1;
    std::int64_t top = 0, bottom = 0, left = 0, right = 0;
    std::int64_t row() const noexcept { return (left + width + right) * channels; }       // elements
    std::int64_t image() const noexcept { return (top + height + bottom) * row(); }       // elements
    std::int64_t size() const noexcept { return samples * height * width * channels; }    // without the border
};

// What an operand was rounded from: a wide tensor, or a layer's master weights. Null when the event does not tell.
struct operand_source {
    const std::int32_t* wide = nullptr;
    const std::int16_t* master = nullptr;
    std::int64_t size = 0;  // elements
    int exponent = 0;
};

// One operand of an event: the mantissas as the kernel saw them, and how they were made.
struct event_operand {
    operand_view view;
    stored_images stored;
    role what = role::activation;
    const histogram* seen = nullptr;  // of the wide tensor before quantisation; null when not counted
    clip_counts clips;                // of its quantisation
    operand_source source{};          // FF: both operands; WG: the error
    std::optional<std::uint64_t> nonzeros{};  // mantissas that are not zero, when quantisation has counted them
};

// Valid only during the call. The work is M x N x K; `macs` are the logical multiply-accumulates without padding.
struct gemm_event {
    std::uint64_t step = 0;
    int layer = 0;  // ordinal of the layer among those with a GEMM
    stage where = stage::feed_forward;
    bool probe = false;  // a controller's comparison, not part of the training step
    std::int64_t macs = 0;
    std::int64_t samples = 0;
    event_operand a, b;
    // EP only: the values of the tensor whose error is computed, one per output (m, n); an output whose value is not
    // positive is dead (its ReLU passes nothing). Null when every output is needed.
    const std::int32_t* gate = nullptr;
    axis gate_rows;  // offset of row m; columns are contiguous
    // WG and EP, where it is known: the samples of a with a mantissa that is not zero, ascending. Null: any may have
    // one.
    const std::vector<std::int64_t>* active = nullptr;
    bool generated = false;  // b is made from random bits where it is used, and no memory holds it
};

// Sees every GEMM of a training step, before it runs.
class observer {
  public:
    virtual ~observer() = default;
    virtual void on_gemm(const gemm_event& event) = 0;
};

}  // namespace lamella::gemm
