// Integer elementary functions against long double, over the whole range, with the bounds that the header states.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>

#include "lamella/core/elementary.hpp"
#include "lamella/core/random.hpp"

using namespace lamella;
using real = long double;

namespace {

constexpr std::uint64_t seed = 20211;

random_sequence numbers(std::uint32_t test) {
    return random_sequence({.seed = seed, .step = test, .layer = 0, .use = stream::split});
}
// 64 random bits cut to a random length of 1..64, so that every magnitude is met.
std::uint64_t any_magnitude(random_sequence& draw) {
    const std::uint64_t bits = (std::uint64_t{draw.next()} << 32 | draw.next()) | (std::uint64_t{1} << 63);
    return bits >> draw.below(64);
}
real value(const positive& p) { return std::ldexp(static_cast<real>(p.mantissa), p.exponent); }
real value(const scaled& s) { return std::ldexp(static_cast<real>(s.mantissa), s.exponent); }
bool within(real found, real wanted, real relative) {
    return std::fabs(found - wanted) <= relative * std::fabs(wanted);
}

}  // namespace

TEST_CASE("square_root is the exact floor") {
    auto draw = numbers(1);
    CHECK(square_root(0) == 0u);
    CHECK(square_root(~std::uint64_t{0}) == 0xFFFFFFFFu);
    for (std::uint64_t root = 1; root < 70000; ++root) {
        REQUIRE(square_root(root * root) == root);
        REQUIRE(square_root(root * root - 1) == root - 1);
    }
    for (int i = 0; i < 20000; ++i) {
        const std::uint64_t x = any_magnitude(draw), root = square_root(x);
        INFO("seed " << seed << " case " << i << " x " << x);
        REQUIRE(root * root <= x);
        REQUIRE((root == 0xFFFFFFFFu || (root + 1) * (root + 1) > x));
    }
}

TEST_CASE("reciprocal keeps its bound and its top bit") {
    auto draw = numbers(2);
    for (int i = 0; i < 200000; ++i) {
        const std::uint64_t x = i < 5000 ? static_cast<std::uint64_t>(i) + 1 : any_magnitude(draw);
        const positive r = reciprocal(x);
        INFO("seed " << seed << " case " << i << " x " << x);
        REQUIRE(r.mantissa >= 1u << 31);
        REQUIRE(within(value(r), 1.0L / static_cast<real>(x), std::ldexp(1.0L, -30)));
    }
    CHECK(reciprocal(1) == positive{0xFFFFFFFFu, -32});
    CHECK(reciprocal(3) == positive{0xAAAAAAAAu, -33});
}

TEST_CASE("reciprocal_square_root keeps its bound and its top bit") {
    auto draw = numbers(3);
    real worst = 0;
    for (int i = 0; i < 400000; ++i) {
        const std::uint64_t x = i < 5000 ? static_cast<std::uint64_t>(i) + 1 : any_magnitude(draw);
        const positive r = reciprocal_square_root(x);
        INFO("seed " << seed << " case " << i << " x " << x);
        REQUIRE(r.mantissa >= 1u << 31);
        const real error = std::fabs(value(r) * std::sqrt(static_cast<real>(x)) - 1.0L);
        worst = error > worst ? error : worst;
    }
    INFO("worst error 2^" << static_cast<double>(std::log2(worst)));
    CHECK(worst < std::ldexp(1.0L, -26));
    CHECK(reciprocal_square_root(1).exponent == -32);
    CHECK(reciprocal_square_root(4).exponent == -33);
    CHECK(reciprocal_square_root(4).mantissa == reciprocal_square_root(1).mantissa);
}

TEST_CASE("reciprocal_square_root_q30 is within 2^-26 at both ends of every table interval") {
    for (std::uint64_t i = 32; i < 128; ++i)
        for (const std::uint64_t s : {i << 25, (i << 25) + 12345, ((i + 1) << 25) - 1}) {
            const real found = std::ldexp(static_cast<real>(reciprocal_square_root_q30(s)), -32);
            const real wanted = 1.0L / std::sqrt(std::ldexp(static_cast<real>(s), -30));
            INFO("s " << s);
            REQUIRE(within(found, wanted, std::ldexp(1.0L, -26)));
        }
}

TEST_CASE("exp2_fraction keeps its bound and never falls") {
    std::uint32_t before = 0;
    for (std::uint64_t f = 0; f < (std::uint64_t{1} << 32); f += 65521) {
        const std::uint32_t y = exp2_fraction(static_cast<std::uint32_t>(f));
        INFO("f " << f);
        REQUIRE(y >= before);
        REQUIRE(within(std::ldexp(static_cast<real>(y), -31), std::exp2(std::ldexp(static_cast<real>(f), -32)),
                       std::exp2(-27.5L)));
        before = y;
    }
    auto draw = numbers(4);
    for (int i = 0; i < 200000; ++i) {
        const std::uint32_t f = draw.next() & 0xFFFFFFFEu;
        REQUIRE(exp2_fraction(f) <= exp2_fraction(f + 1));
    }
    CHECK(exp2_fraction(0) == 1u << 31);
    CHECK(exp2_fraction(0xFFFFFFFFu) >= 0xFFFFFFF0u);
    CHECK(exp2_fraction(1u << 31) == doctest::Approx(std::sqrt(2.0) * 2147483648.0).epsilon(1e-8));
}

