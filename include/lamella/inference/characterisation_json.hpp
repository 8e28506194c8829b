// Characterisations as JSON files. Needs nlohmann-json (`lamella::json`).
//
//   {"format": "lamella.characterisation.1", "weights_sha256": "...", "network": "conv2d(6,5,1,0) relu ...",
//    "data": "MNIST training", "classes": 10, "labels": [5, 0, ...],
//    "tables": [{"name": "horowitz", "unit": "pJ", "static16": 3604000}],
//    "widths": [{"width": 4, "cycles": 154, "energy": [1220864], "predictions": [5, ...], "margins": [26841, ...]}]}
//
// Energies are of an image, in thousandths of the table's unit, in the tables' order; margins are fractions of 2^28.
// The weights' hash binds the file to its network: dynamic_width refuses another one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../accelerator/energy_json.hpp"
#include "../io/atomic_file.hpp"
#include "characterisation.hpp"

namespace lamella::inference {

// First field of a file.
inline constexpr std::string_view characterisation_format = "lamella.characterisation.1";
inline constexpr std::size_t largest_characterisation = std::size_t{1} << 28;  // bytes

namespace detail {

// One object of the file and the numbers in it.
class record_reader : public accelerator::detail::json_reader {
  public:
    using json_reader::json_reader;

    std::uint64_t number(const std::string& key, std::uint64_t lowest, std::uint64_t highest) const {
        return checked(key, at(key), lowest, highest);
    }
    // `count` numbers; any number of them, but at least one, when it is 0.
    template <class T>
    std::vector<T> numbers(const std::string& key, std::size_t count, std::uint64_t highest) const {
        const nlohmann::json& array = at(key);
        if (!array.is_array()) fail(key, "an array", array.type_name());
        if (count == 0 ? array.empty() : array.size() != count)
            fail(key, count == 0 ? "at least one number" : std::to_string(count) + " numbers",
                 std::to_string(array.size()));
        std::vector<T> values;
        values.reserve(array.size());
        for (std::size_t i = 0; i < array.size(); ++i)
            values.push_back(static_cast<T>(checked(key + "[" + std::to_string(i) + "]", array[i], 0, highest)));
        return values;
    }
    // The objects of an array that is not empty.
    template <class Visit>
    void objects(const std::string& key, std::initializer_list<std::string_view> keys, const std::string& path,
                 Visit&& visit) const {
        const nlohmann::json& array = at(key);
        if (!array.is_array() || array.empty())
            fail(key, "an array of objects", array.is_array() ? "none" : array.type_name());
        for (std::size_t i = 0; i < array.size(); ++i)
            visit(record_reader(array[i], path, key + "[" + std::to_string(i) + "]", keys));
    }

  private:
    std::uint64_t checked(const std::string& key, const nlohmann::json& value, std::uint64_t lowest,
                          std::uint64_t highest) const {
        if (!value.is_number_unsigned() || value.get<std::uint64_t>() < lowest || value.get<std::uint64_t>() > highest)
            fail(key, "a whole number " + std::to_string(lowest) + ".." + std::to_string(highest), value.dump());
        return value.get<std::uint64_t>();
    }
};

}  // namespace detail

// `path` names the text in errors. Throws file_error for text that is no JSON, keys that are missing, unknown or there
// twice, values of a wrong type or out of range, and arrays of other lengths than they must have.
inline characterisation characterisation_from_json(const std::string& text, const std::string& path) {
    const nlohmann::json parsed = accelerator::detail::parse_json(text, path, "characterisation", 3);
    const detail::record_reader all(
        parsed, path, "", {"format", "weights_sha256", "network", "data", "classes", "labels", "tables", "widths"});
    if (const std::string format = all.text("format"); format != characterisation_format)
        all.fail("format", characterisation_format, format);
    characterisation c;
    c.weights_sha256 = all.text("weights_sha256");
    if (c.weights_sha256.size() != 64 || c.weights_sha256.find_first_not_of("0123456789abcdef") != std::string::npos)
        all.fail("weights_sha256", "64 hexadecimal digits", c.weights_sha256);
    c.network = all.text("network");
    c.data = all.text("data");
    c.classes = static_cast<int>(all.number("classes", 1, 256));
    const auto last_class = static_cast<std::uint64_t>(c.classes - 1);
    c.labels = all.numbers<std::uint8_t>("labels", 0, last_class);
    // A chain's energy over all images must fit 64 bits.
    const std::uint64_t most = (std::uint64_t{1} << 62) / c.samples() / max_width;
    all.objects("tables", {"name", "unit", "static16"}, path, [&](const detail::record_reader& table) {
        c.tables.push_back({table.text("name"), table.text("unit"), table.number("static16", 0, most)});
    });
    all.objects("widths", {"width", "cycles", "energy", "predictions", "margins"}, path,
                [&](const detail::record_reader& from) {
                    width_record r;
                    const int least = c.widths.empty() ? min_width : c.widths.back().width + 1;
                    r.width = static_cast<int>(from.number("width", static_cast<std::uint64_t>(least), max_width));
                    r.cycles = from.number("cycles", 0, most);
                    r.energy = from.numbers<std::uint64_t>("energy", c.tables.size(), most);
                    r.predictions = from.numbers<std::uint8_t>("predictions", c.labels.size(), last_class);
                    r.margins = from.numbers<margin_t>("margins", c.labels.size(), largest_margin);
                    for (std::size_t i = 0; i < c.labels.size(); ++i) r.correct += r.predictions[i] == c.labels[i];
                    c.widths.push_back(std::move(r));
                });
    return c;
}

// Throws file_error, also for a file that cannot be read or has more than 256 MB.
inline characterisation read_characterisation(const std::string& path) {
    return characterisation_from_json(accelerator::detail::read_text(path, largest_characterisation), path);
}

// Every field, so that reading it gives an equal one.
inline std::string to_json(const characterisation& c) {
    nlohmann::ordered_json j;
    j["format"] = characterisation_format;
    j["weights_sha256"] = c.weights_sha256;
    j["network"] = c.network;
    j["data"] = c.data;
    j["classes"] = c.classes;
    j["labels"] = c.labels;
    for (const energy_basis& t : c.tables)
        j["tables"].push_back({{"name", t.table}, {"unit", t.unit}, {"static16", t.static16}});
    for (const width_record& r : c.widths)
        j["widths"].push_back({{"width", r.width},
                               {"cycles", r.cycles},
                               {"energy", r.energy},
                               {"predictions", r.predictions},
                               {"margins", r.margins}});
    return j.dump() + "\n";
}

// The file holds the whole characterisation or, when writing fails, what it held before. Throws file_error.
inline void write_characterisation(const std::string& path, const characterisation& c) {
    const std::string text = to_json(c);
    const std::array pieces{std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size())};
    io::write_file_atomically(path, pieces);
}

}  // namespace lamella::inference
