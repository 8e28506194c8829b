// Batch normalisation in integers equals plain loops over its definition (nn/fixed_norm.hpp) bit for bit: output,
// running statistics, gradients and input error, whatever the shape, exponents, path and threads; and its inference
// mode looks at no batch. How close it is to the twin: layer_bounds_test.cpp.
#include <lamella/nn/models.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "training.hpp"

using namespace lamella;
using namespace testing;

namespace {

__extension__ using int128 = __int128;

std::vector<path> paths() {
    std::vector<path> found;
    for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon})
        if (available(isa)) found.push_back(isa);
    return found;
}

// floor((2 n + d) / 2 d), or one less when that is an odd half.
std::int64_t nearest_quotient(int128 n, int128 d) {
    const int128 doubled = 2 * n + d, whole = 2 * d;
    int128 q = doubled / whole;
    if (doubled % whole != 0 && doubled < 0) --q;
    if (q * whole == doubled && q % 2 != 0) --q;
    constexpr int128 most = (int128{1} << 62) - 1;  // where statistics saturate
    return static_cast<std::int64_t>(q > most ? most : q < -most ? -most : q);
}
int128 power(int exponent) { return int128{1} << exponent; }
int cut_of(const std::vector<std::int64_t>& wide) {
    std::int64_t most = 0;
    for (const std::int64_t x : wide) most = std::max(most, x < 0 ? -x : x);
    int dropped = -31;  // left shifts fill 16 bits, too
    while (most != 0 && (dropped >= 0 ? most > std::int64_t{32767} << dropped : most << -dropped > 32767)) ++dropped;
    return most == 0 ? 0 : dropped;
}
std::vector<std::int64_t> cut(const std::vector<std::int64_t>& wide, int dropped) {
    std::vector<std::int64_t> x;
    for (const std::int64_t w : wide) x.push_back(clip(round_nearest(w, dropped), 16));
    return x;
}

// The definition, a channel after the other. Exponents between -60 and 20, so that 128 bits hold every product.
struct reference {
    std::size_t channels;
    std::int64_t elements = 0;
    std::vector<std::int64_t> running_mean, running_variance;
    bool started = false;

    std::vector<std::int64_t> normal, out, in_error, scale_gradient, shift_gradient;
    std::vector<std::int64_t> factor, places;
    bool fits = true;  // what the layer holds in 32 bits, and its coefficients in 16
    int exponent = 0, out_exponent = 0, error_exponent = 0, in_error_exponent = 0;

    explicit reference(std::size_t count) : channels(count), running_mean(count), running_variance(count) {}

    void statistics(const std::vector<std::int64_t>& x, std::size_t c, std::int64_t& mean, std::int64_t& variance,
                    std::int64_t& unbiased) const {
        int128 sum = 0, squares = 0;
        for (std::size_t i = c; i < x.size(); i += channels) {
            sum += x[i];
            squares += int128{x[i]} * x[i];
        }
        const int128 n = elements, spread = n * squares - sum * sum;
        const auto scaled_quotient = [](int128 numerator, int128 denominator, int shift) {
            return shift >= 0 ? nearest_quotient(numerator * power(shift), denominator)
                              : nearest_quotient(numerator, denominator * power(-shift));
        };
        mean = scaled_quotient(sum, n, exponent + 32);
        variance = scaled_quotient(spread, n * n, 2 * exponent + 32);
        unbiased = n == 1 ? 0 : scaled_quotient(spread, n * (n - 1), 2 * exponent + 32);
    }

