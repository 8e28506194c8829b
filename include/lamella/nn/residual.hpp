// Residual blocks: out = main(x) + shortcut(x), a static composition of two paths (He et al. 2015).
//
//   nn::residual(nn::sequential(conv.., batch_norm{}, relu{}, conv.., batch_norm{}))           identity shortcut
//   nn::residual(main, nn::sequential(nn::conv2d{32, 1, 2, 0, false}, nn::batch_norm{}))       projection
//   nn::residual(main, nn::subsample{2, 32})                                                   option A of the paper
//
// A ReLU after the sum is a layer of its own. How the sum is formed in integers: add.hpp.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "add.hpp"
#include "layers.hpp"

namespace lamella::nn {

// The input itself.
struct identity {
    std::string describe() const { return "identity"; }

    template <class A>
    class layer : public detail::stateless {
      public:
        explicit layer(const identity&) {}
        image_shape build(typename A::engine&, const image_shape& in, layer_ids& ids) {
            ++ids.structure;
            return in;
        }
        typename A::tensor& forward(typename A::engine&, typename A::tensor& in) { return in; }
        typename A::tensor* backward(typename A::engine&, typename A::tensor& error, bool wanted) {
            return wanted ? &error : nullptr;
        }
    };
};

// Every stride-th pixel of every stride-th row; channels past the input's are zero. Exact.
struct subsample {
    std::int64_t stride = 2;
    std::int64_t channels = 1;  // at least the input's

    LAMELLA_SELDOM std::string describe() const {
        return "subsample(" + std::to_string(stride) + "," + std::to_string(channels) + ")";
    }

    template <class A>
    class layer;
};

template <class A>
class subsample::layer : public detail::stateless {
    using value = typename A::value;
    using tensor = typename A::tensor;

  public:
    static constexpr bool in_place = false;

    explicit layer(const subsample& blueprint) : blueprint_(blueprint) {}
    image_shape build(typename A::engine&, const image_shape& in, layer_ids& ids) {
        ++ids.structure;
        const std::int64_t step = blueprint_.stride;
        if (step < 1) throw argument_error("subsample stride", "at least 1", std::to_string(step));
        if (blueprint_.channels < in.channels)
            throw argument_error("subsample channels", "at least the input's " + std::to_string(in.channels),
                                 std::to_string(blueprint_.channels));
        in_shape_ = in;
        out_shape_ = {(in.height - 1) / step + 1, (in.width - 1) / step + 1, blueprint_.channels};
        return out_shape_;
    }
    tensor& forward(typename A::engine&, tensor& in) {
        out_.reshape(in.samples, out_shape_);
        A::same_scale(in, out_);
        out_.data.fill_zero();
        walk(in.samples, [&](std::int64_t inside, std::int64_t outside) {
            copy(in.data.data() + inside, out_.data.data() + outside);
        });
        return out_;
    }
    tensor* backward(typename A::engine&, tensor& error, bool wanted) {
        if (!wanted) return nullptr;
        in_error_.reshape(error.samples, in_shape_);
        A::same_scale(error, in_error_);
        in_error_.data.fill_zero();
        walk(error.samples, [&](std::int64_t inside, std::int64_t outside) {
            copy(error.data.data() + outside, in_error_.data.data() + inside);
        });
        return &in_error_;
    }

  private:
    void copy(const value* from, value* to) const noexcept {
        std::memcpy(to, from, static_cast<std::size_t>(in_shape_.channels) * sizeof(value));
    }
    // Calls visit(offset in the input, offset in the output) for each pixel that is kept.
    template <class Visit>
    void walk(std::int64_t samples, Visit&& visit) const {
        std::int64_t outside = 0;
        for (std::int64_t s = 0; s < samples; ++s)
            for (std::int64_t y = 0; y < out_shape_.height; ++y)
                for (std::int64_t x = 0; x < out_shape_.width; ++x, outside += out_shape_.channels)
                    visit(((s * in_shape_.height + y * blueprint_.stride) * in_shape_.width + x * blueprint_.stride) *
                              in_shape_.channels,
                          outside);
    }

