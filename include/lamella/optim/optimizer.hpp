// Optimizers on OPTC's arithmetic (accelerator/optc.hpp), with PyTorch's conventions:
//
//   momentum   m = b1 m + g', w -= lr m           g' = g + weight_decay w
//   sgd        w -= lr g'
//   adam       m = b1 m + (1 - b1) g', v = b2 v + (1 - b2) g'^2, w -= lr m^ / sqrt(v^ + epsilon^2)
//   adamw      the same with g, and w -= lr weight_decay w before
//   sign       m = b1 m + g', w -= lr sign(m)
//
// g is the mean over the step's real batch; the loss is never divided by the batch elsewhere. ^ is the usual correction
// by 1 - b^t. epsilon stands inside the root, where a textbook adds it outside. The learning rate follows
// schedule.hpp. Settings are exact decimal numbers, and everything that a step depends on is an integer.
//
// Clipping scales all gradients of a step alike, as PyTorch's clip_grad_norm_ does: the factor joins the batch's 1 / B,
// so that a gradient is still rounded once.
//
// An update of a twin's parameter (nn::real_parameter) is the same formulas in its own arithmetic.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "../accelerator/optc.hpp"
#include "../core/decimal.hpp"
#include "../core/elementary.hpp"
#include "../core/errors.hpp"
#include "../core/state.hpp"
#include "../nn/parameter.hpp"
#include "gradient_norm.hpp"
#include "schedule.hpp"

namespace lamella::optim {

// Update rules by name; adamw decays weights apart from the moments.
enum class rule : std::uint8_t { momentum, sgd, adam, adamw, sign };
inline constexpr std::array<std::string_view, 5> rule_names{"momentum", "sgd", "adam", "adamw", "sign"};
constexpr std::string_view name_of(rule r) noexcept { return rule_names[static_cast<std::size_t>(r)]; }

// Throws argument_error for an unknown name.
inline rule parse_rule(std::string_view name) {
    for (std::size_t i = 0; i < rule_names.size(); ++i)
        if (rule_names[i] == name) return static_cast<rule>(i);
    throw argument_error("optimizer", "momentum, sgd, adam, adamw or sign", std::string(name));
}

// What an update depends on beside gradients and moments.
struct optimizer_settings {
    optim::rule rule = optim::rule::momentum;
    scaled lr = parse_scaled("0.05", "lr");             // in [0, 2^20)
    scaled momentum = parse_scaled("0.9", "momentum");  // b1, in [0, 1)
    scaled b2 = parse_scaled("0.999", "b2");            // adam, adamw; in [0, 1)
    scaled epsilon = parse_scaled("1e-8", "epsilon");   // adam, adamw; in [2^-100, 2^20)
    scaled weight_decay;                                // 0 .. 1
    scaled clip_norm;  // longest gradient (2-norm of the mean over the batch, all parameters together); 0: any
    schedule_settings schedule;
};

namespace detail {

// sum, value and moments of n elements; what a lane does not need is null.
template <class Real>
struct real_tensor {
    Real* LAMELLA_RESTRICT value;
    const Real* LAMELLA_RESTRICT sum;
    Real* LAMELLA_RESTRICT first;
    Real* LAMELLA_RESTRICT second;
    std::size_t count;
};
template <class Real>
struct real_step {
    accelerator::optc_direction direction;
    Real inverse_batch, decay, b1, c1, b2, c2, epsilon_squared, rate, shrink;
};

template <class Real>
LAMELLA_ALWAYS_INLINE void real_update_body(const real_step<Real> s, const real_tensor<Real> t) {
    Real* LAMELLA_RESTRICT const value = t.value;
    Real* LAMELLA_RESTRICT const first = t.first;
    Real* LAMELLA_RESTRICT const second = t.second;
    const Real* LAMELLA_RESTRICT const sum = t.sum;
    const auto gradient = [&](std::size_t i) { return sum[i] * s.inverse_batch + s.decay * value[i]; };
    if (s.direction == accelerator::optc_direction::normalised) {
        for (std::size_t i = 0; i < t.count; ++i) {
            const Real g = gradient(i);
            first[i] = s.b1 * first[i] + s.c1 * g;
            second[i] = s.b2 * second[i] + s.c2 * g * g;
            value[i] -= s.rate * first[i] / std::sqrt(second[i] + s.epsilon_squared) + s.shrink * value[i];
        }
    } else if (s.direction == accelerator::optc_direction::sign) {
        for (std::size_t i = 0; i < t.count; ++i) {
            first[i] = s.b1 * first[i] + s.c1 * gradient(i);
            value[i] -= s.rate * static_cast<Real>((first[i] > 0) - (first[i] < 0));
        }
    } else if (first != nullptr) {
        for (std::size_t i = 0; i < t.count; ++i) {
            first[i] = s.b1 * first[i] + s.c1 * gradient(i);
            value[i] -= s.rate * first[i];
        }
    } else {
        for (std::size_t i = 0; i < t.count; ++i) value[i] -= s.rate * s.c1 * gradient(i);
    }
}
LAMELLA_MULTIVERSION_TEMPLATE(real_update, (class Real), (const real_step<Real> s, const real_tensor<Real> t), (s, t))

}  // namespace detail

// begin_step once a step, then update for every parameter. After the first step nothing is allocated.
class optimizer {
  public:
    // Throws argument_error, naming the option, when a setting is out of its range.
    explicit optimizer(const optimizer_settings& settings = {}) : settings_(settings) {
        check(settings.schedule);
        require(settings.lr.mantissa >= 0 && top(settings.lr) <= 20, "lr", "a number in [0, 2^20)", settings.lr);
        require(settings.momentum.mantissa >= 0 && top(settings.momentum) <= 0, "momentum", "a number in [0, 1)",
                settings.momentum);
        require(settings.b2.mantissa >= 0 && top(settings.b2) <= 0, "b2", "a number in [0, 1)", settings.b2);
        require(settings.epsilon.mantissa > 0 && top(settings.epsilon) > -100 && top(settings.epsilon) <= 20, "epsilon",
                "a number in [2^-100, 2^20)", settings.epsilon);
        require(settings.clip_norm.mantissa >= 0 && top(settings.clip_norm) <= 60, "clip norm", "a number in [0, 2^60)",
                settings.clip_norm);
        require(detail::is_share(settings.weight_decay), "weight decay", "a number in 0..1", settings.weight_decay);
    }

