#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "lamella/core/quantise.hpp"
#include "lamella/core/sdfxp.hpp"

using namespace lamella;

namespace {

// Tensors of the shapes that training has: uniform, bell, heavy-tailed, sparse, a few outliers; any scale.
std::vector<std::int32_t> random_tensor(random_sequence& draw, int kind, std::size_t n) {
    std::vector<std::int32_t> x(n);
    const int top = draw.between(1, 30);  // bits
    for (std::int32_t& value : x) {
        const std::int32_t full = (std::int32_t{1} << top) - 1;
        std::int32_t v = draw.between(-full, full);
        if (kind == 1) v = (v >> 2) + draw.between(-full / 4, full / 4) + draw.between(-full / 4, full / 4);
        if (kind == 2) v >>= draw.below(12);
        if (kind == 3 && draw.below(4) != 0) v = 0;
        if (kind == 4 && draw.below(64) != 0) v >>= 7;
        value = v;
    }
    return x;
}

histogram count(const std::vector<std::int32_t>& x) {
    histogram seen;
    for (const std::int32_t value : x) seen.add(value);
    return seen;
}

// The formula as ARITHMETIC states it, over the bins.
long double formula(const histogram& seen, int d, int width) {
    const long double step = std::ldexp(1.0L, d), largest = step * largest_mantissa(width);
    long double sum = 0;
    for (int bin = 0; bin < histogram::bins; ++bin) {
        const std::uint64_t c = seen.count[static_cast<std::size_t>(bin)];
        if (c == 0) continue;
        const long double mid = (static_cast<long double>(histogram::lowest_of(bin)) + histogram::highest_of(bin)) / 2;
        const long double clipped = mid > largest ? mid - largest : 0;
        const long double rounded = mid >= step ? step * step / 6 : mid * (step - mid);
        sum += static_cast<long double>(c) * (clipped * clipped + rounded);
    }
    return sum;
}

// Mean over the draws of the squared error that an element suffers in units of the wide mantissa, in real arithmetic.
long double expected_error(std::int32_t x, int d, int width) {
    const long double step = std::ldexp(1.0L, d), largest = largest_mantissa(width);
    const long double scaled = static_cast<long double>(x) / step, low = std::floor(scaled), up = scaled - low;
    const auto square = [&](long double q) {
        const long double kept = q > largest ? largest : q < -largest ? -largest : q;
        return (kept - scaled) * (kept - scaled) * step * step;
    };
    return (1 - up) * square(low) + up * square(low + 1);
}

}  // namespace

TEST_CASE("no_overflow takes the smallest shift at which the maximum fits") {
    random_sequence draw({21, 0, 0, stream::shuffle});
    for (int width = 2; width <= 16; ++width)
        for (int trial = 0; trial < 200; ++trial) {
            histogram seen;
            seen.add(static_cast<std::int32_t>(1 + (draw.next() >> 1 >> draw.below(31))) & 0x7fffffff);
            if (seen.maximum == 0) continue;
            const int d = dropped_bits({radix_rule::no_overflow, 0, 0}, seen, width, rounding::nearest, 0);
            const auto fits = [&](int bits) {
                return static_cast<long double>(seen.maximum) <= std::ldexp(1.0L * largest_mantissa(width), bits);
            };
            CAPTURE(width);
            CAPTURE(seen.maximum);
            CHECK(fits(d));
            CHECK_FALSE(fits(d - 1));
        }
    histogram one;
    one.add(1);
    CHECK(dropped_bits({radix_rule::no_overflow, 0, 0}, one, 16, rounding::nearest, 0) == -14);
    histogram all;
    all.add(0x7fffffff);
    CHECK(dropped_bits({radix_rule::no_overflow, 0, 0}, all, 2, rounding::nearest, 0) == 31);
    CHECK(dropped_bits({radix_rule::no_overflow, 0, 0}, all, 32, rounding::nearest, 0) == 0);
}

