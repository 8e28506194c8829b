// The integer network: its GEMMs against plain loops over the operands, evaluation that looks at no batch, and what is
// refused.
#include <lamella/nn/network.hpp>
#include <lamella/train/evaluate.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "message_of.hpp"
#include "training.hpp"

using namespace lamella;
using namespace testing;

namespace {

using integers = std::vector<std::int64_t>;

// The operand's mantissas without the border that stands for padding; the border must be zero.
integers mantissas_of(const gemm::event_operand& o) {
    const gemm::stored_images& s = o.stored;
    const auto at = [&](std::int64_t i) -> std::int64_t {
        return o.view.in_bytes() ? static_cast<const std::int8_t*>(s.data)[i]
                                 : static_cast<const std::int16_t*>(s.data)[i];
    };
    integers inside;
    bool border_is_zero = true;
    for (std::int64_t i = 0; i < s.samples; ++i)
        for (std::int64_t y = 0; y < s.top + s.height + s.bottom; ++y)
            for (std::int64_t x = 0; x < s.left + s.width + s.right; ++x)
                for (std::int64_t c = 0; c < s.channels; ++c) {
                    const std::int64_t m = at(i * s.image() + y * s.row() + x * s.channels + c);
                    if (y >= s.top && y < s.top + s.height && x >= s.left && x < s.left + s.width)
                        inside.push_back(m);
                    else
                        border_is_zero = border_is_zero && m == 0;
                }
    CHECK(border_is_zero);
    return inside;
}

struct recorded {
    stage where;
    bool probe;
    int layer;
    std::int64_t macs;
    integers a, b;
    format format_a, format_b;
    std::uint64_t wide_zeros_a = 0;
    std::int64_t dead = 0;  // outputs whose gate is closed
    bool gated = false;
};

struct recorder : gemm::observer {
    std::deque<recorded> events;  // references stay valid
    void on_gemm(const gemm::gemm_event& e) override {
        recorded r{e.where,
                   e.probe,
                   e.layer,
                   e.macs,
                   mantissas_of(e.a),
                   mantissas_of(e.b),
                   {e.a.view.width, e.a.view.exponent},
                   {e.b.view.width, e.b.view.exponent}};
        if (e.a.seen != nullptr) r.wide_zeros_a = e.a.seen->zeros;
        if (e.gate != nullptr) {
            r.gated = true;
            for (std::int64_t m = 0; m < e.a.view.rows.size(); ++m)
                for (std::int64_t n = 0; n < e.b.view.rows.size(); ++n)
                    r.dead += e.gate[e.gate_rows.offset(m) + n] <= 0;
        }
        events.push_back(std::move(r));
    }
    std::vector<const recorded*> of(stage where, int layer = 0) const {
        std::vector<const recorded*> found;
        for (const recorded& r : events)
            if (r.where == where && r.layer == layer && !r.probe) found.push_back(&r);
        return found;
    }
};

// Calls visit(output, input, weight, out channel) for every multiply-accumulate of the layer, padding left out.
template <class Visit>
void each_mac(const nn::geometry& g, std::int64_t samples, Visit&& visit) {
    for (std::int64_t s = 0; s < samples; ++s)
        for (std::int64_t oy = 0; oy < g.out.height; ++oy)
            for (std::int64_t ox = 0; ox < g.out.width; ++ox)
                for (std::int64_t oc = 0; oc < g.out.channels; ++oc)
                    for (std::int64_t ky = 0; ky < g.kernel_height; ++ky)
                        for (std::int64_t kx = 0; kx < g.kernel_width; ++kx) {
                            const std::int64_t y = oy * g.stride + ky - g.padding, x = ox * g.stride + kx - g.padding;
                            if (y < 0 || y >= g.in.height || x < 0 || x >= g.in.width) continue;
                            for (std::int64_t ic = 0; ic < g.in.channels; ++ic)
                                visit(static_cast<std::size_t>(
                                          ((s * g.out.height + oy) * g.out.width + ox) * g.out.channels + oc),
                                      static_cast<std::size_t>(
                                          ((s * g.in.height + y) * g.in.width + x) * g.in.channels + ic),
                                      static_cast<std::size_t>(
                                          ((oc * g.kernel_height + ky) * g.kernel_width + kx) * g.in.channels + ic),
                                      static_cast<std::size_t>(oc));
                        }
}

void fill(nn::fixed::tensor& t, std::int64_t samples, const nn::image_shape& shape, int bits, int exponent,
          random_sequence& random) {
    t.reshape(samples, shape);
    t.exponent = exponent;
    t.bits = bits;
    const std::int32_t most = largest_mantissa(bits + 1);
    for (std::int32_t& x : t.data) x = random.between(-most, most);
}

// Accumulators below this bound, drained into 31 bits.
integers drained(const integers& accumulators, std::int64_t bound, int& shift) {
    shift = std::max(0, bit_length(static_cast<std::uint64_t>(bound)) - 31);
    integers out;
    for (const std::int64_t x : accumulators) out.push_back(round_nearest(x, shift));
    return out;
}

template <class Blueprint>
struct lone_layer {
    nn::fixed::engine engine;
    typename Blueprint::template layer<nn::fixed> layer;
    nn::image_shape in_shape, out_shape;
    nn::fixed::tensor in, error;
    recorder seen;

