// A fixed-point format for each operand of each layer, chosen before training: (I, F), I integer and F fraction bits.
//
// Hojabr et al., TaxoNN, arXiv 2010.05197 (abstract: fixed point of low width layer by layer; its table of formats is
// not public). I counts the sign; I + F is the width, 2..16; the value is mantissa x 2^-F, whatever the data: unlike
// under every other controller, no operand's radix point moves.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bounds.hpp"

namespace lamella::precision {

// (I, F): bits before and after the binary point, sign included.
struct fixed_point {
    int integer = 2, fraction = 6;  // bits; either may be negative
    int width() const noexcept { return integer + fraction; }
};
using table_row = std::array<fixed_point, 3>;  // activation, weight, error

// Parses rows joined by '+', one a layer or one for all, as in "2.6,1.7,1.11": the (I, F) of activation, weight and
// error as I.F. Throws argument_error.
inline std::vector<table_row> parse_table(std::string_view text) {
    const auto number = [&](const std::string& part) {
        const std::string digits = part.starts_with('-') ? part.substr(1) : part;
        const int value = static_cast<int>(detail::whole_number(digits, "table", 0));
        if (value > 40) throw argument_error("table", "I and F from -40 to 40", part);
        return part.starts_with('-') ? -value : value;
    };
    std::vector<table_row> rows;
    for (const std::string& row : detail::fields(text, '+')) {
        const std::vector<std::string> formats = detail::fields(row, ',');
        if (formats.size() != 3) throw argument_error("table", "I.F of activation, weight and error", row);
        table_row& r = rows.emplace_back();
        for (std::size_t i = 0; i < r.size(); ++i) {
            const std::vector<std::string> parts = detail::fields(formats[i], '.');
            if (parts.size() != 2) throw argument_error("table", "I.F", formats[i]);
            r[i] = {number(parts[0]), number(parts[1])};
            if (r[i].width() < min_width || r[i].width() > max_width)
                throw argument_error("table", "I + F from 2 to 16 bits", formats[i]);
        }
    }
    return rows;
}

// The text that parse_table reads.
inline std::string text_of(const std::vector<table_row>& rows) {
    std::string text;
    for (const table_row& r : rows) {
        if (!text.empty()) text += "+";
        for (std::size_t i = 0; i < r.size(); ++i)
            text += (i == 0 ? "" : ",") + std::to_string(r[i].integer) + "." + std::to_string(r[i].fraction);
    }
    return text;
}

class table final : public bounded_controller {
  public:
    explicit table(std::vector<table_row> rows) : rows_(std::move(rows)) {
        if (rows_.empty()) throw argument_error("table", "at least one row", "none");
        for (const table_row& row : rows_)
            for (const fixed_point& f : row) checked_width(f.width(), "table I + F");
    }

    // A width that a rule bounds keeps its fraction.
    std::optional<int> exponent(int layer, role what) const override {
        return -row(layer)[static_cast<std::size_t>(what)].fraction;
    }
    void visit(state_visitor&) override {}
    std::unique_ptr<controller> clone() const override { return std::make_unique<table>(*this); }

  private:
    void start() override {
        if (rows_.size() != 1 && rows_.size() != static_cast<std::size_t>(layers()))
            throw argument_error("table", "one row or " + std::to_string(layers()) + ", one a layer",
                                 std::to_string(rows_.size()));
    }
    const table_row& row(int layer) const noexcept {
        return rows_[rows_.size() == 1 ? 0 : static_cast<std::size_t>(layer)];
    }
    layer_widths wanted(int layer) const override {
        const table_row& r = row(layer);
        return {r[0].width(), r[1].width(), r[2].width()};
    }
    int widest() const override {
        int most = min_width;
        for (const table_row& r : rows_)
            for (const fixed_point& f : r) most = std::max(most, f.width());
        return most;
    }
    LAMELLA_SELDOM std::string settings_text() const override { return "table:" + text_of(rows_); }

    std::vector<table_row> rows_;
};

}  // namespace lamella::precision
