#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <lamella/data/dataset.hpp>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "scratch.hpp"

namespace {

using lamella::data::dataset;

// Sample i has label i % classes, and pixels that tell i and the pixel's place.
dataset numbered(std::size_t samples, int classes = 10) {
    dataset set = lamella::data::make_dataset(samples, 2, 3, 2, classes, "numbered");
    for (std::size_t i = 0; i < samples; ++i) {
        for (std::size_t p = 0; p < set.image_size(); ++p) set.image(i)[p] = static_cast<std::uint8_t>(12 * i + p);
        set.labels(i) = static_cast<std::uint8_t>(i % static_cast<std::size_t>(classes));
    }
    return set;
}

bool same_sample(const dataset& a, std::size_t i, const dataset& b, std::size_t j) {
    return std::ranges::equal(a.image(i), b.image(j)) && a.labels(i) == b.labels(j);
}

}  // namespace

TEST_CASE("images are samples x height x width x channels in memory order") {
    const dataset set = numbered(4);
    CHECK(set.size() == 4);
    CHECK(set.height() == 2);
    CHECK(set.width() == 3);
    CHECK(set.channels() == 2);
    CHECK(set.image_size() == 12);
    CHECK(set.exponent == -8);
    for (std::size_t i = 0; i < 4; ++i)
        for (std::size_t y = 0; y < 2; ++y)
            for (std::size_t x = 0; x < 3; ++x)
                for (std::size_t c = 0; c < 2; ++c) CHECK(set.images(i, y, x, c) == set.image(i)[(y * 3 + x) * 2 + c]);
}

TEST_CASE("taking a part keeps samples, classes, exponent and order") {
    dataset set = numbered(20);
    set.exponent = -7;
    const dataset part = lamella::data::take(set, 5, 7);
    REQUIRE(part.size() == 7);
    CHECK(part.exponent == -7);
    CHECK(part.classes == 10);
    for (std::size_t i = 0; i < 7; ++i) CHECK(same_sample(part, i, set, 5 + i));
    CHECK(lamella::data::take(set, 20, 0).size() == 0);
    CHECK(lamella::data::take(set, 0, 20).size() == 20);
    CHECK(message_of<lamella::argument_error>([&] { lamella::data::take(set, 15, 6); }) ==
          "samples taken from numbered: expected at most 20, found 6 from 15");
    CHECK_THROWS_AS(lamella::data::take(set, 21, 0), lamella::argument_error);
    CHECK_THROWS_AS(lamella::data::take(set, 1, static_cast<std::size_t>(-1)), lamella::argument_error);
}

TEST_CASE("selecting takes any positions in any order") {
    const dataset set = numbered(9);
    const std::vector<std::uint32_t> positions{8, 0, 3, 3};
    const dataset part = lamella::data::select(set, positions);
    REQUIRE(part.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) CHECK(same_sample(part, i, set, positions[i]));
    const std::vector<std::uint32_t> beyond{0, 9};
    CHECK(message_of<lamella::argument_error>([&] { lamella::data::select(set, beyond); }) ==
          "position in numbered: expected under 9, found 9");
}

TEST_CASE("a split gives every sample to exactly one part, mixed over the whole set, in the set's order") {
    const dataset set = numbered(21);  // pixel values 12 i stay distinct
    for (const std::size_t kept : std::initializer_list<std::size_t>{0, 1, 6, 20}) {
        const auto [train, valid] = lamella::data::split(set, kept);
        CAPTURE(kept);
        REQUIRE(valid.size() == kept);
        REQUIRE(train.size() == 21 - kept);
        std::set<int> seen;
        for (const dataset* part : {&train, &valid}) {
            std::vector<int> first;
            for (std::size_t i = 0; i < part->size(); ++i) first.push_back(part->image(i)[0]);
            CHECK(std::is_sorted(first.begin(), first.end()));
            seen.insert(first.begin(), first.end());
        }
        CHECK(seen.size() == 21);
    }
    const auto [train, valid] = lamella::data::split(numbered(20), 10);
    CHECK(valid.image(0)[0] < 120);  // not simply the last ten
    CHECK(message_of<lamella::argument_error>([&] { lamella::data::split(set, 21); }) ==
          "samples kept back from numbered: expected fewer than 21, found 21");
}

