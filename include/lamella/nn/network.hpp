// A network: a static composition of layers in one arithmetic, and one training step of it.
//
//   auto model = nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{2}, nn::flatten{}, nn::linear{10});
//   auto net = nn::make_network<nn::fixed>(model, nn::image_shape{28, 28, 1}, nn::fixed::settings{}, seed,
//                                           std::move(controller));
//   auto twin = nn::make_network<nn::float32>(model, nn::image_shape{28, 28, 1}, nn::float32::settings{}, seed);
//
// `step` runs forward, loss and backward and leaves the exact gradient sums in the parameters; an optimizer (optim/)
// then updates them. train/fit.hpp has the loop.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../precision/fixed.hpp"
#include "activation.hpp"
#include "batch_norm.hpp"
#include "layers.hpp"
#include "loss.hpp"
#include "pool.hpp"
#include "residual.hpp"

namespace lamella::nn {

// Layers one after the other. Also a blueprint itself, so compositions nest.
template <class... Blueprints>
struct sequential_model {
    std::tuple<Blueprints...> blueprints;

    LAMELLA_SELDOM std::string describe() const {
        std::string text;
        std::apply([&](const auto&... b) { ((text += (text.empty() ? "" : " ") + b.describe()), ...); }, blueprints);
        return text;
    }

    template <class A>
    class layer {
        template <class B>
        using layer_of = typename B::template layer<A>;
        template <std::size_t I>
        using nth = layer_of<std::tuple_element_t<I, std::tuple<Blueprints...>>>;

      public:
        static constexpr bool in_place = [] {
            if constexpr (sizeof...(Blueprints) == 0)
                return true;
            else
                return detail::works_in_place<nth<0>> || detail::works_in_place<nth<sizeof...(Blueprints) - 1>>;
        }();

        explicit layer(const sequential_model& model)
            : layers_(std::apply(
                  [](const auto&... b) { return std::make_tuple(layer_of<std::decay_t<decltype(b)>>(b)...); },
                  model.blueprints)),
              names_(std::apply([](const auto&... b) { return std::vector<std::string>{b.describe()...}; },
                                model.blueprints)) {}

        image_shape build(typename A::engine& e, image_shape shape, layer_ids& ids) {
            auto name = names_.begin();
            each([&](auto& l) {
                const std::size_t at = ids.records.size();
                const int first = ids.products;
                ids.records.emplace_back();
                ids.records.back().name = *name++;
                ids.records.back().depth = ids.depth++;
                shape = l.build(e, shape, ids);
                --ids.depth;
                note(l, ids, at, shape, first);
            });
            return shape;
        }
        typename A::tensor& forward(typename A::engine& e, typename A::tensor& in) {
            typename A::tensor* current = &in;
            each([&](auto& l) { current = &l.forward(e, *current); });
            return *current;
        }
        // The first layer with parameters computes no error for its input unless it is wanted.
        typename A::tensor* backward(typename A::engine& e, typename A::tensor& error, bool wanted) {
            typename A::tensor* current = &error;
            backward_from<sizeof...(Blueprints)>(e, current, wanted);
            return current;
        }
        template <class Visit>
        void parameters(Visit&& visit) {
            each([&](auto& l) { l.parameters(visit); });
        }
        void halve() noexcept {
            each([](auto& l) { l.halve(); });
        }
        void visit(state_visitor& visitor) {
            int index = 0;
            each([&](auto& l) {
                const state_visitor::scope scope(visitor, std::to_string(index++));
                l.visit(visitor);
            });
        }
        // Calls visit(layer) for each layer, in order.
        template <class Visit>
        void each(Visit&& visit) {
            std::apply([&](auto&... l) { (visit(l), ...); }, layers_);
        }

