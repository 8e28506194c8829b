// OPTC against long double: each step from the state that it started from, whole runs against bounds that are carried
// along, and the edges where nothing may be undefined. What is rounded to nearest, against integers, to the bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <vector>

#include "lamella/accelerator/optc.hpp"
#include "lamella/accelerator/optc_avx512.hpp"
#include "lamella/accelerator/optc_lanes.hpp"
#include "lamella/accelerator/optc_plan.hpp"
#include "lamella/core/elementary.hpp"
#include "lamella/core/largest.hpp"
#include "lamella/core/random.hpp"

using namespace lamella;
using namespace lamella::accelerator;
using real = long double;
namespace inner = lamella::accelerator::detail;

namespace {

constexpr std::uint64_t seed = 7;

real value(const scaled& s) { return std::ldexp(static_cast<real>(s.mantissa), s.exponent); }
scaled text(const char* t) { return parse_scaled(t, "test"); }
scaled one() { return text("1"); }
scaled over(std::uint64_t batch) { return divide(one(), to_scaled(batch, 0)); }
random_sequence numbers(std::uint32_t test) {
    return random_sequence({.seed = seed, .step = test, .layer = 0, .use = stream::split});
}

struct tensor {
    buffer<std::int16_t> mantissa;
    int exponent = 0;
    buffer<std::int64_t> gradient;
    int gradient_exponent = 0;
    optc_state state;

