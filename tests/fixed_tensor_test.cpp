#include <doctest/doctest.h>

#include <cfenv>
#include <cmath>
#include <limits>

#include "lamella/core/fixed_tensor.hpp"
#include "lamella/core/random.hpp"

using namespace lamella;

namespace {

template <class Real>
xt::xtensor<Real, 2> random_values(random_sequence& draw, int spread) {
    auto x = xt::xtensor<Real, 2>::from_shape({7, 11});
    for (Real& v : x)
        v = static_cast<Real>(
            std::ldexp(static_cast<double>(draw.between(-(1 << 23), 1 << 23)), draw.between(-spread, spread)));
    return x;
}

}  // namespace

TEST_CASE("the width must suit the mantissa type, and mantissas the width") {
    const xt::xtensor<std::int8_t, 1> m{1, -7, 7};
    CHECK(fixed_tensor<1, std::int8_t>(m, 4, -3).width() == 4);
    CHECK_THROWS_WITH((fixed_tensor<1, std::int8_t>(m, 3, 0)), "mantissa: expected one of 3 bits, found -7");
    CHECK_THROWS_AS((fixed_tensor<1, std::int8_t>(m, 9, 0)), argument_error);
    CHECK_THROWS_AS((fixed_tensor<1, std::int8_t>(m, 1, 0)), argument_error);
    const xt::xtensor<std::int8_t, 1> lowest{-128};
    CHECK_THROWS_AS((fixed_tensor<1, std::int8_t>(lowest, 8, 0)), argument_error);
    const xt::xtensor<std::int16_t, 1> wide{-32767};
    CHECK(fixed_tensor<1, std::int16_t>(wide, 16, 0).data()[0] == -32767);
    CHECK_THROWS_AS((fixed_tensor<1, std::int16_t>(wide, 17, 0)), argument_error);
    CHECK_THROWS_AS((fixed_tensor<1, std::int32_t>(xt::xtensor<std::int32_t, 1>{1}, 33, 0)), argument_error);
}

TEST_CASE("known values take the smallest exponent at which the largest fits") {
    const xt::xtensor<float, 1> x{1.0f, -0.5f, 0.25f, 0.0f, 0.00390625f};
    const auto t = quantise_tensor<1, std::int8_t>(x, 8);
    CHECK(t.exponent() == -6);                                               // 1 = 64 x 2^-6; at -7 it would be 128
    CHECK(t.mantissas() == xt::xtensor<std::int8_t, 1>{64, -32, 16, 0, 0});  // 0.25 units round to 0
    const xt::xtensor<double, 1> halves{127.0, 0.5, 1.5, -2.5, 126.5, -126.5};
    const auto h = quantise_tensor<1, std::int8_t>(halves, 8);
    CHECK(h.exponent() == 0);
    CHECK(h.mantissas() == xt::xtensor<std::int8_t, 1>{127, 0, 2, -2, 126, -126});  // ties to even
    const xt::xtensor<double, 1> above{127.00001, 1.0};
    CHECK(quantise_tensor<1, std::int8_t>(above, 8).exponent() == 1);
    const xt::xtensor<int, 1> integers{300, -5};
    const auto i = quantise_tensor<1, std::int16_t>(integers, 16);
    CHECK(i.exponent() == -6);
    CHECK(i.mantissas() == xt::xtensor<std::int16_t, 1>{19200, -320});
}

TEST_CASE("rounding is exact to half a unit for floats and doubles of any size") {
    random_sequence draw({31, 0, 0, stream::shuffle});
    const auto check = [&](auto values, auto mantissa) {
        using mantissa_type = decltype(mantissa);
        for (const int width : {2, 5, 8, 12, 16, 24, 32}) {
            if (width > 8 * static_cast<int>(sizeof(mantissa_type))) continue;
            const auto t = quantise_tensor<2, mantissa_type>(values, width);
            bool near = true, needed = false;
            for (std::size_t i = 0; i < values.size(); ++i) {
                const long double units = std::ldexp(static_cast<long double>(values.flat(i)), -t.exponent());
                near = near && std::fabs(units - t.data()[i]) <= 0.5L;
                needed = needed || 2 * std::fabs(units) > largest_mantissa(width);  // one bit less would clip
            }
            CAPTURE(width);
            CHECK(near);
            CHECK(needed);
        }
    };
    for (const int spread : {0, 5, 60}) {
        check(random_values<float>(draw, spread), std::int8_t{});
        check(random_values<float>(draw, spread), std::int16_t{});
        check(random_values<float>(draw, spread), std::int32_t{});
        check(random_values<double>(draw, 10 * spread), std::int16_t{});
        check(random_values<double>(draw, 10 * spread), std::int32_t{});
    }
}

TEST_CASE("the smallest and largest finite values are taken apart exactly") {
    using limits = std::numeric_limits<float>;
    const xt::xtensor<float, 1> tiny{limits::denorm_min(), -3 * limits::denorm_min()};
    const auto t = quantise_tensor<1, std::int8_t>(tiny, 8);
    CHECK(t.exponent() == -149 - 5);
    CHECK(t.mantissas() == xt::xtensor<std::int8_t, 1>{32, -96});
    const xt::xtensor<float, 1> huge{limits::max(), limits::min()};
    const auto u = quantise_tensor<1, std::int32_t>(huge, 25);
    CHECK(u.exponent() == 104);
    CHECK(u.mantissas() == xt::xtensor<std::int32_t, 1>{0xffffff, 0});
    const xt::xtensor<double, 1> doubles{std::numeric_limits<double>::denorm_min()};
    CHECK(quantise_tensor<1, std::int8_t>(doubles, 2).exponent() == -1074);
}