    lone_layer(const Blueprint& blueprint, const nn::image_shape& shape, int forward = 8, int backward = 8)
        : layer(blueprint), in_shape(shape) {
        engine.controller = std::make_unique<precision::fixed>(forward, backward);
        engine.controller->attach(1);
        engine.training = true;
        engine.observers.push_back(&seen);
        nn::layer_ids ids;
        out_shape = layer.build(engine, shape, ids);
    }
};

template <class Blueprint>
void check_products(const Blueprint& blueprint, const nn::image_shape& shape, std::int64_t samples, int forward,
                    int backward, std::uint64_t seed, int bias_exponent, int learned = 0) {
    CAPTURE(blueprint.describe());
    CAPTURE(learned);
    CAPTURE(nn::to_string(shape));
    CAPTURE(samples);
    CAPTURE(forward);
    CAPTURE(backward);
    CAPTURE(seed);
    CAPTURE(bias_exponent);
    lone_layer<Blueprint> l(blueprint, shape, forward, backward);
    random_sequence random = random_of(seed);
    fill(l.in, samples, shape, 20, -12, random);
    fill(l.error, samples, l.out_shape, 25, -28, random);
    for (std::int64_t s = 0; s < samples; ++s)  // `learned` quarters of the samples have no error
        if (random.between(0, 3) < learned)
            std::fill_n(l.error.data.begin() + s * l.out_shape.size(), l.out_shape.size(), 0);
    nn::fixed_parameter& bias = l.layer.bias();
    bias.exponent = bias_exponent;
    for (std::int16_t& b : bias.mantissa) b = static_cast<std::int16_t>(random.between(-32767, 32767));
    const nn::geometry& g = l.layer.shape();

    nn::fixed::tensor& out = l.layer.forward(l.engine, l.in);
    REQUIRE(l.seen.events.size() == 1);
    const recorded& ff = l.seen.events[0];
    CHECK(ff.where == stage::feed_forward);
    const int unit = ff.format_a.exponent + ff.format_b.exponent;
    std::int64_t macs = 0, largest_bias = 0;
    integers sums(static_cast<std::size_t>(out.size()));
    for (std::size_t i = 0; i < sums.size(); ++i) {
        const std::int64_t b = bias.mantissa[i % static_cast<std::size_t>(g.out.channels)];
        const int left = bias.exponent - unit;
        sums[i] = left >= 0 ? b * (std::int64_t{1} << left) : round_nearest(b, -left);
        largest_bias = std::max(largest_bias, std::abs(sums[i]));
    }
    each_mac(g, samples, [&](std::size_t o, std::size_t i, std::size_t w, std::size_t) {
        sums[o] += ff.a[i] * ff.b[w];
        ++macs;
    });
    int shift = 0;
    CHECK(ff.macs == macs);
    CHECK(integers(out.data.begin(), out.data.end()) ==
          drained(sums, gemm::accumulator_bound(forward, forward, g.depth(), largest_bias), shift));
    CHECK(out.exponent == unit + shift);

    const nn::fixed::tensor& in_error = *l.layer.backward(l.engine, l.error, true);
    const auto wg = l.seen.of(stage::weight_gradient), ep = l.seen.of(stage::error_propagation);
    REQUIRE(wg.size() == 1);
    CHECK(wg[0]->macs == macs);
    CHECK(wg[0]->b == ff.a);  // the operand of FF is kept, not quantised again
    integers gradient(l.layer.weight().mantissa.size()), bias_gradient(bias.mantissa.size());
    integers propagated(static_cast<std::size_t>(l.in.size()));
    const integers& e = wg[0]->a;
    each_mac(g, samples, [&](std::size_t o, std::size_t i, std::size_t w, std::size_t) {
        gradient[w] += e[o] * ff.a[i];
        propagated[i] += e[o] * ff.b[w];
    });
    for (std::size_t i = 0; i < e.size(); ++i) bias_gradient[i % bias_gradient.size()] += e[i];
    CHECK(std::equal(gradient.begin(), gradient.end(), l.layer.weight().gradient.begin()));
    CHECK(std::equal(bias_gradient.begin(), bias_gradient.end(), bias.gradient.begin()));
    CHECK(l.layer.weight().gradient_exponent == wg[0]->format_a.exponent + wg[0]->format_b.exponent);
    CHECK(bias.gradient_exponent == wg[0]->format_a.exponent);

    std::int64_t propagated_macs = 0;
    for (const recorded* r : ep) {
        CHECK(r->a == e);
        CHECK(r->b == ff.b);
        CHECK_FALSE(r->gated);
        propagated_macs += r->macs;
    }
    CHECK(propagated_macs == macs);
    CHECK(integers(in_error.data.begin(), in_error.data.end()) ==
          drained(propagated,
                  gemm::accumulator_bound(backward, forward, g.kernel_height * g.kernel_width * g.out.channels),
                  shift));
    CHECK(in_error.exponent == wg[0]->format_a.exponent + ff.format_b.exponent + shift);
}

// Moves every mantissa one way or the other by its gradient's sign, so that there is a run to disturb.
template <class Network>
void crude_update(Network& net) {
    net.parameters([](nn::fixed_parameter& p) {
        if (p.bias) p.exponent = -12;
        for (std::size_t i = 0; i < p.mantissa.size(); ++i) {
            const int by = p.gradient[i] > 0 ? -160 : p.gradient[i] < 0 ? 160 : 0;
            p.mantissa[i] = static_cast<std::int16_t>(clip(p.mantissa[i] + by, 16));
        }
    });
}

constexpr auto lenet_like = [] {
    return nn::sequential(nn::conv2d{4, 3, 1, 1}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{6, 3, 2, 1}, nn::relu{},
                          nn::avg_pool2d{3}, nn::flatten{}, nn::linear{12}, nn::relu{}, nn::linear{5});
};
constexpr nn::image_shape small{12, 12, 2};

template <class Network>
void run_steps(Network& net, const data::dataset& set, std::size_t batch, std::uint64_t first, std::uint64_t steps) {
    for (std::uint64_t step = first; step < first + steps; ++step) {
        const std::size_t at = step * batch % (set.size() - batch + 1);
        const auto index = positions(at, batch);
        net.train_step(train::view_of(set, index), labels_of(set, at, batch), step);
        crude_update(net);
    }
}

}  // namespace

