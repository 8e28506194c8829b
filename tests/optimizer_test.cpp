// Optimizers: PyTorch's formulas in long double against the integer ones and the twin's, settings, checkpoints.
#include <doctest/doctest.h>

#include <cfenv>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "lamella/core/random.hpp"
#include "lamella/optim/optimizer.hpp"

using namespace lamella;
using namespace lamella::optim;
using real = long double;

namespace {

real value(const scaled& s) { return std::ldexp(static_cast<real>(s.mantissa), s.exponent); }
scaled nearest(real x) {
    int exponent = 0;
    const real fraction = std::frexp(x, &exponent);
    return to_scaled(static_cast<std::uint64_t>(std::ldexp(fraction, 62)), exponent - 62);
}
scaled text(const char* t) { return parse_scaled(t, "test"); }

optimizer_settings settings_of(rule r) {
    optimizer_settings s;
    s.rule = r;
    s.lr = text(r == rule::adam || r == rule::adamw ? "0.002" : r == rule::sign ? "0.002" : "0.02");
    s.weight_decay = text("0.001");
    return s;
}
constexpr rule all_rules[]{rule::momentum, rule::sgd, rule::adam, rule::adamw, rule::sign};

nn::fixed_parameter make_fixed(std::size_t n) {
    nn::fixed_parameter p;
    p.name = "weight";
    p.shape = {n};
    p.layer = 2;
    p.mantissa.resize(n);
    p.gradient.resize(n);
    p.exponent = -15;
    random_sequence draw({.seed = 5, .step = 0, .layer = 0, .use = stream::split});
    for (auto& x : p.mantissa) x = static_cast<std::int16_t>(draw.between(-32767, 32767));
    return p;
}
real weight(const nn::fixed_parameter& p, std::size_t i) {
    return std::ldexp(static_cast<real>(p.mantissa[i]), p.exponent);
}
real target(std::size_t i) { return 0.7L * std::sin(static_cast<real>(i)); }

// The gradient of sum over the batch of (w - target)^2 / 2 with noise of its own: batch x (w - target) + noise.
constexpr int gradient_exponent = -30;
std::int64_t pull(real w, std::size_t i, std::uint32_t batch, std::uint64_t step) {
    random_sequence draw({.seed = 6, .step = static_cast<std::uint32_t>(step), .layer = 0, .use = stream::split},
                         static_cast<std::uint32_t>(i));
    const real sum = batch * (w - target(i)) + std::sqrt(static_cast<real>(batch)) * draw.between(-1000, 1000) / 10000;
    return static_cast<std::int64_t>(std::llround(std::ldexp(sum, -gradient_exponent)));
}

// The rules as PyTorch documents them, epsilon inside the root.
struct textbook {
    optimizer_settings s;
    std::vector<real> w, m, v;
    void step(std::size_t i, real sum, std::uint32_t batch, real lr, real t) {
        const real b1 = value(s.momentum), b2 = value(s.b2), decay = value(s.weight_decay), e = value(s.epsilon);
        real g = sum / batch;
        if (s.rule == rule::adamw)
            w[i] -= lr * decay * w[i];
        else
            g += decay * w[i];
        switch (s.rule) {
            case rule::sgd: w[i] -= lr * g; break;
            case rule::momentum:
                m[i] = b1 * m[i] + g;
                w[i] -= lr * m[i];
                break;
            case rule::sign:
                m[i] = b1 * m[i] + g;
                w[i] -= lr * static_cast<real>((m[i] > 0) - (m[i] < 0));
                break;
            default: {
                m[i] = b1 * m[i] + (1 - b1) * g;
                v[i] = b2 * v[i] + (1 - b2) * g * g;
                const real mh = m[i] / (1 - std::pow(b1, t)), vh = v[i] / (1 - std::pow(b2, t));
                w[i] -= lr * mh / std::sqrt(vh + e * e);
            }
        }
    }
};

// Reads into, or writes from, a map of all named integers.
struct recorder : state_visitor {
    std::map<std::string, std::pair<std::vector<std::int64_t>, int>> seen;
    bool loading = false;
    void on_tensor(const std::string& name, state_kind, std::span<const std::size_t>, integer_span values, int,
                   int* exponent) override {
        std::visit(
            [&](auto span) {
                auto& entry = seen[name];
                if (loading) {
                    REQUIRE(entry.first.size() == span.size());
                    for (std::size_t i = 0; i < span.size(); ++i)
                        span[i] = static_cast<std::remove_reference_t<decltype(span[i])>>(entry.first[i]);
                    if (exponent != nullptr) *exponent = entry.second;
                } else {
                    entry.first.assign(span.begin(), span.end());
                    entry.second = exponent != nullptr ? *exponent : 0;
                }
            },
            values);
    }
};

std::uint64_t hash(const nn::fixed_parameter& p) {
    std::uint64_t h = static_cast<std::uint64_t>(p.exponent);
    for (const auto x : p.mantissa) h = h * 1099511628211u + static_cast<std::uint64_t>(x);
    for (const auto x : p.state.first_moment) h = h * 1099511628211u + static_cast<std::uint64_t>(x);
    for (const auto x : p.state.second_moment) h = h * 1099511628211u + static_cast<std::uint64_t>(x);
    return h;
}

}  // namespace

