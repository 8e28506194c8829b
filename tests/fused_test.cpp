// The fused execution against a plain 64-bit triple loop: every path, width pair, tail and kind of view, and the depths
// at which 32-bit sums must be drained.
#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "lamella/gemm/multiply.hpp"
#include "lamella/gemm/plan.hpp"

using namespace lamella;
using gemm::axis;

namespace {

std::vector<path> paths() {
    std::vector<path> found;
    for (path p : all_paths)
        if (available(p)) found.push_back(p);
    return found;
}

enum class values { random, largest, alternating, nonnegative };

// Storage of an operand; both types are filled so that the width alone decides which one is read.
struct operand {
    buffer<std::int8_t> bytes;
    buffer<std::int16_t> words;
    gemm::operand_view view;

    operand(std::size_t count, int width, values kind, std::mt19937& random) : bytes(count), words(count) {
        const int largest = largest_mantissa(width);
        std::uniform_int_distribution<int> draw(kind == values::nonnegative ? 0 : -largest, largest);
        const bool drawn = kind == values::random || kind == values::nonnegative;
        for (std::size_t i = 0; i < count; ++i) {
            const int x = drawn ? draw(random) : kind == values::largest || i % 2 == 0 ? largest : -largest;
            words[i] = static_cast<std::int16_t>(x);
            if (width <= 8) bytes[i] = static_cast<std::int8_t>(x);
        }
        view.width = width;
        view.data = width <= 8 ? static_cast<const void*>(bytes.data()) : static_cast<const void*>(words.data());
    }
    void start_at(std::int64_t element) {
        view.data = view.in_bytes() ? static_cast<const void*>(bytes.data() + element)
                                    : static_cast<const void*>(words.data() + element);
    }
};

enum class layout { rows, transposed, padded, strided, reversed, split_depth, split_rows };
constexpr layout layouts[] = {layout::rows,     layout::transposed,  layout::padded,    layout::strided,
                              layout::reversed, layout::split_depth, layout::split_rows};

operand matrix(std::int64_t rows, std::int64_t depth, int width, layout how, values kind, std::mt19937& random) {
    operand x(static_cast<std::size_t>(4 * (rows + 3) * (depth + 3)), width, kind, random);
    switch (how) {
        case layout::rows:
            x.view.rows = axis::linear(rows, depth);
            x.view.depth = axis::linear(depth, 1);
            break;
        case layout::transposed:
            x.view.rows = axis::linear(rows, 1);
            x.view.depth = axis::linear(depth, rows);
            break;
        case layout::padded:
            x.view.rows = axis::linear(rows, depth + 3);
            x.view.depth = axis::linear(depth, 1);
            break;
        case layout::strided:
            x.view.rows = axis::linear(rows, 2 * depth + 1);
            x.view.depth = axis::linear(depth, 2);
            break;
        case layout::reversed:
            x.start_at(rows * depth - 1);
            x.view.rows = axis::linear(rows, -depth);
            x.view.depth = axis::linear(depth, -1);
            break;
        case layout::split_depth: {  // runs with gaps between them
            const std::int64_t run = depth % 6 == 0 ? 6 : depth % 5 == 0 ? 5 : depth % 2 == 0 ? 2 : 1;
            x.view.rows = axis::linear(rows, depth / run * (run + 3));
            x.view.depth = {{1, depth / run, run}, {0, run + 3, 1}};
            break;
        }
        case layout::split_rows: {
            const std::int64_t run = rows % 4 == 0 ? 4 : rows % 3 == 0 ? 3 : 1;
            x.view.rows = {{1, rows / run, run}, {0, run + 2, 1}};
            x.view.depth = axis::linear(depth, rows / run * (run + 2));
            break;
        }
    }
    return x;
}

std::vector<std::int64_t> dense(const gemm::operand_view& x) {
    std::vector<std::int64_t> result;
    for (std::int64_t row = 0; row < x.rows.size(); ++row)
        for (std::int64_t k = 0; k < x.depth.size(); ++k) result.push_back(x.at(row, k));
    return result;
}

std::vector<std::int64_t> plain(const gemm::problem& p) {
    const std::vector<std::int64_t> a = dense(p.a), b = dense(p.b);
    std::vector<std::int64_t> result;
    const auto depth = static_cast<std::size_t>(p.k());
    for (std::size_t m = 0; m < a.size(); m += depth)
        for (std::size_t n = 0; n < b.size(); n += depth) {
            std::int64_t sum = 0;
            for (std::size_t k = 0; k < depth; ++k) sum += a.data()[m + k] * b.data()[n + k];
            result.push_back(sum);
        }
    return result;
}

std::string describe(const gemm::problem& p, path isa, int threads) {
    return std::to_string(p.m()) + "x" + std::to_string(p.n()) + "x" + std::to_string(p.k()) + ", widths " +
           std::to_string(p.a.width) + " and " + std::to_string(p.b.width) + ", " + std::string(name_of(isa)) + ", " +
           std::to_string(threads) + " threads";
}

// Runs the problem into all three kinds of output, rows `gap` apart, and compares with the plain loop and output rule.
void compare(const gemm::problem& p, const std::vector<std::int64_t>& expected, path isa, int threads,
             std::int64_t gap = 0) {
    static gemm::workspace memory;
    const gemm::settings how{gemm::execution::fused, isa, slice::encoding::sign_magnitude, threads};
    const auto pitch = p.n() + gap;
    const auto total = static_cast<std::size_t>(p.m() * pitch);
    const auto at = [&](std::int64_t m, std::int64_t n) { return static_cast<std::size_t>(m * pitch + n); };
    const auto want = [&](std::int64_t m, std::int64_t n) { return expected[static_cast<std::size_t>(m * p.n() + n)]; };
    gemm::output out;
    out.rows = axis::linear(p.m(), pitch);
    std::int64_t wrong = 0;

    std::vector<std::int64_t> exact(total, 99);
    out.exact = exact.data();
    gemm::multiply(p, out, how, memory);
    for (std::int64_t m = 0; m < p.m(); ++m) {
        for (std::int64_t n = 0; n < p.n(); ++n) wrong += exact[at(m, n)] != want(m, n);
        for (std::int64_t g = 0; g < gap; ++g) wrong += exact[at(m, p.n() + g)] != 99;
    }
    CHECK_MESSAGE(wrong == 0, "exact: " << describe(p, isa, threads));
    out.exact = nullptr;

    const std::int64_t bound = gemm::accumulator_bound(p.a.width, p.b.width, p.k());
    std::vector<std::int32_t> narrow(total, 99);
    if (bound < gemm::narrow_bound) {
        wrong = 0;
        out.narrow = narrow.data();
        gemm::multiply(p, out, how, memory);
        for (std::int64_t m = 0; m < p.m(); ++m) {
            for (std::int64_t n = 0; n < p.n(); ++n) wrong += narrow[at(m, n)] != want(m, n);
            for (std::int64_t g = 0; g < gap; ++g) wrong += narrow[at(m, p.n() + g)] != 99;
        }
        CHECK_MESSAGE(wrong == 0, "narrow: " << describe(p, isa, threads));
        out.narrow = nullptr;
    }

    std::vector<std::int64_t> bias(static_cast<std::size_t>(p.n()));
    out.largest_bias = 1000 + bound / 7;
    for (std::size_t n = 0; n < bias.size(); ++n)
        bias[n] = n % 3 == 0 ? out.largest_bias : -out.largest_bias + static_cast<std::int64_t>(n);
    for (const bool biased : {true, false}) {
        histogram seen, expected_seen;
        std::fill(narrow.begin(), narrow.end(), 99);
        out.bias = biased ? bias.data() : nullptr;
        if (!biased) out.largest_bias = 0;
        out.shift =
            std::max(0, bit_length(static_cast<std::uint64_t>(bound + out.largest_bias)) - 31 + (biased ? 0 : 3));
        out.wide = narrow.data();
        out.seen = &seen;
        gemm::multiply(p, out, how, memory);
        wrong = 0;
        for (std::int64_t m = 0; m < p.m(); ++m) {
            for (std::int64_t n = 0; n < p.n(); ++n) {
                const std::int64_t sum = want(m, n) + (biased ? bias[static_cast<std::size_t>(n)] : 0);
                const auto value = static_cast<std::int32_t>(round_nearest(sum, out.shift));
                expected_seen.add(value);
                wrong += narrow[at(m, n)] != value;
            }
            for (std::int64_t g = 0; g < gap; ++g) wrong += narrow[at(m, p.n() + g)] != 99;
        }
        CHECK_MESSAGE(wrong == 0, "wide: " << describe(p, isa, threads));
        CHECK_MESSAGE(seen == expected_seen, "histogram: " << describe(p, isa, threads));
    }
}

void compare_everywhere(const gemm::problem& p, int threads = 1, std::int64_t gap = 0) {
    const std::vector<std::int64_t> expected = plain(p);
    for (const path isa : paths()) compare(p, expected, isa, threads, gap);
}

// A convolution's three GEMMs as views of an NHWC image, OHWI weights and an error image with a border of zeros.
struct convolution {
    std::int64_t samples, height, width, in, kernel, out;
    std::int64_t out_height() const { return height - kernel + 1; }
    std::int64_t out_width() const { return width - kernel + 1; }
    std::size_t image_size() const { return static_cast<std::size_t>(samples * height * width * in); }
    std::size_t weight_size() const { return static_cast<std::size_t>(out * kernel * kernel * in); }
    std::size_t error_size() const { return static_cast<std::size_t>(samples * out_height() * out_width() * out); }

