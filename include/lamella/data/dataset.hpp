// Labelled images in memory, parts of them, and the order in which an epoch visits them. All of it in integers.
//
// A pixel is a mantissa with zero at zero: value = pixel x 2^exponent. Image files have bytes (`dataset`); arrays of
// real numbers become 16-bit mantissas (`from_arrays`). Sources: idx.hpp, digits.hpp, any xtensor expression.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/errors.hpp"
#include "../core/fixed_tensor.hpp"
#include "../core/random.hpp"
#include "../core/xtensor.hpp"

namespace lamella::data {

// Labelled images: samples x height x width x channels pixels of a type.
template <class Pixel>
struct basic_dataset {
    using pixel = Pixel;
    xt::xtensor<Pixel, 4> images;         // samples x height x width x channels
    xt::xtensor<std::uint8_t, 1> labels;  // samples; each under `classes`
    int classes = 0;
    int exponent = -8;  // value = pixel x 2^exponent
    std::string name;   // where it came from, for reports

    std::size_t size() const noexcept { return images.shape()[0]; }
    std::size_t height() const noexcept { return images.shape()[1]; }
    std::size_t width() const noexcept { return images.shape()[2]; }
    std::size_t channels() const noexcept { return images.shape()[3]; }
    std::size_t image_size() const noexcept { return height() * width() * channels(); }  // pixels
    // Pixels of one sample, in memory order.
    std::span<const Pixel> image(std::size_t sample) const noexcept {
        return {images.data() + sample * image_size(), image_size()};
    }
    std::span<Pixel> image(std::size_t sample) noexcept {
        return {images.data() + sample * image_size(), image_size()};
    }
};
// Images of bytes, as files have them.
using dataset = basic_dataset<std::uint8_t>;

// What readers of data sets return.
struct train_and_test {
    dataset train, test;
};

// A set of the given shape whose content is still undefined.
template <class Pixel = std::uint8_t>
basic_dataset<Pixel> make_dataset(std::size_t samples, std::size_t height, std::size_t width, std::size_t channels,
                                  int classes, std::string name) {
    basic_dataset<Pixel> made;
    made.images = xt::xtensor<Pixel, 4>(std::array<std::size_t, 4>{samples, height, width, channels});
    made.labels = xt::xtensor<std::uint8_t, 1>(std::array<std::size_t, 1>{samples});
    made.classes = classes;
    made.name = std::move(name);
    return made;
}

// Throws argument_error unless there are as many labels as images, both in row-major order, at most 2^32 - 1 of them
// (positions in random counters have 32 bits), and every label is a class. For sets that users fill themselves.
template <class Pixel>
void require_valid(const basic_dataset<Pixel>& set) {
    if (set.classes < 1 || set.classes > 256)
        throw argument_error(set.name + ".classes", "1..256", std::to_string(set.classes));
    if (set.labels.size() != set.size())
        throw argument_error(set.name + ".labels", std::to_string(set.size()) + " (one an image)",
                             std::to_string(set.labels.size()));
    if (set.size() > std::numeric_limits<std::uint32_t>::max())
        throw argument_error(set.name, "fewer than 2^32 samples", std::to_string(set.size()));
    for (std::size_t i = 0; i < set.size(); ++i)
        if (set.labels(i) >= set.classes)
            throw argument_error(set.name + ".labels[" + std::to_string(i) + "]",
                                 "0.." + std::to_string(set.classes - 1), std::to_string(set.labels(i)));
}

// A set from two xtensor expressions: images (samples x height x width x channels) and labels (samples). Images of
// bytes stay bytes, with the given exponent; all others become 16-bit mantissas with one exponent that clips nothing.
// Throws argument_error for values that are not finite, labels that are no class, or counts that differ.
template <class Images, class Labels>
auto from_arrays(const Images& images, const Labels& labels, int classes, std::string name = "arrays",
                 int exponent = -8) {
    using source = std::decay_t<decltype(*images.begin())>;
    constexpr bool bytes = std::is_same_v<source, std::uint8_t>;
    basic_dataset<std::conditional_t<bytes, std::uint8_t, std::int16_t>> made;
    if (images.dimension() != 4)
        throw argument_error(name + ".images", "samples x height x width x channels",
                             std::to_string(images.dimension()) + " dimensions");
    if constexpr (bytes) {
        made.images = images;
        made.exponent = exponent;
    } else {
        auto tensor = quantise_tensor<4, std::int16_t>(images, 16);
        made.exponent = tensor.exponent();
        made.images = tensor.mantissas();
    }
    xt::xtensor<std::int64_t, 1> given = xt::cast<std::int64_t>(labels);
    made.labels = xt::xtensor<std::uint8_t, 1>(std::array<std::size_t, 1>{given.size()});
    for (std::size_t i = 0; i < given.size(); ++i) {
        if (given(i) < 0 || given(i) >= classes)
            throw argument_error(name + ".labels[" + std::to_string(i) + "]", "0.." + std::to_string(classes - 1),
                                 std::to_string(given(i)));
        made.labels(i) = static_cast<std::uint8_t>(given(i));
    }
    made.classes = classes;
    made.name = std::move(name);
    require_valid(made);
    return made;
}

// The samples at the given positions, in that order (positions may repeat). Throws argument_error past the end.
template <class Pixel>
basic_dataset<Pixel> select(const basic_dataset<Pixel>& set, std::span<const std::uint32_t> positions) {
    basic_dataset<Pixel> part =
        make_dataset<Pixel>(positions.size(), set.height(), set.width(), set.channels(), set.classes, set.name);
    part.exponent = set.exponent;
    for (std::size_t i = 0; i < positions.size(); ++i) {
        if (positions[i] >= set.size())
            throw argument_error("position in " + set.name, "under " + std::to_string(set.size()),
                                 std::to_string(positions[i]));
        const std::span<const Pixel> from = set.image(positions[i]);
        std::copy(from.begin(), from.end(), part.image(i).begin());
        part.labels(i) = set.labels(positions[i]);
    }
    return part;
}

// Samples first .. first + count - 1. Throws argument_error when there are not so many.
template <class Pixel>
basic_dataset<Pixel> take(const basic_dataset<Pixel>& set, std::size_t first, std::size_t count) {
    if (first > set.size() || count > set.size() - first)
        throw argument_error("samples taken from " + set.name, "at most " + std::to_string(set.size()),
                             std::to_string(count) + " from " + std::to_string(first));
    std::vector<std::uint32_t> positions(count);
    std::iota(positions.begin(), positions.end(), static_cast<std::uint32_t>(first));
    return select(set, positions);
}

namespace detail {

// Fisher-Yates, downwards: each of the n! orders is equally likely for ideal random bits.
inline void shuffled_positions(random_sequence random, std::span<std::uint32_t> order) noexcept {
    std::iota(order.begin(), order.end(), std::uint32_t{0});
    for (std::size_t left = order.size(); left > 1; --left)
        std::swap(order[left - 1], order[random.below(static_cast<std::uint32_t>(left))]);
}

}  // namespace detail

// A training set in two parts.
template <class Pixel>
struct training_split {
    basic_dataset<Pixel> train, valid;
};

// Keeps `valid_count` samples back for validation: the last ones of a shuffled order that does not depend on any run's
// seed, so that runs with different seeds validate on the same images, and a file sorted by class is no trap. Both
// parts keep the order of the set. Throws argument_error when nothing would be left to train on.
template <class Pixel>
training_split<Pixel> split(const basic_dataset<Pixel>& set, std::size_t valid_count) {
    if (valid_count >= set.size())
        throw argument_error("samples kept back from " + set.name, "fewer than " + std::to_string(set.size()),
                             std::to_string(valid_count));
    std::vector<std::uint32_t> order(set.size());
    detail::shuffled_positions(random_sequence({.seed = 0, .use = stream::split}), order);
    const auto middle = order.end() - static_cast<std::ptrdiff_t>(valid_count);
    std::sort(order.begin(), middle);
    std::sort(middle, order.end());
    const std::span<const std::uint32_t> all(order);
    return {select(set, all.first(set.size() - valid_count)), select(set, all.last(valid_count))};
}

// The order in which an epoch (counted from 0) visits its samples: a shuffle of 0 .. order.size() - 1, a function of
// seed and epoch alone. Allocates nothing.
inline void epoch_order(std::uint64_t seed, std::uint32_t epoch, std::span<std::uint32_t> order) noexcept {
    detail::shuffled_positions(random_sequence({.seed = seed, .step = epoch, .use = stream::shuffle}), order);
}
inline std::vector<std::uint32_t> epoch_order(std::uint64_t seed, std::uint32_t epoch, std::uint32_t count) {
    std::vector<std::uint32_t> order(count);
    epoch_order(seed, epoch, std::span<std::uint32_t>(order));
    return order;
}

}  // namespace lamella::data