TEST_CASE("least_error has the least sum of the stated formula among the candidates") {
    random_sequence draw({22, 0, 0, stream::shuffle});
    int below = 0;
    for (int trial = 0; trial < 600; ++trial) {
        const int width = draw.between(2, 16);
        const histogram seen = count(random_tensor(draw, trial % 5, 1 + draw.below(400)));
        if (seen.maximum == 0) continue;
        const int highest = dropped_bits({radix_rule::no_overflow, 0, 0}, seen, width, rounding::stochastic, 0);
        const int d = dropped_bits({radix_rule::least_error, 0, 0}, seen, width, rounding::stochastic, 0);
        CAPTURE(trial);
        CAPTURE(width);
        REQUIRE(d <= highest);
        if (highest <= 0) {
            REQUIRE(d == highest);
            continue;
        }
        REQUIRE(d >= std::max(0, highest - (radix_candidates - 1)));
        below += d < highest ? 1 : 0;
        const long double least = formula(seen, d, width);
        for (int other = std::max(0, highest - (radix_candidates - 1)); other <= highest; ++other) {
            CAPTURE(other);
            // a clear difference in long double is a difference in integers; ties go to the larger shift
            REQUIRE(least <= formula(seen, other, width) * (1 + 1e-15L));
        }
    }
    CHECK(below > 100);  // the policy does clip
}

TEST_CASE("the integer sum is 24 times the formula") {
    random_sequence draw({23, 0, 0, stream::shuffle});
    for (int trial = 0; trial < 300; ++trial) {
        const histogram seen = count(random_tensor(draw, trial % 5, 300));
        const detail::error_sums sums(seen);
        const int d = draw.between(0, 30), width = draw.between(2, 16);
        const long double expected = 24 * formula(seen, d, width);
        CAPTURE(trial);
        CHECK(std::fabs(static_cast<long double>(sums.at(d, width)) - expected) <= expected * 1e-15L);
    }
}

TEST_CASE("ties go to the larger exponent") {
    // Width 2, so largest = step = 2^d. Magnitudes 4 and 8 (whose bin's middle is 8.5), by hand:
    // d = 3: 4 x 4 + 64/6 and a little for 8.5; d = 2: 16/6 + 4.5^2 + 16/6; d = 1: 2^2 + 4/6 + 6.5^2 + 4/6
    histogram seen;
    seen.add(4);
    seen.add(8);
    CHECK(dropped_bits({radix_rule::least_error, 0, 0}, seen, 2, rounding::stochastic, 0) == 2);
    // Three magnitudes 1 and one 3: d = 2 costs 3 x 3 + 3, d = 1 costs 3 x 1 + (1 + 4/6), d = 0 costs 3 x 1/6 + (4 +
    // 1/6): d = 1 and d = 0 tie.
    histogram tie;
    for (int i = 0; i < 3; ++i) tie.add(1);
    tie.add(3);
    const detail::error_sums sums(tie);
    CHECK(sums.at(1, 2) == sums.at(0, 2));
    CHECK(sums.at(2, 2) > sums.at(1, 2));
    CHECK(dropped_bits({radix_rule::least_error, 0, 0}, tie, 2, rounding::stochastic, 0) == 1);
}

TEST_CASE("least_error is near the best shift by the elements' own expected error") {
    // In this sense: the error at the shift chosen is at most a quarter above the least of all candidates, when the
    // elements lie densely (bins stand for their middles).
    random_sequence draw({24, 0, 0, stream::shuffle});
    for (int trial = 0; trial < 60; ++trial) {
        const int width = draw.between(3, 12);
        const std::vector<std::int32_t> x = random_tensor(draw, trial % 5, 3000);
        const histogram seen = count(x);
        if (seen.maximum < 1u << 16) continue;
        const int highest = dropped_bits({radix_rule::no_overflow, 0, 0}, seen, width, rounding::stochastic, 0);
        const int d = dropped_bits({radix_rule::least_error, 0, 0}, seen, width, rounding::stochastic, 0);
        const auto error = [&](int bits) {
            long double sum = 0;
            for (const std::int32_t value : x) sum += expected_error(value, bits, width);
            return sum;
        };
        long double least = error(highest);
        for (int other = std::max(0, highest - (radix_candidates - 1)); other < highest; ++other)
            least = std::min(least, error(other));
        CAPTURE(trial);
        CAPTURE(width);
        CHECK(error(d) <= 1.25L * least);
    }
}

