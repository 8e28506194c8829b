// Accelerator configurations as JSON files: one flat object. Every key is a field of configuration.hpp by its name;
// what is missing has hnpu()'s value. Needs nlohmann-json (`lamella::json`).
//
//   {"name": "small", "cores": 4, "lanes": 8, "balance": "greedy", "order": ["batch", "output-channels", "plane-pairs",
//    "input-channels"], "input_skip": false}
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

#include "configuration.hpp"
#include "json_file.hpp"

namespace lamella::accelerator {
namespace detail {

// Calls visit(key, field, names) for every choice among names.
template <class Configuration, class Visit>
void each_choice(Configuration& c, Visit&& visit) {
    visit("index", c.index, index_format_names);
    visit("balance", c.balance, lane_balance_names);
    visit("overflow", c.overflow, overflow_names);
    visit("products", c.products, product_kind_names);
    visit("encoding", c.encoding, slice::encoding_names);
    visit("dataflow", c.flow, dataflow_names);
}

// Calls visit(key, field) for every switch.
template <class Configuration, class Visit>
void each_switch(Configuration& c, Visit&& visit) {
    visit("input_skip", c.input_skip);
    visit("output_skip", c.output_skip);
    visit("transposable", c.transposable);
}

// The object of a configuration file.
inline nlohmann::json flat_object(const std::string& text, const std::string& path) {
    nlohmann::json object = parse_json(text, path, "configuration", 1);
    if (!object.is_object()) throw file_error(path, "configuration", "an object", object.type_name());
    return object;
}

// The name and all numbers that `object` has; `known` receives their keys.
template <class Configuration>
void numbers_from(const nlohmann::json& object, const std::string& path, Configuration& c,
                  std::set<std::string>& known) {
    each_number(c, [&](std::string_view key, int& field, int lowest, int highest) {
        known.insert(std::string(key));
        const auto value = object.find(std::string(key));
        if (value == object.end()) return;
        const std::string range = "an integer from " + std::to_string(lowest) + " to " + std::to_string(highest);
        if (!value->is_number_integer()) throw file_error(path, key, range, value->dump());
        const bool large =
            value->is_number_unsigned() && value->template get<std::uint64_t>() > static_cast<std::uint64_t>(highest);
        if (large || value->template get<std::int64_t>() < lowest || value->template get<std::int64_t>() > highest)
            throw file_error(path, key, range, value->dump());
        field = static_cast<int>(value->template get<std::int64_t>());
    });
    known.insert("name");
    if (const auto value = object.find("name"); value != object.end()) {
        if (!value->is_string()) throw file_error(path, "name", "a string", value->type_name());
        c.name = value->template get<std::string>();
    }
}

// Returns c. Throws file_error for a key that is not known, and for what concerns more than one value: powers of two,
// the order, what fits into what.
template <class Configuration>
Configuration checked(const nlohmann::json& object, const std::string& path, Configuration c,
                      const std::set<std::string>& known) {
    for (const auto& [key, value] : object.items())
        if (!known.contains(key)) throw file_error(path, key, "a field of a configuration", "an unknown key");
    try {
        validated(c);
    } catch (const argument_error& failure) {
        throw file_error(path, "configuration", "values that fit together", failure.what());
    }
    return c;
}

template <class Names>
std::string any_of(const Names& names) {
    std::string text;
    for (std::size_t i = 0; i < names.size(); ++i)
        text += (i == 0 ? "\"" : i + 1 < names.size() ? ", \"" : " or \"") + std::string(names[i]) + "\"";
    return text;
}

template <class Field, class Names>
Field choice_from(const std::string& path, std::string_view key, const nlohmann::json& value, const Names& names) {
    for (std::size_t i = 0; i < names.size(); ++i)
        if (value.is_string() && value.get_ref<const std::string&>() == names[i]) return static_cast<Field>(i);
    throw file_error(path, key, any_of(names), value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
}

}  // namespace detail

// The configuration in `text`; `path` names it in errors. Throws file_error for text that is no JSON, keys that are
// unknown or repeated, and values of a wrong type or out of their range.
inline configuration configuration_from_json(const std::string& text, const std::string& path) {
    const nlohmann::json object = detail::flat_object(text, path);
    configuration c = hnpu();
    std::set<std::string> known{"order"};
    const auto find = [&](std::string_view key) -> const nlohmann::json* {
        known.insert(std::string(key));
        const auto found = object.find(std::string(key));
        return found == object.end() ? nullptr : &*found;
    };
    detail::numbers_from(object, path, c, known);
    detail::each_choice(c, [&](std::string_view key, auto& field, const auto& names) {
        if (const nlohmann::json* const value = find(key))
            field = detail::choice_from<std::decay_t<decltype(field)>>(path, key, *value, names);
    });
    detail::each_switch(c, [&](std::string_view key, bool& field) {
        const nlohmann::json* const value = find(key);
        if (value == nullptr) return;
        if (!value->is_boolean()) throw file_error(path, key, "true or false", value->type_name());
        field = value->get<bool>();
    });
    if (const nlohmann::json* const value = find("order")) {
        if (!value->is_array() || value->size() != c.order.size())
            throw file_error(path, "order", "an array of 4 names",
                             value->is_array() ? std::to_string(value->size()) + " of them" : value->type_name());
        for (std::size_t i = 0; i < c.order.size(); ++i)
            c.order[i] = detail::choice_from<dimension>(path, "order", (*value)[i], dimension_names);
    }
    return detail::checked(object, path, std::move(c), known);
}

// Throws file_error, also for a file that cannot be read or has more than a megabyte.
inline configuration read_configuration(const std::string& path) {
    return configuration_from_json(detail::read_text(path), path);
}

// Every field, so that reading it gives the same configuration.
inline std::string to_json(const configuration& c) {
    nlohmann::ordered_json object;
    object["name"] = c.name;
    each_number(c, [&](std::string_view key, int value, int, int) { object[std::string(key)] = value; });
    detail::each_choice(c, [&](std::string_view key, auto field, const auto& names) {
        object[std::string(key)] = std::string(names[static_cast<std::size_t>(field)]);
    });
    detail::each_switch(c, [&](std::string_view key, bool value) { object[std::string(key)] = value; });
    for (const dimension d : c.order) object["order"].push_back(std::string(name_of(d)));
    return object.dump(2);
}

}  // namespace lamella::accelerator
