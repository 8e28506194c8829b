// The three executions of the GEMM against a plain product: random shapes past two tiles, every pair of widths, every
// layout that axes can describe, every output, encoding and path. A failure prints its seed; run_case(seed) repeats it.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "lamella/gemm/multiply.hpp"

using namespace lamella;
using namespace lamella::gemm;
using slice::encoding;

namespace {

constexpr std::array encodings{encoding::sign_magnitude, encoding::twos_complement, encoding::signed_slice};

struct generator {
    std::mt19937_64 bits;
    explicit generator(std::uint64_t seed) : bits(seed) {}
    std::int64_t upto(std::int64_t most) {
        return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(most + 1));
    }
    std::int64_t between(std::int64_t least, std::int64_t most) { return least + upto(most - least); }
    bool one_in(std::int64_t n) { return upto(n - 1) == 0; }
};

// An extent as a product of three.
std::array<std::int64_t, 3> factors(generator& g, std::int64_t size) {
    std::array<std::int64_t, 3> f{1, 1, size};
    for (std::size_t d = 0; d < 2; ++d)
        for (const std::int64_t by : {2, 3, 5, 7})
            if (f[2] % by == 0 && g.one_in(3)) {
                f[d] *= by;
                f[2] /= by;
            }
    return f;
}

// Storage and a random view of it: levels nested in memory in any order, with gaps, strides of either sign, and
// sometimes rows that overlap along depth as the patches of an image do.
struct operand {
    std::vector<std::int8_t> bytes;
    std::vector<std::int16_t> words;
    operand_view view;

    operand(generator& g, int width, std::int64_t rows, std::int64_t depth) {
        view.width = width;
        view.rows.extent = factors(g, rows);
        view.depth.extent = factors(g, depth);
        std::array<std::size_t, 6> order{0, 1, 2, 3, 4, 5};  // outermost first: rows, then depth
        if (g.one_in(2)) std::shuffle(order.begin(), order.end(), g.bits);
        const auto level = [&](std::size_t i) -> std::int64_t& {
            return i < 3 ? view.rows.stride[i] : view.depth.stride[i - 3];
        };
        std::int64_t step = g.one_in(4) ? g.between(2, 3) : 1;
        for (std::size_t i = order.size(); i-- > 0;) {
            const std::size_t at = order[i];
            level(at) = step;
            step *= at < 3 ? view.rows.extent[at] : view.depth.extent[at - 3];
            if (g.one_in(4)) step += g.between(1, 9);
        }
        if (g.one_in(3)) view.rows.stride[2] = view.depth.stride[g.one_in(2) ? 1 : 2] * g.between(0, 2);
        std::int64_t lowest = 0, highest = 0;
        for (std::size_t i = 0; i < 6; ++i) {
            if (g.one_in(4)) level(i) = -level(i);
            const std::int64_t reach = level(i) * ((i < 3 ? view.rows.extent[i] : view.depth.extent[i - 3]) - 1);
            (reach < 0 ? lowest : highest) += reach;
        }
        const auto size = static_cast<std::size_t>(highest - lowest + 1);
        if (view.in_bytes()) {
            bytes.resize(size + 64, 77);
            fill(g, bytes.data(), size);
            view.data = bytes.data() - lowest;
        } else {
            words.resize(size + 32, 7777);
            fill(g, words.data(), size);
            view.data = words.data() - lowest;
        }
    }

    template <class Mantissa>
    void fill(generator& g, Mantissa* data, std::size_t size) const {
        const int largest = largest_mantissa(view.width);
        const std::int64_t kind = g.upto(6), share = g.upto(100);
        bool empty = false;
        for (std::size_t i = 0; i < size; ++i) {
            std::int64_t m = g.between(-largest, largest);
            switch (kind) {
                case 0: break;
                case 1: m = largest; break;                                              // the bound itself
                case 2: m = g.one_in(2) ? largest : -largest; break;
                case 3: m = g.upto(99) < share ? 0 : m; break;                           // scattered zeros
                case 4:                                                                  // zeros in runs
                    if (g.one_in(40)) empty = !empty;
                    m = empty ? 0 : m;
                    break;
                case 5: m = g.one_in(20) ? m : m % 16 % (largest + 1); break;  // heavy tails: empty high slices
                default: m = share < 20 ? 0 : -g.upto(largest); break;                   // nothing, or negatives alone
            }
            data[i] = static_cast<Mantissa>(m);
        }
    }
};

