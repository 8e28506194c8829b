// Losses: label smoothing and mean square, in integers against long double and against the twin.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "lamella/core/random.hpp"
#include "lamella/nn/loss.hpp"

using namespace lamella;
using nn::loss_kind;

namespace {

struct batch {
    nn::fixed::tensor logits;
    nn::float64::tensor twin;
    std::vector<std::uint8_t> labels;
};

// Random logits of up to `bits` bits, some of them near the largest that there are.
batch make_batch(random_sequence& random, std::int64_t samples, std::int64_t classes, int bits, int exponent) {
    batch b;
    b.logits.reshape(samples, {1, 1, classes});
    b.twin.reshape(samples, {1, 1, classes});
    b.logits.exponent = exponent;
    b.logits.bits = bits;
    const std::int32_t largest = static_cast<std::int32_t>((std::uint32_t{1} << bits) - 1);
    for (std::size_t i = 0; i < b.logits.data.size(); ++i) {
        const std::int32_t magnitude = random.below(4) == 0 ? largest : random.between(0, largest);
        b.logits.data[i] = random.below(2) == 0 ? magnitude : -magnitude;
        b.twin.data[i] = std::ldexp(static_cast<double>(b.logits.data[i]), exponent);
    }
    for (std::int64_t s = 0; s < samples; ++s)
        b.labels.push_back(static_cast<std::uint8_t>(random.below(static_cast<std::uint32_t>(classes))));
    return b;
}

}  // namespace

// A smoothed target differs from the plain one by s (1 / classes - one-hot); s / classes is rounded to 2^-28, and the
// label's target takes up classes - 1 of those roundings.
TEST_CASE("label smoothing moves the error towards equal targets, and the reported loss not at all") {
    random_sequence random({.seed = 21, .use = stream::digits});
    for (const std::int64_t classes : {1, 2, 10, 200})
        for (const std::uint64_t smoothing : {std::uint64_t{1}, std::uint64_t{6554}, std::uint64_t{65536}}) {
            CAPTURE(classes);
            CAPTURE(smoothing);
            batch b = make_batch(random, 4, classes, 26, -24);
            nn::loss<nn::fixed> plain, smooth({.smoothing = smoothing});
            nn::loss<nn::float64> twin({.smoothing = smoothing});
            const nn::fixed::tensor &without = plain(b.logits, b.labels), &with = smooth(b.logits, b.labels);
            CHECK(with.exponent == without.exponent);
            const long double s = std::ldexp(static_cast<long double>(smoothing), -16);
            const nn::float64::tensor& twin_error = twin(b.twin, b.labels);
            for (std::size_t i = 0; i < with.data.size(); ++i) {
                const bool label = static_cast<std::size_t>(b.labels[i / static_cast<std::size_t>(classes)]) ==
                                   i % static_cast<std::size_t>(classes);
                const long double moved =
                    std::ldexp(static_cast<long double>(with.data[i] - without.data[i]), with.exponent);
                const long double wanted = s * ((label ? 1 : 0) - 1 / static_cast<long double>(classes));
                const long double unit = std::ldexp(0.5L, with.exponent);
                CHECK(std::fabs(moved - wanted) <= (label ? static_cast<long double>(classes - 1) : 1) * unit);
                CHECK(std::fabs(std::ldexp(static_cast<double>(with.data[i]), with.exponent) - twin_error.data[i]) <
                      1e-5);
            }
            CHECK(smooth.mean_loss() == plain.mean_loss());
            CHECK(smooth.loss_sum() == plain.loss_sum());
        }
}

TEST_CASE("mean square's error is logit minus one-hot, rounded at most once, and never overflows") {
    random_sequence random({.seed = 22, .use = stream::digits});
    for (const int bits : {1, 8, 20, 31})
        for (const int exponent : {-60, -31, -29, -12, -1, 0, 1, 7}) {
            CAPTURE(bits);
            CAPTURE(exponent);
            batch b = make_batch(random, 5, 10, bits, exponent);
            nn::loss<nn::fixed> loss({.kind = loss_kind::mean_square});
            const nn::fixed::tensor& error = loss(b.logits, b.labels);
            const bool exact = error.exponent <= std::min(exponent, 0);
            long double sum = 0;
            for (std::size_t i = 0; i < error.data.size(); ++i) {
                const bool label = b.labels[i / 10] == i % 10;
                const long double wanted = static_cast<long double>(b.twin.data[i]) - (label ? 1 : 0);
                const long double found = std::ldexp(static_cast<long double>(error.data[i]), error.exponent);
                // Logit and one-hot are rounded apart, half a unit each.
                CHECK(std::fabs(found - wanted) <= (exact ? 0 : std::ldexp(1.0L, error.exponent)));
                CHECK(bit_length(static_cast<std::uint64_t>(std::llabs(error.data[i]))) <= error.bits);
                sum += found * found / 2;
            }
            const long double reported = std::ldexp(static_cast<long double>(loss.loss_sum()), -16);
            if (sum < std::ldexp(1.0L, 20)) {
                CHECK(reported <= sum * (1 + 1e-15L));
                CHECK(reported > sum - 5 * std::ldexp(1.0L, -16));
            }
            CHECK(loss.mean_loss() == doctest::Approx(static_cast<double>(reported / 5)));
        }
}

TEST_CASE("the twin's mean square has the error that central differences of its loss give") {
    random_sequence random({.seed = 23, .use = stream::digits});
    batch b = make_batch(random, 3, 4, 10, -9);
    nn::loss<nn::float64> loss({.kind = loss_kind::mean_square});
    const nn::float64::tensor first = loss(b.twin, b.labels);
    constexpr double step = 0x1p-20;
    for (std::size_t i = 0; i < first.data.size(); ++i) {
        const double kept = b.twin.data[i];
        const auto at = [&](double x) {
            b.twin.data[i] = x;
            loss(b.twin, b.labels);
            return loss.mean_loss() * 3;
        };
        const double slope = (at(kept + step) - at(kept - step)) / (2 * step);
        b.twin.data[i] = kept;
        CHECK(first.data[i] == doctest::Approx(slope).epsilon(1e-6));
    }
}

TEST_CASE("a loss of logits beyond every report stays defined") {
    batch b;
    b.logits.reshape(1, {1, 1, 2});
    b.logits.exponent = 100;
    b.logits.bits = 31;
    b.logits.data[0] = std::numeric_limits<std::int32_t>::max();
    b.logits.data[1] = -std::numeric_limits<std::int32_t>::max();
    nn::loss<nn::fixed> loss({.kind = loss_kind::mean_square});
    const nn::fixed::tensor& error = loss(b.logits, std::vector<std::uint8_t>{1});
    CHECK(error.data[0] > 0);
    CHECK(error.data[1] < 0);
    CHECK(loss.loss_sum() == std::uint64_t{1} << 40);
}

TEST_CASE("a smoothing past 1, or of the mean square, is refused") {
    CHECK_THROWS_AS(nn::loss<nn::fixed>({.smoothing = 65537}), argument_error);
    CHECK_THROWS_AS(nn::loss<nn::fixed>({loss_kind::mean_square, 1}), argument_error);
    CHECK_NOTHROW(nn::loss<nn::fixed>({.smoothing = 65536}));
}
