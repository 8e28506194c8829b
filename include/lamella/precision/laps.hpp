// LAPS: layer-wise adaptive precision scaling, by active probes.
//
// Sourced (patent abstract US20220222523A1; IEEE Micro 42(2) 2022 abstract): training starts at a first precision, and
// a layer-wise module decides the precision of each layer, separately in feed-forward and in error propagation, at run
// time. The statistic, thresholds and schedule are not public: the probe below is our reconstruction.
//
// Widths stand on the encoding's ladder (one rung a number of slices). Every `every` steps one layer and stage, round
// robin, is computed at two neighbouring rungs; *up* compares the present width with the next rung, *down* the rung
// below with the present width, in turn. distance = sum |O_high - O_low| / sum |O_high|. Raise when an up probe exceeds
// `hi`; lower when `patience` down probes running stay under `lo`; then `cooldown` probes of that layer and stage pass
// without a change.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../core/decimal.hpp"
#include "../slice/encoding.hpp"
#include "bounds.hpp"

namespace lamella::precision {

// Thresholds and times of the probes.
struct laps_settings {
    std::uint32_t hi = 13107;    // raise above this distance, in 2^-16 units (0.20)
    std::uint32_t lo = 7864;     // lower below this distance, in 2^-16 units (0.12)
    std::uint32_t every = 10;    // steps from one probe to the next
    std::uint32_t patience = 2;  // down probes running that must agree
    std::uint32_t cooldown = 1;  // probes of a layer and stage that a change silences
    int first_width = 8;         // bits; the rung at or next below it is taken
    slice::encoding digits = slice::encoding::sign_magnitude;
};

// Parses "hi:lo:every:patience:cooldown". Throws argument_error.
inline laps_settings parse_laps(std::string_view text, laps_settings base = {}) {
    const std::vector<std::string> field = detail::fields(text, ':');
    if (field.size() != 5) throw argument_error("laps", "hi:lo:every:patience:cooldown", std::string(text));
    base.hi = static_cast<std::uint32_t>(parse_fraction(field[0], 16, "laps hi"));
    base.lo = static_cast<std::uint32_t>(parse_fraction(field[1], 16, "laps lo"));
    if (base.lo > base.hi) throw argument_error("laps lo", "at most hi (" + field[0] + ")", field[1]);
    base.every = detail::whole_number(field[2], "laps every", 1);
    base.patience = detail::whole_number(field[3], "laps patience", 1);
    base.cooldown = detail::whole_number(field[4], "laps cooldown", 0);
    return base;
}

class laps final : public bounded_controller {
  public:
    explicit laps(const laps_settings& settings) : settings_(settings), ladder_(slice::ladder_of(settings.digits)) {
        checked_width(settings.first_width, "first width");
        if (settings.every == 0) throw argument_error("laps every", "at least 1", "0");
        for (int r = 0; r < ladder_.rungs; ++r)
            if (width_of(r) <= settings.first_width) first_rung_ = r;
    }

    std::optional<probe_request> begin_step(std::uint64_t step) override {
        step_ = step;
        if (step % settings_.every != settings_.every - 1 || targets_.empty()) return std::nullopt;
        const std::size_t target = targets_[static_cast<std::size_t>(next_ % targets_.size())];
        ++next_;
        slot& s = slots_[target];
        const bool up = s.rung == s.lowest || (s.rung < s.highest && s.turn % 2 == 0);
        ++s.turn;
        const int low = static_cast<int>(up ? s.rung : s.rung - 1);
        return probe_request{static_cast<int>(target / 2),
                             target % 2 == 0 ? stage::feed_forward : stage::error_propagation, width_of(low),
                             width_of(low + 1)};
    }

    void on_probe(const probe_result& result) override {
        if (result.magnitude == 0) return;
        const probe_request& asked = result.request;
        slot& s = at(asked.layer, asked.where == stage::feed_forward ? 0 : 1);
        const bool up = asked.low == width_of(static_cast<int>(s.rung));
        note(step_, {asked.layer, asked.where, share(result), up ? settings_.hi : settings_.lo});
        if (s.silent > 0) {
            --s.silent;
            return;
        }
        if (up) {
            if ((result.distance << 16) > result.magnitude * settings_.hi) move(s, 1);
        } else if ((result.distance << 16) < result.magnitude * settings_.lo) {
            if (++s.agreed >= settings_.patience) move(s, -1);
        } else {
            s.agreed = 0;
        }
    }

