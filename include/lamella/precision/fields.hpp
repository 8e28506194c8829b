// Settings of controllers as text: fields that one character separates, whole numbers, widths.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../core/errors.hpp"
#include "../core/format.hpp"

namespace lamella::precision::detail {

// The parts of `text` between separators; one empty part for an empty text.
inline std::vector<std::string> fields(std::string_view text, char separator) {
    std::vector<std::string> parts(1);
    for (const char c : text)
        if (c == separator)
            parts.emplace_back();
        else
            parts.back().push_back(c);
    return parts;
}

// Throws argument_error(name) for anything but a whole number of up to nine digits that is at least `least`.
inline std::uint32_t whole_number(const std::string& text, std::string_view name, std::uint32_t least) {
    if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos)
        throw argument_error(name, "a whole number", text);
    const auto value = static_cast<std::uint32_t>(std::stoul(text));
    if (value < least) throw argument_error(name, "at least " + std::to_string(least), text);
    return value;
}

inline int width_of_text(const std::string& text, std::string_view name) {
    return checked_width(static_cast<int>(whole_number(text, name, 0)), name);
}

// "5-8-12": widths that grow from one to the next.
inline std::vector<int> growing_widths(const std::string& text, std::string_view name) {
    std::vector<int> widths;
    for (const std::string& part : fields(text, '-')) {
        const int width = width_of_text(part, name);
        if (!widths.empty() && width <= widths.back())
            throw argument_error(name, "widths that grow, as in 5-8-12", text);
        widths.push_back(width);
    }
    return widths;
}
inline std::string text_of(const std::vector<int>& widths) {
    std::string text;
    for (const int width : widths) text += (text.empty() ? "" : "-") + std::to_string(width);
    return text;
}

}  // namespace lamella::precision::detail
