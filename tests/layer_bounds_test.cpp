// At 16 bits and nearest rounding every layer's output, input error and gradients lie within a bound of the float64
// twin's that follows from the quantisation steps and K. A factor of 1.01 does not fit in any of these bounds.
//
// Both layers get the same numbers: the wide input and error (exact in float64) and the 16-bit master weights. With
// no_overflow nothing is clipped, so an operand is off by at most half a step: da = 2^(ea - 1), dw, de likewise (0
// where the quantiser shifted left). With A, W, E the largest magnitudes before quantisation, a product a w is off by
// at most A dw + W da + da dw, and so
//
//   output           K_ff (A dw + W da + da dw) + half a unit of the accumulator (a bias that was aligned to the right)
//                    + half a unit of the wide tensor (when it dropped bits)
//   input error      K_ep (E dw + W de + de dw) + half a unit of the wide tensor
//   weight gradient  K_wg (E da + A de + da de)
//   bias gradient    K_wg de
//
// with K_ff = KH KW IC, K_ep = KH KW OC (each 1 for the channels of a depthwise convolution), K_wg = samples OH OW.
// Float64's own rounding is covered by 2^-50 of the largest possible sum. ReLU, max pooling, subsampling and flatten
// are exact; the bounds of average pooling, batch normalisation, sums and softmax are derived below.
#include <lamella/nn/network.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

using namespace lamella;
using nn::float64;

namespace {

constexpr double planted = 1.01;

double value_of(std::int64_t mantissa, int exponent) { return std::ldexp(static_cast<double>(mantissa), exponent); }

std::vector<double> values_of(const nn::fixed::tensor& t) {
    std::vector<double> v(t.data.size());
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = value_of(t.data[i], t.exponent);
    return v;
}
template <class T>
std::vector<double> values_of(const buffer<T>& mantissas, int exponent) {
    std::vector<double> v(mantissas.size());
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = value_of(mantissas[i], exponent);
    return v;
}
std::vector<double> values_of(const buffer<double>& values) { return {values.begin(), values.end()}; }

double largest(const std::vector<double>& v) {
    double most = 0;
    for (const double x : v) most = std::max(most, std::abs(x));
    return most;
}

bool within(const std::vector<double>& found, const std::vector<double>& expected, double bound) {
    if (found.size() != expected.size()) return false;
    for (std::size_t i = 0; i < found.size(); ++i)
        if (!(std::abs(found[i] - expected[i]) <= bound)) return false;
    return true;
}

void check_within(const std::string& what, const std::vector<double>& found, const std::vector<double>& expected,
                  double bound) {
    CAPTURE(what);
    CAPTURE(bound);
    CHECK(within(found, expected, bound));
    std::vector<double> wrong = found;
    for (double& x : wrong) x *= planted;
    CHECK_FALSE(within(wrong, expected, bound));
}

// The formats that the GEMMs of a step really had.
struct formats : gemm::observer {
    std::optional<int> activation, weight, error;
    void on_gemm(const gemm::gemm_event& event) override {
        for (const gemm::event_operand* o : {&event.a, &event.b}) {
            REQUIRE(o->view.width == 16);
            REQUIRE(o->clips.overflows == 0);
            std::optional<int>& to = o->what == role::activation ? activation
                                     : o->what == role::weight   ? weight
                                                                 : error;
            if (to) REQUIRE(*to == o->view.exponent);
            to = o->view.exponent;
        }
    }
};

// Half a step of an operand made of mantissas x 2^wide; nothing when no bit was dropped.
double half_step(std::optional<int> operand, int wide) {
    REQUIRE(operand.has_value());
    return *operand > wide ? value_of(1, *operand - 1) : 0;
}

void fill(nn::fixed::tensor& t, std::int64_t samples, const nn::image_shape& shape, int bits, int exponent,
          std::uint64_t seed) {
    random_sequence random({.seed = seed, .use = stream::digits});
    t.reshape(samples, shape);
    t.exponent = exponent;
    t.bits = bits;
    const std::int32_t most = largest_mantissa(bits + 1);
    for (std::int32_t& x : t.data) x = random.between(-most, most);
}

// One layer in both arithmetics, at the start of a training step.
template <class Blueprint>
struct pair_of_layers {
    nn::fixed::engine engine;
    float64::engine twin_engine;
    typename Blueprint::template layer<nn::fixed> layer;
    typename Blueprint::template layer<float64> twin;
    formats seen;
    nn::image_shape in_shape, out_shape;
    nn::fixed::tensor in, error;
    float64::tensor twin_in, twin_error;