    // Width changes of a layer and stage (0 FF, 1 EP) so far.
    std::int64_t changes(int layer, int which) const { return at(layer, which).changes; }

    void visit(state_visitor& visitor) override {
        visitor.integer("next", next_);
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            slot& s = slots_[i];
            std::int64_t state[5] = {s.rung, s.turn, s.agreed, s.silent, s.changes};
            visitor.integers("slot" + std::to_string(i), std::span<std::int64_t>(state));
            // A checkpoint may hold anything; what is counted further must not overflow.
            for (std::int64_t& x : state) x = std::clamp<std::int64_t>(x, 0, std::int64_t{1} << 62);
            s.rung = std::clamp(state[0], s.lowest, s.highest);
            s.turn = state[1];
            s.agreed = state[2];
            s.silent = state[3];
            s.changes = state[4];
        }
    }
    std::unique_ptr<controller> clone() const override { return std::make_unique<laps>(*this); }

  private:
    // A layer and stage: its rung between those that its bounds allow.
    struct slot {
        std::int64_t lowest = 0, highest = 0, rung = 0, turn = 0, agreed = 0, silent = 0, changes = 0;
    };

    void start() override {
        slots_.assign(static_cast<std::size_t>(2 * layers()), {});
        targets_.clear();
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            slot& s = slots_[i];
            const width_bounds& allowed = bounds(static_cast<int>(i / 2));
            s.highest = ladder_.rungs - 1;
            while (s.lowest < s.highest && width_of(static_cast<int>(s.lowest)) < allowed.lowest) ++s.lowest;
            while (s.highest > s.lowest && width_of(static_cast<int>(s.highest)) > allowed.highest) --s.highest;
            s.rung = std::clamp<std::int64_t>(first_rung_, s.lowest, s.highest);
            const stage where = i % 2 == 0 ? stage::feed_forward : stage::error_propagation;
            if (s.lowest < s.highest && serves(where)) targets_.push_back(i);
        }
    }
    layer_widths wanted(int layer) const override {
        const int forward = width_of(static_cast<int>(at(layer, 0).rung));
        return {forward, forward, width_of(static_cast<int>(at(layer, 1).rung))};
    }
    LAMELLA_SELDOM std::string settings_text() const override {
        return "laps hi:" + std::to_string(settings_.hi) + " lo:" + std::to_string(settings_.lo) +
               " every:" + std::to_string(settings_.every) + " patience:" + std::to_string(settings_.patience) +
               " cooldown:" + std::to_string(settings_.cooldown) + " first:" + std::to_string(width_of(first_rung_)) +
               " " + std::string(name_of(settings_.digits));
    }

    // The distance as a share of the magnitude, in units of 2^-16, for the record.
    static std::uint32_t share(const probe_result& r) noexcept {
        const uint128 quotient = (r.distance << 16) / r.magnitude;
        return quotient >> 32 != 0 ? ~std::uint32_t{0} : static_cast<std::uint32_t>(quotient);
    }
    int width_of(int rung) const { return ladder_.width[static_cast<std::size_t>(rung)]; }
    slot& at(int layer, int which) { return slots_[static_cast<std::size_t>(2 * layer + which)]; }
    const slot& at(int layer, int which) const { return slots_[static_cast<std::size_t>(2 * layer + which)]; }
    void move(slot& s, int by) {
        s.rung += by;
        s.agreed = 0;
        s.silent = settings_.cooldown;
        ++s.changes;
    }

    laps_settings settings_;
    slice::ladder ladder_;
    int first_rung_ = 0;
    std::uint64_t next_ = 0, step_ = 0;
    std::vector<slot> slots_;
    std::vector<std::size_t> targets_;  // slots that may move, in turn
};

}  // namespace lamella::precision