    explicit tensor(std::size_t n) : mantissa(n), gradient(n) {}
    std::size_t size() const { return mantissa.size(); }
    optc_saturations step(const optc_step& s, std::uint32_t number, path isa = best_path(), int threads = 1) {
        return optc_update(s, {mantissa, exponent, gradient.span(), gradient_exponent, state}, {seed, number, 3, false},
                           isa, threads);
    }
    real w(std::size_t i) const { return std::ldexp(static_cast<real>(mantissa[i]), exponent); }
    real m(std::size_t i) const {
        return state.first_moment.empty() ? 0
                                          : std::ldexp(static_cast<real>(state.first_moment[i]), state.first_exponent);
    }
    real v(std::size_t i) const {
        return state.second_moment.empty()
                   ? 0
                   : std::ldexp(static_cast<real>(state.second_moment[i]), state.second_moment_exponent[i]);
    }
    real sum(std::size_t i) const { return std::ldexp(static_cast<real>(gradient[i]), gradient_exponent); }
    std::uint64_t hash() const {
        std::uint64_t h = 1469598103934665603u;
        const auto add = [&](std::int64_t x) { h = (h ^ static_cast<std::uint64_t>(x)) * 1099511628211u; };
        for (const auto x : mantissa) add(x);
        for (const auto x : state.first_moment) add(x);
        for (const auto x : state.second_moment) add(x);
        for (const auto x : state.second_moment_exponent) add(x);
        add(exponent);
        add(state.first_exponent);
        return h;
    }
    void randomise(random_sequence& draw) {
        for (auto& x : mantissa) x = static_cast<std::int16_t>(draw.between(-32767, 32767));
        exponent = -15 - draw.between(0, 4);
    }
    // Gradients whose magnitudes spread over 2^bits, some zero.
    void new_gradient(random_sequence& draw, int bits, int at) {
        for (auto& x : gradient) {
            const std::int64_t magnitude = static_cast<std::int64_t>(
                ((std::uint64_t{draw.next()} << 32 | draw.next()) >> 1) >> (63 - bits) >> draw.below(8));
            x = draw.below(16) == 0 ? 0 : draw.below(2) != 0 ? magnitude : -magnitude;
        }
        gradient_exponent = at - bits;
    }
};

struct mode {
    const char* name;
    optc_step step;
    bool remembers;
};

optc_step momentum_step(std::uint64_t batch, const char* decay) {
    optc_step s;
    s.inverse_batch = over(batch);
    s.decay = text(decay);
    s.b1 = text("0.9");
    s.c1 = one();
    s.rate = text("0.05");
    return s;
}
optc_step adam_step(std::uint64_t batch, const char* decay, const char* shrink, const char* b2 = "0.999") {
    optc_step s;
    s.direction = optc_direction::normalised;
    s.inverse_batch = over(batch);
    s.decay = text(decay);
    s.b1 = text("0.9");
    s.c1 = text("0.1");
    s.b2 = text(b2);
    s.c2 = to_scaled((std::uint64_t{1} << 63) - to_q63(s.b2), -63);
    s.epsilon_squared = multiply(text("1e-8"), text("1e-8"));
    s.rate = text("0.001");
    s.shrink = text(shrink);
    return s;
}
std::vector<mode> modes() {
    optc_step sgd = momentum_step(64, "0");
    sgd.b1 = {};
    optc_step sign = momentum_step(100, "0.0001");
    sign.direction = optc_direction::sign;
    sign.c1 = text("0.1");
    sign.rate = text("0.0003");
    return {{"momentum", momentum_step(64, "0"), true},
            {"momentum, odd batch, decay", momentum_step(37, "0.0005"), true},
            {"sgd", sgd, false},
            {"adam", adam_step(64, "0", "0"), true},
            {"adam, decay, odd batch", adam_step(51, "0.01", "0"), true},
            {"adamw", adam_step(64, "0", "0.00001"), true},
            {"adam with fast second moment", adam_step(64, "0", "0", "0.5"), true},
            {"sign", sign, true}};
}
bool normalised(const optc_step& s) { return s.direction == optc_direction::normalised; }

// One exact step from (w, m, v), and how far rounding inside the lanes may lead from it.
struct exact {
    real m, v, u, w;
    real m_slack, v_slack, w_slack;  // beside the last unit of each write-back
};
struct largest {
    real sum = 0, w = 0, m = 0;
};
exact exact_step(const optc_step& s, real sum, real w, real m, real v, const largest& top) {
    exact e;
    const real g_slack = top.sum * value(s.inverse_batch) * std::exp2(-22.0L) / 2;  // half a unit of 23 bits
    const real mixed_slack =
        s.decay.mantissa == 0 ? 0 : (top.sum * value(s.inverse_batch) + top.w * value(s.decay)) * std::exp2(-27.0L);
    const real d_slack = g_slack + mixed_slack;
    const real d = sum * value(s.inverse_batch) + value(s.decay) * w;
    e.m = value(s.b1) * m + value(s.c1) * d;
    const real top_m =
        value(s.b1) * top.m + value(s.c1) * (top.sum * value(s.inverse_batch) + top.w * value(s.decay) + d_slack);
    e.m_slack = value(s.c1) * d_slack + top_m * std::exp2(-58.0L);
    e.v = value(s.b2) * v + value(s.c2) * d * d;
    e.v_slack = value(s.c2) * (2 * std::fabs(d) + d_slack) * d_slack + e.v * std::exp2(-28.0L);
    real u_slack = 0;
    if (normalised(s)) {
        const real root = std::sqrt(e.v + value(s.epsilon_squared));
        const real low = std::sqrt(std::fmax(e.v - e.v_slack, 0.0L) + value(s.epsilon_squared));
        e.u = e.m / root;
        u_slack =
            (std::fabs(e.m) + e.m_slack) / low * (1 + std::exp2(-25.0L)) - std::fabs(e.m) / root + std::exp2(-20.0L);
    } else if (s.direction == optc_direction::sign) {
        e.u = e.m > 0 ? 1 : e.m < 0 ? -1 : 0;
        u_slack = std::fabs(e.m) <= e.m_slack ? 1 : 0;
    } else {
        e.u = e.m;
        u_slack = e.m_slack + top_m * std::exp2(-27.0L);
    }
    e.w = w - value(s.rate) * e.u - value(s.shrink) * w;
    e.w_slack = value(s.rate) * u_slack + (top.w + std::fabs(e.w)) * std::exp2(-45.0L);
    return e;
}
largest largest_of(const tensor& t) {
    largest top;
    for (std::size_t i = 0; i < t.size(); ++i) {
        top.sum = std::fmax(top.sum, std::fabs(t.sum(i)));
        top.w = std::fmax(top.w, std::fabs(t.w(i)));
        top.m = std::fmax(top.m, std::fabs(t.m(i)));
    }
    return top;
}

}  // namespace

