// Direct feedback: what a layer hands down against loops, the same bits on every path, honest counts, the time line.
#include <lamella/accelerator/control.hpp>
#include <lamella/accelerator/run_costs.hpp>
#include <lamella/io/hashes.hpp>
#include <lamella/nn/network.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "training.hpp"

using namespace lamella;
using namespace testing;

namespace {

constexpr auto small = nn::sequential(nn::conv2d{4, 3, 2, 1}, nn::relu{}, nn::max_pool2d{2}, nn::flatten{},
                                      nn::linear{12}, nn::relu{}, nn::linear{5});

// Element e of the matrix of layer `key`, from the generator's definition.
int sign_of(std::uint64_t seed, std::uint16_t key, std::int64_t e) {
    const std::uint16_t draw = random_16({seed, 0, key, stream::feedback}, 0, static_cast<std::uint64_t>(e / 16));
    return (draw >> (e % 16) & 1) != 0 ? -1 : 1;
}

nn::fixed::settings direct(gemm::settings kernels = {}) {
    nn::fixed::settings s;
    s.kernels = kernels;
    s.feedback = nn::feedback::direct;
    return s;
}

// The operands of the EP seen last, one mantissa after the other.
struct ep_operands final : gemm::observer {
    std::vector<std::int64_t> error, matrix;
    int width = 0, exponent = 0;
    bool generated = false, told = false;
    std::int64_t macs = 0;
    void on_gemm(const gemm::gemm_event& event) override {
        if (event.where != stage::error_propagation) return;
        told = true;
        generated = event.generated;
        macs = event.macs;
        width = event.a.view.width;
        exponent = event.a.view.exponent;
        error.clear();
        matrix.clear();
        for (std::int64_t m = 0; m < event.a.view.rows.size(); ++m)
            for (std::int64_t k = 0; k < event.a.view.depth.size(); ++k) error.push_back(event.a.view.at(m, k));
        for (std::int64_t n = 0; n < event.b.view.rows.size(); ++n)
            for (std::int64_t k = 0; k < event.b.view.depth.size(); ++k) matrix.push_back(event.b.view.at(n, k));
    }
};

template <class Blueprint>
void check_projection(const Blueprint& blueprint, const nn::image_shape& shape, std::int64_t samples,
                      std::int64_t outputs, int width, std::uint64_t seed) {
    CAPTURE(blueprint.describe());
    CAPTURE(width);
    CAPTURE(seed);
    random_sequence random = random_of(seed);
    nn::fixed::engine e;
    e.options = direct();
    e.options.error_rounding = rounding::nearest;
    e.controller = std::make_unique<precision::fixed>(width);
    e.seed = seed;
    e.training = true;
    ep_operands seen;
    e.observers.push_back(&seen);
    nn::layer_ids ids;
    ids.structure = static_cast<int>(random.below(50));
    const auto key = static_cast<std::uint16_t>(ids.structure);
    typename Blueprint::template layer<nn::fixed> layer(blueprint);
    const nn::image_shape out_shape = layer.build(e, shape, ids);
    e.controller->attach(ids.products);

    const auto fill = [&](nn::fixed::tensor& t, const nn::image_shape& s, int exponent, std::int32_t most) {
        t.reshape(samples, s);
        t.exponent = exponent;
        for (std::int32_t& x : t.data) x = random.between(-most, most);
    };
    nn::fixed::tensor in, error;
    fill(in, shape, -8, 255);
    layer.forward(e, in);
    fill(error, out_shape, -20, 1 << 20);
    fill(e.output_error, {1, 1, outputs}, -28, 1 << 28);
    const nn::fixed::tensor given = e.output_error;
    const nn::fixed::tensor* below = layer.backward(e, error, true);

    REQUIRE(below != nullptr);
    REQUIRE(below->shape == shape);
    REQUIRE(seen.told);
    CHECK(seen.generated);
    CHECK(seen.width == width);
    CHECK(seen.macs == samples * shape.size() * outputs);
    const int dropped = seen.exponent - given.exponent;
    const std::int64_t largest = largest_mantissa(width);
    for (std::int64_t i = 0; i < samples * outputs; ++i)
        REQUIRE(seen.error[static_cast<std::size_t>(i)] ==
                std::clamp(round_nearest(std::int64_t{given.data[static_cast<std::size_t>(i)]}, dropped), -largest,
                           largest));
    CHECK(below->exponent == seen.exponent + nn::detail::feedback_exponent(shape.size()));
    for (std::int64_t m = 0; m < samples; ++m)
        for (std::int64_t n = 0; n < shape.size(); ++n) {
            std::int64_t sum = 0;
            for (std::int64_t k = 0; k < outputs; ++k) {
                const int sign = sign_of(seed, key, n * outputs + k);
                REQUIRE(seen.matrix[static_cast<std::size_t>(n * outputs + k)] == sign);
                sum += sign * seen.error[static_cast<std::size_t>(m * outputs + k)];
            }
            REQUIRE(below->data[static_cast<std::size_t>(m * shape.size() + n)] == sum);
        }
}

auto direct_run(const data::dataset& set, const gemm::settings& kernels, std::uint64_t steps) {
    auto net = fixed_network(small, {10, 10, 2}, 8, 3, direct(kernels));
    training_run run(std::move(net), {}, set, 16, steps);
    run.steps(0, steps);
    return io::state_sha256(run);
}

}  // namespace

