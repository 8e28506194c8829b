// Evaluation and prediction in inference mode. An image's logits do not depend on what else is in its batch, and
// evaluating in mid-training leaves the run's state unchanged.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "../core/errors.hpp"
#include "../core/xtensor.hpp"
#include "../data/dataset.hpp"
#include "../nn/network.hpp"

namespace lamella::train {

// What a network makes of a labelled set.
struct evaluation {
    std::uint64_t samples = 0;
    std::uint64_t correct = 0;
    double loss = 0;  // mean cross-entropy, nats
    int classes = 0;
    std::vector<std::uint64_t> confusion;  // classes x classes, row-major: row is the label, column the prediction

    double accuracy() const noexcept {
        return samples == 0 ? 0 : static_cast<double>(correct) / static_cast<double>(samples);
    }
    std::uint64_t count(int label, int predicted) const noexcept {
        return confusion[static_cast<std::size_t>(label * classes + predicted)];
    }
};

// The batch of the samples at `index`; the set must outlive it.
template <class Pixel>
nn::batch_view<Pixel> view_of(const data::basic_dataset<Pixel>& set, std::span<const std::uint32_t> index) {
    const auto size = [](std::size_t x) { return static_cast<std::int64_t>(x); };
    return {set.images.data(), index, {size(set.height()), size(set.width()), size(set.channels())}, set.exponent};
}

namespace detail {

inline constexpr std::size_t evaluation_batch = 250;

// Calls visit(first sample, batch) for consecutive batches of the set.
template <class Pixel, class Visit>
void each_batch(const data::basic_dataset<Pixel>& set, Visit&& visit) {
    std::vector<std::uint32_t> index;
    for (std::size_t first = 0; first < set.size(); first += evaluation_batch) {
        index.resize(std::min(evaluation_batch, set.size() - first));
        std::iota(index.begin(), index.end(), static_cast<std::uint32_t>(first));
        visit(first, view_of(set, index));
    }
}

}  // namespace detail

// Takes the ranges of all activations from a set, so that a network whose weights were imported (io/float_weights.hpp)
// can be evaluated; a few hundred images that look like those to come are enough. Throws argument_error when the images
// do not fit the net.
template <class Network, class Pixel>
void calibrate(Network& net, const data::basic_dataset<Pixel>& set) {
    detail::each_batch(set, [&](std::size_t, const auto& batch) { net.calibrate(batch); });
}

// Accuracy, loss and confusion matrix over a set. Throws argument_error when its images or labels do not fit the net.
template <class Network, class Pixel>
evaluation evaluate(Network& net, const data::basic_dataset<Pixel>& set) {
    data::require_valid(set);
    evaluation result;
    result.classes = static_cast<int>(net.output().size());
    result.confusion.assign(static_cast<std::size_t>(result.classes * result.classes), 0);
    result.samples = set.size();
    double loss = 0;
    detail::each_batch(set, [&](std::size_t first, const auto& batch) {
        const std::span<const std::uint8_t> labels(set.labels.data() + first, batch.index.size());
        const auto& logits = net.score(batch, labels);
        loss += net.loss().mean_loss() * static_cast<double>(labels.size());
        for (std::size_t i = 0; i < labels.size(); ++i) {
            const auto* row = logits.data.data() + static_cast<std::int64_t>(i) * result.classes;
            const int best = static_cast<int>(std::max_element(row, row + result.classes) - row);
            result.correct += best == labels[i];
            ++result.confusion[static_cast<std::size_t>(labels[i] * result.classes + best)];
        }
    });
    if (result.samples != 0) result.loss = loss / static_cast<double>(result.samples);
    return result;
}

// The most likely class of each sample (the first, in a tie). Labels are not looked at. Throws argument_error when the
// images do not fit the net.
template <class Network, class Pixel>
xt::xtensor<std::uint8_t, 1> predict(Network& net, const data::basic_dataset<Pixel>& set) {
    xt::xtensor<std::uint8_t, 1> classes(std::array<std::size_t, 1>{set.size()});
    const std::int64_t width = net.output().size();
    detail::each_batch(set, [&](std::size_t first, const auto& batch) {
        const auto& logits = net.predict(batch);
        for (std::size_t i = 0; i < batch.index.size(); ++i) {
            const auto* row = logits.data.data() + static_cast<std::int64_t>(i) * width;
            classes(first + i) = static_cast<std::uint8_t>(std::max_element(row, row + width) - row);
        }
    });
    return classes;
}
// The same for an xtensor expression, samples x height x width x channels; see data::from_arrays for its numbers.
template <class Network, class Images>
xt::xtensor<std::uint8_t, 1> predict(Network& net, const xt::xexpression<Images>& images) {
    const auto& pixels = images.derived_cast();
    const std::size_t samples = pixels.dimension() == 0 ? 0 : pixels.shape()[0];
    return predict(net, data::from_arrays(pixels, xt::zeros<int>(std::array<std::size_t, 1>{samples}), 1));
}

}  // namespace lamella::train