struct shape {
    std::int64_t m, n, k;
};

shape random_shape(generator& g) {
    if (g.one_in(10)) return {g.between(1, 13), g.between(1, 20), g.between(300, 2500)};
    const std::int64_t m = g.one_in(3) ? g.between(1, 55) : g.between(1, 14);
    const std::int64_t n = g.one_in(3) ? g.between(1, 140) : g.between(1, 34);
    return {m, n, g.one_in(3) ? g.between(1, 300) : g.between(1, 40)};
}

// round_nearest in other words: up when the dropped part is above half, or half with an odd quotient.
std::int64_t rounded(std::int64_t x, int shift) {
    const __int128 unit = static_cast<__int128>(1) << shift;
    __int128 quotient = x / unit, rest = x % unit;
    if (rest < 0) {
        rest += unit;
        --quotient;
    }
    if (2 * rest > unit || (2 * rest == unit && quotient % 2 != 0)) ++quotient;
    return static_cast<std::int64_t>(quotient);
}

enum class kind { narrow, exact, wide };

// One problem, what its output must be, and a place to put outputs into.
struct gemm_case {
    generator g;
    shape size;
    operand a, b;
    problem p;
    output out;
    kind what = kind::exact;
    std::vector<std::int64_t> bias, expected;  // expected: every element of the storage, gaps included
    std::vector<std::int64_t> exact;
    std::vector<std::int32_t> narrow;
    histogram expected_seen, seen;
    static constexpr std::int64_t untouched = 1234567;

    gemm_case(std::uint64_t seed, shape s, int width_a, int width_b)
        : g(seed), size(s), a(g, width_a, s.m, s.k), b(g, width_b, s.n, s.k) {
        p.a = a.view;
        p.b = b.view;
        lay_out();
        product();
    }

    void lay_out() {
        out.rows.extent = factors(g, size.m);
        std::int64_t step = size.n + (g.one_in(2) ? g.upto(9) : 0);
        for (std::size_t d = 3; d-- > 0;) {
            out.rows.stride[d] = step;
            step = step * out.rows.extent[d] + (g.one_in(4) ? g.upto(5) : 0);
        }
        expected.assign(static_cast<std::size_t>(step), untouched);
        const std::int64_t bound = accumulator_bound(p.a.width, p.b.width, size.k);
        what = static_cast<kind>(g.upto(2));
        if (what == kind::narrow && bound >= narrow_bound) what = kind::wide;
        if (what != kind::wide) return;
        if (g.one_in(2)) {
            const std::int64_t largest = g.one_in(2) ? bound : std::int64_t{1} << g.between(0, 45);
            for (std::int64_t n = 0; n < size.n; ++n) bias.push_back(g.between(-largest, largest));
            out.bias = bias.data();
            out.largest_bias = largest;
        }
        out.shift = std::max(0, bit_length(static_cast<std::uint64_t>(bound + out.largest_bias)) - 31);
        if (g.one_in(3)) out.shift = std::min(62, out.shift + static_cast<int>(g.upto(20)));
        if (g.one_in(2)) out.seen = &seen;
    }