    const optimizer_settings& settings() const noexcept { return settings_; }
    // The coefficients of the step that has begun.
    const accelerator::optc_step& coefficients() const noexcept { return step_; }
    // The learning rate of the step that has begun: lr times the schedule's share.
    const scaled& learning_rate() const noexcept { return rate_; }
    // What saturated since the run began.
    const accelerator::optc_saturations& saturations() const noexcept { return saturations_; }

    // `step` counts from 0 over the whole run of `total` steps; `batch` is the step's real number of samples.
    // Throws argument_error for an empty batch.
    void begin_step(std::uint64_t step, std::uint64_t total, std::uint32_t batch) {
        if (batch == 0) throw argument_error("batch", "at least one sample", "0");
        const optimizer_settings& s = settings_;
        constexpr scaled one{1 << 30, -30};
        constexpr std::uint64_t unit = std::uint64_t{1} << 63;
        rate_ = multiply(s.lr, schedule_share(s.schedule, step, total));
        step_ = {};
        step_.inverse_batch = divide(one, to_scaled(batch, 0));
        step_.rate = rate_;
        step_.c1 = one;
        if (s.rule != rule::sgd) step_.b1 = s.momentum;
        if (s.rule != rule::adamw) step_.decay = s.weight_decay;
        if (s.rule == rule::sign) step_.direction = accelerator::optc_direction::sign;
        if (!second()) return;
        const std::uint64_t b1 = to_q63(s.momentum), b2 = to_q63(s.b2), t = step + 1;
        const scaled first_correction = to_scaled(unit - power(b1, t), -63);
        const scaled second_correction = to_scaled(unit - power(b2, t), -63);
        step_.direction = accelerator::optc_direction::normalised;
        step_.c1 = to_scaled(unit - b1, -63);
        step_.b2 = s.b2;
        step_.c2 = to_scaled(unit - b2, -63);
        // m^ / sqrt(v^ + e^2) = m / sqrt(v + e^2 (1 - b2^t)) x sqrt(1 - b2^t) / (1 - b1^t)
        step_.epsilon_squared = multiply(multiply(s.epsilon, s.epsilon), second_correction);
        step_.rate = multiply(rate_, divide(square_root(second_correction), first_correction));
        if (s.rule == rule::adamw) step_.shrink = multiply(rate_, s.weight_decay);
    }

