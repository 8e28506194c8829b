#include <doctest/doctest.h>

#include <cstdint>

#include "lamella/core/random.hpp"
#include "lamella/core/rounding.hpp"

using namespace lamella;

TEST_CASE("stochastic rounding gives its known answers") {
    // 13 = 0b1101 with two bits dropped is 3.25: up for the highest quarter of the draws
    CHECK(round_stochastic(13, 2, 0) == 3);
    CHECK(round_stochastic(13, 2, 0xbfff) == 3);
    CHECK(round_stochastic(13, 2, 0xc000) == 4);
    CHECK(round_stochastic(13, 2, 0xffff) == 4);
    // -13 is -3.25: up (to -3) for three quarters
    CHECK(round_stochastic(-13, 2, 0x3fff) == -4);
    CHECK(round_stochastic(-13, 2, 0x4000) == -3);
    // whole values never move, zero never leaves zero
    CHECK(round_stochastic(12, 2, 0xffff) == 3);
    CHECK(round_stochastic(-12, 2, 0xffff) == -3);
    CHECK(round_stochastic(0, 30, 0xffff) == 0);
    // above 16 dropped bits the draw is scaled up: noise 0xffff0 under 20 bits
    CHECK(round_stochastic(16, 20, 0xffff) == 1);
    CHECK(round_stochastic(15, 20, 0xffff) == 0);
    CHECK(round_stochastic(0x7fffffff, 16, 0xffff) == 0x8000);
    CHECK(round_stochastic(-0x7fffffff, 16, 0) == -0x8000);
    // no bits dropped: a left shift that ignores the draw
    CHECK(round_stochastic(5, 0, 0xffff) == 5);
    CHECK(round_stochastic(-5, -3, 0xffff) == -40);
}

TEST_CASE("rounding to nearest gives its known answers and sends ties to even") {
    CHECK(round_nearest(13, 2) == 3);
    CHECK(round_nearest(14, 2) == 4);  // 3.5
    CHECK(round_nearest(10, 2) == 2);  // 2.5
    CHECK(round_nearest(11, 2) == 3);
    CHECK(round_nearest(-10, 2) == -2);
    CHECK(round_nearest(-14, 2) == -4);
    CHECK(round_nearest(-13, 2) == -3);
    CHECK(round_nearest(1, 1) == 0);
    CHECK(round_nearest(3, 1) == 2);
    CHECK(round_nearest(0x7fffffff, 31) == 1);
    CHECK(round_nearest(INT64_MAX, 62) == 2);
    CHECK(round_nearest(INT64_MIN, 62) == -2);
    CHECK(round_nearest(INT64_MAX, 63) == 0);
    CHECK(round_nearest(-5, -3) == -40);
}

TEST_CASE("rounding to nearest in 32 bits gives what the definition gives") {
    random_sequence draw({18, 0, 0, stream::shuffle});
    for (int dropped = 1; dropped <= 31; ++dropped) {
        CAPTURE(dropped);
        for (int i = 0; i < 2000; ++i) {
            const auto x = static_cast<std::int32_t>(draw.next()) >> draw.below(31);
            REQUIRE(drop_nearest(x, dropped) == round_nearest(x, dropped));
            const std::int32_t tie = (x >> dropped << dropped) + (std::int32_t{1} << (dropped - 1) % 31);
            REQUIRE(drop_nearest(tie, dropped) == round_nearest(tie, dropped));
        }
        for (const std::int32_t x : {INT32_MIN, INT32_MAX, -1, 0, 1})
            REQUIRE(drop_nearest(x, dropped) == round_nearest(x, dropped));
    }
}

TEST_CASE("clipping is symmetric") {
    CHECK(clip(127, 8) == 127);
    CHECK(clip(128, 8) == 127);
    CHECK(clip(-128, 8) == -127);
    CHECK(clip(INT64_MIN, 16) == -32767);
    CHECK(clip(1, 2) == 1);
    CHECK(clip(-2, 2) == -1);
}

TEST_CASE("stochastic rounding is exactly unbiased over all draws up to 16 dropped bits, and nearly above") {
    random_sequence draw({17, 0, 0, stream::shuffle});
    for (int dropped = 1; dropped <= 24; ++dropped)
        for (int trial = 0; trial < 3; ++trial) {
            const std::int64_t x = static_cast<std::int32_t>(draw.next()) >> 1;
            std::int64_t sum = 0;
            for (std::uint32_t r = 0; r < 65536; ++r)
                sum += round_stochastic(x, dropped, static_cast<std::uint16_t>(r));
            CAPTURE(x);
            CAPTURE(dropped);
            const std::int64_t error = sum * (std::int64_t{1} << dropped) - x * 65536;  // in units of 2^-16 of x's own
            if (dropped <= 16)
                CHECK(error == 0);
            else
                CHECK((error < 0 ? -error : error) < std::int64_t{1} << dropped);  // under 2^-16 of a step
        }
}
