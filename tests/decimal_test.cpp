#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "lamella/core/decimal.hpp"

using namespace lamella;

TEST_CASE("decimal text becomes the nearest 31-bit mantissa") {
    CHECK(parse_scaled("1", "x") == scaled{1 << 30, -30});
    CHECK(parse_scaled("3", "x") == scaled{3 << 29, -29});
    CHECK(parse_scaled("-0.5", "x") == scaled{-(1 << 30), -31});
    CHECK(parse_scaled("0", "x") == scaled{});
    CHECK(parse_scaled("-0.000e7", "x") == scaled{});
    CHECK(parse_scaled(".5", "x") == scaled{1 << 30, -31});
    CHECK(parse_scaled("5.", "x") == scaled{5 << 28, -28});
    // 0.1 = 0x6.666666(6...) in 31 bits: 1717986918.4 x 2^-34
    CHECK(parse_scaled("0.1", "x") == scaled{1717986918, -34});
    CHECK(parse_scaled("1e-1", "x") == scaled{1717986918, -34});
    CHECK(parse_scaled("+1.00000000000000000000000000E-01", "x") == scaled{1717986918, -34});
    // 2^31 - 1 is kept, 2^31 - 0.5 ties to even and carries into the next octave
    CHECK(parse_scaled("2147483647", "x") == scaled{2147483647, 0});
    CHECK(parse_scaled("2147483647.5", "x") == scaled{1 << 30, 1});
    CHECK(parse_scaled("2147483646.5", "x") == scaled{2147483646, 0});
    CHECK(parse_scaled("2147483646.50000001", "x") == scaled{2147483647, 0});
}

TEST_CASE("every power of ten is within half a unit of its mantissa") {
    for (int power = -60; power <= 60; ++power) {
        const scaled s = parse_scaled("7e" + std::to_string(power), "x");
        const long double exact = 7.0L * std::pow(10.0L, static_cast<long double>(power));
        const long double found = std::ldexp(static_cast<long double>(s.mantissa), s.exponent);
        CAPTURE(power);
        CHECK(s.mantissa >= 1 << 30);
        CHECK(std::fabs(found - exact) <= std::ldexp(0.5L, s.exponent) * (1.0L + 0x1p-20L));
    }
}

TEST_CASE("a share of one becomes the nearest binary fraction") {
    CHECK(parse_fraction("0", 16, "x") == 0);
    CHECK(parse_fraction("1", 16, "x") == 65536);
    CHECK(parse_fraction("1.000", 32, "x") == std::uint64_t{1} << 32);
    CHECK(parse_fraction("0.5", 16, "x") == 32768);
    CHECK(parse_fraction("0.9", 31, "x") == 1932735283);  // 1932735283.2
    CHECK(parse_fraction("0.0078125", 6, "x") == 0);      // 0.5: ties to even
    CHECK(parse_fraction("0.0234375", 6, "x") == 2);      // 1.5: ties to even
    CHECK(parse_fraction("0.00781250000000001", 6, "x") == 1);
    CHECK(parse_fraction("0.999999999999999999", 63, "x") == 9223372036854775799u);
    CHECK(parse_fraction("1e-60", 63, "x") == 0);
}

TEST_CASE("bad text is refused under the name of its option") {
    for (const char* text : {"",
                             "-",
                             ".",
                             "abc",
                             "1e",
                             "1e+",
                             "1e-",
                             "0x10",
                             "1,5",
                             "1..2",
                             "1.2.3",
                             "1 ",
                             " 1",
                             "nan",
                             "inf",
                             "1e99999",
                             "1e61",
                             "1e-61",
                             "1234567890123456789",
                             "--1",
                             "1e1.5"}) {
        CAPTURE(text);
        CHECK_THROWS_AS(parse_scaled(text, "learning rate"), argument_error);
        CHECK_THROWS_AS(parse_fraction(text, 16, "learning rate"), argument_error);
    }
    CHECK_THROWS_AS(parse_fraction("-0.1", 16, "rate"), argument_error);
    CHECK_THROWS_AS(parse_fraction("1.00000000000000001", 16, "rate"), argument_error);
    CHECK_THROWS_AS(parse_fraction("2", 16, "rate"), argument_error);
    CHECK_THROWS_WITH(parse_scaled("fast", "learning rate"),
                      "learning rate: expected a decimal number such as 0.05, 1e-3 or 3, found fast");
}
