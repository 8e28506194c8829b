// Layers, written once over the arithmetic: linear, conv2d, depthwise_conv2d, relu, flatten. Others: activation.hpp,
// pool.hpp, batch_norm.hpp, residual.hpp; the loss: loss.hpp.
//
// A layer has two parts. The *blueprint* (`conv2d`, `relu`, ...) is a small value that users compose. Its nested
// template `layer<A>` is the layer in arithmetic A (nn::fixed, nn::float32, nn::float64):
//
//   image_shape build(A::engine&, const image_shape& in, layer_ids&)   shapes, parameters, initial weights
//   A::tensor& forward(A::engine&, A::tensor& in)
//   A::tensor* backward(A::engine&, A::tensor& error, bool wanted)     error of its input; null unless wanted
//   void parameters(visit)                                             calls visit(A::parameter&)
//   void halve(); void visit(state_visitor&)                           running statistics; state
//   static constexpr bool in_place                                     false: it leaves the tensors that it is given as
//                                                                      they are, and has no more use for those that it
//                                                                      returned; true when absent
//
// To add a layer, write such a pair; nothing else knows the list.
#pragma once

#include <cstdint>
#include <string>
#include <vector>
#include <utility>

#include "../core/path.hpp"
#include "fixed.hpp"
#include "fixed_product.hpp"
#include "initial.hpp"
#include "real.hpp"
#include "shape.hpp"

namespace lamella::nn {

// What a layer of a sequence is, noted while the network is built; summary.hpp prints it.
struct layer_record {
    std::string name;             // the blueprint's words
    int depth = 0;                // of the sequences around it
    image_shape out;
    std::int64_t parameters = 0;  // without those of layers inside that have records of their own
    std::int64_t macs = 0;        // multiply-accumulates of FF, one sample; EP and WG take as many
    int product = -1;             // its ordinal among the layers with a GEMM; -1: it has none, or several
};

// Numbers handed out while a network is built: `structure` counts all layers (it keys random bits), `products` those
// with a GEMM (it names them to controllers and observers).
struct layer_ids {
    int structure = 0;
    int products = 0;
    image_shape flattened{0, 0, 0};  // what a flatten made one pixel of, until a linear layer has read it
    int depth = 0;                   // sequences around the layer that is being built
    std::vector<layer_record> records;
};

namespace detail {

template <class T>
LAMELLA_ALWAYS_INLINE void rectify_body(T* x, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) x[i] = x[i] > T{0} ? x[i] : T{0};
}
LAMELLA_MULTIVERSION_TEMPLATE(rectify, (class T), (T* x, std::int64_t n), (x, n))

template <class T>
LAMELLA_ALWAYS_INLINE void gate_body(const T* x, T* error, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) error[i] = x[i] > T{0} ? error[i] : T{0};
}
LAMELLA_MULTIVERSION_TEMPLATE(gate, (class T), (const T* x, T* error, std::int64_t n), (x, error, n))

// What linear and conv2d share: a weight, a bias and the three products.
template <class A>
class affine_layer {
  public:
    static constexpr bool in_place = false;

    image_shape build(typename A::engine& e, const geometry& g, layer_ids& ids, bool biased = true) {
        index_ = ids.products++;
        const auto layer = static_cast<std::uint16_t>(ids.structure++);
        product_.build(e, g, index_, layer);
        const auto size = [](std::int64_t x) { return static_cast<std::size_t>(x); };
        declare(weight_, "weight",
                {size(g.out.channels), size(g.kernel_height), size(g.kernel_width), size(g.in_part())}, layer, false);
        declare(bias_, "bias", {biased ? size(g.out.channels) : 0}, layer, true);
        initialise(weight_, g.depth(), e.seed);
        geometry_ = g;
        return g.out;
    }
    typename A::tensor& forward(typename A::engine& e, typename A::tensor& in) {
        in_ = &in;
        product_.forward(e, in, weight_, bias_, out_);
        return out_;
    }
    typename A::tensor* backward(typename A::engine& e, typename A::tensor& error, bool wanted) {
        product_.backward(e, *in_, error, weight_, bias_, wanted ? &in_error_ : nullptr);
        return wanted ? &in_error_ : nullptr;
    }
    template <class Visit>
    void parameters(Visit&& visit) {
        visit(weight_);
        if (biased()) visit(bias_);
    }
    void halve() noexcept { product_.halve(); }
    void visit(state_visitor& visitor) {
        weight_.visit(visitor);
        if (biased()) bias_.visit(visitor);
        product_.visit(visitor);
    }
    const geometry& shape() const noexcept { return geometry_; }
    int index() const noexcept { return index_; }
    typename A::parameter& weight() noexcept { return weight_; }
    typename A::parameter& bias() noexcept { return bias_; }

  private:
    bool biased() const noexcept { return !bias_.gradient.empty(); }

    geometry geometry_;
    int index_ = 0;
    typename A::product product_;
    typename A::parameter weight_, bias_;
    typename A::tensor* in_ = nullptr;
    typename A::tensor out_, in_error_;
};

template <class Layer>
inline constexpr bool works_in_place = [] {
    if constexpr (requires { Layer::in_place; })
        return Layer::in_place;
    else
        return true;
}();

// A layer without parameters or state.
struct stateless {
    template <class Visit>
    void parameters(Visit&&) {}
    void halve() noexcept {}
    void visit(state_visitor&) {}
};

}  // namespace detail