    pair_of_layers(const Blueprint& blueprint, const nn::image_shape& shape)
        : layer(blueprint), twin(blueprint), in_shape(shape) {
        constexpr radix_policy exact{radix_rule::no_overflow, 0, 0};
        engine.options.activation = engine.options.weight = engine.options.error = exact;
        engine.options.activation_rounding = engine.options.weight_rounding = engine.options.error_rounding =
            rounding::nearest;
        engine.controller = std::make_unique<precision::fixed>(16);
        engine.controller->attach(1);
        engine.observers.push_back(&seen);
        engine.seed = twin_engine.seed = 5;
        engine.training = twin_engine.training = true;
        nn::layer_ids ids, twin_ids;
        out_shape = layer.build(engine, shape, ids);
        REQUIRE(twin.build(twin_engine, shape, twin_ids) == out_shape);
    }
    nn::fixed::tensor& forward() {
        twin_in.reshape(in.samples, in.shape);
        const std::vector<double> v = values_of(in);
        std::copy(v.begin(), v.end(), twin_in.data.begin());
        return layer.forward(engine, in);
    }
    float64::tensor& twin_forward() { return twin.forward(twin_engine, twin_in); }
    nn::fixed::tensor& backward() {
        twin_error.reshape(error.samples, error.shape);
        const std::vector<double> v = values_of(error);
        std::copy(v.begin(), v.end(), twin_error.data.begin());
        return *layer.backward(engine, error, true);
    }
    float64::tensor& twin_backward() { return *twin.backward(twin_engine, twin_error, true); }
};

template <class Blueprint>
void check_product(const Blueprint& blueprint, const nn::image_shape& shape, std::int64_t samples, int bias_exponent) {
    CAPTURE(blueprint.describe());
    CAPTURE(nn::to_string(shape));
    CAPTURE(bias_exponent);
    pair_of_layers<Blueprint> both(blueprint, shape);
    nn::fixed_parameter &weight = both.layer.weight(), &bias = both.layer.bias();
    nn::real_parameter<double> &twin_weight = both.twin.weight(), &twin_bias = both.twin.bias();
    random_sequence random({.seed = 9, .use = stream::digits});
    bias.exponent = bias_exponent;
    for (std::size_t i = 0; i < bias.mantissa.size(); ++i) {
        bias.mantissa[i] = static_cast<std::int16_t>(random.between(-32767, 32767));
        twin_bias.value[i] = value_of(bias.mantissa[i], bias.exponent);
    }
    const std::vector<double> w = values_of(weight.mantissa, weight.exponent);
    REQUIRE(std::equal(w.begin(), w.end(), twin_weight.value.begin(), twin_weight.value.end()));

    fill(both.in, samples, shape, 27, -29, 1);
    fill(both.error, samples, both.out_shape, 29, -31, 2);
    const nn::fixed::tensor& out = both.forward();
    REQUIRE(out.shape == both.out_shape);
    const std::vector<double> a = values_of(both.in), e = values_of(both.error);
    const std::vector<double> output = values_of(out);
    const int out_exponent = out.exponent;
    const nn::fixed::tensor& in_error = both.backward();
    REQUIRE(in_error.size() == both.in.size());
    const std::vector<double> twin_output = values_of(both.twin_forward().data);
    const std::vector<double> twin_in_error = values_of(both.twin_backward().data);

    const nn::geometry& g = both.layer.shape();
    const auto k_ff = static_cast<double>(g.depth());
    const auto k_ep = static_cast<double>(g.error_depth());
    const auto k_wg = static_cast<double>(samples * g.out_pixels());
    const double A = largest(a), W = largest(w), E = largest(e);
    const double da = half_step(both.seen.activation, both.in.exponent);
    const double dw = half_step(both.seen.weight, weight.exponent);
    const double de = half_step(both.seen.error, both.error.exponent);
    const int unit = *both.seen.activation + *both.seen.weight, error_unit = *both.seen.error + *both.seen.weight;
    const double aligned = bias.exponent < unit ? value_of(1, unit - 1) : 0;
    const double wide = out_exponent > unit ? value_of(1, out_exponent - 1) : 0;
    const double error_wide = in_error.exponent > error_unit ? value_of(1, in_error.exponent - 1) : 0;
    const double B = largest(values_of(bias.mantissa, bias.exponent));
    const auto float_error = [](double sum) { return std::ldexp(sum, -50); };
    REQUIRE(da > 0);
    REQUIRE(de > 0);

    check_within("output", output, twin_output,
                 k_ff * (A * dw + W * da + da * dw) + aligned + wide + float_error(k_ff * A * W + B));
    check_within("input error", values_of(in_error), twin_in_error,
                 k_ep * (E * dw + W * de + de * dw) + error_wide + float_error(k_ep * E * W));
    check_within("weight gradient", values_of(weight.gradient, weight.gradient_exponent),
                 values_of(twin_weight.gradient), k_wg * (E * da + A * de + da * de) + float_error(k_wg * E * A));
    check_within("bias gradient", values_of(bias.gradient, bias.gradient_exponent), values_of(twin_bias.gradient),
                 k_wg * de + float_error(k_wg * E));
}

}  // namespace

