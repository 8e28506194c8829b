// Learning-rate schedules against the formulas that they are named after, in long double.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "lamella/optim/schedule.hpp"

using namespace lamella;
using namespace lamella::optim;
using real = long double;

namespace {

real value(const scaled& s) { return std::ldexp(static_cast<real>(s.mantissa), s.exponent); }
const real pi = std::acos(-1.0L);
bool near(const scaled& found, real wanted) {
    return std::fabs(value(found) - wanted) <= std::exp2(-30.0L) * wanted + std::exp2(-60.0L);
}

schedule_settings of(schedule_shape shape) {
    schedule_settings s;
    s.shape = shape;
    return s;
}

}  // namespace

TEST_CASE("constant is 1 at every step") {
    const schedule_settings s = of(schedule_shape::constant);
    for (const std::uint64_t step : {0u, 1u, 999u, 5000u}) CHECK(schedule_share(s, step, 1000) == scaled{1 << 30, -30});
    CHECK(schedule_share(s, 0, 0) == scaled{1 << 30, -30});
}

TEST_CASE("cosine follows PyTorch's CosineAnnealingLR, with and without a floor") {
    for (const char* floor : {"0", "0.01", "1"}) {
        schedule_settings s = of(schedule_shape::cosine);
        s.floor = parse_scaled(floor, "floor");
        for (const std::uint64_t total : {1u, 2u, 7u, 1000u, 9380u})
            for (std::uint64_t t = 0; t <= total; ++t) {
                const real f = value(s.floor);
                const real wanted =
                    f + (1 - f) * (1 + std::cos(pi * static_cast<real>(t) / static_cast<real>(total))) / 2;
                INFO("floor " << floor << ", step " << t << " of " << total);
                REQUIRE(near(schedule_share(s, t, total), wanted));
            }
    }
    const schedule_settings s = of(schedule_shape::cosine);
    CHECK(schedule_share(s, 0, 100) == scaled{1 << 30, -30});
    CHECK(schedule_share(s, 100, 100) == scaled{});
    CHECK(schedule_share(s, 1000, 100) == scaled{});
    const std::uint64_t long_run = 4000000000000u;
    CHECK(near(schedule_share(s, long_run / 2, long_run), 0.5L));
}

TEST_CASE("warm-up rises linearly to 1, and the schedule counts from its end") {
    for (const schedule_shape shape : {schedule_shape::constant, schedule_shape::cosine, schedule_shape::step}) {
        schedule_settings s = of(shape);
        s.warm_up = 40;
        for (std::uint64_t t = 0; t < 40; ++t) CHECK(near(schedule_share(s, t, 240), static_cast<real>(t + 1) / 40));
        schedule_settings cold = s;
        cold.warm_up = 0;
        for (std::uint64_t t = 0; t <= 200; ++t) CHECK(schedule_share(s, 40 + t, 240) == schedule_share(cold, t, 200));
        CHECK(value(schedule_share(s, 30, 20)) < 1);  // a run that ends during its warm-up
        CHECK(value(schedule_share(s, 50, 20)) <= 1);
    }
}

TEST_CASE("step multiplies by gamma at equal parts of the run") {
    schedule_settings s = of(schedule_shape::step);
    for (const std::uint32_t drops : {0u, 1u, 2u, 3u}) {
        s.drops = drops;
        for (std::uint64_t t = 0; t < 1000; ++t) {
            const std::uint64_t passed = t * (drops + 1) / 1000;
            INFO("drops " << drops << ", step " << t);
            REQUIRE(near(schedule_share(s, t, 1000), std::pow(value(s.gamma), static_cast<real>(passed))));
        }
        CHECK(near(schedule_share(s, 1000, 1000), std::pow(value(s.gamma), static_cast<real>(drops))));
    }
}

TEST_CASE("onecycle rises from 1/25 to 1 and falls to 1/250000") {
    const schedule_settings s = of(schedule_shape::onecycle);
    constexpr std::uint64_t total = 1001, peak = 300;
    for (std::uint64_t t = 0; t < total; ++t) {
        const real wanted =
            t < peak ? 0.04L + 0.96L * (1 - std::cos(pi * static_cast<real>(t) / peak)) / 2
                     : 1 / 250000.0L + (1 - 1 / 250000.0L) *
                                           (1 + std::cos(pi * static_cast<real>(t - peak) / (total - 1 - peak))) / 2;
        INFO("step " << t);
        // `rise` is 0.3 to 31 bits, so that the peak may come a step early
        REQUIRE(std::fabs(value(schedule_share(s, t, total)) - wanted) < 0.01L);
        if (t > 0 && t + 1 < peak) REQUIRE(value(schedule_share(s, t, total)) > value(schedule_share(s, t - 1, total)));
        if (t > peak) REQUIRE(value(schedule_share(s, t, total)) < value(schedule_share(s, t - 1, total)));
    }
    CHECK(near(schedule_share(s, 0, total), 0.04L));
    CHECK(near(schedule_share(s, total - 1, total), 1 / 250000.0L));
    CHECK(near(schedule_share(s, total + 5, total), 1 / 250000.0L));
    for (const std::uint64_t tiny : {0u, 1u, 2u, 3u}) CHECK(value(schedule_share(s, 0, tiny)) > 0);
}

TEST_CASE("settings out of range are refused by name") {
    const auto refused = [](auto change, const std::string& name) {
        schedule_settings s;
        change(s);
        try {
            check(s);
            return false;
        } catch (const argument_error& e) {
            return std::string(e.what()).find(name) != std::string::npos;
        }
    };
    CHECK(refused([](auto& s) { s.floor = parse_scaled("-0.1", "x"); }, "floor"));
    CHECK(refused([](auto& s) { s.gamma = parse_scaled("1.001", "x"); }, "gamma"));
    CHECK(refused([](auto& s) { s.rise = parse_scaled("2", "x"); }, "rise"));
    CHECK(refused([](auto& s) { s.drops = 100000; }, "drops"));
    schedule_settings edge;
    edge.floor = edge.rise = edge.gamma = parse_scaled("1", "x");
    CHECK_NOTHROW(check(edge));
    for (const std::string_view name : schedule_names) CHECK(name_of(parse_schedule(name)) == name);
    CHECK_THROWS_AS(parse_schedule("cosinus"), argument_error);
}