TEST_CASE("every step lands within one unit of the exact step, at the smallest exponents") {
    auto draw = numbers(1);
    for (const mode& k : modes()) {
        for (const std::size_t n : {std::size_t{1}, std::size_t{255}, std::size_t{256}, std::size_t{300}}) {
            tensor t(n);
            t.randomise(draw);
            optc_prepare(t.state, n, k.remembers, normalised(k.step));
            for (std::uint32_t step = 0; step < 50; ++step) {
                t.new_gradient(draw, draw.between(3, 60), draw.between(-6, 4));
                const largest top = largest_of(t);
                std::vector<exact> want;
                for (std::size_t i = 0; i < n; ++i)
                    want.push_back(exact_step(k.step, t.sum(i), t.w(i), t.m(i), t.v(i), top));
                const optc_saturations cut = t.step(k.step, step);
                INFO(k.name << ", n " << n << ", step " << step << ", seed " << seed);
                REQUIRE(cut.total() == 0);
                std::int32_t w_most = 0;
                std::int64_t m_most = 0;
                for (std::size_t i = 0; i < n; ++i) {
                    const exact& e = want[i];
                    INFO("element " << i);
                    REQUIRE(std::fabs(t.w(i) - e.w) < std::ldexp(1.0L, t.exponent) + e.w_slack);
                    w_most = std::max(w_most, std::abs(std::int32_t{t.mantissa[i]}));
                    if (k.remembers) {
                        REQUIRE(std::fabs(t.m(i) - e.m) < std::ldexp(1.0L, t.state.first_exponent) + e.m_slack);
                        m_most = std::max(m_most, std::abs(std::int64_t{t.state.first_moment[i]}));
                    }
                    if (normalised(k.step)) {
                        REQUIRE(std::fabs(t.v(i) - e.v) <=
                                std::ldexp(1.0L, t.state.second_moment_exponent[i]) + e.v_slack);
                        REQUIRE((t.state.second_moment[i] >= 1 << 14 || t.state.second_moment[i] == 0));
                    }
                }
                REQUIRE(w_most <= 32767);
                REQUIRE(w_most >= 16383);
                if (k.remembers) {
                    REQUIRE(m_most <= 2147483647);
                    REQUIRE((m_most >= 1073741823 || top.sum + top.m == 0));
                }
            }
        }
    }
}

