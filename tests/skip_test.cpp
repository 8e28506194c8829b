// Skipping zeros changes no bit: random and clustered zeros, every tail, every way of skipping forced, all kinds of
// output, against the plain product of the fused execution without skipping, which fused_test.cpp compares with a plain
// loop.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "lamella/gemm/multiply.hpp"

using namespace lamella;
using gemm::axis;
using gemm::detail::skip_choice;

namespace {

constexpr skip_choice choices[] = {skip_choice::by_cost, skip_choice::tile_lists, skip_choice::row_lists,
                                   skip_choice::kept_depth};

// Bytes with `zeros` percent zeros, in rectangles of rows x depth indices; `negative`: below zero too.
struct operand {
    buffer<std::int8_t> bytes;
    gemm::operand_view view;

    operand(std::int64_t count, int zeros, std::int64_t pitch, std::int64_t high, std::int64_t wide, bool negative,
            std::mt19937& random)
        : bytes(static_cast<std::size_t>(count)) {
        std::vector<bool> kept;
        const std::int64_t across = (pitch + wide - 1) / wide;
        for (std::int64_t i = 0; i < (count / pitch + 1) / high * across + 2 * across; ++i)
            kept.push_back(static_cast<int>(random() % 100) >= zeros);
        for (std::int64_t i = 0; i < count; ++i) {
            const int value = static_cast<int>(random() % 127) + 1;
            const bool here = kept[static_cast<std::size_t>(i / pitch / high * across + i % pitch / wide)];
            bytes[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(!here                           ? 0
                                                                          : negative && random() % 2 == 0 ? -value
                                                                                                          : value);
        }
        view.data = bytes.data();
    }
    void matrix(std::int64_t rows, std::int64_t depth, bool transposed) {
        view.rows = axis::linear(rows, transposed ? 1 : depth);
        view.depth = axis::linear(depth, transposed ? rows : 1);
    }
};

// Every way of skipping against none, into all three kinds of output.
void compare(const gemm::problem& p, const std::string& what) {
    static gemm::workspace plain_memory, memory;
    const auto count = static_cast<std::size_t>(p.m() * p.n());
    std::vector<std::int64_t> bias(static_cast<std::size_t>(p.n()));
    for (std::size_t n = 0; n < bias.size(); ++n) bias[n] = static_cast<std::int64_t>(n % 2 == 0 ? 5000 + n : 0) - 2000;
    for (const int kind : {0, 1, 2}) {
        const auto run = [&](bool skip, skip_choice choice, int threads, histogram& seen,
                             std::vector<std::int64_t>& result) {
            std::vector<std::int32_t> narrow(count, 99);
            result.assign(count, 99);
            gemm::output out;
            out.rows = axis::linear(p.m(), p.n());
            if (kind == 0) out.exact = result.data();
            if (kind == 1) out.narrow = narrow.data();
            if (kind == 2) {
                out.wide = narrow.data();
                out.bias = bias.data();
                out.largest_bias = 100000;
                out.shift = 4;
                out.seen = &seen;
            }
            gemm::settings how;
            how.skip_zeros = skip;
            how.threads = threads;
            gemm::workspace& used = skip ? memory : plain_memory;
            used.fused.skipping = choice;
            gemm::multiply(p, out, how, used);
            if (kind != 0) result.assign(narrow.begin(), narrow.end());
        };
        histogram expected_seen;
        std::vector<std::int64_t> expected, result;
        run(false, skip_choice::by_cost, 1, expected_seen, expected);
        for (const skip_choice choice : choices)
            for (const int threads : {1, 3}) {
                histogram seen;
                run(true, choice, threads, seen, result);
                CHECK_MESSAGE(result == expected, what << ", " << p.m() << "x" << p.n() << "x" << p.k() << ", output "
                                                       << kind << ", choice " << static_cast<int>(choice)
                                                       << ", threads " << threads);
                CHECK(seen == expected_seen);
            }
    }
}

}  // namespace

TEST_CASE("random and clustered zeros, every tail of tiles and groups, packed and in place") {
    std::mt19937 random(1);
    int round = 0;
    for (std::int64_t n = 1; n <= 70; n += 1 + n / 20)
        for (const int zeros : {0, 50, 90, 100}) {
            const std::int64_t m = 1 + (++round * 7) % 61, k = 1 + round * 37 % 331;
            const bool transposed = round % 3 == 0;
            operand x(m * k, zeros, transposed ? m : k, 1 + round % 7, round % 2 == 0 ? 4 : 1 + round % 13,
                      round % 5 != 0, random);
            operand y(n * k, round % 4 == 0 ? 80 : 0, k, 1, 4, round % 7 != 0, random);
            x.matrix(m, k, transposed);
            y.matrix(n, k, round % 2 == 0);
            compare({x.view, y.view}, "matrix " + std::to_string(round));
        }
}

TEST_CASE("larger products, in which rows are cut into blocks, at every share of zeros") {
    std::mt19937 random(2);
    for (const int zeros : {0, 30, 60, 80, 95, 99, 100})
        for (const bool clustered : {false, true}) {
            const std::int64_t m = 431, n = 150, k = clustered ? 520 : 1300;
            operand x(m * k, zeros, k, clustered ? 12 : 1, clustered ? 8 : 4, true, random),
                y(n * k, 0, k, 1, 1, true, random);
            x.matrix(m, k, false);
            y.matrix(n, k, false);
            compare({x.view, y.view}, "zeros " + std::to_string(zeros));
        }
}

TEST_CASE("deep products leave out depth at which one side is zero, on either side, down to nothing") {
    std::mt19937 random(3);
    for (const int zeros : {0, 50, 80, 97, 100})
        for (const std::int64_t m : {4, 6, 16, 33, 64, 65}) {
            const std::int64_t n = 25, k = 2048 + 13 * m;
            operand x(m * k, zeros, m, 1, m, zeros != 80, random), y(n * k, 20, n, 3, 2, true, random);
            x.matrix(m, k, true);
            y.matrix(n, k, m != 16);
            compare({x.view, y.view}, "deep, left zeros " + std::to_string(zeros));
            compare({y.view, x.view}, "deep, right zeros " + std::to_string(zeros));
        }
}

TEST_CASE("a convolution's backward products skip errors, with a border and without") {
    std::mt19937 random(4);
    struct {
        std::int64_t samples, size, in, kernel, out;
    } const shapes[] = {{9, 20, 1, 5, 6}, {33, 12, 6, 5, 16}, {3, 32, 4, 3, 70}};
    for (const auto& c : shapes)
        for (const int zeros : {0, 75, 95}) {
            const std::int64_t inner = c.size - c.kernel + 1, edge = c.kernel - 1, outer = inner + 2 * edge;
            operand image(c.samples * c.size * c.size * c.in, 30, c.in, 1, 1, false, random);
            operand weight(c.out * c.kernel * c.kernel * c.in, 0, c.in, 1, 1, true, random);
            operand error(c.samples * outer * outer * c.out, zeros, c.out, 1, zeros == 75 ? 2 : c.out, true, random);
            image.view.rows = {{1, c.kernel, c.kernel * c.in}, {0, c.size * c.in, 1}};
            image.view.depth = {{c.samples, inner, inner}, {c.size * c.size * c.in, c.size * c.in, c.in}};
            gemm::operand_view inside = error.view;
            inside.data = error.bytes.data() + (edge * outer + edge) * c.out;
            inside.rows = axis::linear(c.out, 1);
            inside.depth = {{c.samples, inner, inner}, {outer * outer * c.out, outer * c.out, c.out}};
            compare({inside, image.view}, "weight gradient, zeros " + std::to_string(zeros));
            inside.rows = {{c.samples, c.size, c.size}, {outer * outer * c.out, outer * c.out, c.out}};
            inside.depth = {{c.kernel, c.kernel, c.out}, {-outer * c.out, -c.out, 1}};
            weight.view.rows = axis::linear(c.in, 1);
            weight.view.depth = {{c.kernel, c.kernel, c.out}, {c.kernel * c.in, c.in, c.kernel * c.kernel * c.in}};
            compare({inside, weight.view}, "error propagation, zeros " + std::to_string(zeros));
        }
}

TEST_CASE("a call takes no memory that one with other zeros or widths has not taken") {
    std::mt19937 random(5);
    gemm::workspace memory;
    std::vector<const void*> first;
    for (const std::int64_t k : {300, 2400})
        for (const int zeros : {0, 90, 100}) {
            operand x(40 * k, zeros, 40, 1, 40, true, random), y(30 * k, 0, 30, 1, 1, true, random);
            x.matrix(40, k, true);
            y.matrix(30, k, true);
            std::vector<std::int64_t> exact(40 * 30);
            gemm::output out;
            out.rows = axis::linear(40, 30);
            out.exact = exact.data();
            if (zeros == 0) first.clear();
            for (const skip_choice choice : choices) {
                memory.fused.skipping = choice;
                gemm::multiply({x.view, y.view}, out, {}, memory);
                std::vector<const void*> at{memory.fused.walk.table[0].data(), memory.fused.walk.segments.data()};
                for (const auto& t : memory.fused.threads)
                    for (const void* data :
                         {static_cast<const void*>(t.skip.nonzero.data()),
                          static_cast<const void*>(t.skip.groups.data()), static_cast<const void*>(t.skip.left.data()),
                          static_cast<const void*>(t.left.data()), static_cast<const void*>(t.right.data())})
                        at.push_back(data);
                if (first.empty()) first = at;
                CHECK(at == first);
            }
        }
}
