#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <lamella/core/sha256.hpp>
#include <lamella/data/coloured_digits.hpp>
#include <lamella/data/digits.hpp>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using lamella::data::dataset;
using lamella::data::generated_coloured_digits;
using lamella::data::generated_digits;

std::string hash_of(const dataset& set) {
    lamella::sha256 hash;
    hash.update(std::span<const std::uint8_t>(set.labels.data(), set.labels.size()));
    hash.update(std::span<const std::uint8_t>(set.images.data(), set.images.size()));
    return hash.finish_hex();
}

// Softmax regression on pixel / 256 by stochastic gradient descent.
class linear_classifier {
  public:
    explicit linear_classifier(const dataset& set) : weights_(set.image_size() + 1) {}
    void train(const dataset& set, std::uint32_t epochs) {
        for (std::uint32_t epoch = 0; epoch < epochs; ++epoch) {
            const double rate = 0.05 / (1 + epoch);
            for (const std::uint32_t sample :
                 lamella::data::epoch_order(3, epoch, static_cast<std::uint32_t>(set.size()))) {
                std::array<double, 10> scores = score(set.image(sample));
                const double top = *std::max_element(scores.begin(), scores.end());
                double sum = 0;
                for (double& s : scores) sum += s = std::exp(s - top);
                for (std::size_t k = 0; k < 10; ++k)
                    scores[k] = rate * (scores[k] / sum - (set.labels(sample) == k ? 1.0 : 0.0));
                visit_ink(set.image(sample), [&](std::size_t at, double value) {
                    for (std::size_t k = 0; k < 10; ++k) weights_[at][k] -= scores[k] * value;
                });
            }
        }
    }
    double accuracy(const dataset& set) const {
        int right = 0;
        for (std::size_t i = 0; i < set.size(); ++i) {
            const std::array<double, 10> scores = score(set.image(i));
            right += std::max_element(scores.begin(), scores.end()) - scores.begin() == set.labels(i);
        }
        return right / static_cast<double>(set.size());
    }

  private:
    static void visit_ink(std::span<const std::uint8_t> image, auto&& visit) {
        visit(image.size(), 1.0);  // bias
        for (std::size_t p = 0; p < image.size(); ++p)
            if (image[p] != 0) visit(p, image[p] / 256.0);
    }
    std::array<double, 10> score(std::span<const std::uint8_t> image) const {
        std::array<double, 10> scores{};
        visit_ink(image, [&](std::size_t at, double value) {
            for (std::size_t k = 0; k < 10; ++k) scores[k] += weights_[at][k] * value;
        });
        return scores;
    }
    std::vector<std::array<double, 10>> weights_;
};

double linear_accuracy(const dataset& train, std::uint32_t epochs, const dataset& test) {
    linear_classifier classifier(train);
    classifier.train(train, epochs);
    const double accuracy = classifier.accuracy(test);
    MESSAGE("linear accuracy " << accuracy);
    return accuracy;
}

}  // namespace