TEST_CASE("linear lies within the bound of its quantisation steps") {
    for (const int bias_exponent : {-40, -28, -15}) {
        check_product(nn::linear{10}, {1, 1, 84}, 16, bias_exponent);
        check_product(nn::linear{120}, {4, 4, 16}, 3, bias_exponent);
        check_product(nn::linear{3}, {1, 1, 5}, 2, bias_exponent);
    }
}

TEST_CASE("conv2d lies within the bound of its quantisation steps, whatever its kernel, stride and padding") {
    for (const int bias_exponent : {-44, -16}) {
        check_product(nn::conv2d{6, 5}, {12, 11, 1}, 3, bias_exponent);
        check_product(nn::conv2d{16, 5}, {8, 8, 6}, 2, bias_exponent);
        check_product(nn::conv2d{5, 3, 1, 1}, {6, 5, 4}, 2, bias_exponent);
        check_product(nn::conv2d{4, 3, 2, 1}, {7, 6, 3}, 3, bias_exponent);
        check_product(nn::conv2d{4, 2, 3, 0}, {8, 7, 3}, 3, bias_exponent);
        check_product(nn::conv2d{3, 4, 3, 3}, {6, 6, 2}, 2, bias_exponent);
        check_product(nn::depthwise_conv2d{3, 2, 1}, {9, 8, 5}, 2, bias_exponent);
    }
}

TEST_CASE("relu, max pooling, subsampling and flatten equal the twin") {
    const auto check_exact = [](const auto& blueprint, const nn::image_shape& shape) {
        CAPTURE(blueprint.describe());
        pair_of_layers<std::remove_cvref_t<decltype(blueprint)>> both(blueprint, shape);
        fill(both.in, 3, shape, 31, -20, 3);
        fill(both.error, 3, both.out_shape, 30, -31, 4);
        const std::vector<double> output = values_of(both.forward());
        CHECK(output == values_of(both.twin_forward().data));
        const std::vector<double> in_error = values_of(both.backward());
        CHECK(in_error == values_of(both.twin_backward().data));
        CHECK(std::count(in_error.begin(), in_error.end(), 0.0) < static_cast<std::ptrdiff_t>(in_error.size()));
    };
    check_exact(nn::relu{}, {5, 4, 3});
    check_exact(nn::flatten{}, {5, 4, 3});
    check_exact(nn::max_pool2d{2}, {6, 7, 3});
    check_exact(nn::max_pool2d{3, 4}, {8, 7, 5});
    check_exact(nn::subsample{2, 5}, {7, 6, 3});
}

