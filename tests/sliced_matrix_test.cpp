// Planes, bitmaps and counts of a sliced matrix against the digits that split() gives.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "lamella/core/random.hpp"
#include "lamella/slice/sliced_matrix.hpp"

using namespace lamella;
using slice::encoding;
using slice::sliced_matrix;

namespace {

struct mismatches {
    std::int64_t digits = 0, bits = 0, groups = 0, counts = 0;
    std::int64_t sum() const { return digits + bits + groups + counts; }
};

// Fills a matrix with random mantissas, a share of them zero, and compares everything that it says of them.
template <class Mantissa>
mismatches compare(sliced_matrix& matrix, encoding e, int width, std::int64_t rows, std::int64_t depth,
                   std::int64_t row_multiple, path isa, std::mt19937_64& random) {
    std::vector<std::vector<Mantissa>> data(static_cast<std::size_t>(rows));
    const auto share = static_cast<int>(random() % 101);
    for (auto& row : data)
        for (std::int64_t k = 0; k < depth; ++k) {
            const int largest = largest_mantissa(width);
            const int m = static_cast<int>(random() % static_cast<unsigned>(2 * largest + 1)) - largest;
            row.push_back(static_cast<Mantissa>(static_cast<int>(random() % 100) < share ? 0 : m));
        }
    matrix.reset(e, width, rows, depth, row_multiple);
    for (std::int64_t r = 0; r < rows; ++r) matrix.set_row(r, data[static_cast<std::size_t>(r)].data(), isa);

    mismatches wrong;
    std::int64_t total = 0;
    for (int s = 0; s < matrix.planes(); ++s) {
        std::int64_t in_plane = 0;
        for (std::int64_t r = 0; r < matrix.padded_rows(); ++r) {
            std::int64_t in_row = 0;
            for (std::int64_t k = 0; k < matrix.padded_depth(); ++k) {
                int expected = 0;
                if (r < rows && k < depth)
                    expected = slice::split(e, data[static_cast<std::size_t>(r)][static_cast<std::size_t>(k)],
                                            width)[static_cast<std::size_t>(s)];
                wrong.digits += matrix.digit_at(s, r, k) != expected;
                wrong.bits += ((matrix.bits(s, r)[k / 64] >> (k % 64)) & 1) != (expected != 0 ? 1u : 0u);
                in_row += expected != 0;
            }
            for (std::int64_t g = 0; g < matrix.group_words() * 64; ++g) {
                bool used = false;
                for (std::int64_t k = 4 * g; k < std::min(4 * g + 4, matrix.padded_depth()); ++k)
                    used = used || matrix.digit_at(s, r, k) != 0;
                wrong.groups += ((matrix.groups(s, r)[g / 64] >> (g % 64)) & 1) != (used ? 1u : 0u);
            }
            wrong.counts += matrix.nonzeros(s, r) != in_row;
            in_plane += in_row;
        }
        wrong.counts += matrix.nonzeros(s) != in_plane;
        total += in_plane;
    }
    wrong.counts += matrix.nonzeros() != total;
    return wrong;
}

}  // namespace

TEST_CASE("planes hold the digits, bitmaps mark those that are not zero, counts agree") {
    sliced_matrix matrix;  // reused, so that old content would show
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        std::mt19937_64 random(seed);
        const auto e = static_cast<encoding>(random() % 3);
        const int width = min_width + static_cast<int>(random() % 15);
        const auto rows = static_cast<std::int64_t>(random() % 20);
        const auto depth = static_cast<std::int64_t>(random() % 600);
        const auto multiple = static_cast<std::int64_t>(1 + random() % 24);
        for (const path isa : all_paths) {
            if (!available(isa)) continue;
            const mismatches wrong = width <= byte_width
                                         ? compare<std::int8_t>(matrix, e, width, rows, depth, multiple, isa, random)
                                         : compare<std::int16_t>(matrix, e, width, rows, depth, multiple, isa, random);
            CAPTURE(seed);
            CAPTURE(name_of(e));
            CAPTURE(name_of(isa));
            CHECK(matrix.padded_rows() % multiple == 0);
            CHECK(matrix.padded_depth() % 64 == 0);
            CHECK(wrong.sum() == 0);
        }
    }
}

TEST_CASE("a new width keeps the memory of the first one") {
    sliced_matrix matrix;
    matrix.reset(encoding::signed_slice, 3, 10, 1000);
    const std::int8_t* const first = matrix.row(0, 0);
    for (int width = min_width; width <= max_width; ++width) {
        matrix.reset(encoding::signed_slice, width, 10, 1000);
        CHECK(matrix.row(0, 0) == first);
    }
}

TEST_CASE("a group bit stands for four digits") {
    CHECK(slice::groups_of(0) == 0);
    CHECK(slice::groups_of(~std::uint64_t{0}) == 0xffff);
    for (int bit = 0; bit < 64; ++bit)
        CHECK(slice::groups_of(std::uint64_t{1} << bit) == std::uint64_t{1} << (bit / 4));
    CHECK(slice::groups_of(0x8000000000000010u) == 0x8002u);
}

TEST_CASE("every path finds the group bits of any number of words, and zeros behind them") {
    random_sequence draw({17, 0, 0, stream::split});
    for (std::int64_t words = 1; words < 40; ++words) {
        std::vector<std::uint64_t> bits(static_cast<std::size_t>(words)),
            want(static_cast<std::size_t>((words + 3) / 4));
        std::int64_t count = 0;
        for (std::size_t w = 0; w < bits.size(); ++w) {
            bits[w] =
                (std::uint64_t{draw.next()} << 32 | draw.next()) & (std::uint64_t{draw.next()} << 32 | draw.next());
            if (draw.below(3) == 0) bits[w] &= bits[w] << 7 & bits[w] >> 5;
            want[w / 4] |= slice::groups_of(bits[w]) << (16 * (w % 4));
            for (std::uint64_t rest = bits[w]; rest != 0; rest &= rest - 1) ++count;
        }
        for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
            if (!available(isa)) continue;
            std::vector<std::uint64_t> groups(want.size(), ~std::uint64_t{0});
            std::int64_t nonzeros = -1;
            slice::count_groups(isa, bits.data(), words, groups.data(), nonzeros);
            CHECK(groups == want);
            CHECK(nonzeros == count);
        }
    }
}

TEST_CASE("widths and extents out of range are refused") {
    sliced_matrix matrix;
    CHECK_THROWS_AS(matrix.reset(encoding::sign_magnitude, 1, 1, 1), argument_error);
    CHECK_THROWS_AS(matrix.reset(encoding::sign_magnitude, 17, 1, 1), argument_error);
    CHECK_THROWS_AS(matrix.reset(encoding::sign_magnitude, 8, -1, 1), argument_error);
    CHECK_THROWS_AS(matrix.reset(encoding::sign_magnitude, 8, 1, -1), argument_error);
}