    axis pixels() const { return {{samples, out_height(), out_width()}, {height * width * in, width * in, in}}; }
    axis taps() const { return {{kernel, kernel, in}, {width * in, in, 1}}; }
};

}  // namespace

TEST_CASE("every width pair equals the plain loop") {
    std::mt19937 random(1);
    for (int a = min_width; a <= max_width; ++a)
        for (int b = min_width; b <= max_width; ++b) {
            const std::int64_t m = 1 + a % 7, n = 1 + (a * 5 + b) % 21, k = 67 + b;
            const values kind = (a + b) % 3 == 0 ? values::largest : values::random;
            const operand x = matrix(m, k, a, layout::rows, kind, random),
                          y = matrix(n, k, b, layout::rows, kind, random);
            compare_everywhere({x.view, y.view});
        }
}

TEST_CASE("sums are drained before 32 bits overflow, at the limits and past them") {
    std::mt19937 random(2);
    const int pairs[][2] = {{16, 16}, {12, 12}, {16, 8}, {8, 16}, {14, 13}, {16, 11}, {13, 13}, {15, 13}, {9, 12}};
    for (const auto& width : pairs) {
        const std::int64_t product = gemm::accumulator_bound(width[0], width[1], 1);
        const std::int64_t one_limb = (gemm::narrow_bound - 1) / product;
        for (const std::int64_t k : {one_limb - 1, one_limb, one_limb + 1, std::int64_t{511}, std::int64_t{512},
                                     std::int64_t{513}, std::int64_t{516}, std::int64_t{1025}, std::int64_t{2100}}) {
            if (k < 1 || k > 3000) continue;
            for (const values kind : {values::largest, values::alternating}) {
                const operand x = matrix(2, k, width[0], layout::rows, kind, random);
                const operand y = matrix(3, k, width[1], layout::rows, kind, random);
                compare_everywhere({x.view, y.view});
            }
        }
    }
}