// A window of w values: a power of two moves the exponent; the sum drops the bits that pass 31, half a unit. Otherwise
// the reciprocal floor(2^31 / w) 2^-31 is below 1 / w by less than 2^-31: the mean is off by less than |sum| 2^-31 and
// half a unit; |sum| is at most w times the largest value. Going back, sums are single values.
TEST_CASE("average pooling lies within the bound of its reciprocal and one rounding") {
    for (const std::int64_t kernel : {1, 2, 3, 4, 5, 7})
        for (const int bits : {12, 29, 31}) {
            CAPTURE(kernel);
            CAPTURE(bits);
            const nn::image_shape shape{2 * kernel + 1, 3 * kernel, 2};
            pair_of_layers<nn::avg_pool2d> both(nn::avg_pool2d{kernel}, shape);
            fill(both.in, 2, shape, bits, -17, 5);
            fill(both.error, 2, both.out_shape, bits, -23, 6);
            const auto window = static_cast<double>(kernel * kernel);
            const bool power = (kernel & (kernel - 1)) == 0;
            const double A = largest(values_of(both.in)), E = largest(values_of(both.error));

            const nn::fixed::tensor& out = both.forward();
            const int exact = both.in.exponent - bit_length(static_cast<std::uint64_t>(kernel * kernel - 1));
            const double dropped = !power || out.exponent > exact ? value_of(1, out.exponent - 1) : 0;
            check_within("output", values_of(out), values_of(both.twin_forward().data),
                         dropped + (power ? 0 : std::ldexp(window * A, -31)) + std::ldexp(A, -50));
            const nn::fixed::tensor& in_error = both.backward();
            const std::vector<double> found = values_of(in_error), expected = values_of(both.twin_backward().data);
            if (power)
                CHECK(found == expected);
            else
                check_within("input error", found, expected,
                             value_of(1, in_error.exponent - 1) + std::ldexp(E, -31) + std::ldexp(E, -50));
        }
}

// A pixel belongs to at most ceil(kernel / stride)^2 windows; each error loses half a unit first.
TEST_CASE("overlapping windows lie within half a unit for each error that a pixel gets, and never overflow") {
    const auto check = [](const auto& blueprint, int bits, bool largest_values) {
        CAPTURE(blueprint.describe());
        CAPTURE(bits);
        pair_of_layers<std::remove_cvref_t<decltype(blueprint)>> both(blueprint, {9, 8, 3});
        fill(both.in, 2, both.in_shape, 31, -17, 21);
        fill(both.error, 2, both.out_shape, bits, -23, 22);
        if (largest_values)
            for (std::int32_t& x : both.error.data) x = largest_mantissa(bits + 1);
        const double A = largest(values_of(both.in)), E = largest(values_of(both.error));
        const std::int64_t shared = (blueprint.kernel + blueprint.stride - 1) / blueprint.stride;
        const nn::fixed::tensor& out = both.forward();
        const double reciprocal = std::ldexp(static_cast<double>(blueprint.kernel * blueprint.kernel), -31);
        check_within("output", values_of(out), values_of(both.twin_forward().data),
                     value_of(1, out.exponent) + A * reciprocal);
        const nn::fixed::tensor& in_error = both.backward();
        check_within("input error", values_of(in_error), values_of(both.twin_backward().data),
                     static_cast<double>(shared * shared) * (value_of(1, in_error.exponent - 1) + std::ldexp(E, -31)));
    };
    for (const int bits : {14, 28, 31})
        for (const bool largest_values : {false, true}) {
            check(nn::max_pool2d{3, 2}, bits, largest_values);
            check(nn::max_pool2d{2, 1}, bits, largest_values);
            check(nn::avg_pool2d{3, 2}, bits, largest_values);
            check(nn::avg_pool2d{4, 1}, bits, largest_values);
        }
}

TEST_CASE("a mean never passes the largest value of its window, even of full 31-bit mantissas") {
    for (const std::int64_t kernel : {3, 5, 6, 7, 9, 15}) {
        CAPTURE(kernel);
        pair_of_layers<nn::avg_pool2d> both(nn::avg_pool2d{kernel}, {kernel, kernel, 2});
        both.in.reshape(1, both.in_shape);
        for (std::size_t i = 0; i < both.in.data.size(); ++i) both.in.data[i] = i % 2 == 0 ? 2147483647 : -2147483647;
        const nn::fixed::tensor& out = both.forward();
        CHECK(out.data[0] >= 2147483647 - kernel * kernel);
        CHECK(out.data[1] == -out.data[0]);
        CHECK(out.exponent == 0);
    }
}