TEST_CASE("a split is a published constant") {
    const auto [train, valid] = lamella::data::split(numbered(21), 5);
    std::vector<int> kept;
    for (std::size_t i = 0; i < 5; ++i) kept.push_back(valid.image(i)[0] / 12);
    CHECK(kept == std::vector<int>{0, 5, 6, 12, 16});
}

TEST_CASE("an epoch's order is a permutation that depends on seed and epoch alone") {
    const std::vector<std::uint32_t> order = lamella::data::epoch_order(7, 3, 1000);
    std::vector<std::uint32_t> sorted = order;
    std::sort(sorted.begin(), sorted.end());
    for (std::uint32_t i = 0; i < 1000; ++i) REQUIRE(sorted[i] == i);
    CHECK(lamella::data::epoch_order(7, 3, 1000) == order);
    CHECK(lamella::data::epoch_order(7, 4, 1000) != order);
    CHECK(lamella::data::epoch_order(8, 3, 1000) != order);
    CHECK(lamella::data::epoch_order(std::uint64_t{7} | std::uint64_t{1} << 32, 3, 1000) != order);
    std::vector<std::uint32_t> reused(1000, 5);
    lamella::data::epoch_order(7, 3, std::span<std::uint32_t>(reused));
    CHECK(reused == order);
    CHECK(lamella::data::epoch_order(7, 3, 0).empty());
    CHECK(lamella::data::epoch_order(7, 3, 1) == std::vector<std::uint32_t>{0});
}

TEST_CASE("an epoch's order is a published constant") {
    CHECK(lamella::data::epoch_order(1, 0, 8) == std::vector<std::uint32_t>{0, 3, 7, 1, 4, 5, 2, 6});
}

TEST_CASE("all orders of four samples come equally often") {
    std::map<std::vector<std::uint32_t>, int> counts;
    constexpr int epochs = 24'000;
    for (std::uint32_t epoch = 0; epoch < epochs; ++epoch) ++counts[lamella::data::epoch_order(11, epoch, 4)];
    REQUIRE(counts.size() == 24);
    for (const auto& [order, count] : counts) {
        CHECK(count > 1000 - 160);  // five standard deviations
        CHECK(count < 1000 + 160);
    }
}

TEST_CASE("a set that a user filled is checked") {
    dataset set = numbered(5);
    CHECK_NOTHROW(lamella::data::require_valid(set));
    set.labels(3) = 10;
    CHECK(message_of<lamella::argument_error>([&] { lamella::data::require_valid(set); }) ==
          "numbered.labels[3]: expected 0..9, found 10");
    set = numbered(5);
    set.labels = xt::xtensor<std::uint8_t, 1>::from_shape({4});
    CHECK(message_of<lamella::argument_error>([&] { lamella::data::require_valid(set); }) ==
          "numbered.labels: expected 5 (one an image), found 4");
    set = numbered(5);
    set.classes = 0;
    CHECK(message_of<lamella::argument_error>([&] { lamella::data::require_valid(set); }) ==
          "numbered.classes: expected 1..256, found 0");
}

TEST_CASE("arrays of any number type become a set of the same values") {
    const xt::xtensor<float, 4> images = xt::reshape_view(xt::arange<float>(24) * 0.125f - 1.0f, {2, 3, 2, 2});
    const xt::xtensor<int, 1> labels = {1, 0};
    const auto set = lamella::data::from_arrays(images, labels, 2);
    REQUIRE(set.size() == 2);
    CHECK(set.labels(0) == 1);
    for (std::size_t i = 0; i < 24; ++i)
        CHECK(std::ldexp(static_cast<float>(set.images.data()[i]), set.exponent) == images.data()[i]);

    const xt::xtensor<std::uint8_t, 4> bytes =
        xt::cast<std::uint8_t>(xt::reshape_view(xt::arange<int>(24), {2, 3, 2, 2}));
    const auto kept = lamella::data::from_arrays(bytes, labels, 2, "bytes", -5);
    CHECK(std::is_same_v<decltype(kept), const dataset>);
    CHECK(kept.exponent == -5);
    CHECK(kept.images == bytes);

    CHECK_THROWS_AS(lamella::data::from_arrays(images, xt::xtensor<int, 1>{1, 2}, 2), lamella::argument_error);
    CHECK_THROWS_AS(lamella::data::from_arrays(images, xt::xtensor<int, 1>{1}, 2), lamella::argument_error);
    CHECK_THROWS_AS(lamella::data::from_arrays(xt::view(images, 0), labels, 2), lamella::argument_error);
}