TEST_CASE("every rule follows PyTorch's formula, in integers and in the twin's arithmetic") {
    constexpr std::size_t n = 40;
    constexpr std::uint64_t steps = 2500;
    for (const rule r : all_rules) {
        const optimizer_settings s = settings_of(r);
        optimizer fixed_optimizer(s), real_optimizer(s);
        nn::fixed_parameter p = make_fixed(n);
        nn::real_parameter<double> twin;
        twin.value.resize(n);
        twin.gradient.resize(n);
        textbook want{s, std::vector<real>(n), std::vector<real>(n), std::vector<real>(n)};
        for (std::size_t i = 0; i < n; ++i) {
            want.w[i] = weight(p, i);
            twin.value[i] = static_cast<double>(want.w[i]);
        }
        real start = 0, end = 0, fixed_error = 0, unit = 0;
        for (std::size_t i = 0; i < n; ++i) start += std::fabs(want.w[i] - target(i)) / n;
        for (std::uint64_t step = 0; step < steps; ++step) {
            const std::uint32_t batch = step % 10 == 9 ? 17 : 64;  // the last batch of an epoch is smaller
            p.gradient_exponent = gradient_exponent;
            for (std::size_t i = 0; i < n; ++i) {
                const std::int64_t sum = pull(want.w[i], i, batch, step);
                p.gradient[i] = pull(weight(p, i), i, batch, step);
                twin.gradient[i] = static_cast<double>(std::ldexp(static_cast<real>(sum), gradient_exponent));
                const real lr = value(s.lr) * (1 + std::cos(std::acos(-1.0L) * static_cast<real>(step) / steps)) / 2;
                want.step(i, std::ldexp(static_cast<real>(sum), gradient_exponent), batch, lr,
                          static_cast<real>(step + 1));
            }
            fixed_optimizer.begin_step(step, steps, batch);
            fixed_optimizer.update(p, 1, static_cast<std::uint32_t>(step), best_path());
            real_optimizer.begin_step(step, steps, batch);
            real_optimizer.update(twin, 1, static_cast<std::uint32_t>(step), best_path());
            unit = std::fmax(unit, std::ldexp(1.0L, p.exponent));
            for (std::size_t i = 0; i < n; ++i) {
                INFO(std::string(name_of(r)) << ", step " << step << ", element " << i);
                if (r != rule::sign)  // the coefficients' 31 bits
                    REQUIRE(std::fabs(static_cast<real>(twin.value[i]) - want.w[i]) < 1e-5L);
            }
        }
        for (std::size_t i = 0; i < n; ++i) {
            end += std::fabs(weight(p, i) - target(i)) / n;
            fixed_error += std::fabs(weight(p, i) - want.w[i]) / n;
        }
        INFO(std::string(name_of(r)));
        CHECK(fixed_optimizer.saturations().total() == 0);
        CHECK(end < start / 20);
        // The pull towards the target forgets old rounding: what is left is a few steps of the weights' own grid.
        CHECK(fixed_error < (r == rule::sign ? 40 : 12) * unit);
    }
}

