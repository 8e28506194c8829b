#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include <lamella/accelerator/balanced_tiles.hpp>
#include <lamella/accelerator/ioss.hpp>

using namespace lamella;
using accelerator::lane_balance;

// 16-bit and 32-bit vectors both: cycles of a tile up to 2^16 and beyond.
TEST_CASE("many tiles at once take as long as each of them dealt by itself") {
    accelerator::detail::balanced_tiles balanced;
    int narrow = 0, wide = 0;
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
        std::mt19937_64 random(seed);
        const auto draw = [&](std::int64_t low, std::int64_t high) {
            return low + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(high - low + 1));
        };
        const std::int64_t lanes = draw(1, 20), tile_rows = lanes * draw(1, 9);
        const std::int64_t rows = draw(1, balanced.at_once * tile_rows),
                           largest = draw(0, 1) == 0 ? draw(0, 60) : draw(0, 100000);
        std::vector<std::uint32_t> cycles(static_cast<std::size_t>(rows));
        for (std::uint32_t& c : cycles) c = static_cast<std::uint32_t>(draw(0, largest));
        const bool greedy = seed % 4 != 0;
        std::vector<std::uint64_t> expected, order;
        std::uint64_t most = 0;
        for (std::int64_t first = 0; first < rows; first += tile_rows) {
            const auto count = static_cast<std::size_t>(std::min(tile_rows, rows - first));
            const std::vector<std::uint64_t> own(cycles.begin() + first,
                                                 cycles.begin() + first + static_cast<std::int64_t>(count));
            std::vector<std::uint16_t> lane_of(count);
            accelerator::deal_rows(greedy ? lane_balance::greedy : lane_balance::none, own, static_cast<int>(lanes),
                                   lane_of, order);
            std::vector<std::uint64_t> sums(static_cast<std::size_t>(lanes));
            for (std::size_t i = 0; i < count; ++i) sums[lane_of[i]] += own[i];
            expected.push_back(*std::max_element(sums.begin(), sums.end()));
            most = std::max(most, std::accumulate(own.begin(), own.end(), std::uint64_t{0}));
        }
        ++(most < 1 << 16 ? narrow : wide);
        for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
            if (!available(isa)) continue;
            CAPTURE(seed);
            CAPTURE(name_of(isa));
            const auto longest = balanced.run(isa, cycles.data(), rows, tile_rows, lanes, greedy, most);
            REQUIRE(std::equal(expected.begin(), expected.end(), longest.begin()));
        }
    }
    CHECK(narrow > 50);
    CHECK(wide > 50);
}