TEST_CASE("overflow_rate keeps the share of clipped elements, and rate 0 clips nothing") {
    random_sequence draw({25, 0, 0, stream::shuffle});
    for (int trial = 0; trial < 300; ++trial) {
        const int width = draw.between(4, 12);
        const std::vector<std::int32_t> x = random_tensor(draw, trial % 5, 4000);
        const histogram seen = count(x);
        if (seen.maximum < 1u << 14) continue;
        const rounding mode = trial % 2 == 0 ? rounding::stochastic : rounding::nearest;
        const std::int64_t n = static_cast<std::int64_t>(x.size());
        std::vector<std::int16_t> out(x.size());
        const auto clipped = [&](int d) {
            return quantise({x.data(), 1, n, d, width, mode, {draw.next(), 0, 0, stream::activation}, 0}, out.data(),
                            best_path(), 1);
        };
        CAPTURE(trial);
        CAPTURE(width);
        const int none = dropped_bits({radix_rule::overflow_rate, 0, 0}, seen, width, mode, 0);
        CHECK(clipped(none).overflows == 0);
        const radix_policy tenth = parse_radix("overflow-rate:0.1");
        const int d = dropped_bits(tenth, seen, width, mode, 0);
        const clip_counts at = clipped(d);
        CHECK(d <= none);
        // elements spread evenly over their bin, up to what chance makes of it: 10 % becomes at most 15 %
        CHECK(static_cast<double>(at.overflows) <= 0.15 * static_cast<double>(at.nonzeros));
        if (none - d < radix_candidates - 1 && d > 0) {
            const clip_counts next = clipped(d - 1);
            CHECK(static_cast<double>(next.overflows) >= 0.05 * static_cast<double>(next.nonzeros));
        }
    }
}

TEST_CASE("the allowance moves the exponent by one step, up and down equally often") {
    histogram seen;
    for (int i = 1; i < 1000; ++i) seen.add(i * 1000);
    for (const radix_rule rule : {radix_rule::least_error, radix_rule::no_overflow, radix_rule::overflow_rate}) {
        const int base = dropped_bits({rule, 0, 0}, seen, 8, rounding::stochastic, 0);
        int up = 0, down = 0;
        for (std::uint32_t r = 0; r < 65536; ++r) {
            const int d = dropped_bits({rule, 0, 6554}, seen, 8, rounding::stochastic, static_cast<std::uint16_t>(r));
            REQUIRE(std::abs(d - base) <= 1);
            up += d > base;
            down += d < base;
        }
        CHECK(up == 3277);
        CHECK(down == 3277);
    }
}

TEST_CASE("a tensor of zeros keeps its place under every policy") {
    histogram zeros;
    zeros.zeros = 100;
    for (const radix_rule rule : {radix_rule::least_error, radix_rule::no_overflow, radix_rule::overflow_rate})
        CHECK(dropped_bits({rule, 1, 65535}, zeros, 8, rounding::stochastic, 0) == 0);
}

TEST_CASE("policies are parsed from text, and wrong text is refused") {
    CHECK(parse_radix("least-error") == radix_policy{radix_rule::least_error, 0, 0});
    CHECK(parse_radix("no-overflow") == radix_policy{radix_rule::no_overflow, 0, 0});
    CHECK(parse_radix("overflow-rate:0") == radix_policy{radix_rule::overflow_rate, 0, 0});
    CHECK(parse_radix("overflow-rate:0.5") == radix_policy{radix_rule::overflow_rate, 0x80000000u, 0});
    CHECK(parse_radix("overflow-rate:1e-4") == radix_policy{radix_rule::overflow_rate, 429497, 0});  // 429496.7
    for (const char* text : {"", "least", "least-error:1", "overflow-rate", "overflow-rate:", "overflow-rate:x",
                             "overflow-rate:1", "overflow-rate:-0.1", "overflow-rate=0.1"}) {
        CAPTURE(text);
        CHECK_THROWS_AS(parse_radix(text), argument_error);
    }
}