// With s = sqrt(variance + 2^-17), x cut to units of which d is half (0 when nothing was dropped), X = x-hat:
//   the mean is off by at most d + 2^-33, s by at most d (a deviation moves by no more than the values' root mean
//   square does, adding 2^-17 makes it slower) and 2^-33 / 2^-8.5 (the variance is in Q32), its reciprocal by 2^-15 +
//   2^-26 of itself. So X is off by dX = (2 d + 2^-33) / s + |X| r with r = (d + 2^-24) / s + 2^-14, doubled for
//   second-order terms, and by half a unit of Q12 and as much for x's offset.
//   output: scale dX, half a unit for the aligned shift, half a unit when bits were dropped
//   gradients: N de for the shift, N (|X| de + |E| dX) for the scale, with de half a unit of the cut error
//   input error: G = scale / s is off by r G, T = E - mean(E) - X mean(E X), at most |E| (2 + |X|^2), by
//   dT = 2 de + dX |E| + |X| (|X| de + |E| dX); the three rounded coefficients add half a unit of the result for each
//   unit of E, X and 1.
TEST_CASE("batch normalisation lies within the bound of its two cuts and its fixed-point statistics") {
    for (const nn::image_shape& shape :
         {nn::image_shape{8, 7, 5}, nn::image_shape{1, 1, 3}, nn::image_shape{16, 16, 16}})
        for (const int exponent : {-29, -22}) {
            CAPTURE(nn::to_string(shape));
            CAPTURE(exponent);
            constexpr std::int64_t samples = 12;
            pair_of_layers<nn::batch_norm> both(nn::batch_norm{}, shape);
            nn::fixed_parameter &scale = both.layer.scale(), &shift = both.layer.shift();
            random_sequence random({.seed = 12, .use = stream::digits});
            scale.exponent = -15;
            shift.exponent = -16;
            for (std::size_t c = 0; c < scale.mantissa.size(); ++c) {
                scale.mantissa[c] = static_cast<std::int16_t>(random.between(16000, 32767));
                shift.mantissa[c] = static_cast<std::int16_t>(random.between(-32767, 32767));
                both.twin.scale().value[c] = value_of(scale.mantissa[c], scale.exponent);
                both.twin.shift().value[c] = value_of(shift.mantissa[c], shift.exponent);
            }
            fill(both.in, samples, shape, 27, exponent, 13);
            fill(both.error, samples, shape, 26, -31, 14);
            // Errors that follow the input, so that no gradient is a sum of numbers that cancel.
            for (std::size_t i = 0; i < both.in.data.size(); ++i) both.error.data[i] += both.in.data[i] / 4 + (1 << 24);

            const nn::fixed::tensor& out = both.forward();
            const std::vector<double> output = values_of(out);
            const int out_exponent = out.exponent;
            const nn::fixed::tensor& in_error = both.backward();
            const std::vector<double> twin_output = values_of(both.twin_forward().data);
            const std::vector<double> twin_in_error = values_of(both.twin_backward().data);

            const std::vector<double> x = values_of(both.in), e = values_of(both.error);
            const std::size_t channels = scale.mantissa.size();
            const auto n = static_cast<double>(x.size() / channels);
            double X = 0, s = 1e300;
            for (std::size_t c = 0; c < channels; ++c) {
                double mean = 0, squares = 0, most = 0;
                for (std::size_t i = c; i < x.size(); i += channels) mean += x[i] / n;
                for (std::size_t i = c; i < x.size(); i += channels) {
                    squares += (x[i] - mean) * (x[i] - mean) / n;
                    most = std::max(most, std::abs(x[i] - mean));
                }
                const double deviation = std::sqrt(squares + std::ldexp(1.0, -17));
                X = std::max(X, most / deviation);
                s = std::min(s, deviation);
            }
            REQUIRE(X < 8);
            const auto half_unit = [](const nn::fixed::tensor& t) {
                return value_of(1, t.exponent + std::max(0, bit_length(t.seen.maximum) - 15) - 1);
            };
            const double d = half_unit(both.in), de = half_unit(both.error);
            const double r = 2 * ((d + std::ldexp(1.0, -24)) / s + std::ldexp(1.0, -14));
            const double dX = 2 * (2 * d + std::ldexp(1.0, -33)) / s + X * r + std::ldexp(1.0, -12);
            const double E = largest(e), S = largest(values_of(scale.mantissa, scale.exponent)), G = S / s;
            const double dT = 2 * de + dX * E + X * (X * de + E * dX);

            check_within("output", output, twin_output, S * dX + value_of(1, out_exponent));
            check_within("scale gradient", values_of(scale.gradient, scale.gradient_exponent),
                         values_of(both.twin.scale().gradient), n * (X * de + E * dX));
            check_within("shift gradient", values_of(shift.gradient, shift.gradient_exponent),
                         values_of(both.twin.shift().gradient), n * de);
            check_within("input error", values_of(in_error), twin_in_error,
                         G * dT + r * G * E * (2 + X * X) + value_of(32767 + 32767 + 1, in_error.exponent - 1));
        }
}