TEST_CASE("thousands of steps stay within the bound that long double carries along, and the errors average out") {
    for (const mode& k : modes()) {
        if (k.step.direction == optc_direction::sign) continue;  // a sign that flips has no bound
        auto draw = numbers(2);
        constexpr std::size_t n = 64;
        constexpr std::uint32_t steps = 3000;
        const bool second = normalised(k.step);
        tensor t(n);
        t.randomise(draw);
        optc_prepare(t.state, n, k.remembers, second);
        std::vector<real> w(n), m(n), v(n), dw(n), dm(n), dv(n), pull(n);
        for (std::size_t i = 0; i < n; ++i) {
            w[i] = t.w(i);
            pull[i] = std::ldexp(static_cast<real>(draw.between(-1000, 1000)), -12);
        }
        real variance = 0;  // of one weight, by its own write-backs
        for (std::uint32_t step = 0; step < steps; ++step) {
            t.new_gradient(draw, 40, 5);
            for (std::size_t i = 0; i < n; ++i)  // a constant pull, so that weights travel
                t.gradient[i] += static_cast<std::int64_t>(std::ldexp(pull[i], -t.gradient_exponent));
            const largest top = largest_of(t);
            for (std::size_t i = 0; i < n; ++i) {
                const exact e = exact_step(k.step, t.sum(i), w[i], k.remembers ? m[i] : 0, v[i], top);
                const real decay = value(k.step.decay) * dw[i];
                const real d = t.sum(i) * value(k.step.inverse_batch) + value(k.step.decay) * w[i];
                dm[i] = (k.remembers ? value(k.step.b1) * dm[i] : 0) + value(k.step.c1) * decay + e.m_slack;
                dv[i] = value(k.step.b2) * dv[i] + value(k.step.c2) * (2 * std::fabs(d) + decay) * decay + e.v_slack;
                real du = dm[i];
                if (second) {
                    const real low = std::fmax(e.v - dv[i], 0.0L) + value(k.step.epsilon_squared);
                    du = (std::fabs(e.m) + dm[i]) / std::sqrt(low) - std::fabs(e.u) + std::exp2(-20.0L);
                }
                dw[i] += value(k.step.rate) * du + e.w_slack;
                w[i] = e.w;
                m[i] = e.m;
                v[i] = e.v;
            }
            REQUIRE(t.step(k.step, step).total() == 0);
            const real unit = std::ldexp(1.0L, t.exponent);
            variance += unit * unit / 4;
            for (std::size_t i = 0; i < n; ++i) {
                dw[i] += unit;
                if (k.remembers) dm[i] += std::ldexp(1.0L, t.state.first_exponent);
                dv[i] += v[i] * std::exp2(-14.0L);
                INFO(k.name << ", step " << step << ", element " << i << ", seed " << seed);
                REQUIRE(std::fabs(t.w(i) - w[i]) <= dw[i]);
            }
        }
        // The write-backs of weights are independent and unbiased: together, a tenth of the bound's size at most.
        real sum = 0, squares = 0, bound = 0;
        for (std::size_t i = 0; i < n; ++i) {
            sum += t.w(i) - w[i];
            squares += (t.w(i) - w[i]) * (t.w(i) - w[i]);
            bound += dw[i];
        }
        INFO(k.name);
        if (!second) {
            CHECK(std::sqrt(squares / n) < 1.5L * std::sqrt(variance));
            CHECK(std::fabs(sum / n) < 4 * std::sqrt(variance / n));
        }
        CHECK(std::sqrt(squares / n) < bound / n / 10);
    }
}

TEST_CASE("the mean write-back is the exact step") {
    auto draw = numbers(3);
    constexpr std::size_t n = 128;
    constexpr int repeats = 4000;
    const optc_step s = momentum_step(64, "0");
    tensor start(n);
    start.randomise(draw);
    start.mantissa[0] = 32000;  // keeps the exponent
    optc_prepare(start.state, n, true, false);
    start.new_gradient(draw, 30, -4);
    start.gradient[0] = 0;
    const largest top = largest_of(start);
    std::vector<real> mean(n);
    int exponent = 0;
    for (std::uint32_t step = 0; step < repeats; ++step) {
        tensor t = start;
        t.step(s, step);
        for (std::size_t i = 0; i < n; ++i) mean[i] += t.w(i) / repeats;
        exponent = t.exponent;
    }
    for (std::size_t i = 0; i < n; ++i) {
        const exact e = exact_step(s, start.sum(i), start.w(i), 0, 0, top);
        INFO("element " << i);
        CHECK(std::fabs(mean[i] - e.w) <
              std::ldexp(1.0L, exponent) / 2 * 4.5L / std::sqrt(static_cast<real>(repeats)) + e.w_slack);
    }
}