TEST_CASE("a step's coefficients are the textbook's to 29 bits, a million steps on") {
    for (const rule r : {rule::adam, rule::adamw}) {
        optimizer_settings s = settings_of(r);
        s.schedule.shape = schedule_shape::constant;
        optimizer o(s);
        const real b1 = value(s.momentum), b2 = value(s.b2);
        for (const std::uint64_t step : {0u, 1u, 2u, 9u, 99u, 1234u, 30000u, 1000000u}) {
            o.begin_step(step, 2000000, 48);
            const accelerator::optc_step& c = o.coefficients();
            const auto near = [&](const scaled& found, real wanted) {
                INFO("step " << step);
                CHECK(std::fabs(value(found) - wanted) <= std::exp2(-29.0L) * std::fabs(wanted));
            };
            const real k1 = -std::expm1(static_cast<real>(step + 1) * std::log(b1));
            const real k2 = -std::expm1(static_cast<real>(step + 1) * std::log(b2));
            near(c.rate, value(s.lr) * std::sqrt(k2) / k1);
            near(c.epsilon_squared, value(s.epsilon) * value(s.epsilon) * k2);
            near(c.c1, 1 - b1);
            near(c.c2, 1 - b2);
            near(c.inverse_batch, 1 / 48.0L);
            near(c.shrink, r == rule::adamw ? value(s.lr) * value(s.weight_decay) : 0);
            near(c.decay, r == rule::adamw ? 0 : value(s.weight_decay));
        }
    }
}

TEST_CASE("the learning rate is not divided by the batch: equal means give equal steps") {
    optimizer_settings s = settings_of(rule::sgd);
    s.lr = text("0.5");
    const auto run = [&](std::uint32_t batch) {
        optimizer o(s);
        nn::fixed_parameter p = make_fixed(30);
        for (std::size_t i = 0; i < 30; ++i)
            p.gradient[i] = static_cast<std::int64_t>(batch) * (static_cast<int>(i) - 15);
        p.gradient_exponent = -6;
        o.begin_step(3, 10, batch);
        o.update(p, 9, 3, best_path());
        return hash(p);
    };
    CHECK(run(64) == run(1));
    CHECK(run(64) == run(2048));
}

TEST_CASE("a run that is written and read back continues with the same bits") {
    for (const rule r : all_rules) {
        optimizer first(settings_of(r));
        nn::fixed_parameter p = make_fixed(300);
        const auto steps = [](optimizer& o, nn::fixed_parameter& q, std::uint64_t from, std::uint64_t to) {
            for (std::uint64_t step = from; step < to; ++step) {
                for (std::size_t i = 0; i < q.gradient.size(); ++i) q.gradient[i] = pull(weight(q, i), i, 64, step);
                q.gradient_exponent = gradient_exponent;
                o.begin_step(step, 40, 64);
                o.update(q, 1, static_cast<std::uint32_t>(step), best_path());
            }
        };
        steps(first, p, 0, 20);
        recorder file;
        p.visit(file);
        first.visit(file);
        steps(first, p, 20, 40);

        optimizer second(settings_of(r));
        nn::fixed_parameter q = make_fixed(300);
        second.prepare(q);
        file.loading = true;
        q.visit(file);
        second.visit(file);
        steps(second, q, 20, 40);
        INFO(std::string(name_of(r)));
        CHECK(hash(p) == hash(q));
    }
}