    void forward(const nn::fixed::tensor& in, const nn::fixed_parameter& scale, const nn::fixed_parameter& shift,
                 bool training) {
        const std::vector<std::int64_t> wide(in.data.begin(), in.data.end());
        elements = static_cast<std::int64_t>(wide.size() / channels);
        std::vector<std::int64_t> mean(channels), variance(channels), x;
        if (training) {
            const int dropped = cut_of(wide);
            exponent = in.exponent + dropped;
            x = cut(wide, dropped);
            for (std::size_t c = 0; c < channels; ++c) {
                std::int64_t unbiased = 0;
                statistics(x, c, mean[c], variance[c], unbiased);
                running_mean[c] = started ? running_mean[c] + nearest_quotient(mean[c] - running_mean[c], 8) : mean[c];
                running_variance[c] =
                    started ? running_variance[c] + nearest_quotient(unbiased - running_variance[c], 8) : unbiased;
            }
            started = true;
        } else {
            mean = running_mean;
            variance = running_variance;
            std::uint64_t most = 0;  // |mean| + 8 deviations, Q32
            for (std::size_t c = 0; c < channels; ++c)
                most = std::max(
                    most, static_cast<std::uint64_t>(std::abs(mean[c])) +
                              (std::uint64_t{square_root(static_cast<std::uint64_t>(variance[c] + 32768))} << 19));
            exponent = -32;
            while (most >> (exponent + 32) > 32767) ++exponent;
            for (; exponent <= -32 && most << (-32 - exponent) < 16384; --exponent) {
            }
            x = cut(wide, std::clamp(exponent - in.exponent, -31, 48));
        }
        normalise(x, mean, variance);
        apply(scale, shift);
    }

    void normalise(const std::vector<std::int64_t>& x, const std::vector<std::int64_t>& mean,
                   const std::vector<std::int64_t>& variance) {
        factor.assign(channels, 0);
        places.assign(channels, 0);
        normal.resize(x.size());
        for (std::size_t c = 0; c < channels; ++c) {
            const positive root = reciprocal_square_root(static_cast<std::uint64_t>(variance[c] + 32768));
            factor[c] = round_nearest(root.mantissa, 17);
            places[c] = -(root.exponent + 17 + 16 + exponent);
            if (places[c] < 13) {
                factor[c] = 32768;
                places[c] = 13;
            }
            if (places[c] > 43) {
                factor[c] = round_nearest(factor[c], static_cast<int>(places[c] - 43));
                places[c] = 43;
            }
            const int128 product = -int128{mean[c]} * factor[c];
            const int128 offset =
                exponent >= -32 ? nearest_quotient(product, power(exponent + 32)) : product * power(-32 - exponent);
            for (std::size_t i = c; i < x.size(); i += channels) {
                const auto u = static_cast<std::int64_t>(x[i] * factor[c] + offset);
                fits = fits && u >> 31 == (u < 0 ? -1 : 0);
                normal[i] = clip(round_nearest(u, static_cast<int>(places[c] - 12)), 16);
            }
        }
    }

    void apply(const nn::fixed_parameter& scale, const nn::fixed_parameter& shift) {
        std::int64_t most_scale = 0, most_shift = 0;
        for (const std::int16_t m : scale.mantissa) most_scale = std::max<std::int64_t>(most_scale, std::abs(m));
        for (const std::int16_t m : shift.mantissa) most_shift = std::max<std::int64_t>(most_shift, std::abs(m));
        int dropped = 0;
        const auto aligned = [&](std::int64_t m) {
            return m == 0 ? 0 : round_nearest(m, out_exponent - shift.exponent);
        };
        if (most_scale == 0) {
            out_exponent = most_shift == 0 ? 0 : shift.exponent;
        } else {
            for (;; ++dropped) {
                out_exponent = scale.exponent - 12 + dropped;
                if (out_exponent - shift.exponent < -40) continue;
                if (round_nearest(most_scale * 32767, dropped) + aligned(most_shift) < std::int64_t{1} << 31) break;
            }
        }
        out.resize(normal.size());
        for (std::size_t i = 0; i < normal.size(); ++i)
            out[i] = round_nearest(normal[i] * scale.mantissa[i % channels], dropped) +
                     aligned(shift.mantissa[i % channels]);
    }

