// Energy tables as JSON files, so that every published one can be replaced. Needs nlohmann-json (`lamella::json`).
//
//   {"name": "mine", "unit": "pJ",
//    "arithmetic": {"process": "7 nm", "source": "...", "products": {"4": 0.01, "16": 0.1}},
//    "memory": {"process": "7 nm", "source": "...", "sizes": [{"bytes": 128, "read": 0.01, "write": 0.01}]},
//    "network": {"process": "7 nm", "source": "...", "bit": 0.02},
//    "dram": {"source": "...", "bit": 4, "sensitivity": [2, 4, 8]}}
//
// Energies are of a product, or of a bit. Instead of products, arithmetic may have the law "product_bit2" and
// "sum_bit"; with "whole_chip" products include the chip's memories. Memory, network and sensitivity may be left out.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "energy.hpp"
#include "json_file.hpp"

namespace lamella::accelerator {
namespace detail {

// One object of a file; `where` names it in errors.
class json_reader {
  public:
    json_reader(const nlohmann::json& object, std::string path, std::string where,
                std::initializer_list<std::string_view> keys)
        : object_(object), path_(std::move(path)), where_(std::move(where)) {
        if (!object_.is_object()) fail("", "an object", object_.type_name());
        for (const auto& [key, value] : object_.items())
            if (std::find(keys.begin(), keys.end(), key) == keys.end()) fail(key, "no such key", "it");
    }
    bool has(const std::string& key) const { return object_.contains(key); }
    const nlohmann::json& at(const std::string& key) const {
        if (!has(key)) fail(key, "this key", "none");
        return object_[key];
    }
    std::string text(const std::string& key) const {
        if (!at(key).is_string()) fail(key, "a string", object_[key].type_name());
        return object_[key].get<std::string>();
    }
    double energy(const std::string& key) const { return energy(key, at(key)); }
    double energy(const std::string& key, const nlohmann::json& value) const {
        if (!value.is_number() || !(value.get<double>() >= 0) || !std::isfinite(value.get<double>()))
            fail(key, "an energy of at least 0", value.dump());
        return value.get<double>();
    }
    std::string name_of(const std::string& key) const {
        return where_.empty() ? key : key.empty() ? where_ : where_ + "." + key;
    }
    [[noreturn]] void fail(const std::string& key, std::string_view expected, std::string_view found) const {
        throw file_error(path_, name_of(key).empty() ? "table" : name_of(key), expected, found);
    }