TEST_CASE("the mean of a gradient is the exact quotient's nearest 24-bit value, ties to even") {
    auto draw = numbers(4);
    for (int k = 0; k < 4000; ++k) {
        inner::optc_lanes l{};
        const int bits = draw.between(1, 63);
        for (std::int64_t& x : l.sum) {
            x = static_cast<std::int64_t>((std::uint64_t{draw.next()} << 32 | draw.next()) >> (64 - bits));
            x = draw.below(2) != 0 ? x : -x;
        }
        if (k % 50 == 0) l.sum[3] = INT64_MIN;
        const std::uint32_t batch = k % 3 == 0 ? 1u << draw.below(12) : 1 + draw.below(5000);
        optc_step s;
        s.inverse_batch = over(batch);
        s.c1 = one();
        optc_state state;
        buffer<std::int16_t> none;
        int exponent = 0;
        const int at = draw.between(-60, 10);
        inner::optc_maxima top;
        top.sum = largest_magnitude(best_path(), static_cast<const std::int64_t*>(l.sum), inner::optc_block);
        if (top.sum == 0) continue;
        optc_saturations cut;
        const inner::optc_plan p = inner::plan_step(s, {none, exponent, {}, at, state}, top, cut);
        inner::optc_mean(p, l);
        std::int64_t most = 0;
        for (std::size_t i = 0; i < inner::optc_block; ++i) {
            // sum x mantissa 2^(at + its exponent), cut at 2^gradient_exponent
            const lamella::detail::uint128 magnitude = l.sum[i] < 0
                                                           ? 0 - static_cast<lamella::detail::uint128>(l.sum[i])
                                                           : static_cast<lamella::detail::uint128>(l.sum[i]);
            const lamella::detail::uint128 product = magnitude * static_cast<std::uint64_t>(s.inverse_batch.mantissa);
            const int drop = p.gradient_exponent - at - s.inverse_batch.exponent;
            REQUIRE(drop > 0);
            REQUIRE(drop < 127);
            const lamella::detail::uint128 half = lamella::detail::uint128{1} << (drop - 1),
                                           rest = product & (2 * half - 1);
            lamella::detail::uint128 want = product >> drop;
            if (rest > half || (rest == half && (want & 1) != 0)) ++want;
            INFO("case " << k << ", batch " << batch << ", sum " << l.sum[i] << ", seed " << seed);
            REQUIRE(std::abs(l.gradient[i]) == static_cast<std::int64_t>(want));
            REQUIRE((want == 0 || (l.gradient[i] < 0) == (l.sum[i] < 0)));
            most = std::max(most, std::abs(l.gradient[i]));
        }
        REQUIRE(most <= 8388607);
        REQUIRE(most >= 4194304);
    }
}

namespace {

__extension__ using int128 = __int128;

// u = M / sqrt(V + eps^2) in units of 2^-20, M with p.moment_exponent, V with its own exponent. The sum has the larger
// exponent of its two, below which it is cut, and is never zero; the quotient is M times a 32-bit inverse root (known
// by elementary_test), cut to M's exponent, then rounded to nearest, ties to even, and saturated at 31 bits.
struct normalised_update {
    std::int64_t value;
    bool tie = false;
};
normalised_update normalise_exactly(const inner::optc_plan& p, std::int64_t moment, std::uint64_t square,
                                    std::int64_t square_exponent) {
    const std::int64_t added_exponent = p.epsilon_exponent - 31, at = std::max(added_exponent, square_exponent);
    const auto aligned = [&](std::uint64_t x, std::int64_t exponent) {
        return at - exponent > 63 ? 0 : x >> (at - exponent);
    };
    const std::uint64_t sum = (aligned(square, square_exponent) +
                               aligned(static_cast<std::uint64_t>(p.epsilon_squared) << 31, added_exponent)) |
                              1;
    // sum 2^at = s 2^exponent, 1 <= s < 4 in Q30, the exponent even
    std::int64_t cut = bit_length(sum) - 32;
    if ((at + cut) % 2 != 0) ++cut;
    const std::uint64_t s = cut < 0 ? sum << -cut : sum >> cut;
    const std::int64_t exponent = at + cut + 30;
    const int128 product = (int128{moment} * static_cast<std::int64_t>(reciprocal_square_root_q30(s))) >> 32;

    const int128 most = inner::largest_update;
    const std::int64_t dropped = exponent / 2 - p.moment_exponent + inner::update_exponent;
    if (dropped > 64) return {0};
    if (dropped <= 0) {  // times 2^31 or more, all but zero saturates
        const int128 larger = product * (int128{1} << std::min<std::int64_t>(-dropped, 31));
        return {static_cast<std::int64_t>(std::clamp(larger, -most, most))};
    }
    const int128 unit = int128{1} << dropped, below = product >> dropped, rest = product - below * unit;
    const bool tie = 2 * rest == unit, up = 2 * rest > unit || (tie && below % 2 != 0);
    return {static_cast<std::int64_t>(std::clamp(below + (up ? 1 : 0), -most, most)), tie};
}

}  // namespace