    void backward(const nn::fixed::tensor& error, const nn::fixed_parameter& scale) {
        const std::vector<std::int64_t> wide(error.data.begin(), error.data.end());
        const int dropped = cut_of(wide);
        const std::vector<std::int64_t> e = cut(wide, dropped);
        error_exponent = error.exponent + dropped;
        shift_gradient.assign(channels, 0);
        scale_gradient.assign(channels, 0);
        for (std::size_t i = 0; i < e.size(); ++i) {
            shift_gradient[i % channels] += e[i];
            scale_gradient[i % channels] += e[i] * normal[i];
        }
        const int128 n = elements;
        int128 most = 0;
        std::vector<int128> gain(channels);
        for (std::size_t c = 0; c < channels; ++c) {
            gain[c] = int128{scale.mantissa[c]} * factor[c] * power(static_cast<int>(43 - places[c]));
            const int128 reach = 32768 + std::abs(shift_gradient[c]) / n + (std::abs(scale_gradient[c]) >> 9) / n + 3;
            most = std::max(most, (gain[c] < 0 ? -gain[c] : gain[c]) * reach);
        }
        int step = 0;
        while (most >> step >= power(30)) ++step;
        in_error_exponent = scale.exponent - exponent - 43 + step + error_exponent;
        in_error.resize(e.size());
        for (std::size_t i = 0; i < e.size(); ++i) {
            const std::size_t c = i % channels;
            const std::int64_t by_error = nearest_quotient(gain[c], power(step));
            const std::int64_t by_normal = nearest_quotient(-gain[c] * scale_gradient[c], n * power(24 + step));
            const std::int64_t rest = nearest_quotient(-gain[c] * shift_gradient[c], n * power(step));
            fits = fits && std::abs(by_error) < 32768 && std::abs(by_normal) < 32768;
            in_error[i] = e[i] * by_error + normal[i] * by_normal + rest;
            fits = fits && in_error[i] >> 31 == (in_error[i] < 0 ? -1 : 0);
        }
    }
};

std::vector<std::int64_t> integers(const auto& from) { return {from.begin(), from.end()}; }

void fill(nn::fixed::tensor& t, std::int64_t samples, const nn::image_shape& shape, random_sequence& random) {
    t.reshape(samples, shape);
    t.exponent = random.between(-36, -4);
    t.bits = random.between(4, 31);
    const std::int32_t most = largest_mantissa(t.bits + 1 > 31 ? 32 : t.bits + 1);
    std::vector<int> narrower(static_cast<std::size_t>(shape.channels));
    std::vector<std::int32_t> middle(narrower.size());
    for (std::size_t c = 0; c < narrower.size(); ++c) {
        narrower[c] = random.between(0, random.below(2) == 0 ? 0 : t.bits);
        middle[c] = random.below(2) == 0 ? 0 : random.between(-most / 2, most / 2);
    }
    for (std::size_t i = 0; i < t.data.size(); ++i) {
        const std::size_t c = i % narrower.size();
        t.data[i] = middle[c] + (random.between(-most, most) / 2 >> narrower[c]);
    }
}

struct setting {
    path isa;
    int threads;
};

// Three training steps and an inference pass of one layer beside the reference.
void check_against_reference(std::uint64_t seed, const nn::image_shape& shape, std::int64_t samples,
                             const setting& how) {
    CAPTURE(seed);
    CAPTURE(nn::to_string(shape));
    CAPTURE(samples);
    CAPTURE(name_of(how.isa));
    CAPTURE(how.threads);
    random_sequence random = random_of(seed);
    nn::fixed::engine engine;
    engine.options.kernels.isa = how.isa;
    engine.options.kernels.threads = how.threads;
    nn::layer_ids ids;
    nn::batch_norm::layer<nn::fixed> layer(nn::batch_norm{});
    REQUIRE(layer.build(engine, shape, ids) == shape);
    const auto channels = static_cast<std::size_t>(shape.channels);
    reference expected(channels);
    nn::fixed::tensor in, error;
    for (int step = 0; step < 4; ++step) {
        CAPTURE(step);
        engine.training = step < 3;
        if (step > 0) {
            layer.scale().exponent = random.between(-20, 0);
            layer.shift().exponent = layer.scale().exponent + random.between(-12, 12);
            for (std::int16_t& m : layer.scale().mantissa) m = static_cast<std::int16_t>(random.between(-32767, 32767));
            for (std::int16_t& m : layer.shift().mantissa) m = static_cast<std::int16_t>(random.between(-32767, 32767));
        }
        fill(in, samples, shape, random);
        expected.forward(in, layer.scale(), layer.shift(), engine.training);
        const nn::fixed::tensor& out = layer.forward(engine, in);
        CHECK(out.exponent == expected.out_exponent);
        CHECK((integers(out.data) == expected.out));
        CHECK(bit_length(largest_magnitude(out.data.data(), out.size(), path::scalar, 1)) <= out.bits);
        const snapshot state = snapshot::of(layer);
        CHECK(state.tensors.at("running_mean").mantissas == expected.running_mean);
        CHECK(state.tensors.at("running_variance").mantissas == expected.running_variance);
        if (!engine.training) break;

        fill(error, samples, shape, random);
        expected.backward(error, layer.scale());
        const nn::fixed::tensor& in_error = *layer.backward(engine, error, true);
        CHECK(integers(layer.scale().gradient) == expected.scale_gradient);
        CHECK(integers(layer.shift().gradient) == expected.shift_gradient);
        CHECK(layer.shift().gradient_exponent == expected.error_exponent);
        CHECK(layer.scale().gradient_exponent == expected.error_exponent - 12);
        CHECK(in_error.exponent == expected.in_error_exponent);
        CHECK((integers(in_error.data) == expected.in_error));
        CHECK(expected.fits);
    }
}