    subsample blueprint_;
    image_shape in_shape_, out_shape_;
    tensor out_, in_error_;
};

// The blueprint of a residual block.
template <class Main, class Shortcut>
struct residual_block {
    Main main;
    Shortcut shortcut;

    LAMELLA_SELDOM std::string describe() const {
        return "residual(" + main.describe() + " | " + shortcut.describe() + ")";
    }

    template <class A>
    class layer;
};

// Two blueprints as a residual block: the shortcut is the identity unless given.
template <class Main, class Shortcut = identity>
constexpr residual_block<Main, Shortcut> residual(Main main, Shortcut shortcut = {}) {
    return {std::move(main), std::move(shortcut)};
}

namespace detail {

// A path of a residual block. One that works in place gets copies of what the other path needs, too.
template <class A, class Blueprint>
class residual_path {
    using tensor = typename A::tensor;
    using layer_type = typename Blueprint::template layer<A>;
    static constexpr bool copies = works_in_place<layer_type> && !std::is_same_v<Blueprint, identity>;

  public:
    explicit residual_path(const Blueprint& blueprint) : layer_(blueprint) {}
    layer_type& layer() noexcept { return layer_; }
    tensor& forward(typename A::engine& e, tensor& in) { return layer_.forward(e, own(in, in_)); }
    tensor* backward(typename A::engine& e, tensor& error, bool wanted) {
        return layer_.backward(e, own(error, error_), wanted);
    }

  private:
    static tensor& own(tensor& given, tensor& copy) {
        if constexpr (!copies) return given;
        copy = given;
        return copy;
    }
    layer_type layer_;
    tensor in_, error_;
};

}  // namespace detail

template <class Main, class Shortcut>
template <class A>
class residual_block<Main, Shortcut>::layer {
    using tensor = typename A::tensor;

  public:
    static constexpr bool in_place = false;

    explicit layer(const residual_block& blueprint) : main_(blueprint.main), shortcut_(blueprint.shortcut) {}

    // Throws argument_error when the paths' outputs differ in shape.
    image_shape build(typename A::engine& e, const image_shape& in, layer_ids& ids) {
        if (e.options.feedback == feedback::direct)
            throw argument_error("feedback", "propagated in a network with residual blocks", "direct");
        const image_shape out = main_.layer().build(e, in, ids), other = shortcut_.layer().build(e, in, ids);
        if (out != other)
            throw argument_error("residual shortcut", to_string(out) + ", as the main path", to_string(other));
        return out;
    }
    tensor& forward(typename A::engine& e, tensor& in) {
        tensor& x = main_.forward(e, in);
        tensor& sum = overwrites ? x : out_;
        detail::add(e, x, shortcut_.forward(e, in), sum, detail::promised_bits{});
        return sum;
    }
    // Both paths get the error.
    tensor* backward(typename A::engine& e, tensor& error, bool wanted) {
        tensor* x = main_.backward(e, error, wanted);
        tensor* y = shortcut_.backward(e, error, wanted);
        if (!wanted) return nullptr;
        tensor& sum = overwrites ? *x : in_error_;
        detail::add(e, *x, *y, sum, detail::measured_bits{});
        return &sum;
    }
    template <class Visit>
    void parameters(Visit&& visit) {
        main_.layer().parameters(visit);
        shortcut_.layer().parameters(visit);
    }
    void halve() noexcept {
        main_.layer().halve();
        shortcut_.layer().halve();
    }
    void visit(state_visitor& visitor) {
        {
            const state_visitor::scope scope(visitor, "main");
            main_.layer().visit(visitor);
        }
        const state_visitor::scope scope(visitor, "shortcut");
        shortcut_.layer().visit(visitor);
    }

  private:
    // The sum takes the place of the main path's tensor when that path has no more use for it.
    static constexpr bool overwrites = !detail::works_in_place<typename Main::template layer<A>>;

    detail::residual_path<A, Main> main_;
    detail::residual_path<A, Shortcut> shortcut_;
    tensor out_, in_error_;
};

}  // namespace lamella::nn