TEST_CASE("bytes stay exact past the depth at which 32 bits overflow") {
    std::mt19937 random(3);
    const std::int64_t limit = (gemm::narrow_bound - 1) / (127 * 127);
    for (const std::int64_t k : {limit, limit + 1, limit + 5}) {
        const operand x = matrix(1, k, 8, layout::rows, values::largest, random);
        const operand y = matrix(2, k, 8, layout::rows, values::largest, random);
        compare_everywhere({x.view, y.view});
    }
    // A result too large to be cut along the depth cannot correct sums of bytes block by block: it takes words.
    gemm::problem p;
    p.a.rows = p.b.rows = axis::linear(300, 0);
    p.a.depth = p.b.depth = axis::linear(limit, 1);
    CHECK_FALSE(gemm::detail::fused_plan(p, path::avx512).words);
    p.a.depth = p.b.depth = axis::linear(limit + 1, 1);
    CHECK(gemm::detail::fused_plan(p, path::avx512).words);
}

TEST_CASE("every tail in columns and rows") {
    std::mt19937 random(4);
    for (std::int64_t n = 1; n <= 70; ++n) {
        const std::int64_t m = 1 + (n * 7) % 30, k = 1 + (n * 11) % 37;
        const int a = n % 2 == 0 ? 8 : 5, b = n % 3 == 0 ? 12 : n % 3 == 1 ? 8 : 16;
        const operand x = matrix(m, k, a, layout::rows, values::random, random);
        const operand y = matrix(n, k, b, layout::transposed, values::random, random);
        compare_everywhere({x.view, y.view}, 1, n % 4);
        const operand z = matrix(n, k, 8, layout::rows, values::random, random);
        compare_everywhere({x.view, z.view});
    }
    for (std::int64_t m = 1; m <= 30; ++m)
        for (const std::int64_t n : {3, 16, 32, 48, 64}) {
            const std::int64_t k = 9 + m % 5;
            const operand x = matrix(m, k, 8, m % 2 == 0 ? layout::rows : layout::transposed, values::random, random);
            const operand y = matrix(n, k, 8, layout::rows, values::random, random);
            compare_everywhere({x.view, y.view});
        }
}