const data::dataset& digits() {
    static const data::dataset set = noisy_images(4, 1000, {16, 16, 1}, 10);
    return set;
}

auto small_run(const gemm::settings& kernels, std::size_t batch = 8) {
    nn::fixed::settings options;
    options.kernels = kernels;
    using network = nn::network<nn::fixed, decltype(nn::resnet8())>;
    return training_run<network>({nn::resnet8(), {16, 16, 1}, options, 3, std::make_unique<precision::fixed>(8)}, {},
                                 digits(), batch, 40);
}

}  // namespace

TEST_CASE("batch normalisation equals loops over its definition, whatever the shape, on every path and with threads") {
    std::uint64_t seed = 1;
    for (const path isa : paths())
        for (const int threads : {1, 3})
            for (int repeat = 0; repeat < 12; ++repeat, ++seed) {
                random_sequence random = random_of(9000 + seed);
                const nn::image_shape shape{random.between(1, 9), random.between(1, 9), random.between(1, 70)};
                check_against_reference(seed, shape, random.between(1, 6), {isa, threads});
            }
    for (const int threads : {1, 3}) check_against_reference(seed++, {32, 32, 16}, 20, {best_path(), threads});
    check_against_reference(seed++, {1, 1, 1}, 1, {best_path(), 1});
    check_against_reference(seed++, {1, 1, 300}, 2, {best_path(), 1});
}

TEST_CASE("x-hat's factor is within one unit of the 16th bit of 1 / deviation") {
    random_sequence random = random_of(5);
    for (int i = 0; i < 20000; ++i) {
        const int bits = random.between(1, 62);
        const std::uint64_t drawn = (std::uint64_t{random.next()} << 32 | random.next()) >> (64 - bits);
        const auto variance = static_cast<std::int64_t>(std::min<std::uint64_t>(drawn, nn::detail::largest_statistic));
        const int exponent = random.between(-40, 10);
        const nn::detail::channel_normal n = nn::detail::normal_of(0, variance, exponent);
        CAPTURE(variance);
        CAPTURE(exponent);
        // In units of x; beyond, the deviation counts as a quarter, or the factor has fewer bits.
        const long double deviation = std::ldexp(
            std::sqrt(std::ldexp(static_cast<long double>(variance), -32) + std::ldexp(1.0L, -17)), -exponent);
        const long double found = std::ldexp(static_cast<long double>(n.factor), -(n.dropped + 12));
        if (deviation < 0.25L)
            CHECK(found == 4.0L);
        else if (deviation < 0x1p28L)
            CHECK(std::abs(found * deviation - 1) <= 0x1p-15L);
        CHECK(n.dropped >= 1);
        CHECK(n.dropped <= 31);
        CHECK(n.offset == 0);
    }
}