      private:
        // Completes the record `at` of a layer that is built; those of the layers inside it follow.
        template <class Layer>
        static void note(Layer& l, layer_ids& ids, std::size_t at, const image_shape& out, int first_product) {
            layer_record& mine = ids.records[at];
            mine.out = out;
            l.parameters([&](auto& p) { mine.parameters += static_cast<std::int64_t>(p.gradient.size()); });
            for (std::size_t i = at + 1; i < ids.records.size(); ++i) mine.parameters -= ids.records[i].parameters;
            if (ids.records.size() != at + 1)
                mine.name = mine.name.starts_with("residual") ? "residual" : "sequential";
            if constexpr (requires { l.shape().macs(); }) {
                mine.macs = l.shape().macs();
                mine.product = first_product;
            }
        }
        template <class Layer>
        static bool has_parameters(Layer& l) {
            bool any = false;
            l.parameters([&](auto&) { any = true; });
            return any;
        }
        // An error is wanted below layer I when a layer before it has parameters.
        template <std::size_t I>
        bool wanted_before(bool wanted) {
            if constexpr (I == 0)
                return wanted;
            else
                return has_parameters(std::get<I - 1>(layers_)) || wanted_before<I - 1>(wanted);
        }
        template <std::size_t I>
        void backward_from(typename A::engine& e, typename A::tensor*& current, bool wanted) {
            if constexpr (I > 0) {
                if (current == nullptr) return;
                current = std::get<I - 1>(layers_).backward(e, *current, wanted_before<I - 1>(wanted));
                backward_from<I - 1>(e, current, wanted);
            }
        }

        std::tuple<layer_of<Blueprints>...> layers_;
        std::vector<std::string> names_;
    };
};

// The blueprint of layers one after the other.
template <class... Blueprints>
constexpr sequential_model<Blueprints...> sequential(Blueprints... blueprints) {
    return {{std::move(blueprints)...}};
}

// Pixels that a step reads: `samples` images of `shape`, each pixel (int8, uint8 or int16) times 2^exponent. Sample i
// is at data + index[i] x shape.size().
template <class Pixel>
struct batch_view {
    const Pixel* data = nullptr;
    std::span<const std::uint32_t> index;
    image_shape shape;
    int exponent = 0;
};

template <class A, class Model>
class network {
  public:
    using arithmetic = A;
    using tensor = typename A::tensor;

    // The integer network. `controller` decides the widths. Throws argument_error for a layer that does not fit its
    // input, a path that this CPU lacks, threads below 1 or no controller.
    network(const Model& model, const image_shape& input, const fixed::settings& options, std::uint64_t seed,
            std::unique_ptr<precision::controller> controller)
        requires std::is_same_v<A, fixed>
        : body_(model), input_(input), description_(model.describe()) {
        if (!available(options.kernels.isa))
            throw argument_error("path", "one that this CPU has", std::string(name_of(options.kernels.isa)));
        if (options.kernels.threads < 1)
            throw argument_error("threads", "at least 1", std::to_string(options.kernels.threads));
        if (controller == nullptr) throw argument_error("controller", "one that decides the widths", "none");
        engine_.options = options;
        engine_.seed = seed;
        engine_.controller = std::move(controller);
        build();
        engine_.controller->attach(ids_.products);
    }
    // A twin in floating point. Throws argument_error for a layer that does not fit its input.
    network(const Model& model, const image_shape& input, const typename A::settings& options, std::uint64_t seed)
        requires(!std::is_same_v<A, fixed>)
        : body_(model), input_(input), description_(model.describe()) {
        engine_.options = options;
        engine_.seed = seed;
        build();
    }

    // Observers see every GEMM from now on; not owned.
    void observe(gemm::observer& o)
        requires std::is_same_v<A, fixed>
    {
        engine_.observers.push_back(&o);
    }

    // Forward, loss, backward. `step` counts from 0 over the whole run; `first_position` is the place of the batch's
    // first sample in the global batch. Throws argument_error, before anything has changed, for an image of another
    // shape or a label out of range.
    template <class Pixel>
    const batch_score& train_step(const batch_view<Pixel>& batch, std::span<const std::uint8_t> labels,
                                  std::uint64_t step, std::uint32_t first_position = 0) {
        load(batch);
        nn::loss<A>::require_labels(labels, in_.samples, output_.size());
        engine_.training = true;
        engine_.step = static_cast<std::uint32_t>(step);
        engine_.first_position = first_position;
        if constexpr (std::is_same_v<A, fixed>) engine_.probe = engine_.controller->begin_step(step);
        tensor& error = loss_(body_.forward(engine_, in_), labels);
        if constexpr (std::is_same_v<A, fixed>)
            if (engine_.controller->wants_loss()) engine_.controller->on_loss(loss_.loss_sum(), in_.samples);
        if (engine_.options.feedback == feedback::direct) engine_.output_error = error;
        body_.backward(engine_, error, false);
        if constexpr (std::is_same_v<A, fixed>) engine_.controller->end_step();
        if (step % 128 == 127) body_.halve();
        engine_.training = false;
        return loss_.score();
    }