TEST_CASE("the signs of a layer's matrix are those that the generator defines, on every path and in every type") {
    for (const std::size_t size : {1u, 15u, 16u, 17u, 4095u, 4096u, 4097u, 10000u}) {
        CAPTURE(size);
        std::vector<double> reals(size);
        nn::detail::fill_feedback(best_path(), 7, 3, 0.25, std::span(reals));
        for (const path p : all_paths) {
            if (!available(p)) continue;
            std::vector<std::int8_t> signs(size);
            nn::detail::fill_feedback(p, 7, 3, std::int8_t{1}, std::span(signs));
            for (std::size_t e = 0; e < size; ++e) {
                REQUIRE(signs[e] == sign_of(7, 3, static_cast<std::int64_t>(e)));
                REQUIRE(reals[e] == 0.25 * signs[e]);
            }
        }
    }
}

TEST_CASE("a layer hands down the output's rounded error times its signs, whatever its kind, width and size") {
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        random_sequence random = random_of(100 + seed);
        const auto any = [&](std::int32_t low, std::int32_t high) { return std::int64_t{random.between(low, high)}; };
        const int width = random.between(2, 16);
        check_projection(nn::linear{any(1, 40)}, {1, 1, any(1, 300)}, any(1, 9), any(1, 20), width, seed);
        check_projection(nn::conv2d{any(1, 6), 3, any(1, 2), any(0, 2)}, {any(3, 9), any(3, 9), any(1, 5)}, any(1, 5),
                         any(1, 20), width, seed);
    }
}

TEST_CASE("the twin hands down the same projection") {
    nn::float64::engine e;
    e.options.feedback = nn::feedback::direct;
    e.seed = 5;
    e.training = true;
    nn::layer_ids ids;
    ids.structure = 4;
    nn::conv2d::layer<nn::float64> layer(nn::conv2d{3, 3, 1, 1});
    const nn::image_shape shape{5, 4, 2}, out = layer.build(e, shape, ids);
    constexpr std::int64_t samples = 3, outputs = 7;
    random_sequence random = random_of(9);
    const auto fill = [&](nn::float64::tensor& t, const nn::image_shape& s) {
        t.reshape(samples, s);
        for (double& x : t.data) x = random.between(-1000, 1000);  // sums are exact
    };
    nn::float64::tensor in, error;
    fill(in, shape);
    fill(error, out);
    fill(e.output_error, {1, 1, outputs});
    layer.forward(e, in);
    const nn::float64::tensor* below = layer.backward(e, error, true);
    REQUIRE(below != nullptr);
    for (std::int64_t m = 0; m < samples; ++m)
        for (std::int64_t n = 0; n < shape.size(); ++n) {
            double sum = 0;
            for (std::int64_t k = 0; k < outputs; ++k)
                sum += sign_of(5, 4, n * outputs + k) * e.output_error.data[static_cast<std::size_t>(m * outputs + k)];
            REQUIRE(below->data[static_cast<std::size_t>(m * shape.size() + n)] ==
                    std::ldexp(sum, nn::detail::feedback_exponent(shape.size())));
        }
}

TEST_CASE("a run with direct feedback has one state over paths, executions and threads, and not back-propagation's") {
    const data::dataset set = noisy_images(21, 96, {10, 10, 2}, 5);
    const std::string whole = direct_run(set, {}, 20);
    for (const path p : all_paths)
        if (available(p)) CHECK(direct_run(set, {.isa = p}, 20) == whole);
    CHECK(direct_run(set, {.threads = 3}, 20) == whole);
    CHECK(direct_run(set, {.how = gemm::execution::sliced}, 20) == whole);
    CHECK(direct_run(set, {.how = gemm::execution::reference}, 20) == whole);

    auto propagated = fixed_network(small, {10, 10, 2}, 8, 3);
    training_run run(std::move(propagated), {}, set, 16, 20);
    run.steps(0, 20);
    CHECK(io::state_sha256(run) != whole);
}

TEST_CASE("the output layer's gradient does not depend on how errors go on from there") {
    const data::dataset set = noisy_images(22, 16, {10, 10, 2}, 5);
    const auto gradients = [&](const nn::fixed::settings& options) {
        auto net = fixed_network(small, {10, 10, 2}, 8, 3, options);
        const auto index = positions(0, 16);
        net.train_step(train::view_of(set, index), labels_of(set, 0, 16), 0);
        std::vector<std::vector<std::int64_t>> all;
        net.parameters([&](auto& p) { all.emplace_back(p.gradient.begin(), p.gradient.end()); });
        return all;
    };
    const auto one = gradients({}), other = gradients(direct());
    REQUIRE(one.size() == 6);
    CHECK(one[4] == other[4]);
    CHECK(one[5] == other[5]);
    CHECK(one[2] != other[2]);
    CHECK(one[0] != other[0]);
}

