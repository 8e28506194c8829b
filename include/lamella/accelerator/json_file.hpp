// Reading a small JSON file that a user wrote: what configuration_json.hpp and energy_json.hpp share.
#pragma once

#include <array>
#include <cstddef>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "../core/errors.hpp"

namespace lamella::accelerator::detail {

// The file's text. Throws file_error for one that cannot be read or has more than `most` bytes.
inline std::string read_text(const std::string& path, std::size_t most = std::size_t{1} << 20) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw file_error(path, "file", "one that can be read", "none");
    std::string text;
    for (std::array<char, 4096> block{}; text.size() <= most && file;) {
        file.read(block.data(), static_cast<std::streamsize>(block.size()));
        text.append(block.data(), static_cast<std::size_t>(file.gcount()));
    }
    if (file.bad()) throw file_error(path, "file", "one that can be read", "an error while reading");
    if (text.size() > most) throw file_error(path, "size", "at most " + std::to_string(most) + " bytes", "more");
    return text;
}

// `what` names the content in errors. Objects nest at most `most` deep, the outermost one counted. Throws file_error
// for text that is no JSON, nests deeper, or has a key twice in one object.
inline nlohmann::json parse_json(const std::string& text, const std::string& path, std::string_view what, int most) {
    std::vector<std::set<std::string>> seen;  // keys of the open objects
    const auto guard = [&](int depth, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
        using event_t = nlohmann::json::parse_event_t;
        if (event == event_t::object_start || event == event_t::array_start) {
            const int inside = event == event_t::array_start ? depth - 1 : depth;
            if (inside >= most)
                throw file_error(path, what, most == 1 ? "one flat object" : "objects that nest less", "a nested one");
        }
        if (event == event_t::object_start) seen.emplace_back();
        if (event == event_t::object_end) seen.pop_back();
        if (event == event_t::key && !seen.back().insert(parsed.get<std::string>()).second)
            throw file_error(path, parsed.get<std::string>(), "this key once", "it twice");
        return true;
    };
    try {
        return nlohmann::json::parse(text, guard);
    } catch (const nlohmann::json::exception& failure) {
        throw file_error(path, what, "JSON", failure.what());
    }
}

}  // namespace lamella::accelerator::detail