TEST_CASE("every pair of layouts, bytes and words") {
    std::mt19937 random(5);
    const std::int64_t depths[] = {30, 12, 17, 25};
    int round = 0;
    for (const layout left : layouts)
        for (const layout right : layouts)
            for (const int a : {8, 12, 16})
                for (const int b : {7, 11, 16}) {
                    const std::int64_t k = depths[round++ % 4], m = 12 + round % 3, n = 15 + round % 5;
                    const operand x = matrix(m, k, a, left, values::random, random);
                    const operand y = matrix(n, k, b, right, values::random, random);
                    INFO("layouts " << static_cast<int>(left) << " and " << static_cast<int>(right));
                    compare_everywhere({x.view, y.view});
                }
}

TEST_CASE("a convolution's three products read the stored tensors in place") {
    std::mt19937 random(6);
    const convolution shapes[] = {
        {2, 9, 9, 1, 5, 6}, {1, 8, 12, 6, 5, 16}, {3, 6, 5, 3, 3, 7}, {2, 4, 4, 18, 3, 4}, {5, 3, 3, 2, 2, 33}};
    for (const convolution& c : shapes)
        for (const int a : {6, 8, 10, 16})
            for (const int b : {8, 13}) {
                operand image(c.image_size(), a, values::random, random),
                    weight(c.weight_size(), b, values::random, random);
                image.view.rows = c.pixels();
                image.view.depth = c.taps();
                weight.view.rows = axis::linear(c.out, c.kernel * c.kernel * c.in);
                weight.view.depth = axis::linear(c.kernel * c.kernel * c.in, 1);
                compare_everywhere({image.view, weight.view});

                // error propagation: errors with a border of kernel - 1 on each side, taps mirrored
                const std::int64_t eh = c.out_height() + 2 * (c.kernel - 1), ew = c.out_width() + 2 * (c.kernel - 1);
                operand error(static_cast<std::size_t>(c.samples * eh * ew * c.out), a, values::random, random);
                error.start_at(((c.kernel - 1) * ew + c.kernel - 1) * c.out);
                error.view.rows = {{c.samples, c.height, c.width}, {eh * ew * c.out, ew * c.out, c.out}};
                error.view.depth = {{c.kernel, c.kernel, c.out}, {-ew * c.out, -c.out, 1}};
                weight.view.rows = axis::linear(c.in, 1);
                weight.view.depth = {{c.kernel, c.kernel, c.out}, {c.kernel * c.in, c.in, c.kernel * c.kernel * c.in}};
                compare_everywhere({error.view, weight.view});

                // weight gradient
                operand gradient(c.error_size(), b, values::random, random);
                gradient.view.rows = axis::linear(c.out, 1);
                gradient.view.depth = axis::linear(c.samples * c.out_height() * c.out_width(), c.out);
                image.view.rows = c.taps();
                image.view.depth = c.pixels();
                compare_everywhere({gradient.view, image.view});
            }
}

TEST_CASE("operands without negative mantissas on either side, or on both") {
    std::mt19937 random(10);
    const values kinds[] = {values::nonnegative, values::random};
    for (const values left : kinds)
        for (const values right : kinds)
            for (const std::int64_t n : {5, 16, 37, 64})
                for (const layout how : {layout::rows, layout::transposed, layout::split_depth})
                    for (const std::int64_t k : {30, 2500}) {
                        if (k == 2500 && n > 16) continue;
                        const operand x = matrix(27, k, 8, how, left, random), y = matrix(n, k, 7, how, right, random);
                        compare_everywhere({x.view, y.view});
                    }
    // One negative mantissa is enough to need the correction, wherever it stands.
    for (const std::int64_t at : {0, 64, 999}) {
        operand x = matrix(10, 100, 8, layout::rows, values::nonnegative, random);
        const operand y = matrix(16, 100, 8, layout::rows, values::random, random);
        x.bytes[static_cast<std::size_t>(at)] = -127;
        compare_everywhere({x.view, y.view});
    }
}