// A sum is rounded once an operand, half a unit of the result each; going back the error is passed on as it is.
TEST_CASE("a residual sum lies within half a unit for each operand") {
    const auto block = nn::residual(nn::subsample{1, 3});
    for (const int bits : {12, 31})
        for (const int exponent : {-29, 3}) {
            CAPTURE(bits);
            CAPTURE(exponent);
            pair_of_layers<std::remove_const_t<decltype(block)>> both(block, {5, 4, 3});
            fill(both.in, 3, both.in_shape, bits, exponent, 15);
            fill(both.error, 3, both.out_shape, bits, exponent, 16);
            const nn::fixed::tensor& out = both.forward();
            check_within("output", values_of(out), values_of(both.twin_forward().data),
                         bits == 31 ? value_of(1, out.exponent) : 0);
            const nn::fixed::tensor& in_error = both.backward();
            check_within("input error", values_of(in_error), values_of(both.twin_backward().data),
                         bits == 31 ? value_of(1, in_error.exponent) : 0);
        }
}

// exp_negative is within 2^-26 relative and half a unit of Q31 (core/elementary.hpp), and the largest power is 1. So a
// numerator is off by at most 2^-26 p' + 2^-32 and the sum by at most 2^-26 of itself and `classes` x 2^-32; with p <=
// 1 the quotient is off by at most 2^-25 + (1 + classes) 2^-32 (second-order terms double this at the very most), and
// it is rounded to 2^-28.
TEST_CASE("softmax cross-entropy lies within the bound of its fixed-point exponential") {
    random_sequence random({.seed = 8, .use = stream::digits});
    for (const std::int64_t classes : {1, 2, 10, 200})
        for (const int exponent : {-31, -27, -20, 0, 3}) {
            CAPTURE(classes);
            CAPTURE(exponent);
            constexpr std::int64_t samples = 5;
            nn::loss<nn::fixed> loss;
            nn::loss<float64> twin;
            nn::fixed::tensor logits;
            fill(logits, samples, {1, 1, classes}, 31, exponent, 10);
            for (std::int32_t& x : logits.data) x >>= random.below(2) * random.below(30);
            float64::tensor twin_logits;
            twin_logits.reshape(samples, logits.shape);
            const std::vector<double> v = values_of(logits);
            std::copy(v.begin(), v.end(), twin_logits.data.begin());
            std::vector<std::uint8_t> labels(samples);
            for (std::uint8_t& l : labels)
                l = static_cast<std::uint8_t>(random.below(static_cast<std::uint32_t>(classes)));

            const double bound =
                2 * (std::ldexp(1.0, -25) + std::ldexp(1.0 + static_cast<double>(classes), -32)) + std::ldexp(1.0, -29);
            CHECK(bound < std::ldexp(1.0, -14));
            const std::vector<double> found = values_of(loss(logits, labels)),
                                      expected = values_of(twin(twin_logits, labels).data);
            CHECK(within(found, expected, bound));
            if (classes > 1 && exponent < -20) check_within("error", found, expected, bound);  // else p may be 0 or 1
            CHECK(loss.score().correct == twin.score().correct);
        }
}
