#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "lamella/core/largest.hpp"
#include "lamella/core/quantise.hpp"

using namespace lamella;

TEST_CASE("bins split each octave in four, exactly for short magnitudes") {
    CHECK(histogram::bin_of(1) == 0);
    CHECK(histogram::bin_of(2) == 4);
    CHECK(histogram::bin_of(3) == 6);
    CHECK(histogram::bin_of(4) == 8);
    CHECK(histogram::bin_of(7) == 11);
    CHECK(histogram::bin_of(8) == 12);
    CHECK(histogram::bin_of(0x7fffffff) == histogram::bins - 1);
    for (std::uint32_t magnitude = 1; magnitude < 70000; ++magnitude) {
        const int bin = histogram::bin_of(magnitude);
        REQUIRE(histogram::lowest_of(bin) <= magnitude);
        REQUIRE(magnitude <= histogram::highest_of(bin));
    }
    for (int bin = 12; bin + 1 < histogram::bins; ++bin) {  // neighbours meet
        CHECK(histogram::highest_of(bin) + 1 == histogram::lowest_of(bin + 1));
        CHECK(histogram::bin_of(histogram::lowest_of(bin)) == bin);
        CHECK(histogram::bin_of(histogram::highest_of(bin)) == bin);
    }
}

TEST_CASE("every path and number of threads counts what one element at a time gives") {
    random_sequence draw({3, 0, 0, stream::shuffle});
    for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
        if (!available(isa)) continue;
        for (const std::int64_t n : {0, 1, 3, 15, 16, 63, 64, 65, 129, 1000, 4096, 5000, 33000, 140000})
            for (const int bits : {1, 4, 16, 31, 0}) {  // 0: every length equally often
                std::vector<std::int32_t> wide(static_cast<std::size_t>(n));
                for (std::int32_t& x : wide) {
                    const int length = bits != 0 ? bits : draw.between(0, 31);
                    const std::int32_t magnitude =
                        length == 0 ? 0 : static_cast<std::int32_t>(draw.next() >> (32 - length));
                    x = draw.next() % 2 == 0 ? magnitude : -magnitude;
                }
                if (n > 2) wide[static_cast<std::size_t>(n / 2)] = 0x7fffffff;
                if (n > 3) wide[static_cast<std::size_t>(n / 3)] = -0x7fffffff;
                histogram expected;
                expected.add(1);  // counting adds to what is there
                for (const std::int32_t x : wide) expected.add(x);
                for (const int threads : {1, 3}) {
                    histogram seen;
                    seen.add(1);
                    count_magnitudes(wide.data(), n, seen, isa, threads);
                    CAPTURE(name_of(isa));
                    CAPTURE(n);
                    CAPTURE(bits);
                    CAPTURE(threads);
                    REQUIRE(seen == expected);
                }
                std::vector<std::int16_t> narrow(wide.size());
                histogram expected_narrow, seen_narrow;
                for (std::size_t i = 0; i < wide.size(); ++i) {
                    narrow[i] = static_cast<std::int16_t>(wide[i]);
                    expected_narrow.add(narrow[i]);
                }
                count_magnitudes(narrow.data(), n, seen_narrow, isa, 3);
                REQUIRE(seen_narrow == expected_narrow);
            }
    }
}

TEST_CASE("all elements in one bin are all counted") {
    for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
        if (!available(isa)) continue;
        for (const std::int32_t value : {0, 1, -77, 0x7fffffff}) {
            const std::vector<std::int32_t> wide(300001, value);
            histogram seen, expected;
            for (const std::int32_t x : wide) expected.add(x);
            count_magnitudes(wide.data(), static_cast<std::int64_t>(wide.size()), seen, isa, 1);
            CAPTURE(name_of(isa));
            CAPTURE(value);
            CHECK(seen == expected);
        }
    }
}

TEST_CASE("the largest magnitude is the histogram's maximum, on every path and with threads") {
    random_sequence random({.seed = 3, .use = stream::shuffle});
    for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
        if (!available(isa)) continue;
        for (const std::int64_t n : {0, 1, 15, 33, 1000, 70001}) {
            std::vector<std::int32_t> wide(static_cast<std::size_t>(n));
            for (std::int32_t& x : wide) x = random.between(-0x7fffffff, 0x7fffffff) >> random.below(31);
            histogram seen;
            count_magnitudes(wide.data(), n, seen, isa, 1);
            for (const int threads : {1, 3}) CHECK(largest_magnitude(wide.data(), n, isa, threads) == seen.maximum);
        }
    }
}

TEST_CASE("halving forgets the rare and lowers the maximum with it") {
    histogram h;
    h.add(1000);
    for (int i = 0; i < 5; ++i) h.add(-3);
    for (int i = 0; i < 4; ++i) h.add(0);
    CHECK(h.maximum == 1000);
    h.halve();
    CHECK(h.zeros == 2);
    CHECK(h.nonzeros() == 2);
    CHECK(h.maximum == 3);
    h.halve();
    h.halve();
    CHECK(h.maximum == 0);
    CHECK(h.nonzeros() == 0);
}

TEST_CASE("the largest magnitude is that of a plain loop, the lowest integer included") {
    random_sequence draw({5, 1, 0, stream::split});
    const auto check = [&]<class T>(T) {
        for (int k = 0; k < 300; ++k) {
            std::vector<T> x(draw.below(200));
            const auto bits = draw.below(8 * sizeof(T));
            std::uint64_t want = 0;
            for (T& value : x) {
                value = static_cast<T>(static_cast<T>(std::uint64_t{draw.next()} << 32 | draw.next()) >> bits);
                if (k % 20 == 0 && draw.below(50) == 0) value = std::numeric_limits<T>::min();
                const auto wide = static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
                want = std::max(want, value < 0 ? 0 - wide : wide);
            }
            for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon})
                if (available(isa))
                    REQUIRE(largest_magnitude(isa, x.data(), static_cast<std::int64_t>(x.size())) == want);
        }
    };
    check(std::int16_t{});
    check(std::int32_t{});
    check(std::int64_t{});
}