    // Between begin_step and the updates: shortens the step's gradient to clip_norm if it is longer.
    // `parameters(visit)` calls visit(parameter) for all of them, in the same order every time. Returns the gradient's
    // 2-norm before, of the mean over the batch, with a relative error below 2^-13; 0 when nothing is clipped in this
    // run.
    template <class Parameters>
    scaled clip(Parameters&& parameters) {
        if (settings_.clip_norm.mantissa == 0) return {};
        gradient_norm sums;
        parameters([&](auto& p) { sums.add(p); });
        const scaled norm = multiply(sums.norm(), step_.inverse_batch);
        const auto less = [](const scaled& a, const scaled& b) {
            return b.mantissa != 0 && (a.mantissa == 0 || a.exponent < b.exponent ||
                                       (a.exponent == b.exponent && a.mantissa < b.mantissa));
        };
        if (less(settings_.clip_norm, norm))
            step_.inverse_batch = multiply(step_.inverse_batch, divide(settings_.clip_norm, norm));
        return norm;
    }

    // Gives the parameter's moments their sizes (zeros, unless they have them), as loading a checkpoint needs.
    void prepare(nn::fixed_parameter& p) { accelerator::optc_prepare(p.state, p.mantissa.size(), first(), second()); }
    template <class Real>
    void prepare(nn::real_parameter<Real>& p) {
        const auto size = [](auto& moment, std::size_t count) {
            if (moment.size() == count) return;
            moment.resize(count);
            moment.fill_zero();
        };
        size(p.first_moment, first() ? p.value.size() : 0);
        size(p.second_moment, second() ? p.value.size() : 0);
    }

    // Moves one parameter by its gradient sum; its mantissas lie elsewhere then. `seed`, `step` and the parameter's
    // layer choose the random bits.
    void update(nn::fixed_parameter& p, std::uint64_t seed, std::uint32_t step, path isa, int threads = 1) {
        prepare(p);
        saturations_.add(
            accelerator::optc_update(step_, {p.mantissa, p.exponent, p.gradient.span(), p.gradient_exponent, p.state},
                                     {seed, step, p.layer, p.bias}, isa, threads));
    }
    template <class Real>
    void update(nn::real_parameter<Real>& p, std::uint64_t, std::uint32_t, path isa, int = 1) {
        prepare(p);
        const auto real = [](const scaled& s) { return std::ldexp(static_cast<Real>(s.mantissa), s.exponent); };
        detail::real_update<Real>(
            isa,
            {step_.direction, real(step_.inverse_batch), real(step_.decay), real(step_.b1), real(step_.c1),
             real(step_.b2), real(step_.c2), real(step_.epsilon_squared), real(step_.rate), real(step_.shrink)},
            {p.value.data(), p.gradient.data(), p.first_moment.data(), p.second_moment.data(), p.value.size()});
    }

    // The moments belong to the parameters, and a step's coefficients follow from its number: counts are all there is.
    void visit(state_visitor& visitor) {
        visitor.integer("saturated_gradients", saturations_.gradients);
        visitor.integer("saturated_updates", saturations_.updates);
        visitor.integer("saturated_first_moments", saturations_.first_moments);
        visitor.integer("saturated_second_moments", saturations_.second_moments);
        visitor.integer("saturated_weights", saturations_.weights);
    }

  private:
    static int top(const scaled& s) noexcept {  // value < 2^top
        return s.mantissa == 0 ? -1000 : bit_length(static_cast<std::uint64_t>(s.mantissa)) + s.exponent;
    }
    static void require(bool holds, const char* name, const char* expected, const scaled& found) {
        if (!holds) throw argument_error(name, expected, detail::text_of(found));
    }
    bool first() const noexcept { return settings_.rule != rule::sgd; }
    bool second() const noexcept { return settings_.rule == rule::adam || settings_.rule == rule::adamw; }

    optimizer_settings settings_;
    accelerator::optc_step step_;
    scaled rate_;
    accelerator::optc_saturations saturations_;
};

}  // namespace lamella::optim