// Fully connected: every input value of a sample to `units` outputs (1 x 1 x units).
struct linear {
    std::int64_t units = 1;

    LAMELLA_SELDOM std::string describe() const { return "linear(" + std::to_string(units) + ")"; }

    template <class A>
    class layer;
};

template <class A>
class linear::layer : public detail::affine_layer<A> {
  public:
    explicit layer(const linear& blueprint) : blueprint_(blueprint) {}
    image_shape build(typename A::engine& e, const image_shape& in, layer_ids& ids) {
        if (blueprint_.units < 1) throw argument_error("linear units", "at least 1", std::to_string(blueprint_.units));
        const image_shape flattened = std::exchange(ids.flattened, {0, 0, 0});
        reads_ = flattened.size() == in.size() ? flattened : in;
        return detail::affine_layer<A>::build(
            e, convolution({1, 1, in.size()}, blueprint_.units, 1, 1, 1, 0), ids);
    }
    void visit(state_visitor& visitor) {
        visitor.reads_image(reads_.height, reads_.width, reads_.channels);
        detail::affine_layer<A>::visit(visitor);
    }

  private:
    linear blueprint_;
    image_shape reads_;
};

// Convolution with a square kernel, zero padding and, unless a batch normalisation follows, a bias; weights OHWI.
struct conv2d {
    std::int64_t channels = 1;
    std::int64_t kernel = 3;
    std::int64_t stride = 1;
    std::int64_t padding = 0;
    bool bias = true;

    LAMELLA_SELDOM std::string describe() const {
        return "conv2d(" + std::to_string(channels) + "," + std::to_string(kernel) + "," + std::to_string(stride) +
               "," + std::to_string(padding) + (bias ? ")" : ",no bias)");
    }

    template <class A>
    class layer;
};

template <class A>
class conv2d::layer : public detail::affine_layer<A> {
  public:
    explicit layer(const conv2d& blueprint) : blueprint_(blueprint) {}
    image_shape build(typename A::engine& e, const image_shape& in, layer_ids& ids) {
        const conv2d& b = blueprint_;
        const geometry g = convolution(in, b.channels, b.kernel, b.kernel, b.stride, b.padding);
        return detail::affine_layer<A>::build(e, g, ids, b.bias);
    }

  private:
    conv2d blueprint_;
};

// Convolution of each channel by itself with a square kernel, zero padding and, if wanted, a bias; weights OHWI with
// one input channel. One GEMM a channel: right, counted as others are, and slow.
struct depthwise_conv2d {
    std::int64_t kernel = 3;
    std::int64_t stride = 1;
    std::int64_t padding = 0;
    bool bias = true;

    LAMELLA_SELDOM std::string describe() const {
        return "depthwise_conv2d(" + std::to_string(kernel) + "," + std::to_string(stride) + "," +
               std::to_string(padding) + (bias ? ")" : ",no bias)");
    }

    template <class A>
    class layer;
};

template <class A>
class depthwise_conv2d::layer : public detail::affine_layer<A> {
  public:
    explicit layer(const depthwise_conv2d& blueprint) : blueprint_(blueprint) {}
    image_shape build(typename A::engine& e, const image_shape& in, layer_ids& ids) {
        const depthwise_conv2d& b = blueprint_;
        geometry g = convolution(in, in.channels, b.kernel, b.kernel, b.stride, b.padding);
        g.groups = in.channels;
        return detail::affine_layer<A>::build(e, g, ids, b.bias);
    }

  private:
    depthwise_conv2d blueprint_;
};

// max(x, 0), in place and exact; passes error where x > 0.
struct relu {
    std::string describe() const { return "relu"; }

    template <class A>
    class layer : public detail::stateless {
      public:
        explicit layer(const relu&) {}
        image_shape build(typename A::engine&, const image_shape& in, layer_ids& ids) {
            ++ids.structure;
            return in;
        }
        typename A::tensor& forward(typename A::engine& e, typename A::tensor& in) {
            detail::rectify(e.isa(), in.data.data(), in.size());
            in.gated = true;
            in.changed();
            out_ = &in;
            return in;
        }
        typename A::tensor* backward(typename A::engine& e, typename A::tensor& error, bool wanted) {
            if (!wanted) return nullptr;
            if (error.gated) return &error;
            detail::gate(e.isa(), out_->data.data(), error.data.data(), error.size());
            error.changed();
            return &error;
        }

      private:
        typename A::tensor* out_ = nullptr;
    };
};

// Forgets the image's shape: height x width x channels values become one pixel of as many channels. NHWC order stays.
struct flatten {
    std::string describe() const { return "flatten"; }

    template <class A>
    class layer : public detail::stateless {
      public:
        explicit layer(const flatten&) {}
        image_shape build(typename A::engine&, const image_shape& in, layer_ids& ids) {
            ++ids.structure;
            from_ = ids.flattened = in;
            return {1, 1, in.size()};
        }
        typename A::tensor& forward(typename A::engine&, typename A::tensor& in) {
            in.shape = {1, 1, from_.size()};
            return in;
        }
        typename A::tensor* backward(typename A::engine&, typename A::tensor& error, bool wanted) {
            error.shape = from_;
            return wanted ? &error : nullptr;
        }

      private:
        image_shape from_;
    };
};

}  // namespace lamella::nn
