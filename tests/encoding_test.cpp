// Encodings, over all mantissas of all widths: values are preserved, digits stay in their range, and the vectorised
// splitting and counting give what the loops of encoding.hpp give.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "lamella/slice/counts.hpp"
#include "lamella/slice/digits.hpp"
#include "lamella/slice/encoding.hpp"

using namespace lamella;
using slice::encoding;

namespace {

constexpr std::array encodings{encoding::sign_magnitude, encoding::twos_complement, encoding::signed_slice};

std::vector<path> paths() {
    std::vector<path> found;
    for (const path p : all_paths)
        if (available(p)) found.push_back(p);
    return found;
}

// All mantissas of a width, lowest first.
template <class Mantissa>
std::vector<Mantissa> all_mantissas(int width) {
    std::vector<Mantissa> all;
    for (int m = -largest_mantissa(width); m <= largest_mantissa(width); ++m) all.push_back(static_cast<Mantissa>(m));
    return all;
}

template <class Mantissa>
void check_arrays(encoding e, int width) {
    std::vector<Mantissa> mantissas = all_mantissas<Mantissa>(width);
    const std::size_t real = mantissas.size(), padded = (real + 63) / 64 * 64;
    mantissas.resize(padded);
    const auto count = static_cast<std::size_t>(slice::slice_count(e, width));
    std::array<std::uint64_t, slice::max_slices> nonzeros{};
    for (const Mantissa m : mantissas) {
        const slice::slices digits = slice::split(e, m, width);
        for (std::size_t s = 0; s < count; ++s) nonzeros[s] += digits[s] != 0;
    }
    for (const path isa : paths()) {
        std::vector<std::int8_t> planes(count * padded);
        slice::split_planes(isa, e, width, mantissas.data(), static_cast<std::int64_t>(padded), planes.data(),
                            static_cast<std::int64_t>(padded));
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < padded; ++i) {
            const slice::slices expected = slice::split(e, mantissas[i], width);
            for (std::size_t s = 0; s < count; ++s) wrong += planes[s * padded + i] != expected[s];
        }
        CAPTURE(name_of(e));
        CAPTURE(name_of(isa));
        CAPTURE(width);
        CHECK(wrong == 0);
        CHECK(slice::nonzero_slices(mantissas.data(), static_cast<std::int64_t>(real), e, width, isa) == nonzeros);
    }
}

}  // namespace

TEST_CASE("slices add up to the mantissa, over all mantissas of all widths") {
    for (const encoding e : encodings)
        for (int width = min_width; width <= max_width; ++width) {
            int wrong = 0;
            for (const std::int16_t m : all_mantissas<std::int16_t>(width))
                wrong += slice::join(e, slice::split(e, m, width)) != m;
            CAPTURE(name_of(e));
            CAPTURE(width);
            CHECK(wrong == 0);
        }
}

TEST_CASE("digits stay within four bits and a sign, and none lies past the slice count") {
    for (const encoding e : encodings)
        for (int width = min_width; width <= max_width; ++width) {
            const int count = slice::slice_count(e, width);
            int outside = 0, beyond = 0;
            for (const std::int16_t m : all_mantissas<std::int16_t>(width)) {
                const slice::slices d = slice::split(e, m, width);
                for (int s = 0; s < slice::max_slices; ++s) {
                    const int digit = d[static_cast<std::size_t>(s)];
                    beyond += s >= count && digit != 0;
                    const bool top = s == count - 1;
                    int lowest = -8, highest = 7;
                    if (e == encoding::sign_magnitude) {
                        lowest = m < 0 ? -15 : 0;
                        highest = m < 0 ? 0 : 15;
                    } else if (e == encoding::twos_complement && !top) {
                        lowest = 0;
                        highest = 15;
                    }
                    outside += digit < lowest || digit > highest;
                }
            }
            CAPTURE(name_of(e));
            CAPTURE(width);
            CHECK(outside == 0);
            CHECK(beyond == 0);
        }
}

TEST_CASE("small magnitudes leave every slice but the lowest zero, unless the code is two's complement") {
    for (const encoding e : {encoding::sign_magnitude, encoding::signed_slice})
        for (int width = min_width; width <= max_width; ++width)
            for (int m = -7; m <= 7; ++m)
                if (m >= -largest_mantissa(width) && m <= largest_mantissa(width))
                    CHECK(slice::nonzero_slices(e, m, width) == (m != 0));
    CHECK(slice::nonzero_slices(encoding::twos_complement, -1, 16) == 4);
}

