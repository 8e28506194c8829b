// The search of a table of fixed-point formats, on counts of wrong answers that are known in closed form.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <lamella/precision/table_search.hpp>

#include "message_of.hpp"

using namespace lamella;
using namespace lamella::precision;

namespace {

constexpr std::array roles{role::activation, role::weight, role::error};

// A network that has so many wrong answers for each fraction bit that an operand lacks.
struct needs {
    struct need {
        int fraction = 0;
        std::uint64_t each = 1;
    };
    std::vector<std::array<need, 3>> of;
    std::uint64_t operator()(const std::vector<table_row>& rows) const {
        std::uint64_t wrong = 0;
        for (std::size_t layer = 0; layer < rows.size(); ++layer)
            for (std::size_t i = 0; i < 3; ++i) {
                const int lacking = of[layer][i].fraction - rows[layer][i].fraction;
                if (lacking > 0) wrong += of[layer][i].each * static_cast<std::uint64_t>(lacking);
            }
        return wrong;
    }
};

}  // namespace

TEST_CASE("the top of a magnitude is the least power of two that is not below it") {
    CHECK(top_of(1.0) == 0);
    CHECK(top_of(1.0001) == 1);
    CHECK(top_of(0.5) == -1);
    CHECK(top_of(0.3) == -1);
    CHECK(top_of(6.0) == 3);
    CHECK(top_of(8.0) == 3);
    CHECK(top_of(0.0) == 0);
    for (const double bad : {-1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()})
        CHECK_THROWS_AS(top_of(bad), argument_error);
}

TEST_CASE("a table starts at the ranges, its width everywhere") {
    const std::vector<operand_tops> tops{{0, -2, 3}, {5, 1, -7}};
    const auto rows = starting_table(tops);
    CHECK(text_of(rows) == "1.15,-1.17,4.12+6.10,2.14,-6.22");
    CHECK(text_of(parse_table(text_of(rows))) == text_of(rows));
    CHECK(text_of(starting_table(tops, 8)) == "1.7,-1.9,4.4+6.2,2.6,-6.14");
    CHECK(message_of<argument_error>([&] { starting_table(tops, 17); }) ==
          "width to start from: expected 2..16 bits, found 17");
    CHECK(message_of<argument_error>([&] {
              starting_table(std::vector<operand_tops>{{0, 0, 0}, {0, 25, 0}});
          }) == "top of weight in layer 1: expected -24..24, found 25");
}

TEST_CASE("the least fractions are found when nothing wrong is allowed") {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        CAPTURE(seed);
        std::mt19937_64 r(seed);
        const auto draw = [&](int low, int high) {
            return low + static_cast<int>(r() % static_cast<unsigned>(high - low + 1));
        };
        std::vector<operand_tops> tops(static_cast<std::size_t>(draw(1, 6)));
        needs network;
        for (operand_tops& layer : tops) {
            auto& n = network.of.emplace_back();
            for (std::size_t i = 0; i < 3; ++i) {
                layer[i] = draw(-8, 8);
                n[i].fraction = draw(-12, 15 - layer[i]);  // at most what 16 bits have
                n[i].each = static_cast<std::uint64_t>(draw(1, 9));
            }
        }
        auto rows = starting_table(tops);
        for (const role what : roles)
            CHECK(lower_fractions(rows, what, 0, 0, network) <= 4 * static_cast<int>(tops.size()));
        for (std::size_t layer = 0; layer < rows.size(); ++layer)
            for (std::size_t i = 0; i < 3; ++i) {
                CHECK(rows[layer][i].integer == tops[layer][i] + 1);
                CHECK(rows[layer][i].fraction ==
                      std::max(network.of[layer][i].fraction, min_width - rows[layer][i].integer));
            }
    }
}

TEST_CASE("each layer has its part of the tolerance, and no fraction of the role could be less within it") {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        CAPTURE(seed);
        std::mt19937_64 r(seed);
        const std::vector<operand_tops> tops(1 + r() % 5, operand_tops{0, 0, 0});
        needs network;
        for (std::size_t layer = 0; layer < tops.size(); ++layer) {
            auto& n = network.of.emplace_back();
            for (auto& need : n) need = {static_cast<int>(1 + r() % 15), 1 + r() % 20};
        }
        auto rows = starting_table(tops);
        for (const role what : roles) {
            const std::uint64_t start = network(rows), tolerance = r() % 60;
            lower_fractions(rows, what, start, tolerance, network);
            CHECK(network(rows) <= start + tolerance);
            for (std::size_t layer = 0; layer < rows.size(); ++layer) {
                auto fewer = rows;
                fixed_point& f = fewer[layer][static_cast<std::size_t>(what)];
                --f.fraction;
                const std::uint64_t allowed = start + tolerance * (layer + 1) / rows.size();
                CHECK((f.width() < min_width || network(fewer) > allowed));
            }
        }
    }
}

TEST_CASE("where nothing less is allowed the present fractions stay") {
    auto rows = parse_table("1.15,2.14,1.15+4.12,1.15,-3.19");
    const std::string before = text_of(rows);
    const auto always_wrong = [](const std::vector<table_row>&) { return std::uint64_t{1}; };
    for (const role what : roles) lower_fractions(rows, what, 0, 0, always_wrong);
    CHECK(text_of(rows) == before);
    CHECK(message_of<argument_error>([&] { lower_fractions(rows, role::gradient, 0, 0, always_wrong); }) ==
          "role: expected activation, weight or error, found gradient");
}
