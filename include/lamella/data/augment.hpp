// Augmentation of a training batch: each image moved by a few pixels and mirrored at random, in integers.
//
// Random bits belong to (seed, step, position in the global batch): not to threads, ranks or the order of calls, and a
// resumed run draws the same ones. What an image is moved away from shows zero pixels. (Random crop after padding, as
// He et al., Deep Residual Learning, CVPR 2016, section 4.2.)
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "../core/errors.hpp"
#include "../core/random.hpp"
#include "dataset.hpp"

namespace lamella::data {

// What is done to the images of a training batch.
struct augmentation {
    std::uint32_t padding = 0;  // pixels of zeros on each side; a window of the image's size is cut out. 0: no crop
    bool flip = false;          // mirror left and right, with probability 1/2

    bool any() const noexcept { return padding != 0 || flip; }
};

// The window of one image: its top left corner in the padded image (0 .. 2 x padding), and whether it is mirrored.
struct window {
    std::uint32_t row = 0, column = 0;
    bool flipped = false;
    friend bool operator==(const window&, const window&) = default;
};

// What is drawn for the image at that position of the global batch.
inline window window_of(const augmentation& how, std::uint64_t seed, std::uint32_t step,
                        std::uint32_t position) noexcept {
    random_sequence random({.seed = seed, .step = step, .use = stream::augmentation}, position);
    window drawn;
    drawn.row = random.below(2 * how.padding + 1);
    drawn.column = random.below(2 * how.padding + 1);
    drawn.flipped = random.below(2) == 1 && how.flip;
    return drawn;
}

// Writes the window of `from` (height x width x channels, padded by `padding` zeros) into `to`, of the same size.
template <class Pixel>
void cut_window(std::span<const Pixel> from, std::size_t height, std::size_t width, std::size_t channels,
                std::uint32_t padding, const window& at, std::span<Pixel> to) noexcept {
    // Row y of the window is row y + down of the image, column x is column x + right.
    const auto down = std::int64_t{at.row} - padding, right = std::int64_t{at.column} - padding;
    const auto columns = static_cast<std::int64_t>(width), rows = static_cast<std::int64_t>(height);
    const std::int64_t first = std::clamp<std::int64_t>(-right, 0, columns);
    const std::int64_t last = std::clamp<std::int64_t>(columns - right, first, columns);
    const auto pixels = [&](std::int64_t count) { return static_cast<std::size_t>(count) * channels; };
    for (std::int64_t y = 0; y < rows; ++y) {
        Pixel* const row = to.data() + pixels(y * columns);
        if (y + down < 0 || y + down >= rows) {
            std::fill_n(row, pixels(columns), Pixel{0});
            continue;
        }
        std::fill_n(row, pixels(first), Pixel{0});
        std::copy_n(from.data() + pixels((y + down) * columns + first + right), pixels(last - first),
                    row + pixels(first));
        std::fill_n(row + pixels(last), pixels(columns - last), Pixel{0});
        if (!at.flipped) continue;
        for (std::int64_t l = 0, r = columns - 1; l < r; ++l, --r)
            std::swap_ranges(row + pixels(l), row + pixels(l + 1), row + pixels(r));
    }
}

// Makes the augmented batches of a set, which must outlive it, in memory of its own taken at the beginning.
template <class Pixel>
class augmenter {
  public:
    // Throws argument_error when the padding is not smaller than the image: some windows would be empty.
    augmenter(const basic_dataset<Pixel>& set, const augmentation& how, std::uint64_t seed, std::size_t largest_batch)
        : set_(set), how_(how), seed_(seed), index_(largest_batch) {
        if (how.padding >= std::min(set.height(), set.width()))
            throw argument_error("augmentation padding", "less than the image's side", std::to_string(how.padding));
        made_ = make_dataset<Pixel>(largest_batch, set.height(), set.width(), set.channels(), set.classes, set.name);
        made_.exponent = set.exponent;
        std::iota(index_.begin(), index_.end(), std::uint32_t{0});
    }

    // Prepares the batch of the samples at `samples` (at most largest_batch), the first of them at `first_position` of
    // the global batch of `step`. It is the samples `index()` of `images()`, until the next call.
    void prepare(std::span<const std::uint32_t> samples, std::uint32_t step,
                 std::uint32_t first_position = 0) noexcept {
        for (std::size_t i = 0; i < samples.size(); ++i) {
            const window at = window_of(how_, seed_, step, first_position + static_cast<std::uint32_t>(i));
            cut_window(set_.image(samples[i]), set_.height(), set_.width(), set_.channels(), how_.padding, at,
                       made_.image(i));
        }
        count_ = samples.size();
    }
    const basic_dataset<Pixel>& images() const noexcept { return made_; }
    std::span<const std::uint32_t> index() const noexcept { return std::span(index_).first(count_); }

  private:
    const basic_dataset<Pixel>& set_;
    augmentation how_;
    std::uint64_t seed_;
    basic_dataset<Pixel> made_;  // its labels are not filled in
    std::vector<std::uint32_t> index_;
    std::size_t count_ = 0;
};

}  // namespace lamella::data