TEST_CASE("the same bits come out in every floating-point rounding mode") {
    random_sequence draw({32, 0, 0, stream::shuffle});
    const auto x = random_values<float>(draw, 6);
    const auto y = random_values<double>(draw, 6);
    const auto expected = quantise_tensor<2, std::int16_t>(x, 11);
    const auto expected_y = quantise_tensor<2, std::int8_t>(y, 6, {radix_rule::least_error, 0, 0});
    for (const int mode : {FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO, FE_TONEAREST}) {
        std::fesetround(mode);
        const auto found = quantise_tensor<2, std::int16_t>(x, 11);
        const auto found_y = quantise_tensor<2, std::int8_t>(y, 6, {radix_rule::least_error, 0, 0});
        std::fesetround(FE_TONEAREST);
        CAPTURE(mode);
        CHECK(found == expected);
        CHECK(found_y == expected_y);
    }
}

TEST_CASE("least_error clips outliers") {
    xt::xtensor<double, 1> x = xt::linspace<double>(-1.0, 1.0, 1001);
    x(0) = 16.0;
    const auto t = quantise_tensor<1, std::int8_t>(x, 4, {radix_rule::least_error, 0, 0});
    CHECK(t.exponent() < quantise_tensor<1, std::int8_t>(x, 4).exponent());
    CHECK(t.data()[0] == 7);
}

TEST_CASE("values that are not finite are refused, and so is another rank") {
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
        const xt::xtensor<float, 1> x{1.0f, bad};
        CHECK_THROWS_AS((quantise_tensor<1, std::int8_t>(x, 8)), argument_error);
        const xt::xtensor<double, 1> y{1.0, static_cast<double>(bad)};
        CHECK_THROWS_AS((quantise_tensor<1, std::int8_t>(y, 8)), argument_error);
    }
    const xt::xarray<float> matrix = xt::ones<float>({2, 3});
    CHECK_THROWS_AS((quantise_tensor<1, std::int8_t>(matrix, 8)), argument_error);
    CHECK_THROWS_AS((quantise_tensor<2, std::int8_t>(matrix, 9)), argument_error);
    CHECK(quantise_tensor<2, std::int8_t>(matrix, 8).shape() == std::array<std::size_t, 2>{2, 3});
    const xt::xtensor<std::int64_t, 1> large{std::int64_t{1} << 62};
    CHECK_THROWS_AS((quantise_tensor<1, std::int8_t>(large, 8)), argument_error);
}

TEST_CASE("zeros and empty tensors have exponent 0") {
    const auto zeros = quantise_tensor<2, std::int8_t>(xt::zeros<float>({3, 4}), 8);
    CHECK(zeros.exponent() == 0);
    CHECK(zeros.size() == 12);
    const auto empty = quantise_tensor<2, std::int8_t>(xt::zeros<float>({0, 4}), 8);
    CHECK(empty.size() == 0);
    CHECK(fixed_tensor<2, std::int8_t>().size() == 0);
}

TEST_CASE("any expression goes in, in row-major order, and a lazy one comes out") {
    const xt::xtensor<float, 2> x{{1, 2, 3}, {4, 5, 6}};
    const auto t = quantise_tensor<2, std::int8_t>(xt::transpose(x) * 2.0f, 8);
    CHECK(t.exponent() == -3);
    CHECK(t.mantissas() == xt::xtensor<std::int8_t, 2>{{16, 64}, {32, 80}, {48, 96}});
    const xt::xtensor<float, 2> back = dequantize(t);
    CHECK(back == xt::xtensor<float, 2>(xt::transpose(x) * 2.0f));
    const double sum = xt::sum(dequantize<double>(t) + 1.0)();
    CHECK(sum == 48.0);
    // what comes out goes in again unchanged
    CHECK(quantise_tensor<2, std::int8_t>(dequantize(t), 8) == t);
}

TEST_CASE("tensors are equal when shape, width, exponent and mantissas are") {
    const xt::xtensor<std::int8_t, 2> m{{1, 2, 3, 4}};
    const xt::xtensor<std::int8_t, 2> column{{1}, {2}, {3}, {4}};
    const fixed_tensor<2, std::int8_t> t(m, 8, 0);
    CHECK(t == fixed_tensor<2, std::int8_t>(m, 8, 0));
    CHECK_FALSE(t == fixed_tensor<2, std::int8_t>(m, 7, 0));
    CHECK_FALSE(t == fixed_tensor<2, std::int8_t>(m, 8, 1));
    CHECK_FALSE(t == fixed_tensor<2, std::int8_t>(column, 8, 0));
    CHECK_FALSE(t == fixed_tensor<2, std::int8_t>(xt::xtensor<std::int8_t, 2>{{1, 2, 3, 5}}, 8, 0));
}