TEST_CASE("the GEMMs of a convolution equal plain loops over its quantised operands") {
    for (const int bias_exponent : {-20, -9}) {
        check_products(nn::conv2d{6, 5}, {9, 8, 1}, 2, 8, 8, 1, bias_exponent);
        check_products(nn::conv2d{3, 3, 1, 1}, {5, 4, 2}, 3, 5, 12, 2, bias_exponent);
        check_products(nn::conv2d{3, 3, 2, 1}, {6, 7, 2}, 3, 8, 5, 3, bias_exponent);
        check_products(nn::conv2d{4, 5, 3, 2}, {9, 10, 3}, 2, 12, 8, 4, bias_exponent);
        check_products(nn::conv2d{2, 4, 1, 3}, {4, 4, 2}, 1, 16, 16, 5, bias_exponent);
    }
}

TEST_CASE("a stride past the kernel leaves the pixels between without an error, and the products exact") {
    check_products(nn::conv2d{2, 2, 3}, {8, 9, 2}, 2, 8, 8, 6, -14);
    check_products(nn::conv2d{3, 1, 2}, {7, 6, 4}, 2, 8, 8, 7, -14);
    check_products(nn::conv2d{3, 1, 4}, {3, 3, 2}, 2, 8, 12, 8, -14);
    lone_layer<nn::conv2d> l(nn::conv2d{3, 1, 2}, {5, 5, 2});
    random_sequence random = random_of(9);
    fill(l.in, 1, l.in_shape, 8, -8, random);
    fill(l.error, 1, l.out_shape, 20, -20, random);
    l.layer.forward(l.engine, l.in);
    nn::fixed::tensor& in_error = *l.layer.backward(l.engine, l.error, true);
    std::fill(in_error.data.begin(), in_error.data.end(), 77);  // what the layer below may leave there
    l.layer.backward(l.engine, l.error, true);
    for (std::int64_t y = 0; y < 5; ++y)
        for (std::int64_t x = 0; x < 5; ++x)
            if (y % 2 != 0 || x % 2 != 0) CHECK(in_error.data[static_cast<std::size_t>((y * 5 + x) * 2)] == 0);
}

