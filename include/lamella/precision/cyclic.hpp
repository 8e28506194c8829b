// Cyclic precision training: widths rise and fall with the steps, whatever the data.
//
// Fu et al., CPT, ICLR 2021 (rule as in their code): at step t the width is
//   rint(lowest + (highest - lowest) (1 + cos(pi (t mod P) / P + pi)) / 2),
// so a cycle of P steps climbs half a cosine wave and then starts again at the bottom. Ours: the width is taken up to
// the encoding's next rung, since between rungs nothing is saved. The paper keeps error propagation at one width:
// "cyclic:.../fixed:8" (per_stage.hpp).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../core/elementary.hpp"
#include "../core/rounding.hpp"
#include "../slice/encoding.hpp"
#include "bounds.hpp"

namespace lamella::precision {

// Bounds and period of the cycle.
struct cyclic_settings {
    int lowest = 5, highest = 8;  // bits
    std::uint32_t period = 134;   // steps; the paper has 32 cycles in a run
    slice::encoding digits = slice::encoding::sign_magnitude;
};

// Parses "lowest:highest:period". Throws argument_error.
inline cyclic_settings parse_cyclic(std::string_view text, cyclic_settings base = {}) {
    const std::vector<std::string> field = detail::fields(text, ':');
    if (field.size() != 3) throw argument_error("cyclic", "lowest:highest:period", std::string(text));
    base.lowest = detail::width_of_text(field[0], "cyclic lowest");
    base.highest = detail::width_of_text(field[1], "cyclic highest");
    if (base.lowest > base.highest)
        throw argument_error("cyclic lowest", "at most highest (" + field[1] + ")", field[0]);
    base.period = detail::whole_number(field[2], "cyclic period", 1);
    return base;
}

class cyclic final : public bounded_controller {
  public:
    explicit cyclic(const cyclic_settings& settings) : settings_(settings) {
        checked_width(settings.lowest, "cyclic lowest");
        checked_width(settings.highest, "cyclic highest");
        if (settings.lowest > settings.highest)
            throw argument_error("cyclic lowest", "at most highest", std::to_string(settings.lowest));
        if (settings.period == 0) throw argument_error("cyclic period", "at least 1", "0");
    }

    // The rule's width at a step, before rungs and bounds.
    int width_at(std::uint64_t step) const noexcept {
        const std::uint64_t fallen =
            (std::uint64_t{1} << 62) - static_cast<std::uint64_t>(cosine(step % settings_.period, settings_.period));
        const auto risen = static_cast<std::int64_t>(fallen >> 30);  // (1 - cos) / 2 in Q33
        const std::int64_t width =
            (std::int64_t{settings_.lowest} << 33) + (settings_.highest - settings_.lowest) * risen;
        return static_cast<int>(round_nearest(width, 33));
    }

    std::optional<probe_request> begin_step(std::uint64_t step) override {
        step_ = step;
        return std::nullopt;
    }
    // The step, so that an evaluation after a resumption has the widths of the one before.
    void visit(state_visitor& visitor) override { visitor.integer("step", step_); }
    std::unique_ptr<controller> clone() const override { return std::make_unique<cyclic>(*this); }

  private:
    layer_widths wanted(int) const override {
        const int width = slice::rung_at_least(slice::ladder_of(settings_.digits), width_at(step_));
        return {width, width, width};
    }
    int widest() const override { return slice::rung_at_least(slice::ladder_of(settings_.digits), settings_.highest); }
    LAMELLA_SELDOM std::string settings_text() const override {
        return "cyclic:" + std::to_string(settings_.lowest) + ":" + std::to_string(settings_.highest) + ":" +
               std::to_string(settings_.period) + " " + std::string(name_of(settings_.digits));
    }

    cyclic_settings settings_;
    std::uint64_t step_ = 0;
};

}  // namespace lamella::precision