TEST_CASE("a channel of one value has x-hat 0 and passes no error on; a batch of zeros stays defined") {
    nn::fixed::engine engine;
    engine.training = true;
    nn::layer_ids ids;
    nn::batch_norm::layer<nn::fixed> layer(nn::batch_norm{});
    layer.build(engine, {3, 3, 2}, ids);
    nn::fixed::tensor in, error;
    in.reshape(2, {3, 3, 2});
    error.reshape(2, {3, 3, 2});
    in.exponent = error.exponent = -20;
    for (const std::int32_t constant : {0, 5, -2147483647}) {
        CAPTURE(constant);
        in.changed();
        error.changed();
        for (std::size_t i = 0; i < in.data.size(); ++i) {
            in.data[i] = i % 2 == 0 ? constant : 0;
            error.data[i] = static_cast<std::int32_t>(1000 * i);
        }
        for (const std::int32_t m : layer.forward(engine, in).data) CHECK(m == 0);
        const nn::fixed::tensor& in_error = *layer.backward(engine, error, true);
        CHECK(layer.scale().gradient[0] == 0);
        CHECK(layer.shift().gradient[0] > 0);
        std::int64_t sum = 0;
        for (const std::int32_t m : in_error.data) sum += m;
        CHECK(std::abs(sum) <= 36);  // the mean is taken off, up to half a unit an element
        error.data.fill_zero();
        error.changed();
        for (const std::int32_t m : layer.backward(engine, error, true)->data) CHECK(m == 0);
    }
}

TEST_CASE("batch normalisation is not evaluated before it was trained") {
    nn::fixed::engine engine;
    nn::layer_ids ids;
    nn::batch_norm::layer<nn::fixed> layer(nn::batch_norm{});
    layer.build(engine, {2, 2, 2}, ids);
    nn::fixed::tensor in;
    in.reshape(1, {2, 2, 2});
    CHECK_THROWS_AS(layer.forward(engine, in), lamella::error);
}

TEST_CASE("an image's logits are the same alone and in a batch of 1000, and evaluating changes no state") {
    auto run = small_run({});
    run.steps(0, 5);
    const snapshot before = snapshot::of(run);
    const std::vector<std::uint32_t> all = positions(0, 1000);
    const nn::fixed::tensor& together = run.net.predict(train::view_of(digits(), all));
    const std::vector<std::int32_t> logits(together.data.begin(), together.data.end());
    const int exponent = together.exponent;
    for (std::uint32_t i = 0; i < 1000; i += 37) {
        CAPTURE(i);
        const std::vector<std::uint32_t> one{i};
        const nn::fixed::tensor& alone = run.net.predict(train::view_of(digits(), one));
        CHECK(alone.exponent == exponent);
        CHECK(std::equal(alone.data.begin(), alone.data.end(), logits.begin() + 10 * i));
    }
    CHECK(snapshot::of(run) == before);
    run.steps(5, 2);
    auto undisturbed = small_run({});
    undisturbed.steps(0, 7);
    CHECK(snapshot::of(run) == snapshot::of(undisturbed));
}

TEST_CASE("a residual network with batch normalisation has one state over paths, executions, threads and a resume") {
    constexpr std::uint64_t steps = 6;
    auto run = small_run({});
    std::vector<snapshot> states;
    for (std::uint64_t step = 0; step < steps; ++step) {
        states.push_back(snapshot::of(run));
        run.step(step);
    }
    const snapshot expected = snapshot::of(run);
    CHECK(expected.tensors.contains("net.3.0.main.1.running_mean"));
    for (std::uint64_t step = 0; step < steps; ++step) {
        CAPTURE(step);
        auto resumed = small_run({});
        states[step].restore(resumed);
        resumed.steps(step, steps - step);
        CHECK(snapshot::of(resumed) == expected);
    }
    for (const path isa : paths())
        for (const gemm::execution how : {gemm::execution::fused, gemm::execution::sliced})
            for (const int threads : {1, 2, 5}) {
                if (threads != 1 && (isa != best_path() || how != gemm::execution::fused)) continue;
                CAPTURE(name_of(isa));
                CAPTURE(name_of(how));
                CAPTURE(threads);
                auto other = small_run({how, isa, slice::encoding::sign_magnitude, threads});
                other.steps(0, steps);
                CHECK(snapshot::of(other) == expected);
            }
}
