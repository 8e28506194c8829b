// Leaky ReLU and dropout by their definitions, element by element, on every path and with threads.
#include <lamella/nn/network.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "training.hpp"

using namespace lamella;
using namespace testing;

namespace {

template <class Blueprint>
struct built {
    nn::fixed::engine engine;
    typename Blueprint::template layer<nn::fixed> layer;
    explicit built(const Blueprint& blueprint, const nn::image_shape& shape, path isa = best_path(), int threads = 1)
        : layer(blueprint) {
        engine.options.kernels.isa = isa;
        engine.options.kernels.threads = threads;
        engine.seed = 77;
        engine.step = 5;
        engine.first_position = 100;
        engine.training = true;
        nn::layer_ids ids;
        ids.structure = 3;
        CHECK(layer.build(engine, shape, ids) == shape);
        CHECK(ids.structure == 4);
    }
};

void fill(nn::fixed::tensor& t, std::int64_t samples, const nn::image_shape& shape, int bits, std::uint64_t seed) {
    random_sequence random = random_of(seed);
    t.reshape(samples, shape);
    t.exponent = -9;
    t.bits = bits;
    const std::int32_t most = static_cast<std::int32_t>((std::int64_t{1} << bits) - 1);
    for (std::int32_t& x : t.data) x = random.below(9) == 0 ? 0 : random.between(-most, most);
}

}  // namespace

TEST_CASE("leaky ReLU keeps what is positive and scales the rest, rounding only when the bits leave no room") {
    for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
        if (!available(isa)) continue;
        for (const int places : {1, 3, 16})
            for (const int bits : {1, 14, 29, 31}) {
                CAPTURE(name_of(isa));
                CAPTURE(places);
                CAPTURE(bits);
                built<nn::leaky_relu> of(nn::leaky_relu{places}, {3, 7, 5}, isa);
                nn::fixed::tensor in, error;
                fill(in, 2, {3, 7, 5}, bits, 1);
                fill(error, 2, {3, 7, 5}, 31, 2);
                const std::vector<std::int32_t> x(in.data.begin(), in.data.end()),
                    e(error.data.begin(), error.data.end());
                const int up = std::min(places, 31 - bits);
                const nn::fixed::tensor& out = of.layer.forward(of.engine, in);
                CHECK(out.exponent == -9 - up);
                CHECK(out.bits == bits + up);
                const nn::fixed::tensor& in_error = *of.layer.backward(of.engine, error, true);
                CHECK(in_error.exponent == -9);
                for (std::size_t i = 0; i < x.size(); ++i) {
                    REQUIRE(out.data[i] == (x[i] > 0 ? std::int64_t{x[i]} << up : round_nearest(x[i], places - up)));
                    REQUIRE(in_error.data[i] == (x[i] > 0 ? e[i] : round_nearest(e[i], places)));
                }
            }
    }
    CHECK_THROWS_WITH_AS(fixed_network(nn::sequential(nn::leaky_relu{0}), {2, 2, 1}, 8),
                         "leaky_relu places: expected 1..16, found 0", argument_error);
}

TEST_CASE(
    "dropout drops by the element's own random bits, the same elements going back, on every path and with threads") {
    const nn::image_shape shape{9, 17, 20};  // more than one chunk of draws
    for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
        if (!available(isa)) continue;
        for (const int percent : {0, 25, 50, 99})
            for (const int threads : {1, 3}) {
                CAPTURE(name_of(isa));
                CAPTURE(percent);
                CAPTURE(threads);
                built<nn::dropout> of(nn::dropout{percent}, shape, isa, threads);
                nn::fixed::tensor in, error;
                fill(in, 5, shape, 31, 3);
                fill(error, 5, shape, 31, 4);
                const std::vector<std::int32_t> x(in.data.begin(), in.data.end()),
                    e(error.data.begin(), error.data.end());
                const nn::fixed::tensor& out = of.layer.forward(of.engine, in);
                const nn::fixed::tensor& in_error = *of.layer.backward(of.engine, error, true);

                const int threshold = (percent * 65536 + 50) / 100;
                const double factor = 65536.0 / (65536 - threshold);
                const int places = static_cast<int>(std::ceil(std::log2(factor)));
                const auto scale = static_cast<std::int64_t>(std::floor(std::ldexp(factor, 15 - places) + 0.5));
                CHECK(out.exponent == -9 + places);
                CHECK(in_error.exponent == -9 + places);
                std::int64_t dropped = 0;
                for (std::size_t i = 0; i < x.size(); ++i) {
                    const auto size = static_cast<std::size_t>(shape.size());
                    const std::uint16_t draw =
                        random_16({77, 5, 3, stream::dropout}, 100 + static_cast<std::uint32_t>(i / size), i % size);
                    const bool keep = draw >= threshold;
                    dropped += !keep;
                    REQUIRE(out.data[i] == (keep ? round_nearest(x[i] * scale, 15) : 0));
                    REQUIRE(in_error.data[i] == (keep ? round_nearest(e[i] * scale, 15) : 0));
                    if (percent == 50 && keep) REQUIRE(out.data[i] == x[i]);
                }
                CHECK(std::abs(static_cast<double>(dropped) - 153.0 * percent) < 500);
            }
    }
    CHECK_THROWS_WITH_AS(fixed_network(nn::sequential(nn::dropout{100}), {2, 2, 1}, 8),
                         "dropout percent: expected 0..99, found 100", argument_error);
}

TEST_CASE("dropout leaves inference alone, and another step, place in the batch or layer drops others") {
    const nn::image_shape shape{4, 4, 8};
    const auto run = [&](bool training, std::uint32_t step, std::uint32_t position, int structure) {
        nn::fixed::engine engine;
        engine.training = training;
        engine.step = step;
        engine.first_position = position;
        nn::layer_ids ids;
        ids.structure = structure;
        nn::dropout::layer<nn::fixed> layer(nn::dropout{});
        layer.build(engine, shape, ids);
        nn::fixed::tensor in;
        fill(in, 3, shape, 20, 5);
        const nn::fixed::tensor& out = layer.forward(engine, in);
        return std::vector<std::int32_t>(out.data.begin(), out.data.end());
    };
    nn::fixed::tensor in;
    fill(in, 3, shape, 20, 5);
    CHECK(run(false, 0, 0, 0) == std::vector<std::int32_t>(in.data.begin(), in.data.end()));
    const std::vector<std::int32_t> one = run(true, 0, 0, 0);
    CHECK(one != run(false, 0, 0, 0));
    CHECK(one == run(true, 0, 0, 0));
    CHECK(one != run(true, 1, 0, 0));
    CHECK(one != run(true, 0, 1, 0));
    CHECK(one != run(true, 0, 0, 1));
}