TEST_CASE("after the first step, parameters keep their memory") {
    for (const rule r : all_rules) {
        optimizer o(settings_of(r));
        nn::fixed_parameter p = make_fixed(300);
        const auto memory = [&] {  // a step swaps these in pairs
            return std::set<const void*>{p.mantissa.data(),
                                         p.state.spare.mantissa.data(),
                                         p.state.first_moment.data(),
                                         p.state.spare.first_moment.data(),
                                         p.state.second_moment.data(),
                                         p.state.spare.second_moment.data(),
                                         p.state.second_moment_exponent.data(),
                                         p.state.spare.second_moment_exponent.data()};
        };
        std::set<const void*> first;
        for (std::uint64_t step = 0; step < 9; ++step) {
            for (std::size_t i = 0; i < 300; ++i) p.gradient[i] = pull(weight(p, i), i, 64, step) >> step;
            p.gradient_exponent = gradient_exponent;
            o.begin_step(step, 9, 64);
            o.update(p, 1, static_cast<std::uint32_t>(step), best_path());
            if (step == 0) first = memory();
        }
        INFO(std::string(name_of(r)));
        CHECK(memory() == first);
    }
}

TEST_CASE("a twin's state is written and read back bit by bit") {
    const auto check = [](auto zero) {
        using Real = decltype(zero);
        optimizer o(settings_of(rule::adam));
        nn::real_parameter<Real> p, q;
        for (auto* x : {&p, &q}) {
            x->name = "weight";
            x->shape = {3};
            x->value.resize(3);
            x->gradient.resize(3);
            o.prepare(*x);
        }
        p.gradient[0] = Real(1) / 3;
        p.gradient[1] = Real(-1e-20);
        o.begin_step(0, 10, 7);
        o.update(p, 1, 0, best_path());
        recorder file;
        p.visit(file);
        CHECK(file.seen.size() == 3);
        file.loading = true;
        q.visit(file);
        for (std::size_t i = 0; i < 3; ++i) {
            CHECK(q.value[i] == p.value[i]);
            CHECK(q.first_moment[i] == p.first_moment[i]);
            CHECK(q.second_moment[i] == p.second_moment[i]);
        }
        CHECK(p.value[0] != 0);
    };
    check(0.0f);
    check(0.0);
}

TEST_CASE("no floating point: every rounding mode gives the same bits, and no exception is raised") {
    for (const rule r : all_rules) {
        std::uint64_t want = 0;
        for (const int mode : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
            nn::fixed_parameter p = make_fixed(300);
            random_sequence draw({.seed = 8, .step = 0, .layer = 0, .use = stream::split});
            std::fesetround(mode);
            std::feclearexcept(FE_ALL_EXCEPT);
            optimizer_settings settings = settings_of(r);
            settings.clip_norm = text("0.1");
            optimizer o(settings);
            bool clipped = false;
            for (std::uint64_t step = 0; step < 20; ++step) {
                for (auto& x : p.gradient) x = draw.between(-1000000, 1000000);
                p.gradient_exponent = -20;
                o.begin_step(step, 20, 50);
                const scaled whole = o.coefficients().inverse_batch;
                o.clip([&](auto&& visit) { visit(p); });
                clipped = clipped || o.coefficients().inverse_batch != whole;
                o.update(p, 1, static_cast<std::uint32_t>(step), best_path());
            }
            const int raised = std::fetestexcept(FE_ALL_EXCEPT);
            std::fesetround(FE_TONEAREST);
            INFO(std::string(name_of(r)) << ", rounding mode " << mode);
            CHECK(raised == 0);
            CHECK(clipped);
            if (mode == FE_TONEAREST) want = hash(p);
            CHECK(hash(p) == want);
        }
    }
}

