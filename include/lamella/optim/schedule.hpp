// The learning rate over a run, as a share of the setting `lr`, in integers: a function of the step alone, so that a
// resumed run continues exactly.
//
//   constant   1
//   cosine     from 1 to `floor`: floor + (1 - floor)(1 + cos(pi t / T)) / 2, as PyTorch's CosineAnnealingLR with T_max
//   = T step       multiplied by `gamma` at each of `drops` places that cut the run into equal parts onecycle   half a
//   cosine wave up from 1/25 to 1 over the first `rise`, another down to 1/250000 at the last step
//              (PyTorch's OneCycleLR; momentum stays what it is)
//
// All but onecycle may begin with `warm_up` steps that rise linearly to 1; t and T then count from their end.
// Next: optimizer.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "../core/decimal.hpp"
#include "../core/elementary.hpp"
#include "../core/errors.hpp"

namespace lamella::optim {

// Shapes of the learning rate over a run.
enum class schedule_shape : std::uint8_t { constant, cosine, step, onecycle };
inline constexpr std::array<std::string_view, 4> schedule_names{"constant", "cosine", "step", "onecycle"};
constexpr std::string_view name_of(schedule_shape s) noexcept { return schedule_names[static_cast<std::size_t>(s)]; }

// Throws argument_error for an unknown name.
inline schedule_shape parse_schedule(std::string_view name) {
    for (std::size_t i = 0; i < schedule_names.size(); ++i)
        if (schedule_names[i] == name) return static_cast<schedule_shape>(i);
    throw argument_error("schedule", "constant, cosine, step or onecycle", std::string(name));
}

// A shape and its bends.
struct schedule_settings {
    schedule_shape shape = schedule_shape::cosine;
    std::uint64_t warm_up = 0;                    // steps
    scaled floor;                                 // cosine: lowest share, 0 .. 1
    std::uint32_t drops = 2;                      // step
    scaled gamma = parse_scaled("0.1", "gamma");  // step: 0 .. 1
    scaled rise = parse_scaled("0.3", "rise");    // onecycle: share of the run, 0 .. 1
};

namespace detail {

inline constexpr std::uint64_t unit_share = std::uint64_t{1} << 62;  // shares are Q62

constexpr bool is_share(const scaled& s) noexcept {
    return s.mantissa >= 0 &&
           (s.mantissa == 0 || bit_length(static_cast<std::uint64_t>(s.mantissa)) + s.exponent <= 0 ||
            s == scaled{1 << 30, -30});
}

// For messages: the value as it is held.
LAMELLA_SELDOM inline std::string text_of(const scaled& s) {
    return std::to_string(s.mantissa) + " x 2^" + std::to_string(s.exponent);
}

// from + (to - from)(1 - cos(pi n / d)) / 2
constexpr std::uint64_t wave(std::uint64_t from, std::uint64_t to, std::uint64_t n, std::uint64_t d) noexcept {
    const std::uint64_t back = (unit_share + static_cast<std::uint64_t>(cosine(n, d))) / 2;  // 1 at n = 0, 0 at d
    const lamella::detail::uint128 sum =
        lamella::detail::uint128{from} * back + lamella::detail::uint128{to} * (unit_share - back);
    return static_cast<std::uint64_t>(sum >> 62);
}

}  // namespace detail

// Throws argument_error, naming the option, when a setting is out of its range.
inline void check(const schedule_settings& s) {
    const auto share = [](const scaled& value, const char* name) {
        if (!detail::is_share(value)) throw argument_error(name, "a number in 0..1", detail::text_of(value));
    };
    share(s.floor, "schedule floor");
    share(s.gamma, "schedule gamma");
    share(s.rise, "schedule rise");
    if (s.drops > 1000) throw argument_error("schedule drops", "0..1000", std::to_string(s.drops));
}

// The share of `lr` at a step of a run of `total` steps, to 31 bits. Steps from `total` on are like the run's end.
inline scaled schedule_share(const schedule_settings& s, std::uint64_t step, std::uint64_t total) {
    using detail::unit_share;
    total = std::max<std::uint64_t>(total, 1);
    step = std::min(step, total);
    if (s.shape == schedule_shape::onecycle) {
        const std::uint64_t last = total - 1, rise = to_q63(s.rise);
        const std::uint64_t peak = static_cast<std::uint64_t>((lamella::detail::uint128{rise} * last) >> 63);
        constexpr std::uint64_t low = unit_share / 25, lowest = unit_share / 250000;
        const std::uint64_t at = std::min(step, last);
        if (at < peak) return to_scaled(detail::wave(low, unit_share, at, peak), -62);
        if (last == peak) return to_scaled(unit_share, -62);
        return to_scaled(detail::wave(unit_share, lowest, at - peak, last - peak), -62);
    }
    if (step < s.warm_up) return divide(to_scaled(step + 1, 0), to_scaled(s.warm_up, 0));
    const std::uint64_t t = step - s.warm_up;
    const std::uint64_t length = total > s.warm_up ? total - s.warm_up : 1;
    if (s.shape == schedule_shape::cosine)
        return to_scaled(detail::wave(unit_share, to_q63(s.floor) >> 1, std::min(t, length), length), -62);
    std::uint64_t share = std::uint64_t{1} << 63;
    if (s.shape == schedule_shape::step) {
        const auto passed = lamella::detail::uint128{t} * (s.drops + 1) / length;
        share = power(to_q63(s.gamma), std::min(static_cast<std::uint64_t>(passed), std::uint64_t{s.drops}));
    }
    return to_scaled(share, -63);
}

}  // namespace lamella::optim
