// Batch normalisation: each channel of a batch to mean 0 and variance 1, then times a learned scale plus a learned
// shift. In integers: fixed_norm.hpp; the twin: real_norm.hpp. A convolution in front of it needs no bias.
#pragma once

#include <cstdint>
#include <string>

#include "fixed_norm.hpp"
#include "layers.hpp"
#include "real_norm.hpp"

namespace lamella::nn {

// Statistics are over the batch and over space, a channel each; in inference, running averages of training's batches.
// 2^-17 is added to the variance.
struct batch_norm {
    std::string describe() const { return "batch_norm"; }

    template <class A>
    class layer;
};

template <class A>
class batch_norm::layer {
    using tensor = typename A::tensor;

  public:
    static constexpr bool in_place = false;

    explicit layer(const batch_norm&) {}
    image_shape build(typename A::engine&, const image_shape& in, layer_ids& ids) {
        const auto key = static_cast<std::uint16_t>(ids.structure++);
        const auto channels = static_cast<std::size_t>(in.channels);
        detail::declare(scale_, "scale", {channels}, key, false);
        detail::declare(shift_, "shift", {channels}, key, true);
        if constexpr (std::is_same_v<A, fixed>) {
            std::fill(scale_.mantissa.begin(), scale_.mantissa.end(), std::int16_t{1 << 14});
            scale_.exponent = -14;
        } else {
            std::fill(scale_.value.begin(), scale_.value.end(), typename A::value{1});
        }
        norm_.build(in);
        return in;
    }
    tensor& forward(typename A::engine& e, tensor& in) {
        norm_.forward(e, in, scale_, shift_, out_);
        return out_;
    }
    tensor* backward(typename A::engine& e, tensor& error, bool wanted) {
        norm_.backward(e, error, scale_, shift_, wanted ? &in_error_ : nullptr);
        return wanted ? &in_error_ : nullptr;
    }
    template <class Visit>
    void parameters(Visit&& visit) {
        visit(scale_);
        visit(shift_);
    }
    void halve() noexcept {}
    void visit(state_visitor& visitor) {
        scale_.visit(visitor);
        shift_.visit(visitor);
        norm_.visit(visitor);
    }
    typename A::parameter& scale() noexcept { return scale_; }
    typename A::parameter& shift() noexcept { return shift_; }

  private:
    typename A::normaliser norm_;
    typename A::parameter scale_, shift_;
    tensor out_, in_error_;
};

}  // namespace lamella::nn