TEST_CASE("clipping shortens a longer gradient to clip_norm, keeps its direction, and leaves a shorter one as it is") {
    random_sequence draw({.seed = 31, .step = 0, .layer = 0, .use = stream::split});
    constexpr std::uint32_t batch = 37;
    for (int round = 0; round < 60; ++round) {
        CAPTURE(round);
        std::vector<nn::fixed_parameter> layers;
        real square = 0;
        for (const std::size_t n : {std::size_t{1}, std::size_t{50}, std::size_t{300}}) {
            nn::fixed_parameter& p = layers.emplace_back(make_fixed(n));
            p.gradient_exponent = draw.between(-60, -20);
            const int bits = draw.between(1, 45);
            for (auto& g : p.gradient) {
                g = (std::int64_t{draw.between(-(1 << 30), 1 << 30)} << 31 | draw.between(0, (1 << 30))) >> (61 - bits);
                const real mean = std::ldexp(static_cast<real>(g), p.gradient_exponent) / batch;
                square += mean * mean;
            }
        }
        const auto all = [&](auto&& visit) {
            for (auto& p : layers) visit(p);
        };
        optimizer_settings s = settings_of(rule::sgd);
        for (const bool longer : {true, false}) {
            s.clip_norm = multiply(nearest(std::sqrt(square)), text(longer ? "0.25" : "1.01"));
            optimizer o(s);
            o.begin_step(0, 1, batch);
            const scaled unclipped = o.coefficients().inverse_batch;
            const real norm = value(o.clip(all));
            if (square != 0) CHECK(std::fabs(norm / std::sqrt(square) - 1) < std::exp2(-13.0L));
            if (longer)
                CHECK(std::fabs(value(o.coefficients().inverse_batch) / value(unclipped) * 4 - 1) < std::exp2(-12.0L));
            else
                CHECK(o.coefficients().inverse_batch == unclipped);
        }
    }
    optimizer off(settings_of(rule::sgd));
    nn::fixed_parameter p = make_fixed(3);
    off.begin_step(0, 1, batch);
    CHECK(off.clip([&](auto&& visit) { visit(p); }).mantissa == 0);
}

TEST_CASE("a twin's gradient is clipped by the same rule") {
    optimizer_settings s = settings_of(rule::sgd);
    s.clip_norm = text("0.5");
    s.weight_decay = {};
    optimizer o(s);
    nn::real_parameter<double> p;
    for (auto* part : {&p.value, &p.gradient}) part->resize(2);
    p.value[0] = p.value[1] = 0;
    p.gradient[0] = 3 * 8;
    p.gradient[1] = -4 * 8;
    o.begin_step(0, 1, 8);
    CHECK(static_cast<double>(value(o.clip([&](auto&& visit) { visit(p); }))) == doctest::Approx(5));
    o.update(p, 1, 0, best_path());
    CHECK(p.value[0] == doctest::Approx(-0.02 * 0.3));
    CHECK(p.value[1] == doctest::Approx(0.02 * 0.4));
}

TEST_CASE("settings out of range are refused by name") {
    const auto refused = [](auto change, const std::string& name) {
        optimizer_settings s;
        change(s);
        try {
            optimizer o(s);
            return false;
        } catch (const argument_error& e) {
            return std::string(e.what()).find(name) == 0;
        }
    };
    CHECK(refused([](auto& s) { s.lr = text("-0.1"); }, "lr"));
    CHECK(refused([](auto& s) { s.lr = text("2e9"); }, "lr"));
    CHECK(refused([](auto& s) { s.momentum = text("1"); }, "momentum"));
    CHECK(refused([](auto& s) { s.momentum = text("-0.5"); }, "momentum"));
    CHECK(refused([](auto& s) { s.b2 = text("1.5"); }, "b2"));
    CHECK(refused([](auto& s) { s.epsilon = text("0"); }, "epsilon"));
    CHECK(refused([](auto& s) { s.epsilon = text("1e-40"); }, "epsilon"));
    CHECK(refused([](auto& s) { s.weight_decay = text("1.1"); }, "weight decay"));
    CHECK(refused([](auto& s) { s.schedule.gamma = text("7"); }, "schedule gamma"));
    optimizer_settings edge;
    edge.lr = edge.momentum = edge.b2 = {};
    edge.weight_decay = text("1");
    CHECK_NOTHROW(optimizer{edge});
    CHECK_THROWS_AS(optimizer{edge}.begin_step(0, 10, 0), argument_error);
    for (const std::string_view name : rule_names) CHECK(name_of(parse_rule(name)) == name);
    CHECK_THROWS_AS(parse_rule("rmsprop"), argument_error);
}