TEST_CASE("the GEMMs of random geometries equal plain loops") {
    for (std::uint64_t seed = 100; seed < 160; ++seed) {
        random_sequence random = random_of(seed);
        const std::int64_t kernel = random.between(1, 5),
                           padding = random.between(0, static_cast<std::int32_t>(kernel) - 1);
        const auto side = [&] { return std::max<std::int64_t>(kernel - 2 * padding, random.between(1, 9)); };
        const nn::image_shape shape{side(), side(), random.between(1, 4)};
        const nn::conv2d blueprint{random.between(1, 5), kernel, random.between(1, 4), padding};
        const std::int64_t samples = random.between(1, 4);
        const int forward = random.between(2, 16), backward = random.between(2, 16);
        check_products(blueprint, shape, samples, forward, backward, seed, random.between(-40, -2));
    }
}

TEST_CASE("samples whose error is zero are left out of EP and WG without changing a bit") {
    for (std::uint64_t seed = 200; seed < 260; ++seed) {
        random_sequence random = random_of(seed);
        const std::int64_t kernel = random.between(1, 3);
        const nn::image_shape shape{random.between(3, 7), random.between(3, 7), random.between(1, 4)};
        const nn::conv2d blueprint{random.between(1, 5), kernel, random.between(1, 3),
                                   random.between(0, static_cast<std::int32_t>(kernel) - 1)};
        const int forward = random.between(2, 16), backward = random.between(2, 16), learned = random.between(1, 4);
        check_products(blueprint, shape, random.between(1, 9), forward, backward, seed, -20, learned);
    }
    for (int learned = 1; learned <= 4; ++learned)
        check_products(nn::linear{10}, {1, 1, 84}, 64, 8, 8, 10, -20, learned);
}

TEST_CASE("the GEMMs of linear equal plain loops") {
    check_products(nn::linear{10}, {1, 1, 84}, 5, 8, 8, 10, -20);
    check_products(nn::linear{7}, {3, 4, 2}, 1, 16, 12, 11, -20);
    check_products(nn::linear{1}, {1, 1, 1}, 1, 4, 4, 12, -20);
}

TEST_CASE("a bias is aligned exactly to the left, to nearest even to the right, and vanishes far below") {
    // One activation of 64 x 2^-8 and a zero weight: the accumulator's unit is ea + ew, and the sum is the bias alone.
    for (const int bias_exponent : {-100, -40, -20, -18, -16, -15, -10, 0, 10}) {
        CAPTURE(bias_exponent);
        lone_layer<nn::linear> l(nn::linear{3}, {1, 1, 2}, 16, 16);
        l.in.reshape(1, l.in_shape);
        l.in.exponent = -8;
        l.in.data[0] = 64;
        l.in.data[1] = 0;
        nn::fixed_parameter &w = l.layer.weight(), &b = l.layer.bias();
        w.mantissa.fill_zero();
        w.mantissa[1] = 32767;  // meets the zero activation
        w.exponent = -16;
        const std::int16_t mantissas[3] = {3, -32767, 5};
        std::copy(mantissas, mantissas + 3, b.mantissa.begin());
        b.exponent = bias_exponent;
        const nn::fixed::tensor& out = l.layer.forward(l.engine, l.in);
        const recorded& ff = l.seen.events.at(0);
        const int unit = ff.format_a.exponent + ff.format_b.exponent;
        for (std::size_t i = 0; i < 3; ++i) {
            CAPTURE(i);
            const int left = bias_exponent - unit;
            const std::int64_t aligned = round_nearest(mantissas[i], -left);
            CHECK(out.data[i] == round_nearest(aligned, out.exponent - unit));
            if (left >= 0 && out.exponent <= bias_exponent)
                CHECK(std::ldexp(out.data[i], out.exponent) == std::ldexp(mantissas[i], bias_exponent));
        }
    }
}

TEST_CASE("a bias far above its layer's sums saturates instead of overflowing") {
    lone_layer<nn::linear> l(nn::linear{2}, {1, 1, 1});
    l.in.reshape(1, l.in_shape);
    l.in.exponent = -90;
    l.in.data[0] = 1;
    nn::fixed_parameter& b = l.layer.bias();
    b.mantissa[0] = 32767;
    b.mantissa[1] = -1;
    b.exponent = 20;
    const nn::fixed::tensor& out = l.layer.forward(l.engine, l.in);
    CHECK(out.data[0] > 0);
    CHECK(out.data[1] < 0);
    CHECK(out.data[0] >= 1 << 29);
}