TEST_CASE("generated digits are the same bytes on every machine") {
    CHECK(hash_of(generated_digits(1, 0, 500)) == "605c587519ef27704871ff552cd7a570cf29a999996ecd0909cb709bfbea2c2e");
    CHECK(hash_of(generated_digits(0x123456789abcdef0u, 4'000'000'000u, 100)) ==
          "4506da21ae695a0a2be738b48895c1fc5f0725b3d03794e410df6b3342fcc634");
    CHECK(hash_of(generated_coloured_digits(1, 0, 200)) ==
          "004b9cb04b2646ff349d2627c77ec93fc1ef60f8b97a487096307ac7b40db170");
}

TEST_CASE("a sample depends on the seed and its index alone") {
    for (const auto& draw : {generated_digits, generated_coloured_digits}) {
        const dataset whole = draw(5, 100, 40);
        for (std::uint32_t first : {100u, 117u, 139u}) {
            const dataset part = draw(5, first, 140 - first);
            for (std::size_t i = 0; i < part.size(); ++i) {
                CAPTURE(first + i);
                REQUIRE(std::ranges::equal(part.image(i), whole.image(first - 100 + i)));
                REQUIRE(part.labels(i) == whole.labels(first - 100 + i));
            }
        }
        const dataset other = draw(6, 100, 40);
        for (std::size_t i = 0; i < 40; ++i) CHECK(!std::ranges::equal(other.image(i), whole.image(i)));
        for (std::size_t i = 1; i < 40; ++i) CHECK(!std::ranges::equal(whole.image(0), whole.image(i)));
    }
}

TEST_CASE("a digit is ink on a background that is exactly zero") {
    const dataset set = generated_digits(2, 0, 2000);
    CHECK(set.height() == 28);
    CHECK(set.width() == 28);
    CHECK(set.channels() == 1);
    CHECK(set.classes == 10);
    CHECK(set.exponent == -8);
    CHECK_NOTHROW(lamella::data::require_valid(set));
    std::array<int, 10> of_class{};
    std::size_t background = 0;
    for (std::size_t i = 0; i < set.size(); ++i) {
        ++of_class[set.labels(i)];
        const auto image = set.image(i);
        const auto zeros = static_cast<std::size_t>(std::count(image.begin(), image.end(), 0));
        const std::uint8_t darkest = *std::max_element(image.begin(), image.end());
        CAPTURE(i);
        REQUIRE(zeros >= 784 / 2);
        REQUIRE(zeros <= 784 - 15);
        REQUIRE(darkest >= 60);
        background += zeros;
    }
    CHECK(background > set.images.size() * 3 / 4);
    for (const int count : of_class) {
        CHECK(count > 200 - 67);  // five standard deviations
        CHECK(count < 200 + 67);
    }
}

TEST_CASE("a linear classifier learns generated digits, but does not solve them") {
    const dataset train = generated_digits(1, 0, 6000), test = generated_digits(1, 6000, 1500);
    const double accuracy = linear_accuracy(train, 5, test);
    CHECK(accuracy > 0.5);
    CHECK(accuracy < 0.92);
}

TEST_CASE("coloured digits are of all classes, and a linear classifier learns less than half of them") {
    const dataset train = generated_coloured_digits(1, 0, 4000), test = generated_coloured_digits(1, 4000, 2000);
    CHECK(train.height() == 32);
    CHECK(train.width() == 32);
    CHECK(train.channels() == 3);
    CHECK(train.classes == 10);
    CHECK(train.exponent == -8);
    CHECK_NOTHROW(lamella::data::require_valid(train));
    std::array<int, 10> of_class{};
    for (const std::uint8_t label : train.labels) ++of_class[label];
    for (const int count : of_class) {
        CHECK(count > 400 - 95);  // five standard deviations
        CHECK(count < 400 + 95);
    }
    const double accuracy = linear_accuracy(train, 3, test);
    CHECK(accuracy > 0.25);
    CHECK(accuracy < 0.5);
}

TEST_CASE("a coloured digit is the digit of its index") {
    const dataset coloured = generated_coloured_digits(3, 50, 200), plain = generated_digits(3, 50, 200);
    CHECK(coloured.labels == plain.labels);
}

TEST_CASE("ranges past the last index and canvases of another size are refused") {
    constexpr std::uint32_t last = std::numeric_limits<std::uint32_t>::max();
    CHECK(generated_digits(1, last, 1).size() == 1);
    CHECK(generated_digits(1, 7, 0).size() == 0);
    CHECK_THROWS_AS(generated_digits(1, last, 2), lamella::argument_error);
    CHECK_THROWS_AS(generated_coloured_digits(1, last, 2), lamella::argument_error);
    std::vector<std::uint8_t> small(783);
    CHECK_THROWS_AS(lamella::data::draw_digit(1, 0, small), lamella::argument_error);
    CHECK_THROWS_AS(lamella::data::draw_coloured_digit(1, 0, small), lamella::argument_error);
}