TEST_CASE("a normalised update is the exact product's nearest multiple of 2^-20, ties to even, saturated") {
    auto draw = numbers(12);
    const auto number = [&](int bits) { return (std::uint64_t{draw.next()} << 32 | draw.next()) >> (64 - bits); };
    int ties = 0, saturated = 0, zeros = 0, between = 0;
    for (int k = 0; k < 2000; ++k) {
        inner::optc_plan p;
        p.direction = optc_direction::normalised;
        const bool epsilon = k % 8 != 0;
        p.epsilon_squared = epsilon ? static_cast<std::int64_t>(number(31) | 1u << 30) : 0;
        p.epsilon_exponent = epsilon ? draw.between(-160, -40) : inner::no_exponent;
        p.moment_exponent = draw.between(-140, 20);
        inner::optc_lanes l{};
        for (std::size_t i = 0; i < inner::optc_block; ++i) {
            const bool vanished = i % 32 == 0;
            const int bits = draw.between(1, 62), square_bits = draw.between(1, 63), near = draw.between(-3, 40);
            const auto magnitude = static_cast<std::int64_t>(number(bits));
            l.moment[i] = draw.below(2) != 0 ? magnitude : -magnitude;
            l.square[i] = vanished ? 0 : number(square_bits);
            // so that mostly about `near` bits are dropped
            l.square_exponent[i] = vanished ? inner::no_exponent + 1
                                            : 2 * (near + p.moment_exponent - inner::update_exponent) - square_bits;
        }
        const inner::optc_lanes before = l;
        inner::optc_normalise(p, l);
        for (std::size_t i = 0; i < inner::optc_block; ++i) {
            const normalised_update want =
                normalise_exactly(p, before.moment[i], before.square[i], before.square_exponent[i]);
            INFO("case " << k << ", element " << i << ", M " << before.moment[i] << " 2^" << p.moment_exponent << ", V "
                         << before.square[i] << " 2^" << before.square_exponent[i] << ", seed " << seed);
            REQUIRE(l.update[i] == want.value);
            ties += want.tie ? 1 : 0;
            ++(want.value == 0 ? zeros : std::abs(want.value) == inner::largest_update ? saturated : between);
        }
    }
    CHECK(ties > 1000);
    CHECK(saturated > 1000);
    CHECK(zeros > 1000);
    CHECK(between > 100000);
}

TEST_CASE("all paths and any number of threads give equal bits, which are known") {
    std::uint64_t all = 0;
    for (const mode& k : modes()) {
        std::uint64_t want = 0;
        bool any = false;
        for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon})
            for (const int threads : {1, 2}) {
                if (!available(isa)) continue;
                auto draw = numbers(5);
                tensor t(20011);
                t.randomise(draw);
                optc_prepare(t.state, t.size(), k.remembers, normalised(k.step));
                for (std::uint32_t step = 0; step < 4; ++step) {
                    t.new_gradient(draw, 20 + 10 * static_cast<int>(step), 2);
                    t.step(k.step, step, isa, threads);
                }
                INFO(k.name << " on " << std::string(name_of(isa)) << ", " << threads << " threads");
                if (any) REQUIRE(t.hash() == want);
                want = t.hash();
                any = true;
            }
        all = all * 31 + want;
    }
    CHECK(all == 16274319094746623941u);
}

