// Augmentation: windows against a plain reference, the bits that choose them, and training with it.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <lamella/data/augment.hpp>
#include <lamella/nn/network.hpp>
#include <lamella/train/fit.hpp>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "training.hpp"

using namespace lamella;
using namespace testing;
using data::augmentation;
using data::window;

namespace {

struct picture {
    std::size_t height, width, channels;
    std::vector<std::uint8_t> pixels;
    std::size_t size() const { return height * width * channels; }
};

picture random_picture(random_sequence& random) {
    picture made{1 + random.below(7), 1 + random.below(7), 1 + random.below(4), {}};
    for (std::size_t i = 0; i < made.size(); ++i)
        made.pixels.push_back(static_cast<std::uint8_t>(1 + random.below(255)));
    return made;
}

std::vector<std::uint8_t> cut(const picture& from, std::uint32_t padding, const window& at) {
    std::vector<std::uint8_t> to(from.size(), 77);
    data::cut_window<std::uint8_t>(from.pixels, from.height, from.width, from.channels, padding, at, to);
    return to;
}

// Pad, cut, mirror: one after the other, as papers say it.
std::vector<std::uint8_t> cut_plainly(const picture& from, std::uint32_t padding, const window& at) {
    const std::size_t wide = from.width + 2 * padding;
    std::vector<std::uint8_t> padded((from.height + 2 * padding) * wide * from.channels, 0), to;
    for (std::size_t y = 0; y < from.height; ++y)
        for (std::size_t x = 0; x < from.width; ++x)
            for (std::size_t c = 0; c < from.channels; ++c)
                padded[((y + padding) * wide + x + padding) * from.channels + c] =
                    from.pixels[(y * from.width + x) * from.channels + c];
    for (std::size_t y = 0; y < from.height; ++y)
        for (std::size_t x = 0; x < from.width; ++x)
            for (std::size_t c = 0; c < from.channels; ++c) {
                const std::size_t column = at.column + (at.flipped ? from.width - 1 - x : x);
                to.push_back(padded[((y + at.row) * wide + column) * from.channels + c]);
            }
    return to;
}

std::vector<std::uint8_t> batch_of(const data::dataset& set, const augmentation& how, std::uint32_t step,
                                   std::span<const std::uint32_t> samples, std::uint32_t first_position = 0) {
    data::augmenter<std::uint8_t> made(set, how, 5, samples.size());
    made.prepare(samples, step, first_position);
    std::vector<std::uint8_t> pixels;
    for (const std::uint32_t i : made.index())
        pixels.insert(pixels.end(), made.images().image(i).begin(), made.images().image(i).end());
    return pixels;
}

constexpr nn::image_shape shape{10, 10, 3};
constexpr augmentation crop_and_flip{.padding = 2, .flip = true};

const data::dataset& images() {
    static const data::dataset set = noisy_images(1, 70, shape, 4);
    return set;
}

constexpr auto model = nn::sequential(nn::conv2d{4, 3}, nn::relu{}, nn::max_pool2d{2}, nn::flatten{}, nn::linear{4});
using network = nn::network<nn::fixed, std::remove_const_t<decltype(model)>>;

// The state after training from one step to another with augmentation.
struct training {
    explicit training(int threads) : net(fixed_network(model, shape, 8, 6, settings_of(threads))) {
        net.parameters([&](auto& p) { optimizer.prepare(p); });
    }
    static nn::fixed::settings settings_of(int threads) {
        nn::fixed::settings s;
        s.kernels.threads = threads;
        return s;
    }
    training& run(std::uint64_t first, std::uint64_t last, const augmentation& how = crop_and_flip) {
        train::fit_settings s{.epochs = 2, .batch = 16, .first_step = first, .last_step = last};
        s.augment = how;
        train::fit(net, optimizer, images(), s);
        return *this;
    }
    void visit(state_visitor& visitor) {
        net.visit(visitor);
        optimizer.visit(visitor);
    }
    snapshot state() { return snapshot::of(*this); }
    network net;
    optim::optimizer optimizer;
};

}  // namespace

TEST_CASE("a window is what padding, cutting and mirroring one after the other give") {
    for (std::uint64_t seed = 1; seed <= 400; ++seed) {
        random_sequence random = random_of(seed);
        const picture from = random_picture(random);
        const auto side = static_cast<std::uint32_t>(std::min(from.height, from.width));
        const std::uint32_t padding = random.below(side);
        const window at{random.below(2 * padding + 1), random.below(2 * padding + 1), random.below(2) == 1};
        CAPTURE(seed);
        REQUIRE(cut(from, padding, at) == cut_plainly(from, padding, at));
    }
}