TEST_CASE("without any activation the output is the bias") {
    lone_layer<nn::conv2d> l(nn::conv2d{2, 3, 1, 1}, {4, 4, 2});
    l.in.reshape(2, l.in_shape);
    l.in.exponent = 17;
    l.in.data.fill_zero();
    l.layer.bias().mantissa[0] = 7;
    l.layer.bias().mantissa[1] = -300;
    l.layer.bias().exponent = -9;
    const nn::fixed::tensor& out = l.layer.forward(l.engine, l.in);
    CHECK(out.exponent == -9);
    for (std::size_t i = 0; i < out.data.size(); ++i) CHECK(out.data[i] == (i % 2 == 0 ? 7 : -300));
}

TEST_CASE("without any error all gradients and the input error are zero") {
    lone_layer<nn::conv2d> l(nn::conv2d{2, 3, 2, 1}, {5, 4, 2});
    random_sequence random = random_of(13);
    fill(l.in, 2, l.in_shape, 8, -8, random);
    l.error.reshape(2, l.out_shape);
    l.error.data.fill_zero();
    l.layer.forward(l.engine, l.in);
    l.layer.weight().gradient[0] = 5;
    l.layer.bias().gradient[0] = 5;
    const nn::fixed::tensor& in_error = *l.layer.backward(l.engine, l.error, true);
    for (const std::int64_t g : l.layer.weight().gradient) CHECK(g == 0);
    for (const std::int64_t g : l.layer.bias().gradient) CHECK(g == 0);
    for (const std::int32_t x : in_error.data) CHECK(x == 0);
}

TEST_CASE("a network may be given nothing but black images and still trains and evaluates") {
    auto net = fixed_network(lenet_like(), small, 8);
    data::dataset black = noisy_images(1, 8, small, 5);
    std::fill(black.images.begin(), black.images.end(), std::uint8_t{0});
    run_steps(net, black, 8, 0, 3);
    const auto result = train::evaluate(net, black);
    CHECK(result.samples == 8);
}

TEST_CASE("what a layer has only ever seen as zero, it takes for zero in evaluation") {
    auto net = fixed_network(nn::sequential(nn::flatten{}, nn::linear{5}), small, 8);
    data::dataset black = noisy_images(1, 8, small, 5), white = black;
    std::fill(black.images.begin(), black.images.end(), std::uint8_t{0});
    std::fill(white.images.begin(), white.images.end(), std::uint8_t{255});
    run_steps(net, black, 8, 0, 3);
    const auto index = positions(0, 1);
    const nn::fixed::tensor& of_white = net.predict(train::view_of(white, index));
    const integers found(of_white.data.begin(), of_white.data.end());
    const nn::fixed::tensor& of_black = net.predict(train::view_of(black, index));
    CHECK(found == integers(of_black.data.begin(), of_black.data.end()));
}

TEST_CASE("an image's logits are the same alone, in a batch of 1000 and at another place in it") {
    for (const int width : {5, 8, 12, 16}) {
        CAPTURE(width);
        auto net = fixed_network(lenet_like(), small, width);
        const data::dataset set = noisy_images(3, 1000, small, 5);
        run_steps(net, set, 16, 0, 6);
        const auto all = positions(0, 1000);
        const nn::fixed::tensor& together = net.predict(train::view_of(set, all));
        const integers logits(together.data.begin(), together.data.end());
        const int exponent = together.exponent;
        CHECK(*std::max_element(logits.begin(), logits.end()) != *std::min_element(logits.begin(), logits.end()));
        for (const std::uint32_t i : {0u, 1u, 17u, 500u, 999u}) {
            CAPTURE(i);
            const integers expected(logits.begin() + 5 * i, logits.begin() + 5 * (i + 1));
            const std::vector<std::uint32_t> alone{i}, last{3, 4, i};
            const nn::fixed::tensor& one = net.predict(train::view_of(set, alone));
            CHECK(integers(one.data.begin(), one.data.end()) == expected);
            CHECK(one.exponent == exponent);
            const nn::fixed::tensor& three = net.predict(train::view_of(set, last));
            CHECK(integers(three.data.begin() + 10, three.data.end()) == expected);
        }
    }
}

TEST_CASE("evaluating in mid-training changes nothing: neither state nor what observers and controllers see") {
    const data::dataset set = noisy_images(4, 64, small, 5);
    auto quiet = fixed_network(lenet_like(), small, 8), watched = fixed_network(lenet_like(), small, 8);
    recorder of_quiet, of_watched;
    quiet.observe(of_quiet);
    watched.observe(of_watched);
    for (std::uint64_t step = 0; step < 5; ++step) {
        run_steps(quiet, set, 8, step, 1);
        run_steps(watched, set, 8, step, 1);
        train::evaluate(watched, set);
        train::predict(watched, set);
    }
    CHECK(snapshot::of(quiet) == snapshot::of(watched));
    CHECK(of_quiet.events.size() == of_watched.events.size());
}