TEST_CASE("known digits") {
    CHECK(slice::split(encoding::sign_magnitude, 0, 8) == slice::slices{});
    CHECK(slice::split(encoding::sign_magnitude, 100, 8) == slice::slices{4, 6});
    CHECK(slice::split(encoding::sign_magnitude, -100, 8) == slice::slices{-4, -6});
    CHECK(slice::split(encoding::sign_magnitude, -32767, 16) == slice::slices{-15, -15, -15, -7});
    CHECK(slice::split(encoding::sign_magnitude, 15, 5) == slice::slices{15});
    CHECK(slice::split(encoding::twos_complement, 100, 8) == slice::slices{4, 6});
    CHECK(slice::split(encoding::twos_complement, -100, 8) == slice::slices{12, -7});
    CHECK(slice::split(encoding::twos_complement, -1, 12) == slice::slices{15, 15, -1});
    CHECK(slice::split(encoding::twos_complement, -32767, 16) == slice::slices{1, 0, 0, -8});
    CHECK(slice::split(encoding::signed_slice, 100, 8) == slice::slices{4, 4, 1});
    CHECK(slice::split(encoding::signed_slice, -100, 8) == slice::slices{4, 3, -2});
    CHECK(slice::split(encoding::signed_slice, -8, 7) == slice::slices{-8, 0});
    CHECK(slice::split(encoding::signed_slice, -9, 7) == slice::slices{7, -2});
    CHECK(slice::split(encoding::signed_slice, -1, 16) == slice::slices{-1, 0, 0, 0, 0});
    CHECK(slice::split(encoding::signed_slice, -65, 10) == slice::slices{7, 7, -2});
    CHECK(slice::split(encoding::signed_slice, 32767, 16) == slice::slices{7, 7, 7, 7, 7});
}

TEST_CASE("slice counts by width") {
    for (int width = min_width; width <= max_width; ++width) {
        CHECK(slice::slice_count(encoding::twos_complement, width) == (width + 3) / 4);
        CHECK(slice::slice_count(encoding::sign_magnitude, width) == (width - 1 + 3) / 4);
        CHECK(slice::slice_count(encoding::signed_slice, width) == (width - 1 + 2) / 3);
    }
}

TEST_CASE("the rung at or above a width is the smallest that holds it") {
    for (const encoding e : encodings) {
        const slice::ladder l = slice::ladder_of(e);
        for (int width = min_width; width <= max_width; ++width) {
            int smallest = max_width;
            for (int i = 0; i < l.rungs; ++i)
                if (l.width[static_cast<std::size_t>(i)] >= width)
                    smallest = std::min(smallest, l.width[static_cast<std::size_t>(i)]);
            CAPTURE(width);
            CHECK(slice::rung_at_least(l, width) == smallest);
        }
    }
}

TEST_CASE("every rung of a ladder is the widest width of its number of slices, or the byte and 16-bit limits") {
    for (const encoding e : encodings) {
        const slice::ladder l = slice::ladder_of(e);
        for (int i = 0; i < l.rungs; ++i) {
            const int width = l.width[static_cast<std::size_t>(i)];
            CHECK(slice::slice_count(e, width) == i + 1);
            const bool kept_below = e == encoding::sign_magnitude && (width == 8 || width == 12);
            CHECK((width == max_width || kept_below || slice::slice_count(e, width + 1) == i + 2));
        }
    }
}

TEST_CASE("encoding names are read back, and others are refused") {
    for (const encoding e : encodings) CHECK(slice::parse_encoding(name_of(e)) == e);
    CHECK_THROWS_AS(slice::parse_encoding("booth"), argument_error);
}

TEST_CASE("vectorised planes and counts equal the loops, over all mantissas of all widths, on every path") {
    for (const encoding e : encodings)
        for (int width = min_width; width <= max_width; ++width) {
            if (width <= byte_width) check_arrays<std::int8_t>(e, width);
            check_arrays<std::int16_t>(e, width);
        }
}

TEST_CASE("bytes of rows add up row by row, whatever the row length") {
    for (const std::int64_t columns : {1, 2, 3, 7, 8, 9, 16, 17, 31, 64, 255, 256, 257, 264, 300, 513, 4096, 5000}) {
        const std::int64_t rows = 40000 / columns;
        std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * columns + 8));
        for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = (i * i / 7 + i / 300) % 4 != 0 ? 1 : 0;
        std::int64_t wrong = 0;
        slice::detail::with_row_sum(columns, [&](auto row_sum) {
            for (std::int64_t row = 0; row < rows; ++row) {
                std::uint64_t expected = 0;
                for (std::int64_t c = 0; c < columns; ++c)
                    expected += bytes[static_cast<std::size_t>(row * columns + c)];
                wrong += row_sum(bytes.data() + row * columns) != expected;
            }
        });
        CAPTURE(columns);
        CHECK(wrong == 0);
    }
}