TEST_CASE("exp2_negative keeps its bound over its whole range") {
    auto draw = numbers(5);
    for (int i = 0; i < 300000; ++i) {
        const std::uint64_t x = i < 100 ? static_cast<std::uint64_t>(i) << 32 : any_magnitude(draw);
        const real wanted = std::exp2(31.0L - std::ldexp(static_cast<real>(x), -32));
        const real found = static_cast<real>(exp2_negative(x));
        INFO("seed " << seed << " case " << i << " x " << x);
        REQUIRE(std::fabs(found - wanted) <= wanted * std::exp2(-27.5L) + 0.5000001L);
    }
    CHECK(exp2_negative(0) == 1u << 31);
    CHECK(exp2_negative(std::uint64_t{1} << 32) == 1u << 30);
    CHECK(exp2_negative(std::uint64_t{31} << 32) == 1u);
    CHECK(exp2_negative(std::uint64_t{33} << 32) == 0u);
    CHECK(exp2_negative(~std::uint64_t{0}) == 0u);
}

TEST_CASE("exp_negative keeps its bound for every magnitude and exponent") {
    auto draw = numbers(6);
    for (int i = 0; i < 400000; ++i) {
        const std::uint32_t magnitude = static_cast<std::uint32_t>(any_magnitude(draw) >> 32);
        const int exponent = draw.between(-80, 40);
        const real wanted = std::exp(-std::ldexp(static_cast<real>(magnitude), exponent)) * std::exp2(31.0L);
        const real found = static_cast<real>(exp_negative(magnitude, exponent));
        INFO("seed " << seed << " case " << i << " magnitude " << magnitude << " exponent " << exponent);
        REQUIRE(std::fabs(found - wanted) <= wanted * std::exp2(-26.0L) + 0.5000001L);
    }
    CHECK(exp_negative(0, 1000) == 1u << 31);
    CHECK(exp_negative(1, 1000) == 0u);
    CHECK(exp_negative(0xFFFFFFFFu, -1000) == 1u << 31);
    CHECK(exp_negative(1, 0) == 790015086u);  // 2^31 / e = 790015084.35
}

TEST_CASE("quotient_nearest is the nearest integer, ties to even, and stops at its limit") {
    using lamella::detail::quotient_nearest;
    CHECK(quotient_nearest(5, 2, 0, 100) == 2);
    CHECK(quotient_nearest(7, 2, 0, 100) == 4);
    CHECK(quotient_nearest(-7, 2, 0, 100) == -4);
    CHECK(quotient_nearest(3, 1, -1, 100) == 2);
    CHECK(quotient_nearest(1, 3, 4, 100) == 5);
    CHECK(quotient_nearest(1, 2, 0, 100) == 0);
    CHECK(quotient_nearest(-1000, 3, 0, 100) == -100);
    CHECK(quotient_nearest(0, 3, 1000, 100) == 0);
    CHECK(quotient_nearest(1, 3, 1000, 100) == 100);
    CHECK(quotient_nearest(-1, 3, 1000, 100) == -100);
    CHECK(quotient_nearest(1, 3, -1000, 100) == 0);
    auto draw = numbers(20);
    constexpr std::int64_t limit = (std::int64_t{1} << 61) + 12345;
    for (int i = 0; i < 50000; ++i) {
        const lamella::detail::int128 n = lamella::detail::int128{static_cast<std::int64_t>(any_magnitude(draw) >> 2)} *
                                          static_cast<std::int64_t>(any_magnitude(draw) >> 2);
        const std::int64_t d = static_cast<std::int64_t>(any_magnitude(draw) >> 2) + 1;
        const int exponent = draw.between(-130, 130);
        const std::int64_t q = quotient_nearest(n, d, exponent, limit);
        CAPTURE(i);
        REQUIRE(quotient_nearest(-n, d, exponent, limit) == -q);
        const real exact = std::ldexp(static_cast<real>(n) / static_cast<real>(d), exponent);
        if (exact > static_cast<real>(limit))
            REQUIRE(q >= limit - (limit >> 60));
        else
            REQUIRE(std::fabs(static_cast<real>(q) - exact) <= 0.5L + std::ldexp(exact, -61));
    }
}