#if LAMELLA_X86
TEST_CASE("the momentum lane in registers gives the bits of the lanes that define it") {
    if (!available(path::avx512)) return;
    auto draw = numbers(11);
    int exact_means = 0, rounded_means = 0;
    for (int k = 0; k < 4000; ++k) {
        inner::optc_lanes l{};
        const int bits = draw.between(2, 45), moment_bits = draw.between(8, 31);
        for (std::size_t i = 0; i < inner::optc_block; ++i) {
            l.sum[i] = static_cast<std::int64_t>((std::uint64_t{draw.next()} << 32 | draw.next()) >> (64 - bits));
            if (draw.below(2) != 0) l.sum[i] = -l.sum[i];
            l.weight[i] = static_cast<std::int16_t>(draw.between(-32767, 32767));
            l.first[i] = draw.between(-(1 << (moment_bits - 1)) + 1, (1 << (moment_bits - 1)) - 1);
            l.draw[i] = static_cast<std::uint16_t>(draw.next());
            l.first_draw[i] = static_cast<std::uint16_t>(draw.next());
        }
        if (k % 7 == 0)
            l.sum[0] = (std::int64_t{1} << bits) - 1, l.weight[1] = -32767, l.first[2] = 1 << (moment_bits - 2);
        const optc_step s = momentum_step(k % 3 == 0 ? 1 + draw.below(5000) : 1u << draw.below(10), "0");
        optc_state state;
        state.first_exponent = draw.between(-50, -20);
        buffer<std::int16_t> none;
        int exponent = draw.between(-20, -12);
        inner::optc_maxima top;
        top.sum = largest_magnitude(path::scalar, static_cast<const std::int64_t*>(l.sum), inner::optc_block);
        top.weight = largest_magnitude(path::scalar, static_cast<const std::int16_t*>(l.weight), inner::optc_block);
        top.first = largest_magnitude(path::scalar, static_cast<const std::int32_t*>(l.first), inner::optc_block);
        optc_saturations cut;
        inner::optc_plan p = inner::plan_step(s, {none, exponent, {}, -draw.between(15, 40), state}, top, cut);
        const inner::optc_lanes before = l;
        inner::optc_found want, found;
        inner::optc_compute(path::scalar, p, l, want);
        p.weight_write = inner::plan_write(want.fresh, p.fresh_exponent, 16);
        p.first_write = inner::plan_write(want.moment, p.moment_exponent, 32);
        if (!inner::is_plain_momentum(p)) continue;
        inner::optc_write_weight(path::scalar, p.weight_write, l, want);
        std::copy(std::begin(l.first_draw), std::end(l.first_draw), l.draw);
        inner::optc_write_first(path::scalar, p.first_write, l, want);

        const bool exact = inner::has_exact_mean(p);
        ++(exact ? exact_means : rounded_means);
        std::vector<std::int16_t> weight(inner::optc_block);
        std::vector<std::int32_t> first(inner::optc_block);
        (exact ? inner::optc_momentum_avx512<true>
               : inner::optc_momentum_avx512<false>)(p, before.sum, before.weight, before.first, before.draw,
                                                     before.first_draw, weight.data(), first.data(), found);
        INFO("case " << k << ", seed " << seed);
        REQUIRE(std::equal(weight.begin(), weight.end(), l.weight));
        REQUIRE(std::equal(first.begin(), first.end(), l.first));
        REQUIRE(found.moment == want.moment);
        REQUIRE(found.fresh == want.fresh);
    }
    CHECK(exact_means > 200);
    CHECK(rounded_means > 200);
}
#endif

TEST_CASE("without gradient and decay, weights keep their values and moments fade to zero") {
    for (const mode& k : modes()) {
        optc_step s = k.step;
        s.decay = s.shrink = {};
        auto draw = numbers(6);
        tensor t(300);
        t.randomise(draw);
        optc_prepare(t.state, t.size(), k.remembers, normalised(s));
        const tensor before = t;
        t.step(s, 1);
        INFO(k.name);
        for (std::size_t i = 0; i < t.size(); ++i) REQUIRE(t.w(i) == before.w(i));
        for (std::size_t i = 0; i < t.size(); ++i) REQUIRE(t.m(i) == 0);
        CHECK(t.state.first_exponent == 0);
    }
    const optc_step s = momentum_step(64, "0");
    tensor t(20);
    optc_prepare(t.state, t.size(), true, false);
    t.gradient[4] = 1000;
    t.step(s, 1);
    t.gradient[4] = 0;
    std::uint32_t step = 2;
    for (; step < 30000 && t.m(4) != 0; ++step) t.step(s, step);
    CHECK(t.m(4) == 0);  // 0.9^t reaches the lowest exponent and rounds to zero there
    t.step(s, step);
    CHECK(t.state.first_exponent == 0);
}

