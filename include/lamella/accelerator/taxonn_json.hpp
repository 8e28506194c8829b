// TaxoNN's array as JSON files: one flat object. Every key is a field of taxonn_configuration by its name; what is
// missing has taxonn()'s value. Needs nlohmann-json (`lamella::json`).
//
//   {"name": "small", "multipliers": 64, "split": 32}
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

#include "configuration_json.hpp"
#include "taxonn.hpp"

namespace lamella::accelerator {

// The configuration in `text`; `path` names it in errors. Throws file_error as configuration_from_json does.
inline taxonn_configuration taxonn_from_json(const std::string& text, const std::string& path) {
    const nlohmann::json object = detail::flat_object(text, path);
    taxonn_configuration c = taxonn();
    std::set<std::string> known;
    detail::numbers_from(object, path, c, known);
    return detail::checked(object, path, std::move(c), known);
}

// Throws file_error, also for a file that cannot be read or has more than a megabyte.
inline taxonn_configuration read_taxonn(const std::string& path) {
    return taxonn_from_json(detail::read_text(path), path);
}

// Every field, so that reading it gives the same configuration.
inline std::string to_json(const taxonn_configuration& c) {
    nlohmann::ordered_json object;
    object["name"] = c.name;
    each_number(c, [&](std::string_view key, int value, int, int) { object[std::string(key)] = value; });
    return object.dump(2);
}

}  // namespace lamella::accelerator
