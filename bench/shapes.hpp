// Shapes and operands of the products that bench/gemm times: plain matrices, and the layers of networks read through
// the same views as in training (nn/fixed_views.hpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lamella/core/memory.hpp"
#include "lamella/gemm/operation.hpp"

namespace lamella::bench {

using gemm::axis;

struct shape {
    std::string layer;  // and its stage; empty: plain matrices
    axis a_rows, a_depth, b_rows, b_depth;
    bool has_stage(std::string_view stage) const { return layer.ends_with(stage); }
    std::int64_t m() const { return a_rows.size(); }
    std::int64_t n() const { return b_rows.size(); }
    std::int64_t k() const { return a_depth.size(); }
    std::string size() const { return std::to_string(m()) + "x" + std::to_string(n()) + "x" + std::to_string(k()); }
};

inline shape plain(std::int64_t m, std::int64_t n, std::int64_t k) {
    return {"", axis::linear(m, k), axis::linear(k, 1), axis::linear(n, k), axis::linear(k, 1)};
}

// The three products of a fully connected layer: errors and weights are read transposed where they must be.
inline void add_linear(std::vector<shape>& to, const std::string& layer, std::int64_t batch, std::int64_t in,
                       std::int64_t out, bool first = false) {
    to.push_back(
        {layer + "_ff", axis::linear(batch, in), axis::linear(in, 1), axis::linear(out, in), axis::linear(in, 1)});
    if (!first)
        to.push_back({layer + "_ep", axis::linear(batch, out), axis::linear(out, 1), axis::linear(in, 1),
                      axis::linear(out, in)});
    to.push_back(
        {layer + "_wg", axis::linear(out, 1), axis::linear(batch, out), axis::linear(in, 1), axis::linear(batch, in)});
}

struct convolution {
    std::int64_t batch, size, in, kernel, out, padding = 0, stride = 1;
    bool first = false;
};

// The same of a convolution. Activations and the errors of EP have a border of zeros. EP of a stride above 1 is several
// smaller products and left out.
inline void add_convolution(std::vector<shape>& to, const std::string& layer, const convolution& c) {
    const std::int64_t bordered_in = c.size + 2 * c.padding, made = (bordered_in - c.kernel) / c.stride + 1;
    const std::int64_t taps = c.kernel * c.kernel * c.in, row = bordered_in * c.in;
    const bool propagates = !c.first && c.stride == 1;
    const std::int64_t edge = propagates ? c.kernel - 1 - c.padding : 0, error_row = (made + 2 * edge) * c.out;
    const std::int64_t error_image = (made + 2 * edge) * error_row;
    const axis pixels = axis::nested({c.batch, made, made}, {bordered_in * row, c.stride * row, c.stride * c.in});
    const axis window = axis::nested({1, c.kernel, c.kernel * c.in}, {0, row, 1});
    to.push_back({layer + "_ff", pixels, window, axis::linear(c.out, taps), axis::linear(taps, 1)});
    if (propagates)
        to.push_back({layer + "_ep", axis::nested({c.batch, c.size, c.size}, {error_image, error_row, c.out}),
                      axis::nested({c.kernel, c.kernel, c.out}, {error_row, c.out, 1}), axis::linear(c.in, 1),
                      axis::nested({c.kernel, c.kernel, c.out}, {c.kernel * c.in, c.in, taps})});
    to.push_back({layer + "_wg", axis::linear(c.out, 1),
                  axis::nested({c.batch, made, made}, {error_image, error_row, c.out}), window, pixels});
}

inline std::vector<shape> lenet_and_mlp() {
    constexpr std::int64_t batch = 64;
    std::vector<shape> s;
    add_convolution(s, "lenet_conv1", {.batch = batch, .size = 28, .in = 1, .kernel = 5, .out = 6, .first = true});
    add_convolution(s, "lenet_conv2", {.batch = batch, .size = 12, .in = 6, .kernel = 5, .out = 16});
    add_linear(s, "lenet_fc1", batch, 256, 120);
    add_linear(s, "lenet_fc2", batch, 120, 84);
    add_linear(s, "lenet_fc3", batch, 84, 10);
    add_linear(s, "mlp_fc1", batch, 784, 256, true);
    add_linear(s, "mlp_fc2", batch, 256, 128);
    add_linear(s, "mlp_fc3", batch, 128, 10);
    return s;
}

inline std::vector<shape> resnet20() {
    constexpr std::int64_t batch = 128;
    const auto layer = [](std::int64_t size, std::int64_t in, std::int64_t out, std::int64_t stride) {
        return convolution{.batch = batch,
                           .size = size,
                           .in = in,
                           .kernel = 3,
                           .out = out,
                           .padding = 1,
                           .stride = stride,
                           .first = in == 3};
    };
    std::vector<shape> s;
    add_convolution(s, "resnet20_conv", layer(32, 3, 16, 1));
    add_convolution(s, "resnet20_stage1", layer(32, 16, 16, 1));
    add_convolution(s, "resnet20_down2", layer(32, 16, 32, 2));
    add_convolution(s, "resnet20_stage2", layer(16, 32, 32, 1));
    add_convolution(s, "resnet20_down3", layer(16, 32, 64, 2));
    add_convolution(s, "resnet20_stage3", layer(8, 64, 64, 1));
    add_linear(s, "resnet20_fc", batch, 64, 10);
    return s;
}

// Zeros that an operand has besides those that happen: groups of four mantissas along the depth of one row, or tiles of
// six rows and four mantissas; the rest stays as it was. Plain matrices only.
struct zeros {
    enum class unit { none, groups, tiles };
    unit what = unit::none;
    int percent = 0;
    bool right = false;  // of the right operand instead of the left one
    std::string name() const {
        if (what == unit::none) return "dense";
        const std::string share = percent % 10 == 0 ? std::to_string(percent / 10) : std::to_string(percent);
        return std::string(right ? "right_" : "") + (what == unit::groups ? "groups:0." : "tiles:0.") + share;
    }
};

// Mantissas of any width within its range, uniform; `positive`: none below zero, as behind a ReLU.
class operand {
  public:
    operand(const axis& rows, const axis& depth, int width, bool positive, const zeros& pattern = {}) {
        std::int64_t last = 0;  // reach of the view, so that storage holds all of it
        for (const axis* x : {&rows, &depth})
            for (std::size_t d = 0; d < 3; ++d) last += (x->extent[d] - 1) * x->stride[d];
        const auto count = static_cast<std::size_t>(last + 1);
        width <= byte_width ? bytes_.resize(count) : words_.resize(count);
        const int largest = largest_mantissa(width);
        const int lowest = positive ? 0 : -largest;
        for (std::size_t i = 0; i < count; ++i) set(i, lowest + static_cast<int>(below(largest - lowest + 1)));
        view.data =
            width <= byte_width ? static_cast<const void*>(bytes_.data()) : static_cast<const void*>(words_.data());
        view.width = width;
        view.rows = rows;
        view.depth = depth;
        if (pattern.what != zeros::unit::none) clear(pattern);
    }

