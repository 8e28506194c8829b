// What tests of training share: images and networks small enough to train in a moment, and a run's whole state as
// values.
#pragma once

#include <lamella/core/random.hpp>
#include <lamella/core/state.hpp>
#include <lamella/data/dataset.hpp>
#include <lamella/nn/network.hpp>
#include <lamella/optim/optimizer.hpp>
#include <lamella/precision/fixed.hpp>
#include <lamella/train/evaluate.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace testing {

using namespace lamella;

inline random_sequence random_of(std::uint64_t seed) { return random_sequence({.seed = seed, .use = stream::digits}); }

// Images of noise around a pattern of their class, so that there is something to learn.
inline data::dataset noisy_images(std::uint64_t seed, std::size_t samples, const nn::image_shape& shape, int classes) {
    data::dataset set =
        data::make_dataset(samples, static_cast<std::size_t>(shape.height), static_cast<std::size_t>(shape.width),
                           static_cast<std::size_t>(shape.channels), classes, "noisy images");
    random_sequence random = random_of(seed);
    for (std::size_t i = 0; i < samples; ++i) {
        const std::uint32_t label = random.below(static_cast<std::uint32_t>(classes));
        set.labels(i) = static_cast<std::uint8_t>(label);
        random_sequence pattern = random_of(1000 + label);
        for (std::uint8_t& p : set.image(i)) {
            const std::uint32_t on = pattern.below(3) == 0 ? 160 : 0;
            p = static_cast<std::uint8_t>(random.below(2) == 0 ? on : random.below(90));
        }
    }
    return set;
}

inline std::vector<std::uint32_t> positions(std::size_t first, std::size_t count) {
    std::vector<std::uint32_t> index(count);
    std::iota(index.begin(), index.end(), static_cast<std::uint32_t>(first));
    return index;
}

inline std::span<const std::uint8_t> labels_of(const data::dataset& set, std::size_t first, std::size_t count) {
    return std::span<const std::uint8_t>(set.labels.data() + first, count);
}

template <class Model>
nn::network<nn::fixed, Model> fixed_network(const Model& model, const nn::image_shape& shape, int width,
                                            std::uint64_t seed = 1, const nn::fixed::settings& options = {}) {
    return {model, shape, options, seed, std::make_unique<precision::fixed>(width)};
}

// A network and its optimizer, stepping over a set whose batches follow each other.
template <class Network>
struct training_run {
    Network net;
    optim::optimizer optimizer;
    const data::dataset& set;
    std::size_t batch;
    std::uint64_t total;  // steps, for the schedule
    std::vector<std::uint32_t> index = positions(0, batch);

    training_run(Network network, const optim::optimizer_settings& settings, const data::dataset& images,
                 std::size_t batch_size, std::uint64_t total_steps)
        : net(std::move(network)), optimizer(settings), set(images), batch(batch_size), total(total_steps) {
        net.parameters([&](auto& p) { optimizer.prepare(p); });
    }
    void step(std::uint64_t number) {
        const std::size_t at = number * batch % (set.size() - batch + 1);
        std::iota(index.begin(), index.end(), static_cast<std::uint32_t>(at));
        net.train_step(train::view_of(set, index), labels_of(set, at, batch), number);
        optimizer.begin_step(number, total, static_cast<std::uint32_t>(batch));
        auto& engine = net.engine();
        net.parameters([&](auto& p) {
            optimizer.update(p, engine.seed, static_cast<std::uint32_t>(number), engine.isa(), engine.threads());
        });
    }
    void steps(std::uint64_t first, std::uint64_t count) {
        for (std::uint64_t i = first; i < first + count; ++i) step(i);
    }
    void visit(state_visitor& visitor) {
        net.visit(visitor);
        const state_visitor::scope scope(visitor, "optimizer");
        optimizer.visit(visitor);
    }
};

// All tensors that a part names, to be compared or put back.
class snapshot final : public state_visitor {
  public:
    struct tensor_values {
        std::vector<std::int64_t> mantissas;
        int width = 0, exponent = 0;
        friend bool operator==(const tensor_values&, const tensor_values&) = default;
    };
    template <class Part>
    static snapshot of(Part& part) {
        snapshot taken;
        part.visit(taken);
        taken.restoring_ = true;
        return taken;
    }
    // Throws when the part does not name the same tensors.
    template <class Part>
    void restore(Part& part) {
        part.visit(*this);
    }
    friend bool operator==(const snapshot& x, const snapshot& y) { return x.tensors == y.tensors; }

    std::map<std::string, tensor_values> tensors;

  private:
    void on_tensor(const std::string& name, state_kind, std::span<const std::size_t>, integer_span values, int width,
                   int* exponent) override {
        std::visit(
            [&](auto span) {
                if (!restoring_) {
                    const bool fresh =
                        tensors
                            .emplace(name, tensor_values{{span.begin(), span.end()}, width, exponent ? *exponent : 0})
                            .second;
                    if (!fresh) throw std::logic_error("two tensors are named " + name);
                    return;
                }
                const tensor_values& from = tensors.at(name);
                if (from.mantissas.size() != span.size()) throw std::logic_error("another size: " + name);
                for (std::size_t i = 0; i < span.size(); ++i)
                    span[i] = static_cast<typename decltype(span)::value_type>(from.mantissas[i]);
                if (exponent) *exponent = from.exponent;
            },
            values);
    }
    bool restoring_ = false;
};

}  // namespace testing