TEST_CASE("a network that was never trained has no exponents to evaluate with, and says so") {
    auto net = fixed_network(lenet_like(), small, 8);
    CHECK_THROWS_WITH_AS(train::evaluate(net, noisy_images(5, 2, small, 5)),
                         "evaluation needs a network that was trained for at least one step, or calibrated", error);
}

TEST_CASE("running histograms decide in evaluation, are halved every 128 steps and travel with the state") {
    auto net = fixed_network(nn::sequential(nn::linear{2}), {1, 1, 4}, 8);
    const data::dataset set = noisy_images(6, 4, {1, 1, 4}, 2);
    run_steps(net, set, 4, 0, 127);
    auto counts = snapshot::of(net).tensors.at("net.0.running").mantissas;
    const std::int64_t steps = counts.back();
    counts.pop_back();
    const std::int64_t before = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    CHECK(steps == 127);
    run_steps(net, set, 4, 127, 1);
    auto halved = snapshot::of(net).tensors.at("net.0.running").mantissas;
    halved.pop_back();
    const std::int64_t after = std::accumulate(halved.begin(), halved.end(), std::int64_t{0});
    CHECK(after <= before * 128 / 127 / 2);
    CHECK(after > before / 3);

    auto other = fixed_network(nn::sequential(nn::linear{2}), {1, 1, 4}, 8, 99);
    snapshot::of(net).restore(other);
    const auto index = positions(0, 4);
    const nn::fixed::tensor& expected = net.predict(train::view_of(set, index));
    const nn::fixed::tensor& found = other.predict(train::view_of(set, index));
    CHECK(std::equal(expected.data.begin(), expected.data.end(), found.data.begin(), found.data.end()));
}

TEST_CASE("a network with one class learns nothing from it") {
    auto net = fixed_network(nn::sequential(nn::flatten{}, nn::linear{1}), small, 8);
    const data::dataset set = noisy_images(7, 6, small, 1);
    const auto before = snapshot::of(net).tensors.at("net.1.weight");
    run_steps(net, set, 6, 0, 2);
    CHECK(snapshot::of(net).tensors.at("net.1.weight") == before);
    CHECK(train::evaluate(net, set).accuracy() == 1);
    CHECK(net.loss().mean_loss() == 0);
}

TEST_CASE("a batch of one trains") {
    auto net = fixed_network(lenet_like(), small, 8);
    const data::dataset set = noisy_images(8, 3, small, 5);
    const auto before = snapshot::of(net);
    run_steps(net, set, 1, 0, 3);
    CHECK_FALSE(snapshot::of(net) == before);
}

TEST_CASE("linear takes an image as it is, with and without flatten, forward and backward") {
    const auto with = nn::sequential(nn::conv2d{3, 3, 1, 1}, nn::relu{}, nn::flatten{}, nn::linear{4});
    const auto without = nn::sequential(nn::conv2d{3, 3, 1, 1}, nn::relu{}, nn::linear{4});
    const data::dataset set = noisy_images(9, 6, {5, 4, 2}, 4);
    const auto index = positions(0, 6);
    auto first = fixed_network(with, {5, 4, 2}, 8);
    auto second = fixed_network(without, {5, 4, 2}, 8);
    // The same weights: random bits follow the place in the structure, which differs by the flatten.
    std::vector<nn::fixed_parameter*> from;
    first.parameters([&](nn::fixed_parameter& p) { from.push_back(&p); });
    std::size_t at = 0;
    second.parameters([&](nn::fixed_parameter& p) { p.mantissa = from[at++]->mantissa; });
    nn::fixed::settings nearest;
    nearest.activation_rounding = nearest.error_rounding = rounding::nearest;
    first.engine().options = second.engine().options = nearest;
    first.train_step(train::view_of(set, index), labels_of(set, 0, 6), 0);
    second.train_step(train::view_of(set, index), labels_of(set, 0, 6), 0);
    at = 0;
    second.parameters([&](nn::fixed_parameter& p) {
        CAPTURE(at);
        const nn::fixed_parameter& expected = *from[at++];
        CHECK(std::equal(p.gradient.begin(), p.gradient.end(), expected.gradient.begin(), expected.gradient.end()));
        CHECK(p.gradient_exponent == expected.gradient_exponent);
    });
}