TEST_CASE("the middle window is the image, and mirroring twice gives it back") {
    random_sequence random = random_of(8);
    for (int i = 0; i < 50; ++i) {
        picture from = random_picture(random);
        CHECK(cut(from, 3, {3, 3, false}) == from.pixels);
        const std::vector<std::uint8_t> original = from.pixels;
        from.pixels = cut(from, 0, {0, 0, true});
        CHECK(cut(from, 0, {0, 0, true}) == original);
    }
}

TEST_CASE("all windows come equally often, and mirrored half of the time") {
    constexpr augmentation how{.padding = 1, .flip = true};
    std::map<std::array<std::uint32_t, 3>, int> counts;
    constexpr std::uint32_t draws = 18'000;
    for (std::uint32_t i = 0; i < draws; ++i) {
        const window w = data::window_of(how, 3, i / 100, i % 100);
        ++counts[{w.row, w.column, w.flipped}];
    }
    REQUIRE(counts.size() == 18);
    for (const auto& [which, count] : counts) {
        CHECK(count > 1000 - 155);  // five standard deviations
        CHECK(count < 1000 + 155);
    }
}

TEST_CASE("without crop or without mirroring the other stays as it is") {
    for (std::uint32_t position = 0; position < 200; ++position) {
        const window both = data::window_of({.padding = 4, .flip = true}, 9, 7, position);
        const window crop = data::window_of({.padding = 4}, 9, 7, position);
        const window flip = data::window_of({.flip = true}, 9, 7, position);
        CHECK(crop == window{both.row, both.column, false});
        CHECK(flip.row == 0);
        CHECK(flip.column == 0);
        CHECK(data::window_of({}, 9, 7, position) == window{});
    }
}

TEST_CASE("windows are a published constant of seed, step and position") {
    constexpr augmentation how{.padding = 4, .flip = true};
    CHECK(data::window_of(how, 1, 0, 0) == window{1, 6, false});
    CHECK(data::window_of(how, 1, 0, 1) == window{6, 5, false});
    CHECK(data::window_of(how, 1, 1, 0) == window{3, 5, false});
    CHECK(data::window_of(how, std::uint64_t{1} | std::uint64_t{1} << 32, 0, 0) == window{1, 7, true});
}

TEST_CASE("an image of a batch depends on the step and its position alone") {
    const std::vector<std::uint32_t> samples{4, 4, 9, 30, 2};
    const auto whole = batch_of(images(), crop_and_flip, 3, samples);
    const std::size_t size = images().image_size();
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const auto alone =
            batch_of(images(), crop_and_flip, 3, std::span(samples).subspan(i, 1), static_cast<std::uint32_t>(i));
        CHECK(std::ranges::equal(alone, std::span(whole).subspan(i * size, size)));
    }
    CHECK(batch_of(images(), crop_and_flip, 4, samples) != whole);
    CHECK(batch_of(images(), crop_and_flip, 3, samples, 1) != whole);
}

TEST_CASE("a set of 16-bit pixels keeps its exponent") {
    data::basic_dataset<std::int16_t> set = data::make_dataset<std::int16_t>(2, 4, 4, 1, 2, "wide");
    set.exponent = -12;
    for (std::size_t i = 0; i < set.images.size(); ++i)
        set.images.data()[i] = static_cast<std::int16_t>(1000 - 90 * static_cast<int>(i));
    data::augmenter<std::int16_t> made(set, {}, 1, 2);
    const std::vector<std::uint32_t> samples{1};
    made.prepare(samples, 0);
    CHECK(made.images().exponent == -12);
    CHECK(std::ranges::equal(made.images().image(0), set.image(1)));
}

TEST_CASE("padding that could leave nothing of an image is refused") {
    CHECK_THROWS_AS(data::augmenter<std::uint8_t>(images(), {.padding = 10}, 1, 1), argument_error);
    CHECK_NOTHROW(data::augmenter<std::uint8_t>(images(), {.padding = 9}, 1, 1));
    training run(1);
    CHECK_THROWS_AS(run.run(0, 9, {.padding = 10}), argument_error);
}

TEST_CASE("training with augmentation gives the same bits for any number of threads, and resumed") {
    const snapshot whole = training(1).run(0, 9).state();
    CHECK(training(3).run(0, 9).state().tensors == whole.tensors);
    for (const std::uint64_t stop : std::initializer_list<std::uint64_t>{0, 3, 4, 7})
        CHECK(training(1).run(0, stop).run(stop + 1, 9).state().tensors == whole.tensors);
    CHECK(training(1).run(0, 9, {}).state().tensors != whole.tensors);
}
