#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "lamella/core/quantise.hpp"
#include "lamella/core/random.hpp"

using namespace lamella;

namespace {

std::vector<path> paths() {
    std::vector<path> found;
    for (const path p : all_paths)
        if (available(p)) found.push_back(p);
    return found;
}

}  // namespace

TEST_CASE("Philox4x32-10 gives the known answers of its authors") {  // Random123, kat_vectors
    CHECK(philox4x32_10({0, 0, 0, 0}, {0, 0}) == philox_block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    constexpr std::uint32_t f = 0xffffffff;
    CHECK(philox4x32_10({f, f, f, f}, {f, f}) == philox_block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
          philox_block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("an element takes its half of its block, low half first") {
    const random_site site{0x0123456789abcdef, 7, 0x1234, stream::error};
    for (const std::uint32_t block : {0u, 1u, 1000u}) {
        const philox_block bits = philox4x32_10({block, 99, 7, 0x12340002}, {0x89abcdef, 0x01234567});
        for (std::uint64_t e = 0; e < 8; ++e) {
            CAPTURE(e);
            CHECK(random_16(site, 99, 8 * std::uint64_t{block} + e) == ((bits[e / 2] >> (16 * (e % 2))) & 0xffff));
        }
    }
}

TEST_CASE("every path fills in the bits that each element has by itself") {
    const random_site sites[] = {{0, 0, 0, stream::activation},
                                 {~std::uint64_t{0}, ~0u, 0xffff, stream::master_bias},
                                 {0x299f31d0a4093822, 0x13198a2e, 0x0370, stream::weight}};
    for (const path isa : paths())
        for (const random_site& site : sites)
            for (const std::uint32_t position : {0u, 1u, 0xffffffffu})
                for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{8}, std::uint64_t{4096},
                                                  8 * std::uint64_t{0xffffffff}})  // the last block, then block 0 again
                    for (const std::size_t count : {0u, 1u, 7u, 8u, 63u, 64u, 65u, 256u, 1000u}) {
                        std::vector<std::uint16_t> draws(count + 1, 0xabcd);
                        fill_random_16(isa, site, position, first, {draws.data(), count});
                        std::size_t wrong = 0;
                        for (std::size_t i = 0; i < count; ++i)
                            wrong += draws[i] != random_16(site, position, first + i);
                        CAPTURE(name_of(isa));
                        CAPTURE(position);
                        CAPTURE(first);
                        CAPTURE(count);
                        REQUIRE(wrong == 0);
                        REQUIRE(draws[count] == 0xabcd);
                    }
    std::array<std::uint16_t, 8> draws;
    CHECK_THROWS_AS(fill_random_16(path::scalar, sites[0], 0, 4, draws), argument_error);
}

TEST_CASE("bounded draws stay in their range and reach all of it") {
    random_sequence draw({42, 0, 0, stream::shuffle});
    for (const std::uint32_t bound : {1u, 2u, 3u, 10u, 17u}) {
        std::vector<int> seen(bound, 0);
        for (int i = 0; i < 2000; ++i) {
            const std::uint32_t value = draw.below(bound);
            REQUIRE(value < bound);
            ++seen[value];
        }
        for (const int count : seen) CHECK(count > 0);
    }
    for (int i = 0; i < 2000; ++i) {
        const std::int32_t value = draw.between(-5, 3);
        REQUIRE(value >= -5);
        REQUIRE(value <= 3);
    }
}

TEST_CASE("bounded draws are drawn again where some values would be likelier than others") {
    for (const std::uint32_t bound : {3u, 0x60000000u, 0x80000001u, 0xffffffffu}) {
        CAPTURE(bound);
        random_sequence bounded({43, 0, 0, stream::shuffle}), plain = bounded;
        for (int i = 0; i < 200; ++i) {
            std::uint64_t product = 0;
            do product = std::uint64_t{plain.next()} * bound;
            while (product % (std::uint64_t{1} << 32) < (std::uint64_t{1} << 32) % bound);
            REQUIRE(bounded.below(bound) == product >> 32);
        }
    }
}

TEST_CASE("two streams, layers, steps or positions never share a block") {
    const random_site base{5, 5, 5, stream::activation};
    const auto first = [](const random_site& s, std::uint32_t position) {
        return philox4x32_10(s.counter(position, 0), s.key());
    };
    random_site other = base;
    other.use = stream::error;
    CHECK(first(base, 0) != first(other, 0));
    other = base;
    other.layer = 6;
    CHECK(first(base, 0) != first(other, 0));
    other = base;
    other.step = 6;
    CHECK(first(base, 0) != first(other, 0));
    CHECK(first(base, 0) != first(base, 1));
}