TEST_CASE("a sequential inside a sequential trains as its layers in a row do") {
    const auto flat = nn::sequential(nn::conv2d{3, 3}, nn::relu{}, nn::max_pool2d{2}, nn::flatten{}, nn::linear{6},
                                     nn::relu{}, nn::linear{5});
    const auto nested =
        nn::sequential(nn::sequential(nn::conv2d{3, 3}, nn::relu{}, nn::max_pool2d{2}),
                       nn::sequential(nn::flatten{}, nn::sequential(nn::linear{6}, nn::relu{})), nn::linear{5});
    CHECK(flat.describe() == nested.describe());
    auto first = fixed_network(flat, small, 8);
    auto second = fixed_network(nested, small, 8);
    const data::dataset set = noisy_images(10, 8, small, 5);
    run_steps(first, set, 8, 0, 4);
    run_steps(second, set, 8, 0, 4);
    std::vector<nn::fixed_parameter*> from;
    first.parameters([&](nn::fixed_parameter& p) { from.push_back(&p); });
    std::size_t at = 0;
    second.parameters([&](nn::fixed_parameter& p) {
        CAPTURE(at);
        CHECK(std::equal(p.mantissa.begin(), p.mantissa.end(), from.at(at)->mantissa.begin()));
        ++at;
    });
    CHECK(at == from.size());
}

TEST_CASE("the first layer propagates no error, the others gate theirs by the ReLU in front of them") {
    auto net = fixed_network(
        nn::sequential(nn::conv2d{3, 3}, nn::relu{}, nn::conv2d{3, 3, 2, 1}, nn::relu{}, nn::flatten{}, nn::linear{5}),
        small, 8);
    recorder seen;
    net.observe(seen);
    const data::dataset set = noisy_images(11, 4, small, 5);
    run_steps(net, set, 4, 0, 1);
    CHECK(seen.of(stage::error_propagation, 0).empty());
    CHECK(seen.of(stage::error_propagation, 1).size() == 4);  // one a residue class of the stride
    CHECK(seen.of(stage::error_propagation, 2).size() == 1);
    for (const int layer : {1, 2}) {
        std::int64_t dead = 0, macs = 0;
        for (const recorded* r : seen.of(stage::error_propagation, layer)) {
            CHECK(r->gated);
            dead += r->dead;
            macs += r->macs;
        }
        const recorded& ff = *seen.of(stage::feed_forward, layer).at(0);
        CHECK(dead == static_cast<std::int64_t>(ff.wide_zeros_a));
        CHECK(dead > 0);
        CHECK(macs == ff.macs);
    }
}

TEST_CASE("what pooling sends back is what a ReLU in front of it would let through") {
    // Twice the same layers, once with the ReLU behind the pooling, where it does the same forward.
    const auto before = nn::sequential(nn::conv2d{3, 3}, nn::relu{}, nn::max_pool2d{2}, nn::flatten{}, nn::linear{5});
    const auto behind = nn::sequential(nn::conv2d{3, 3}, nn::max_pool2d{2}, nn::relu{}, nn::flatten{}, nn::linear{5});
    auto first = fixed_network(before, small, 8);
    auto second = fixed_network(behind, small, 8);
    const data::dataset set = noisy_images(12, 8, small, 5);
    run_steps(first, set, 8, 0, 4);
    run_steps(second, set, 8, 0, 4);
    const auto x = snapshot::of(first).tensors, y = snapshot::of(second).tensors;
    CHECK(x.at("net.0.weight") == y.at("net.0.weight"));
    CHECK(x.at("net.4.bias") == y.at("net.4.bias"));
}

TEST_CASE("in a tie the maximum is the first position in row-major order") {
    nn::fixed::engine engine;
    nn::layer_ids ids;
    for (const std::int64_t kernel : {2, 3}) {
        CAPTURE(kernel);
        nn::max_pool2d::layer<nn::fixed> layer{nn::max_pool2d{kernel}};
        layer.build(engine, {kernel, kernel, 1}, ids);
        const auto place_of = [&](const std::vector<std::int32_t>& window) {
            nn::fixed::tensor in, error;
            in.reshape(1, {kernel, kernel, 1});
            std::copy(window.begin(), window.end(), in.data.begin());
            const nn::fixed::tensor& out = layer.forward(engine, in);
            CHECK(out.data[0] == *std::max_element(window.begin(), window.end()));
            error.reshape(1, {1, 1, 1});
            error.data[0] = 9;
            const nn::fixed::tensor& back = *layer.backward(engine, error, true);
            CHECK(std::count(back.data.begin(), back.data.end(), 9) == 1);
            CHECK(std::count(back.data.begin(), back.data.end(), 0) == kernel * kernel - 1);
            return std::find(back.data.begin(), back.data.end(), 9) - back.data.begin();
        };
        const auto size = static_cast<std::size_t>(kernel * kernel);
        for (std::uint32_t bits = 0; bits < 1u << size; ++bits) {  // every pattern of two values, negative ones too
            CAPTURE(bits);
            std::vector<std::int32_t> window(size);
            for (std::size_t i = 0; i < size; ++i) window[i] = (bits >> i & 1) != 0 ? -3 : -7;
            CHECK(place_of(window) == std::max_element(window.begin(), window.end()) - window.begin());
        }
    }
}