TEST_CASE("few columns share vectors: every number of columns, rows and run lengths") {
    std::mt19937 random(11);
    for (std::int64_t n = 1; n <= 9; ++n)
        for (const std::int64_t k : {1, 5, 7, 8, 9, 24, 40, 1030})
            for (const int width : {8, 12, 16}) {
                if (k == 1030 && width == 8) continue;
                const std::int64_t m = 1 + (n * 17 + k) % 60;
                const operand x =
                    matrix(m, k, width, k % 2 == 0 ? layout::padded : layout::split_depth, values::random, random);
                const operand y =
                    matrix(n, k, width, n % 2 == 0 ? layout::rows : layout::transposed, values::random, random);
                compare_everywhere({x.view, y.view}, 1, n % 3);
            }
}

// All numbers of threads on the fast paths; the slow one, which shares all code but the tile, on one and three.
static void compare_on_threads(const gemm::problem& p, std::int64_t gap) {
    const std::vector<std::int64_t> expected = plain(p);
    for (const path isa : paths())
        for (const int threads : {1, 2, 3, 5})
            if (isa != path::scalar || threads == 1 || threads == 3) compare(p, expected, isa, threads, gap);
}

TEST_CASE("deep products, cut along the depth, on any number of threads") {
    std::mt19937 random(7);
    const convolution shapes[] = {{4, 28, 28, 1, 5, 6}, {34, 12, 12, 6, 5, 16}};  // the second is worth 9 threads
    for (const convolution& c : shapes)
        for (const auto& width : {std::pair{8, 8}, std::pair{8, 16}, std::pair{12, 12}, std::pair{16, 16}}) {
            operand image(c.image_size(), width.first, values::random, random);
            operand error(c.error_size(), width.second, values::random, random);
            error.view.rows = axis::linear(c.out, 1);
            error.view.depth = axis::linear(c.samples * c.out_height() * c.out_width(), c.out);
            image.view.rows = c.taps();
            image.view.depth = c.pixels();
            if (width.first == 16)
                compare_on_threads({image.view, error.view}, 1);
            else
                compare_on_threads({error.view, image.view}, 0);
        }
}

TEST_CASE("row blocks and panels on any number of threads") {
    std::mt19937 random(8);
    const std::int64_t shapes[][3] = {{200, 90, 150}, {40, 300, 220}, {3000, 6, 150}, {64, 256, 160}};
    std::int64_t gap = 0;
    for (const auto& shape : shapes)
        for (const int width : {8, 16}) {
            const operand x = matrix(shape[0], shape[2], width, layout::padded, values::random, random);
            const operand y = matrix(shape[1], shape[2], width, layout::rows, values::random, random);
            compare_on_threads({x.view, y.view}, gap++ % 2);
        }
}

TEST_CASE("output rows may lie in three levels, with gaps that stay untouched") {
    std::mt19937 random(12);
    static gemm::workspace memory;
    for (const std::int64_t n : {6, 16, 21}) {
        const operand x = matrix(24, 33, 8, layout::rows, values::random, random);
        const operand y = matrix(n, 33, 8, layout::rows, values::random, random);
        const gemm::problem p{x.view, y.view};
        const std::vector<std::int64_t> expected = plain(p);
        gemm::output out;
        out.rows = {{2, 3, 4}, {16 * n, 5 * n, n}};
        for (const path isa : paths()) {
            std::vector<std::int32_t> wide(static_cast<std::size_t>(32 * n), 99);
            histogram seen, expected_seen;
            out.wide = wide.data();
            out.seen = &seen;
            gemm::multiply(p, out, {gemm::execution::fused, isa, slice::encoding::sign_magnitude, 1}, memory);
            std::vector<std::int32_t> want(wide.size(), 99);
            for (std::int64_t m = 0; m < 24; ++m)
                for (std::int64_t c = 0; c < n; ++c) {
                    const auto value = static_cast<std::int32_t>(expected[static_cast<std::size_t>(m * n + c)]);
                    want[static_cast<std::size_t>(out.rows.offset(m) + c)] = value;
                    expected_seen.add(value);
                }
            CHECK_MESSAGE(wide == want, describe(p, isa, 1));
            CHECK_MESSAGE(seen == expected_seen, describe(p, isa, 1));
        }
    }
}