  private:
    const nlohmann::json& object_;
    std::string path_, where_;
};

}  // namespace detail

// The table in `text`; `path` names it in errors. Throws file_error for text that is no JSON, keys that are missing or
// unknown, values of a wrong type or out of range, and parts of different processes.
inline energy_table energy_table_from_json(const std::string& text, const std::string& path) {
    const nlohmann::json parsed = detail::parse_json(text, path, "table", 4);
    using reader = detail::json_reader;
    const reader all(parsed, path, "", {"name", "unit", "arithmetic", "memory", "network", "dram"});
    energy_table t;
    t.name = all.text("name");
    if (all.has("unit")) t.unit = all.text("unit");

    const reader arithmetic(all.at("arithmetic"), path, "arithmetic",
                            {"process", "source", "products", "product_bit2", "sum_bit", "whole_chip"});
    t.arithmetic_from = {arithmetic.text("process"), arithmetic.text("source")};
    if (arithmetic.has("products")) {
        if (!arithmetic.at("products").is_object())
            arithmetic.fail("products", "an object", arithmetic.at("products").type_name());
        for (const auto& [bits, each] : arithmetic.at("products").items()) {
            // "04" would be a second "4".
            if (bits.empty() || bits.size() > 2 || bits.find_first_not_of("0123456789") != std::string::npos ||
                bits.front() == '0')
                arithmetic.fail("products", "widths from 1 to 99 as keys", bits);
            t.products.push_back({std::stoi(bits), arithmetic.energy("products." + bits, each)});
        }
        std::sort(t.products.begin(), t.products.end(), [](const auto& x, const auto& y) { return x.bits < y.bits; });
    } else {
        t.product_bit2 = arithmetic.energy("product_bit2");
        if (arithmetic.has("sum_bit")) t.sum_bit = arithmetic.energy("sum_bit");
    }
    if (arithmetic.has("whole_chip")) {
        if (!arithmetic.at("whole_chip").is_boolean())
            arithmetic.fail("whole_chip", "true or false", arithmetic.at("whole_chip").type_name());
        t.whole_chip = arithmetic.at("whole_chip").get<bool>();
    }

    if (all.has("memory")) {
        const reader memory(all.at("memory"), path, "memory", {"process", "source", "sizes"});
        t.memory_from = {memory.text("process"), memory.text("source")};
        const nlohmann::json& sizes = memory.at("sizes");
        if (!sizes.is_array() || sizes.empty()) memory.fail("sizes", "an array of sizes", sizes.dump());
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            const reader size(sizes[i], path, "memory.sizes[" + std::to_string(i) + "]", {"bytes", "read", "write"});
            const nlohmann::json& bytes = size.at("bytes");
            const std::uint64_t least = t.memories.empty() ? 1 : t.memories.back().bytes + 1;
            if (!bytes.is_number_unsigned() || bytes.get<std::uint64_t>() < least)
                size.fail("bytes", "sizes that grow, at least " + std::to_string(least), bytes.dump());
            t.memories.push_back({bytes.get<std::uint64_t>(), size.energy("read"), size.energy("write")});
        }
    }
    if (all.has("network")) {
        const reader network(all.at("network"), path, "network", {"process", "source", "bit"});
        t.network_from = {network.text("process"), network.text("source")};
        t.network_bit = network.energy("bit");
        t.has_network = true;
    }
    const reader dram(all.at("dram"), path, "dram", {"source", "bit", "sensitivity"});
    t.dram_source = dram.text("source");
    t.dram_bit = dram.energy("bit");
    if (dram.has("sensitivity")) {
        if (!dram.at("sensitivity").is_array())
            dram.fail("sensitivity", "an array", dram.at("sensitivity").type_name());
        for (const nlohmann::json& bit : dram.at("sensitivity"))
            t.dram_sensitivity.push_back(dram.energy("sensitivity", bit));
    }
    try {
        process_of(t);
    } catch (const argument_error& failure) {
        throw file_error(path, "table", "parts of one process", failure.what());
    }
    return t;
}

// Throws file_error, also for a file that cannot be read or has more than a megabyte.
inline energy_table read_energy_table(const std::string& path) {
    return energy_table_from_json(detail::read_text(path), path);
}

// Every field, so that reading it gives the same table.
inline std::string to_json(const energy_table& t) {
    nlohmann::ordered_json j;
    j["name"] = t.name;
    j["unit"] = t.unit;
    j["arithmetic"] = {{"process", t.arithmetic_from.process}, {"source", t.arithmetic_from.source}};
    if (t.products.empty()) {
        j["arithmetic"]["product_bit2"] = t.product_bit2;
        j["arithmetic"]["sum_bit"] = t.sum_bit;
    }
    for (const product_energy& p : t.products) j["arithmetic"]["products"][std::to_string(p.bits)] = p.each;
    j["arithmetic"]["whole_chip"] = t.whole_chip;
    if (!t.memories.empty()) {
        j["memory"] = {{"process", t.memory_from.process}, {"source", t.memory_from.source}};
        for (const memory_energy& m : t.memories)
            j["memory"]["sizes"].push_back({{"bytes", m.bytes}, {"read", m.read}, {"write", m.write}});
    }
    if (t.has_network)
        j["network"] = {{"process", t.network_from.process}, {"source", t.network_from.source}, {"bit", t.network_bit}};
    j["dram"] = {{"source", t.dram_source}, {"bit", t.dram_bit}};
    if (!t.dram_sensitivity.empty()) j["dram"]["sensitivity"] = t.dram_sensitivity;
    return j.dump(2);
}

}  // namespace lamella::accelerator