TEST_CASE("a network learns by direct feedback") {
    const data::dataset set = noisy_images(23, 320, {10, 10, 2}, 5), unseen = noisy_images(24, 200, {10, 10, 2}, 5);
    auto net = fixed_network(small, {10, 10, 2}, 8, 3, direct());
    training_run run(std::move(net), {}, set, 16, 120);
    const auto hidden = [&] {  // of the first layer
        std::vector<std::int16_t> w;
        run.net.parameters([&](auto& p) {
            if (w.empty()) w.assign(p.mantissa.begin(), p.mantissa.end());
        });
        return w;
    };
    const auto before = hidden();
    run.steps(0, 120);
    CHECK(hidden() != before);
    CHECK(train::evaluate(run.net, unseen).accuracy() > 0.6);  // one class in five by chance
}

TEST_CASE("residual blocks refuse direct feedback") {
    const auto model = nn::sequential(nn::residual(nn::conv2d{2, 3, 1, 1}), nn::flatten{}, nn::linear{3});
    CHECK_THROWS_WITH_AS(fixed_network(model, {4, 4, 2}, 8, 1, direct()),
                         doctest::Contains("feedback: expected propagated"), argument_error);
}

TEST_CASE("direct feedback is counted: products by their definition, signs as no memory traffic") {
    const data::dataset set = noisy_images(25, 16, {10, 10, 2}, 5);
    auto net = fixed_network(small, {10, 10, 2}, 8, 3, direct());
    accelerator::configuration machine = accelerator::hnpu();
    accelerator::slice_counts products(machine.encoding, best_path(), net.products());
    accelerator::run_costs costs(machine, products, {76, 204, 65}, 0, 1);
    struct against_definition final : gemm::observer {
        explicit against_definition(const accelerator::slice_counts& c) : fast(c) {}
        void on_gemm(const gemm::gemm_event& event) override {
            CAPTURE(event.layer);
            CAPTURE(name_of(event.where));
            CHECK(fast.of(event) == accelerator::count_by_definition(event, fast.digits()));
        }
        const accelerator::slice_counts& fast;
    } slow(products);
    net.observe(products);
    net.observe(slow);
    net.observe(costs);
    const auto index = positions(0, 16);
    net.train_step(train::view_of(set, index), labels_of(set, 0, 16), 0);

    CHECK(products.at(2, stage::error_propagation).macs == 16 * 12 * 5);
    const std::size_t own = costs.machines().size() - 1;
    for (const int layer : {1, 2}) {
        const auto& memory = costs.at(own, layer, stage::error_propagation).actions.memory;
        for (const auto level : {accelerator::memory_level::registers, accelerator::memory_level::network,
                                 accelerator::memory_level::buffer, accelerator::memory_level::dram})
            CHECK(memory.at(accelerator::tensor_kind::weight, level) == accelerator::traffic{});
        CHECK(memory.total(accelerator::memory_level::dram).bits() > 0);
    }
}

TEST_CASE("without a layer that waits for another, a step's longest chain is FF and the slowest layer") {
    using accelerator::phase;
    const auto cycles_of = [](std::vector<std::array<std::uint64_t, 4>> table) {
        return [table](const phase& p) {
            return table[static_cast<std::size_t>(p.layer)][static_cast<std::size_t>(p.where)];
        };
    };
    // FF, EP, WG, WU of three layers; FF together 60.
    const auto by_hand = cycles_of({{10, 0, 40, 5}, {20, 7, 30, 5}, {30, 9, 20, 5}});
    // The lowest layer's error comes after 9 + 7; its WG and WU follow.
    CHECK(accelerator::critical_path(3, false, by_hand) == 60 + 9 + 7 + 40 + 5);
    CHECK(accelerator::critical_path(3, true, by_hand) == 60 + 7 + 40 + 5);
    // An update waits for an EP that reads its weights, unless feedback is direct.
    const auto long_ep = cycles_of({{1, 0, 1, 1}, {1, 90, 2, 30}});
    CHECK(accelerator::critical_path(2, false, long_ep) == 2 + 90 + 30);
    CHECK(accelerator::critical_path(2, true, long_ep) == 2 + 90 + 2);

    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
        CAPTURE(seed);
        random_sequence random = random_of(seed);
        std::vector<std::array<std::uint64_t, 4>> table(1 + random.below(6));
        std::uint64_t forward = 0, slowest = 0;
        for (std::size_t l = 0; l < table.size(); ++l) {
            for (std::uint64_t& c : table[l]) c = random.below(100);
            forward += table[l][0];
        }
        for (std::size_t l = 0; l < table.size(); ++l)
            slowest = std::max(slowest, (l + 1 < table.size() ? table[l + 1][1] : 0) + table[l][2] + table[l][3]);
        const int layers = static_cast<int>(table.size());
        CHECK(accelerator::critical_path(layers, true, cycles_of(table)) == forward + slowest);
        CHECK(accelerator::critical_path(layers, false, cycles_of(table)) >= forward + slowest);
    }
}