TEST_CASE("power keeps its bound") {
    auto draw = numbers(7);
    const auto b_of = [](real b) { return static_cast<std::uint64_t>(std::ldexp(b, 63)); };
    for (const real b : {0.5L, 0.9L, 0.99L, 0.999L, 0.999999L, 1.0L})
        for (int i = 0; i < 3000; ++i) {
            const std::uint64_t t = i < 1000 ? static_cast<std::uint64_t>(i) : draw.below(100000000);
            const real wanted = std::exp(static_cast<real>(t) * std::log(std::ldexp(static_cast<real>(b_of(b)), -63)));
            const real found = std::ldexp(static_cast<real>(power(b_of(b), t)), -63);
            // the second term is what the reference itself loses
            const real bound = std::ldexp(2 * static_cast<real>(t) * wanted + 2, -63) +
                               std::ldexp(8 + static_cast<real>(t) * 4, -63) * wanted;
            INFO("b " << static_cast<double>(b) << " t " << t);
            REQUIRE(std::fabs(found - wanted) <= bound);
        }
    CHECK(power(std::uint64_t{1} << 62, 3) == std::uint64_t{1} << 60);
    CHECK(power(0, 0) == std::uint64_t{1} << 63);
    CHECK(power(0, 5) == 0u);
}

TEST_CASE("the logarithm is the integer below 2^16 log2(x), or one unit less") {
    static_assert(logarithm(1) == 0 && logarithm(2) == 65536 && logarithm(3) == 103872 && logarithm(10) == 217705);
    for (std::uint32_t power = 0; power < 64; ++power) CHECK(logarithm(std::uint64_t{1} << power) == power << 16);
    CHECK(logarithm(~std::uint64_t{0}) == (64u << 16) - 1);
    for (std::uint64_t x = 1; x < 3'000'000'000'000'000; x += x / 97 + 1) {
        CAPTURE(x);
        const long double exact = 65536 * std::log2(static_cast<long double>(x));
        CHECK(static_cast<long double>(logarithm(x)) <= exact);
        CHECK(static_cast<long double>(logarithm(x)) > exact - 2);
    }
}

TEST_CASE("cosine keeps its bound, is odd about a half and meets its exact values") {
    auto draw = numbers(8);
    const real pi = std::acos(-1.0L);
    for (int i = 0; i < 20000; ++i) {
        const std::uint64_t d = 1 + (any_magnitude(draw) >> 1), n = any_magnitude(draw) % (d + 1);
        const real found = std::ldexp(static_cast<real>(cosine(n, d)), -62);
        INFO("n " << n << " d " << d);
        REQUIRE(std::fabs(found - std::cos(pi * (static_cast<real>(n) / static_cast<real>(d)))) < std::exp2(-56.0L));
        REQUIRE(cosine(n, d) == -cosine(d - n, d));
    }
    CHECK(cosine(0, 7) == std::int64_t{1} << 62);
    CHECK(cosine(7, 7) == -(std::int64_t{1} << 62));
    const std::int64_t half = cosine(1, 3);
    CHECK(half - (std::int64_t{1} << 61) < 64);
    CHECK((std::int64_t{1} << 61) - half < 64);
}

TEST_CASE("arithmetic on scaled numbers keeps its bounds and its form") {
    auto draw = numbers(9);
    const auto any = [&](bool sign) {
        const std::int32_t m = static_cast<std::int32_t>((1u << 30) | (draw.next() >> 2));
        return scaled{sign && draw.below(2) ? -m : m, draw.between(-60, 20)};
    };
    const auto normalised = [](const scaled& s) { return s.mantissa >= 1 << 30 || s.mantissa <= -(1 << 30); };
    for (int i = 0; i < 100000; ++i) {
        const scaled a = any(true), b = any(false);
        INFO("seed " << seed << " case " << i);
        REQUIRE(normalised(multiply(a, b)));
        REQUIRE(within(value(multiply(a, b)), value(a) * value(b), std::ldexp(1.0L, -31)));
        REQUIRE(normalised(divide(a, b)));
        REQUIRE(within(value(divide(a, b)), value(a) / value(b), std::ldexp(1.0L, -30)));
        REQUIRE(normalised(square_root(b)));
        REQUIRE(within(value(square_root(b)), std::sqrt(value(b)), std::ldexp(1.0L, -30)));
    }
    CHECK(multiply(scaled{}, scaled{1 << 30, 5}) == scaled{});
    CHECK(divide(scaled{}, scaled{1 << 30, 5}) == scaled{});
    CHECK(square_root(scaled{}) == scaled{});
    CHECK(to_scaled(~std::uint64_t{0}, 0) == scaled{1 << 30, 34});
    CHECK(to_q63(scaled{1 << 30, -30}) == std::uint64_t{1} << 63);
    CHECK(to_q63(scaled{1 << 30, -94}) == 0u);
}
