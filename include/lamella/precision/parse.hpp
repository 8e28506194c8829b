// Any controller from text, as the programs' --precision takes it:
//
//   RULE[@BOUND..]                one controller for both stages
//   RULE[@BOUND..]/RULE[@BOUND..] feed-forward / error propagation, each by its own
//
//   laps                          laps:hi:lo:every:patience:cooldown
//   fixed:W                       fixed:FF,EP
//   cyclic:lowest:highest:period  progressive:widths:every:eps
//   gradient-diversity:widths:every
//   quantisation-error:threshold:every
//   table:A,W,E[+A,W,E..]         each I.F, one row a layer or one for all
//
// BOUND is a layer's floor and ceiling, "last=8..16" (bounds.hpp). Each rule's header explains its fields.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cyclic.hpp"
#include "fixed.hpp"
#include "gradient_diversity.hpp"
#include "laps.hpp"
#include "per_stage.hpp"
#include "progressive.hpp"
#include "quantisation_error.hpp"
#include "table.hpp"

namespace lamella::precision {

namespace detail {

// `base`: settings of a laps without fields; its digits choose the ladder of the other controllers too.
inline std::unique_ptr<bounded_controller> parse_rule(const std::string& text, const laps_settings& base) {
    const std::size_t colon = text.find(':');
    const std::string name = text.substr(0, colon);
    if (name == "laps" && colon == std::string::npos) return std::make_unique<laps>(base);
    if (colon != std::string::npos) {
        const std::string rest = text.substr(colon + 1);
        if (name == "laps") return std::make_unique<laps>(parse_laps(rest, base));
        if (name == "fixed") return std::make_unique<fixed>(parse_fixed(rest));
        if (name == "cyclic") return std::make_unique<cyclic>(parse_cyclic(rest, {.digits = base.digits}));
        if (name == "progressive") return std::make_unique<progressive>(parse_progressive(rest));
        if (name == "gradient-diversity") return std::make_unique<gradient_diversity>(parse_gradient_diversity(rest));
        if (name == "quantisation-error")
            return std::make_unique<quantisation_error>(parse_quantisation_error(rest, {.digits = base.digits}));
        if (name == "table") return std::make_unique<table>(parse_table(rest));
    }
    throw argument_error("precision",
                         "laps, fixed:W, fixed:FF,EP, cyclic:.., progressive:.., gradient-diversity:.., "
                         "quantisation-error:.. or table:..",
                         text);
}

inline std::unique_ptr<bounded_controller> parse_bounded(const std::string& text, const laps_settings& base) {
    const std::vector<std::string> parts = fields(text, '@');
    auto parsed = parse_rule(parts.front(), base);
    width_rules rules;
    for (std::size_t i = 1; i < parts.size(); ++i) rules.add(parts[i]);
    parsed->within(std::move(rules));
    return parsed;
}

}  // namespace detail

// Throws argument_error, which names the field. `base`: settings of a laps without fields, and everybody's encoding.
inline std::unique_ptr<controller> parse_controller(std::string_view text, const laps_settings& base = {}) {
    const std::vector<std::string> parts = detail::fields(text, '/');
    if (parts.size() > 2)
        throw argument_error("precision", "one controller, or feed-forward/error-propagation", std::string(text));
    auto first = detail::parse_bounded(parts.front(), base);
    if (parts.size() == 1) return first;
    return std::make_unique<per_stage>(std::move(first), detail::parse_bounded(parts.back(), base));
}

}  // namespace lamella::precision