TEST_CASE("a tensor of zeros has exponent 0 and takes no part in alignment") {
    const optc_step s = momentum_step(1, "0.5");
    tensor t(5);
    t.exponent = 900;
    optc_prepare(t.state, 5, true, false);
    t.state.first_exponent = 900;
    t.gradient_exponent = 900;
    CHECK(t.step(s, 0).total() == 0);
    CHECK(t.exponent == 0);
    CHECK(t.state.first_exponent == 0);
    t.exponent = t.state.first_exponent = 900;
    t.gradient[2] = 3;
    t.gradient_exponent = -40;
    t.step(s, 1);
    CHECK(t.m(2) == std::ldexp(3.0L, -40));
    CHECK(t.w(2) == doctest::Approx(static_cast<double>(std::ldexp(-0.15L, -40))).epsilon(1e-4));
    CHECK(t.w(1) == 0);
}

TEST_CASE("exploding steps saturate, are counted, and stay in range") {
    for (const mode& k : modes()) {
        optc_step s = k.step;
        s.rate = text("100");
        auto draw = numbers(7);
        tensor t(300);
        t.randomise(draw);
        optc_prepare(t.state, t.size(), k.remembers, normalised(s));
        optc_saturations cut;
        for (std::uint32_t step = 0; step < 400; ++step) {
            t.new_gradient(draw, 62, static_cast<int>(8 * step));  // eight octaves a step
            cut.add(t.step(s, step));
            REQUIRE(t.exponent <= optc_exponent_limit);
            REQUIRE(t.state.first_exponent <= optc_exponent_limit);
            for (const std::int16_t x : t.mantissa) REQUIRE(x != INT16_MIN);
            for (const std::int32_t x : t.state.first_moment) REQUIRE(x != INT32_MIN);
        }
        INFO(k.name);
        CHECK(cut.gradients > 0);
        if (normalised(s)) CHECK(cut.second_moments > 0);
        if (s.direction == optc_direction::moment) CHECK(cut.weights > 0);
        // and back again
        for (std::uint32_t step = 0; step < 400; ++step) {
            t.new_gradient(draw, 62, -static_cast<int>(8 * step));
            t.step(s, step);
            REQUIRE(t.exponent >= -optc_exponent_limit);
            for (const std::int16_t x : t.mantissa) REQUIRE(x != INT16_MIN);
        }
    }
}

TEST_CASE("a normalised update saturates at 2^11, whichever its sign, when its second moment has vanished") {
    const optc_step s = adam_step(1, "0", "0");
    for (const int exponent : {-30, 200, 900}) {  // 0.9 / 1e-8, and more by far
        tensor t(2);
        t.mantissa[0] = t.mantissa[1] = 16384;
        t.exponent = -14;
        optc_prepare(t.state, 2, true, true);
        t.state.first_moment[0] = 1 << 30;
        t.state.first_moment[1] = -(1 << 30);
        t.state.first_exponent = exponent;
        const optc_saturations cut = t.step(s, 0);
        CAPTURE(exponent);
        CHECK(cut.updates == 2);
        CHECK(static_cast<double>(t.w(0)) == doctest::Approx(1 - 2.048).epsilon(1e-4));
        CHECK(static_cast<double>(t.w(1)) == doctest::Approx(1 + 2.048).epsilon(1e-4));
    }
}

TEST_CASE("biases draw other random bits than weights, and steps other bits than steps") {
    const optc_step s = momentum_step(64, "0");
    const auto run = [&](std::uint32_t step, std::uint16_t layer, bool bias, std::uint64_t key) {
        auto draw = numbers(8);
        tensor t(500);
        t.randomise(draw);
        t.new_gradient(draw, 30, 0);
        optc_prepare(t.state, t.size(), true, false);
        optc_update(s, {t.mantissa, t.exponent, t.gradient.span(), t.gradient_exponent, t.state},
                    {key, step, layer, bias}, best_path(), 1);
        return t.hash();
    };
    const std::uint64_t base = run(1, 1, false, 1);
    CHECK(base == run(1, 1, false, 1));
    CHECK(base != run(2, 1, false, 1));
    CHECK(base != run(1, 2, false, 1));
    CHECK(base != run(1, 1, true, 1));
    CHECK(base != run(1, 1, false, 2));
}