    gemm::operand_view view;
    std::int64_t size() const {
        return static_cast<std::int64_t>(bytes_.size() + sizeof(std::int16_t) * words_.size());
    }

  private:
    // splitmix64: quick, since operands are made anew for every repetition.
    std::uint32_t below(int bound) {
        std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return static_cast<std::uint32_t>(((x >> 32) * static_cast<std::uint64_t>(bound)) >> 32);
    }
    void set(std::size_t at, int mantissa) {
        if (words_.empty())
            bytes_[at] = static_cast<std::int8_t>(mantissa);
        else
            words_[at] = static_cast<std::int16_t>(mantissa);
    }
    void clear(const zeros& pattern) {
        const std::int64_t tall = pattern.what == zeros::unit::tiles ? 6 : 1;
        const std::int64_t rows = view.rows.size(), depth = view.depth.size();
        for (std::int64_t row = 0; row < rows; row += tall)
            for (std::int64_t k = 0; k < depth; k += 4) {
                if (static_cast<int>(below(100)) >= pattern.percent) continue;
                for (std::int64_t r = row; r < std::min(row + tall, rows); ++r)
                    for (std::int64_t i = k; i < std::min(k + 4, depth); ++i)
                        set(static_cast<std::size_t>(view.rows.offset(r) + view.depth.offset(i)), 0);
            }
    }
    buffer<std::int8_t> bytes_;
    buffer<std::int16_t> words_;
    std::uint64_t state_ = 7;
};

}  // namespace lamella::bench