    void product() {
        const auto rows = [&](const operand_view& x, std::int64_t count) {
            std::vector<std::int32_t> all;
            for (std::int64_t r = 0; r < count; ++r)
                for (std::int64_t k = 0; k < size.k; ++k) all.push_back(static_cast<std::int32_t>(x.at(r, k)));
            return all;
        };
        const std::vector<std::int32_t> x = rows(p.a, size.m), y = rows(p.b, size.n);
        for (std::int64_t m = 0; m < size.m; ++m)
            for (std::int64_t n = 0; n < size.n; ++n) {
                std::int64_t sum = 0;
                for (std::int64_t k = 0; k < size.k; ++k)
                    sum += std::int64_t{x[static_cast<std::size_t>(m * size.k + k)]} *
                           y[static_cast<std::size_t>(n * size.k + k)];
                if (what == kind::wide) {
                    sum = rounded(sum + (bias.empty() ? 0 : bias[static_cast<std::size_t>(n)]), out.shift);
                    if (out.seen != nullptr) expected_seen.add(static_cast<std::int32_t>(sum));
                }
                expected[static_cast<std::size_t>(out.rows.offset(m) + n)] = sum;
            }
    }

    // Empty when the execution gives what is expected, its name otherwise.
    std::string failing(const settings& how, workspace& memory) {
        seen = {};
        out.exact = nullptr;
        out.narrow = out.wide = nullptr;
        if (what == kind::exact) {
            exact.assign(expected.size(), untouched);
            out.exact = exact.data();
        } else {
            narrow.assign(expected.size(), static_cast<std::int32_t>(untouched));
            (what == kind::narrow ? out.narrow : out.wide) = narrow.data();
        }
        multiply(p, out, how, memory);
        const bool same = what == kind::exact
                              ? exact == expected
                              : std::equal(expected.begin(), expected.end(), narrow.begin(), narrow.end());
        if (same && seen == expected_seen) return {};
        return std::string(name_of(how.how)) + ' ' + std::string(name_of(how.isa)) + ' ' +
               std::string(name_of(how.digits)) + " threads " + std::to_string(how.threads) +
               (same ? " histogram" : "") + "; ";
    }
};

std::vector<path> paths() {
    std::vector<path> found;
    for (const path p : all_paths)
        if (available(p)) found.push_back(p);
    return found;
}

// All executions of one case; returns those that fail.
std::string failures(gemm_case& c, workspace& memory) {
    std::string failed;
    settings how;
    const auto threads = [&] { return static_cast<int>(c.g.between(1, 3)); };
    for (const path isa : paths()) {
        how.isa = isa;
        how.how = execution::fused;
        how.threads = threads();
        failed += c.failing(how, memory);
        how.how = execution::sliced;
        for (const encoding e : encodings) {
            how.digits = e;
            how.threads = threads();
            failed += c.failing(how, memory);
        }
    }
    if (c.size.m * c.size.n * c.size.k > 3000) return failed;
    how.how = execution::reference;
    for (const encoding e : encodings) {
        how.digits = e;
        failed += c.failing(how, memory);
    }
    return failed;
}

void run_case(std::uint64_t seed, shape s, int width_a, int width_b, workspace& memory) {
    gemm_case c(seed, s, width_a, width_b);
    const std::string failed = failures(c, memory);
    CAPTURE(seed);
    CAPTURE(s.m);
    CAPTURE(s.n);
    CAPTURE(s.k);
    CAPTURE(width_a);
    CAPTURE(width_b);
    CAPTURE(static_cast<int>(c.what));
    CAPTURE(c.out.shift);
    CHECK(failed == "");
}

problem plain_problem(const std::int8_t* a, const std::int8_t* b, std::int64_t m, std::int64_t n, std::int64_t k) {
    problem p;
    p.a = {a, 8, 0, axis::linear(m, k), axis::linear(k, 1)};
    p.b = {b, 8, 0, axis::linear(n, k), axis::linear(k, 1)};
    return p;
}

}  // namespace

TEST_CASE("every execution, path, encoding and number of threads gives the plain product") {
    workspace memory;
    constexpr std::uint64_t widths = max_width - min_width + 1;
    for (std::uint64_t seed = 0; seed < 12 * widths * widths; ++seed) {
        generator g(~seed);
        run_case(seed, random_shape(g), min_width + static_cast<int>(seed % widths),
                 min_width + static_cast<int>(seed / widths % widths), memory);
    }
}

