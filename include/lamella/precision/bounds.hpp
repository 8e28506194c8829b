// What all controllers here share: floors and ceilings of widths, layer by layer, and the stages that one serves.
//
// Rules as text: "first=8", "last=8..16", "all=5..8", "2=12" (layers count from 0); a later rule replaces an earlier
// one for its layer. They hold whatever the controller wants, for all operands of the layer that it decides on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controller.hpp"
#include "fields.hpp"

namespace lamella::precision {

// Widths that a layer may have.
struct width_bounds {
    int lowest = min_width, highest = max_width;  // bits
    friend bool operator==(const width_bounds&, const width_bounds&) = default;
    int clamp(int width) const noexcept { return std::clamp(width, lowest, highest); }
};

// Bounds by layer, as users write them.
class width_rules {
  public:
    // Adds "LAYER=W" or "LAYER=LO..HI", LAYER one of all, first, last or a number. Throws argument_error.
    void add(std::string_view text) {
        constexpr const char* expected = "all, first, last or a layer's number, then =W or =LO..HI";
        const std::size_t equals = text.find('=');
        if (equals == std::string_view::npos) throw argument_error("width rule", expected, std::string(text));
        const std::string where(text.substr(0, equals)), range(text.substr(equals + 1));
        rule r;
        if (where == "all")
            r.layer = all;
        else if (where == "first")
            r.layer = 0;
        else if (where == "last")
            r.layer = last;
        else if (!where.empty() && where.size() < 5 && where.find_first_not_of("0123456789") == std::string::npos)
            r.layer = std::stoi(where);
        else
            throw argument_error("width rule", expected, std::string(text));
        const std::size_t dots = range.find("..");
        r.bounds.lowest = detail::width_of_text(range.substr(0, dots), "width rule " + where);
        r.bounds.highest = dots == std::string::npos
                               ? r.bounds.lowest
                               : detail::width_of_text(range.substr(dots + 2), "width rule " + where);
        if (r.bounds.lowest > r.bounds.highest)
            throw argument_error("width rule " + where, "a floor that is at most the ceiling", range);
        rules_.push_back(r);
    }

    // Bounds of each of `layers` layers. Throws argument_error when a rule names a layer that is not there.
    std::vector<width_bounds> resolve(int layers) const {
        std::vector<width_bounds> bounds(static_cast<std::size_t>(layers));
        for (const rule& r : rules_) {
            const int first = r.layer == all ? 0 : r.layer == last ? layers - 1 : r.layer;
            const int end = r.layer == all ? layers : first + 1;
            if (first < 0 || end > layers)
                throw argument_error("width rule", "a layer from 0 to " + std::to_string(layers - 1),
                                     std::to_string(r.layer));
            std::fill(bounds.begin() + first, bounds.begin() + end, r.bounds);
        }
        return bounds;
    }
    // The largest width that comes of widths up to `widest`.
    int ceiling(int widest) const noexcept {
        int most = widest;
        for (const rule& r : rules_) most = std::max(most, r.bounds.clamp(widest));
        return most;
    }
    // "@first=8..8@last=5..16"; empty without rules.
    LAMELLA_SELDOM std::string description() const {
        std::string text;
        for (const rule& r : rules_) {
            text += '@';
            text += r.layer == all ? "all" : r.layer == last ? "last" : std::to_string(r.layer);
            text += "=" + std::to_string(r.bounds.lowest) + ".." + std::to_string(r.bounds.highest);
        }
        return text;
    }

  private:
    static constexpr int all = -1, last = -2;
    struct rule {
        int layer = all;
        width_bounds bounds;
    };
    std::vector<rule> rules_;
};

// A controller within such rules. Derive from it, and say what is wanted in `wanted`.
class bounded_controller : public controller {
  public:
    // Both before the network takes the controller.
    void within(width_rules rules) { rules_ = std::move(rules); }
    void serve_only(stage where) {
        forward_ = where == stage::feed_forward;
        backward_ = !forward_;
    }

    void attach(int layers) final {
        bounds_ = rules_.resolve(layers);
        reserve_measurements(3 * bounds_.size());
        start();
    }
    layer_widths widths(int layer) const final {
        const layer_widths w = wanted(layer);
        const width_bounds& b = bounds(layer);
        return {b.clamp(w.activation), b.clamp(w.weight), b.clamp(w.error)};
    }
    int ceiling() const final { return rules_.ceiling(widest()); }
    std::string description() const final { return settings_text() + rules_.description(); }

  protected:
    // The network is built: layers() and bounds() are known.
    virtual void start() {}
    virtual layer_widths wanted(int layer) const = 0;
    virtual int widest() const { return max_width; }
    virtual std::string settings_text() const = 0;

    int layers() const noexcept { return static_cast<int>(bounds_.size()); }
    const width_bounds& bounds(int layer) const noexcept { return bounds_[static_cast<std::size_t>(layer)]; }
    bool serves(stage where) const noexcept { return where == stage::feed_forward ? forward_ : backward_; }
    // Notes the one comparison that a rule for the whole network made.
    void note_everywhere(std::uint64_t step, std::uint32_t metric, std::uint32_t threshold) {
        for (int layer = 0; layer < layers(); ++layer)
            for (const stage where : {stage::feed_forward, stage::error_propagation})
                if (serves(where)) note(step, {layer, where, metric, threshold});
    }

  private:
    width_rules rules_;
    std::vector<width_bounds> bounds_;
    bool forward_ = true, backward_ = true;
};

}  // namespace lamella::precision
