// The same widths from the first step to the last.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bounds.hpp"

namespace lamella::precision {

// `feed_forward` bits for A and W, `error_propagation` bits for E.
class fixed final : public bounded_controller {
  public:
    explicit fixed(int feed_forward, int error_propagation)
        : forward_(checked_width(feed_forward, "precision fixed: feed-forward width")),
          backward_(checked_width(error_propagation, "precision fixed: error-propagation width")) {}
    explicit fixed(int width) : fixed(width, width) {}

    void visit(state_visitor&) override {}
    std::unique_ptr<controller> clone() const override { return std::make_unique<fixed>(*this); }

  private:
    layer_widths wanted(int) const override { return {forward_, forward_, backward_}; }
    int widest() const override { return std::max(forward_, backward_); }
    LAMELLA_SELDOM std::string settings_text() const override {
        return "fixed:" + std::to_string(forward_) + "," + std::to_string(backward_);
    }

    int forward_, backward_;
};

// Parses "W" or "FF,EP". Throws argument_error.
inline fixed parse_fixed(std::string_view text) {
    const std::vector<std::string> field = detail::fields(text, ',');
    if (field.size() > 2) throw argument_error("fixed", "W or FF,EP", std::string(text));
    return fixed(detail::width_of_text(field.front(), "fixed"), detail::width_of_text(field.back(), "fixed"));
}

}  // namespace lamella::precision