TEST_CASE("shapes worth several threads give the plain product") {
    workspace memory;
    std::uint64_t seed = 1000000;
    for (const shape s :
         {shape{131, 203, 97}, {64, 64, 600}, {1000, 10, 150}, {9, 700, 300}, {30, 70, 5000}, {7, 5, 40000}})
        for (const auto& [width_a, width_b] : {std::pair{8, 8}, {5, 16}, {12, 12}, {16, 16}})
            run_case(++seed, s, width_a, width_b, memory);
}

TEST_CASE("an empty depth leaves the bias, and no rows or columns leave the output alone") {
    workspace memory;
    const std::array<std::int8_t, 64> data{};
    const std::array<std::int64_t, 3> bias{5, -6, 7};
    for (const execution how : {execution::reference, execution::sliced, execution::fused}) {
        CAPTURE(name_of(how));
        settings set;
        set.how = how;
        std::array<std::int32_t, 6> wide{};
        output out;
        out.rows = axis::linear(2, 3);
        out.wide = wide.data();
        out.bias = bias.data();
        out.largest_bias = 7;
        multiply(plain_problem(data.data(), data.data(), 2, 3, 0), out, set, memory);
        CHECK(wide == std::array<std::int32_t, 6>{5, -6, 7, 5, -6, 7});
        wide.fill(9);
        multiply(plain_problem(data.data(), data.data(), 2, 0, 4), out, set, memory);
        out.rows = axis::linear(0, 3);
        multiply(plain_problem(data.data(), data.data(), 0, 3, 4), out, set, memory);
        CHECK(wide == std::array<std::int32_t, 6>{9, 9, 9, 9, 9, 9});
    }
}

TEST_CASE("problems outside the contract are refused by every execution") {
    workspace memory;
    const std::array<std::int8_t, 64> data{};
    std::array<std::int32_t, 16> narrow{};
    std::array<std::int64_t, 16> exact{};
    for (const execution how : {execution::reference, execution::sliced, execution::fused}) {
        CAPTURE(name_of(how));
        settings set;
        set.how = how;
        const problem good = plain_problem(data.data(), data.data(), 2, 3, 4);
        output out;
        out.rows = axis::linear(2, 3);
        const auto refused = [&](const problem& p, const output& o) {
            CHECK_THROWS_AS(multiply(p, o, set, memory), argument_error);
        };
        refused(good, out);  // no destination
        out.exact = exact.data();
        multiply(good, out, set, memory);
        {
            output two = out;
            two.narrow = narrow.data();
            refused(good, two);
            output rows = out;
            rows.rows = axis::linear(3, 3);
            refused(good, rows);
            output shifted = out;
            shifted.shift = 1;
            refused(good, shifted);
            output biased = out;
            biased.bias = exact.data();
            refused(good, biased);
        }
        problem p = good;
        p.b.depth = axis::linear(5, 1);
        refused(p, out);
        for (const int width : {1, 17}) {
            p = good;
            p.a.width = width;
            refused(p, out);
            p = good;
            p.b.width = width;
            refused(p, out);
        }
        p = good;
        p.a.width = p.b.width = 16;
        p.a.depth = p.b.depth = axis::linear((std::int64_t{1} << 33), 0);
        refused(p, out);  // beyond 2^62
        p.a.depth = p.b.depth = axis::linear(3, 0);
        out.exact = nullptr;
        out.narrow = narrow.data();
        refused(p, out);  // 3 x (2^15 - 1)^2 >= 2^31
        out.narrow = nullptr;
        out.wide = narrow.data();
        refused(p, out);  // does not fit 32 bits without a shift
        for (const int shift : {-1, 63}) {
            out.shift = shift;
            refused(good, out);
        }
        out.shift = 0;
        out.largest_bias = -1;
        refused(good, out);
        out.largest_bias = std::int64_t{1} << 62;
        out.shift = 40;
        refused(good, out);
    }
    settings set;
    set.threads = 0;
    output out;
    out.rows = axis::linear(2, 3);
    out.exact = exact.data();
    CHECK_THROWS_AS(multiply(plain_problem(data.data(), data.data(), 2, 3, 4), out, set, memory), argument_error);
}