TEST_CASE("a result that is written past the caches is the same, rows aligned or not") {
    std::mt19937 random(13);
    static gemm::workspace memory;
    for (const std::int64_t n : {688, 700})
        for (const std::int64_t k : {5, 600}) {
            const operand x = matrix(800, k, 8, layout::rows, values::random, random);
            const operand y = matrix(n, k, 8, layout::rows, values::random, random);
            const gemm::problem p{x.view, y.view};
            const std::vector<std::int64_t> expected = plain(p);
            for (const path isa : paths())
                for (const int threads : {1, 2}) {
                    const gemm::settings how{gemm::execution::fused, isa, slice::encoding::sign_magnitude, threads};
                    buffer<std::int32_t> narrow(expected.size());
                    buffer<std::int64_t> exact(expected.size());
                    gemm::output out;
                    out.rows = axis::linear(p.m(), n);
                    out.narrow = narrow.data();
                    gemm::multiply(p, out, how, memory);
                    out.narrow = nullptr;
                    out.exact = exact.data();
                    gemm::multiply(p, out, how, memory);
                    CHECK_MESSAGE(std::equal(expected.begin(), expected.end(), narrow.begin()),
                                  describe(p, isa, threads));
                    CHECK_MESSAGE(std::equal(expected.begin(), expected.end(), exact.begin()),
                                  describe(p, isa, threads));
                }
        }
}

TEST_CASE("a product without depth is its bias, and one without rows or columns touches nothing") {
    static gemm::workspace memory;
    std::int8_t nothing[64] = {};
    gemm::problem p;
    p.a.data = p.b.data = nothing;
    p.a.rows = axis::linear(2, 0);
    p.b.rows = axis::linear(3, 0);
    p.a.depth = p.b.depth = axis::linear(0, 1);
    std::int64_t bias[3] = {1, -2, 3};
    std::int32_t wide[6] = {9, 9, 9, 9, 9, 9};
    gemm::output out;
    out.rows = axis::linear(2, 3);
    out.wide = wide;
    out.bias = bias;
    out.largest_bias = 3;
    gemm::multiply(p, out, {}, memory);
    const std::vector<std::int32_t> expected{1, -2, 3, 1, -2, 3};
    CHECK(std::vector<std::int32_t>(wide, wide + 6) == expected);
    p.b.rows = axis::linear(0, 0);
    p.a.depth = p.b.depth = axis::linear(5, 1);
    gemm::multiply(p, out, {}, memory);
    CHECK(std::vector<std::int32_t>(wide, wide + 6) == expected);
}

TEST_CASE("a second call, at any width, takes no memory") {
    std::mt19937 random(9);
    gemm::workspace memory;
    const auto footprint = [&] {
        std::vector<const void*> at{memory.fused.left.data(), memory.fused.right.data(), memory.fused.spans.data(),
                                    memory.fused.walk.segments.data(), memory.fused.walk.blocks.data()};
        for (const auto& t : memory.fused.threads)
            for (const void* x :
                 {static_cast<const void*>(t.left_rows.data()), static_cast<const void*>(t.corrections.data()),
                  static_cast<const void*>(t.left.data()), static_cast<const void*>(t.right.data()),
                  static_cast<const void*>(t.accumulators.data())})
                at.push_back(x);
        return at;
    };
    for (const layout how : {layout::rows, layout::transposed, layout::split_depth})
        for (const std::int64_t k : {120, 2400}) {
            std::vector<const void*> first;
            for (const int a : {2, 16, 8, 13, 9})
                for (const int b : {3, 16, 12, 8}) {
                    const operand x = matrix(21, k, a, how, values::random, random);
                    const operand y = matrix(19, k, b, layout::rows, values::random, random);
                    std::vector<std::int64_t> exact(21 * 19);
                    gemm::output out;
                    out.rows = axis::linear(21, 19);
                    out.exact = exact.data();
                    gemm::multiply({x.view, y.view}, out, {}, memory);
                    if (first.empty()) first = footprint();
                    CHECK(footprint() == first);
                }
        }
}

TEST_CASE("a path that the machine lacks is refused") {
    static gemm::workspace memory;
    std::int8_t one[64] = {1};
    std::int64_t sum = 0;
    gemm::problem p;
    p.a.data = p.b.data = one;
    gemm::output out;
    out.rows = axis::linear(1, 1);
    out.exact = &sum;
    int refused = 0;
    for (const path isa : all_paths) {
        gemm::settings how;
        how.isa = isa;
        if (available(isa)) {
            CHECK_NOTHROW(gemm::multiply(p, out, how, memory));
        } else {
            CHECK_THROWS_AS(gemm::multiply(p, out, how, memory), argument_error);
            ++refused;
        }
    }
    CHECK(refused >= 1);  // no machine is both x86-64 and Arm
    gemm::settings how;
    how.threads = 0;
    CHECK_THROWS_AS(gemm::multiply(p, out, how, memory), argument_error);
}
