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
#include "controller.hpp"

namespace lamella::precision {

struct laps_settings {
    std::uint32_t hi = 13107;  // raise above this distance, in 2^-16 units (0.20)
    std::uint32_t lo = 7864;   // lower below this distance, in 2^-16 units (0.12)
    std::uint32_t every = 10;     // steps from one probe to the next
    std::uint32_t patience = 2;   // down probes running that must agree
    std::uint32_t cooldown = 1;   // probes of a layer and stage that a change silences
    int first_width = 8;          // bits; the rung at or next below it is taken
    int last_layer_width = 0;     // bits; 0 leaves the last layer to the controller
    slice::encoding digits = slice::encoding::sign_magnitude;
};

// Parses "hi:lo:every:patience:cooldown". Throws argument_error.
inline laps_settings parse_laps(std::string_view text, laps_settings base = {}) {
    std::vector<std::string> field(1);
    for (const char c : text)
        if (c == ':')
            field.emplace_back();
        else
            field.back().push_back(c);
    if (field.size() != 5) throw argument_error("laps", "hi:lo:every:patience:cooldown", std::string(text));
    const auto count = [&](std::size_t i, const char* name, std::uint32_t least) {
        if (field[i].empty() || field[i].size() > 9 || field[i].find_first_not_of("0123456789") != std::string::npos)
            throw argument_error(name, "a whole number", field[i]);
        const auto value = static_cast<std::uint32_t>(std::stoul(field[i]));
        if (value < least) throw argument_error(name, "at least " + std::to_string(least), field[i]);
        return value;
    };
    base.hi = static_cast<std::uint32_t>(parse_fraction(field[0], 16, "laps hi"));
    base.lo = static_cast<std::uint32_t>(parse_fraction(field[1], 16, "laps lo"));
    if (base.lo > base.hi) throw argument_error("laps lo", "at most hi (" + field[0] + ")", field[1]);
    base.every = count(2, "laps every", 1);
    base.patience = count(3, "laps patience", 1);
    base.cooldown = count(4, "laps cooldown", 0);
    return base;
}

class laps final : public controller {
  public:
    explicit laps(const laps_settings& settings) : settings_(settings), ladder_(slice::ladder_of(settings.digits)) {
        checked_width(settings.first_width, "first width");
        if (settings.last_layer_width != 0) checked_width(settings.last_layer_width, "last-layer width");
        if (settings.every == 0) throw argument_error("laps every", "at least 1", "0");
        for (int r = 0; r < ladder_.rungs; ++r)
            if (width_of(r) <= settings.first_width) first_rung_ = r;
    }

    void attach(int layers) override {
        layers_ = layers;
        slots_.assign(static_cast<std::size_t>(2 * layers), slot{first_rung_, 0, 0, 0, 0});
    }

    layer_widths widths(int layer) const override {
        if (pinned(layer)) return {settings_.last_layer_width, settings_.last_layer_width, settings_.last_layer_width};
        const int forward = width_of(static_cast<int>(at(layer, 0).rung));
        return {forward, forward, width_of(static_cast<int>(at(layer, 1).rung))};
    }

    std::optional<probe_request> begin_step(std::uint64_t step) override {
        if (step % settings_.every != settings_.every - 1 || layers_ == 0) return std::nullopt;
        const int targets = 2 * (settings_.last_layer_width != 0 ? layers_ - 1 : layers_);
        if (targets == 0) return std::nullopt;
        const int target = static_cast<int>(next_ % static_cast<std::uint64_t>(targets));
        ++next_;
        const int layer = target / 2;
        slot& s = at(layer, target % 2);
        const int rung = static_cast<int>(s.rung);
        const bool up = rung == 0 || (rung + 1 < ladder_.rungs && s.turn % 2 == 0);
        ++s.turn;
        const int low = up ? rung : rung - 1;
        return probe_request{layer, target % 2 == 0 ? stage::feed_forward : stage::error_propagation, width_of(low),
                             width_of(low + 1)};
    }

    void on_probe(const probe_result& result) override {
        if (result.magnitude == 0) return;
        slot& s = at(result.request.layer, result.request.where == stage::feed_forward ? 0 : 1);
        if (s.silent > 0) {
            --s.silent;
            return;
        }
        const bool up = result.request.low == width_of(static_cast<int>(s.rung));
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

    std::string description() const override {
        return "laps hi:" + std::to_string(settings_.hi) + " lo:" + std::to_string(settings_.lo) +
               " every:" + std::to_string(settings_.every) + " patience:" + std::to_string(settings_.patience) +
               " cooldown:" + std::to_string(settings_.cooldown) + " first:" + std::to_string(width_of(first_rung_)) +
               " last:" + std::to_string(settings_.last_layer_width) + " " + std::string(name_of(settings_.digits));
    }
    void visit(state_visitor& visitor) override {
        visitor.integer("next", next_);
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            slot& s = slots_[i];
            std::int64_t state[5] = {s.rung, s.turn, s.agreed, s.silent, s.changes};
            visitor.integers("slot" + std::to_string(i), std::span<std::int64_t>(state));
            s = {std::clamp<std::int64_t>(state[0], 0, ladder_.rungs - 1), state[1], state[2], state[3], state[4]};
        }
    }
    std::unique_ptr<controller> clone() const override { return std::make_unique<laps>(*this); }

  private:
    struct slot {
        std::int64_t rung, turn, agreed, silent, changes;
    };
    int width_of(int rung) const { return ladder_.width[static_cast<std::size_t>(rung)]; }
    bool pinned(int layer) const { return settings_.last_layer_width != 0 && layer == layers_ - 1; }
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
    int layers_ = 0;
    std::uint64_t next_ = 0;
    std::vector<slot> slots_;
};

}  // namespace lamella::precision