    // Logits (samples x classes) in inference mode; they do not depend on what else is in the batch. Valid until the
    // next call.
    template <class Pixel>
    const tensor& predict(const batch_view<Pixel>& batch) {
        engine_.training = false;
        load(batch);
        return body_.forward(engine_, in_);
    }
    // Adds the ranges of the activations on this batch, in inference mode, to those that evaluation takes its exponents
    // from: for weights that came from elsewhere. Nothing else of the state changes.
    template <class Pixel>
    void calibrate(const batch_view<Pixel>& batch)
        requires std::is_same_v<A, fixed>
    {
        load(batch);
        engine_.training = false;
        const struct ending {  // also by an exception
            bool& flag;
            ~ending() { flag = false; }
        } ended{engine_.calibrating = true};
        body_.forward(engine_, in_);
    }
    // predict, and the loss against labels.
    template <class Pixel>
    const tensor& score(const batch_view<Pixel>& batch, std::span<const std::uint8_t> labels) {
        const tensor& logits = predict(batch);
        loss_(logits, labels);
        return logits;
    }

    // What is learned from now on; softmax cross-entropy unless set. Throws argument_error as loss.hpp says.
    void set_loss(const loss_settings& settings) { loss_ = nn::loss<A>(settings); }
    const nn::loss<A>& loss() const noexcept { return loss_; }
    template <class Visit>
    void parameters(Visit&& visit) {
        body_.parameters(visit);
    }
    void visit(state_visitor& visitor) {
        {
            const state_visitor::scope scope(visitor, "net");
            body_.visit(visitor);
        }
        if constexpr (std::is_same_v<A, fixed>) {
            const state_visitor::scope scope(visitor, "precision");
            engine_.controller->visit(visitor);
        }
    }

    typename A::engine& engine() noexcept { return engine_; }
    auto& body() noexcept { return body_; }
    const image_shape& input() const noexcept { return input_; }
    const image_shape& output() const noexcept { return output_; }
    int products() const noexcept { return ids_.products; }
    const std::string& description() const noexcept { return description_; }
    const std::vector<layer_record>& records() const noexcept { return ids_.records; }

  private:
    void build() {
        output_ = body_.build(engine_, input_, ids_);
    }
    template <class Pixel>
    void load(const batch_view<Pixel>& batch) {
        if (batch.shape != input_)
            throw argument_error("image shape", to_string(input_), to_string(batch.shape));
        if (batch.index.empty()) throw argument_error("batch", "at least one sample", "none");
        in_.reshape(static_cast<std::int64_t>(batch.index.size()), input_);
        const std::int64_t size = input_.size();
        typename A::value* to = in_.data.data();
        if constexpr (std::is_same_v<A, fixed>) {
            in_.exponent = batch.exponent;
            in_.bits = 8 * static_cast<int>(sizeof(Pixel));
        }
        const auto scale = [&] {
            if constexpr (std::is_same_v<A, fixed>)
                return std::int32_t{1};
            else
                return std::ldexp(typename A::value{1}, batch.exponent);
        }();
        for (const std::uint32_t index : batch.index) {
            const Pixel* from = batch.data + static_cast<std::int64_t>(index) * size;
            for (std::int64_t i = 0; i < size; ++i) to[i] = static_cast<typename A::value>(from[i]) * scale;
            to += size;
        }
    }

    typename Model::template layer<A> body_;
    typename A::engine engine_;
    nn::loss<A> loss_;
    image_shape input_, output_;
    layer_ids ids_;
    std::string description_;
    tensor in_;
};

// network<A, Model>(model, input, ...) without naming the model's type; nn::fixed wants a controller after the seed.
// `input` is the shape of one sample. Throws what the constructors throw.
template <class A, class Model, class... Controller>
network<A, Model> make_network(const Model& model, const image_shape& input, const typename A::settings& options,
                               std::uint64_t seed, Controller&&... controller) {
    return network<A, Model>(model, input, options, seed, std::forward<Controller>(controller)...);
}

}  // namespace lamella::nn