TEST_CASE("images and labels that do not fit are refused before anything changes, naming what was expected") {
    auto net = fixed_network(lenet_like(), small, 8);
    const data::dataset set = noisy_images(13, 4, small, 5), narrow = noisy_images(13, 4, {12, 11, 2}, 5);
    run_steps(net, set, 4, 0, 1);
    const snapshot before = snapshot::of(net);
    const auto index = positions(0, 4);
    const std::vector<std::uint8_t> labels{0, 1, 2, 3}, high{0, 5, 2, 3}, few{0, 1};
    CHECK(message_of<argument_error>([&] { net.train_step(train::view_of(narrow, index), labels, 1); }) ==
          "image shape: expected 12x12x2, found 12x11x2");
    CHECK(message_of<argument_error>([&] { net.train_step(train::view_of(set, index), high, 1); }) ==
          "label: expected 0 .. 4, found 5");
    CHECK(message_of<argument_error>([&] { net.train_step(train::view_of(set, index), few, 1); }) ==
          "labels: expected 4 (one a sample), found 2");
    CHECK(message_of<argument_error>([&] { net.train_step(train::view_of(set, {}), {}, 1); }) ==
          "batch: expected at least one sample, found none");
    CHECK(message_of<argument_error>([&] { net.score(train::view_of(set, index), high); }) ==
          "label: expected 0 .. 4, found 5");
    CHECK(message_of<argument_error>([&] { train::predict(net, narrow); }) ==
          "image shape: expected 12x12x2, found 12x11x2");
    CHECK(snapshot::of(net) == before);
    data::dataset unlabelled = noisy_images(13, 4, small, 5);
    unlabelled.labels = xt::xtensor<std::uint8_t, 1>(std::array<std::size_t, 1>{3});
    CHECK_THROWS_AS(train::evaluate(net, unlabelled), argument_error);
}

TEST_CASE("geometries that make no sense are refused, naming what was expected") {
    const auto refused = [](const auto& blueprint, const nn::image_shape& shape) {
        return message_of<argument_error>([&] { fixed_network(nn::sequential(blueprint), shape, 8); });
    };
    CHECK(refused(nn::conv2d{0, 3}, small) == "conv2d channels: expected at least 1, found 0");
    CHECK(refused(nn::conv2d{1, 0}, small) == "conv2d kernel height: expected at least 1, found 0");
    CHECK(refused(nn::conv2d{1, 3, 0}, small) == "conv2d stride: expected at least 1, found 0");
    CHECK(refused(nn::conv2d{1, 3, 1, 3}, small) == "conv2d padding: expected 0 .. kernel - 1, found 3");
    CHECK(refused(nn::conv2d{1, 3, 1, -1}, small) == "conv2d padding: expected 0 .. kernel - 1, found -1");
    CHECK(refused(nn::conv2d{1, 13}, small) ==
          "conv2d kernel: expected one that fits the padded input 12x12x2, found 13x13");
    CHECK(refused(nn::linear{0}, small) == "linear units: expected at least 1, found 0");
    CHECK(refused(nn::max_pool2d{3, -2}, small) == "max_pool2d stride: expected at least 1, found -2");
    CHECK(refused(nn::avg_pool2d{2, -1}, small) == "avg_pool2d stride: expected at least 1, found -1");
    CHECK(refused(nn::max_pool2d{16}, {20, 20, 1}) == "max_pool2d kernel: expected 1..15, found 16");
    CHECK(refused(nn::max_pool2d{0}, small) == "max_pool2d kernel: expected 1..15, found 0");
    CHECK(refused(nn::avg_pool2d{13}, small) == "avg_pool2d kernel: expected one that fits 12x12x2, found 13");
    CHECK(message_of<argument_error>([] {
              nn::network<nn::fixed, nn::sequential_model<nn::linear>> net(nn::sequential(nn::linear{2}), small, {}, 1,
                                                                           nullptr);
          }) == "controller: expected one that decides the widths, found none");
    nn::fixed::settings idle;
    idle.kernels.threads = 0;
    CHECK(message_of<argument_error>([&] { fixed_network(nn::sequential(nn::linear{2}), small, 8, 1, idle); }) ==
          "threads: expected at least 1, found 0");
}
