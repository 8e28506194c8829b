// The safetensors format, integers and the floats of float_weights.hpp: u64 little-endian header length, JSON header
// padded with spaces to 8 bytes, then the tensors without gaps. Other tools read these files as they are. Needs
// nlohmann-json (`lamella::json`).
//
// The reader takes nothing for granted: sizes are checked before memory is taken, names may not repeat, offsets must
// tile the rest of the file exactly. (Hugging Face: safetensors, README and tensor.rs, whose rules these are.)
// Read next: checkpoint.hpp, which puts a run's state into such a file.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/errors.hpp"
#include "../data/file.hpp"
#include "atomic_file.hpp"
#include "integers.hpp"

namespace lamella::io {

// __metadata__ of a file: text by key.
using metadata = std::map<std::string, std::string>;

// What the header says of one tensor.
struct tensor_entry {
    std::string name;
    element_type type = element_type::i8;
    std::vector<std::size_t> shape;
    std::size_t begin = 0, end = 0;  // bytes, from the end of the header

    friend bool operator==(const tensor_entry&, const tensor_entry&) = default;
};

// A header as a whole; the bytes of the tensors follow it in the file.
struct safetensors_header {
    metadata about;
    std::vector<tensor_entry> tensors;  // in the order of their offsets

    std::size_t data_bytes() const noexcept { return tensors.empty() ? 0 : tensors.back().end; }
};

inline constexpr std::uint64_t largest_header = std::uint64_t{1} << 24;  // bytes; the format's own limit is 100 MB
// More than any tool's tensors have.
inline constexpr std::size_t most_dimensions = 16;

namespace detail {

inline constexpr std::string_view metadata_key = "__metadata__";

// Refuses keys that repeat and nesting deeper than the format has, while the text is parsed.
class header_guard {
  public:
    explicit header_guard(const std::string& path) : path_(path) {}

    bool operator()(int depth, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
        using event_t = nlohmann::json::parse_event_t;
        if ((event == event_t::object_start || event == event_t::array_start) && depth > 2)
            throw file_error(path_, "header", "JSON of at most three levels", "a deeper one");
        if (event == event_t::object_start) keys_.emplace_back();
        if (event == event_t::object_end) keys_.pop_back();
        if (event == event_t::key && !keys_.back().insert(parsed.get<std::string>()).second)
            throw file_error(path_, "header", "different keys", "\"" + parsed.get<std::string>() + "\" twice");
        return true;
    }

  private:
    const std::string& path_;
    std::vector<std::set<std::string>> keys_;
};

inline std::string text_of(std::span<const std::size_t> shape) {
    std::string text = "[";
    for (const std::size_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
    return text + "]";
}

inline const nlohmann::json& member(const std::string& path, const std::string& tensor, const nlohmann::json& object,
                                    const char* key) {
    const auto found = object.find(key);
    if (found == object.end()) throw file_error(path, tensor + "." + key, "this key", "none");
    return *found;
}

inline std::size_t size_from(const std::string& path, const std::string& field, const nlohmann::json& value) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<std::size_t>::max())
        throw file_error(path, field, "an integer from 0", value.dump());
    return value.get<std::size_t>();
}

// Product of the extents times the element size. Throws file_error when it overflows.
inline std::size_t bytes_from(const std::string& path, const tensor_entry& tensor) {
    std::size_t bytes = bytes_of(tensor.type);
    for (const std::size_t extent : tensor.shape)
        if (__builtin_mul_overflow(bytes, extent, &bytes))
            throw file_error(path, tensor.name + ".shape", "a size that fits 64 bits", "an overflow");
    return bytes;
}

inline tensor_entry tensor_from(const std::string& path, const std::string& name, const nlohmann::json& object) {
    if (!object.is_object()) throw file_error(path, name, "an object {dtype, shape, data_offsets}", object.type_name());
    if (object.size() != 3)
        throw file_error(path, name, "the keys dtype, shape and data_offsets", std::to_string(object.size()) + " keys");
    tensor_entry tensor;
    tensor.name = name;
    const nlohmann::json& type = member(path, name, object, "dtype");
    const auto known = std::find_if(element_type_names.begin(), element_type_names.end(),
                                    [&](std::string_view candidate) { return type == std::string(candidate); });
    if (known == element_type_names.end())
        throw file_error(path, name + ".dtype", "I8, U8, I16, I32, I64, U64, F16, BF16 or F32", type.dump());
    tensor.type = static_cast<element_type>(known - element_type_names.begin());

    const nlohmann::json& shape = member(path, name, object, "shape");
    if (!shape.is_array() || shape.size() > most_dimensions)
        throw file_error(path, name + ".shape", "an array of at most 16 extents",
                         shape.is_array() ? std::to_string(shape.size()) + " extents" : shape.type_name());
    for (const nlohmann::json& extent : shape) tensor.shape.push_back(size_from(path, name + ".shape", extent));

    const nlohmann::json& offsets = member(path, name, object, "data_offsets");
    if (!offsets.is_array() || offsets.size() != 2)
        throw file_error(path, name + ".data_offsets", "[begin, end]",
                         offsets.is_array() ? std::to_string(offsets.size()) + " numbers" : offsets.type_name());
    tensor.begin = size_from(path, name + ".data_offsets", offsets[0]);
    tensor.end = size_from(path, name + ".data_offsets", offsets[1]);
    const std::size_t bytes = bytes_from(path, tensor);
    if (tensor.end < tensor.begin || tensor.end - tensor.begin != bytes)
        throw file_error(path, name + ".data_offsets", "two offsets " + data::bytes_text(bytes) + " apart",
                         std::to_string(tensor.begin) + " and " + std::to_string(tensor.end));
    return tensor;
}

// Orders the tensors by offset. Throws file_error unless they tile the `data_bytes` after the header.
inline void require_tiling(const std::string& path, std::vector<tensor_entry>& tensors, std::uint64_t data_bytes) {
    std::stable_sort(tensors.begin(), tensors.end(), [](const tensor_entry& a, const tensor_entry& b) {
        return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    std::size_t end = 0;
    for (const tensor_entry& tensor : tensors) {
        if (tensor.begin != end)
            throw file_error(path, tensor.name + ".data_offsets",
                             "begin " + std::to_string(end) + ", without gap or overlap", std::to_string(tensor.begin));
        end = tensor.end;
    }
    if (end != data_bytes)
        throw file_error(path, "size", data::bytes_text(end) + " after the header, as it says",
                         data::bytes_text(data_bytes));
}

inline safetensors_header parse_header(const std::string& path, std::string_view text) {
    if (!text.starts_with('{')) throw file_error(path, "header", "a JSON object", "another beginning");
    nlohmann::json root;
    try {
        root = nlohmann::json::parse(text, header_guard(path));
    } catch (const nlohmann::json::exception& e) {
        throw file_error(path, "header", "valid JSON", e.what());
    }
    safetensors_header header;
    for (const auto& [name, value] : root.items()) {
        if (name != metadata_key) {
            header.tensors.push_back(tensor_from(path, name, value));
            continue;
        }
        if (!value.is_object()) throw file_error(path, name, "an object of strings", value.type_name());
        for (const auto& [key, text_value] : value.items()) {
            if (!text_value.is_string()) throw file_error(path, name + "." + key, "a string", text_value.type_name());
            header.about.emplace(key, text_value.get<std::string>());
        }
    }
    return header;
}

}  // namespace detail

// Reads and checks everything before the tensors' bytes, which `file` (opened without unpacking) then stands at.
// Throws file_error for whatever is not as the format says.
inline safetensors_header read_safetensors_header(data::file_reader& file) {
    const std::uint64_t stored = file.most_content();
    std::array<std::uint8_t, 8> length_bytes{};
    file.read(length_bytes, "header length");
    const auto length = little_endian_value<std::uint64_t>(length_bytes.data());
    const std::uint64_t most = std::min(largest_header, stored - length_bytes.size());
    if (length > most)
        throw file_error(file.path(), "header length", "at most " + data::bytes_text(most), data::bytes_text(length));
    std::string text(static_cast<std::size_t>(length), '\0');
    file.read(std::span(reinterpret_cast<std::uint8_t*>(text.data()), text.size()), "header");
    safetensors_header header = detail::parse_header(file.path(), text);
    detail::require_tiling(file.path(), header.tensors, stored - length_bytes.size() - length);
    return header;
}

// Writes a safetensors file atomically. `tensors` have offsets that tile the pieces one after the other.
// Throws argument_error for text that is not UTF-8 or names that repeat, file_error when writing fails.
inline void write_safetensors(const std::string& path, const safetensors_header& header,
                              std::span<const std::span<const std::uint8_t>> pieces) {
    nlohmann::json root = nlohmann::json::object();
    root[std::string(detail::metadata_key)] = header.about;
    for (const tensor_entry& tensor : header.tensors) {
        if (root.contains(tensor.name)) throw argument_error("tensor name", "one not used yet", tensor.name);
        root[tensor.name] = {{"dtype", std::string(name_of(tensor.type))},
                             {"shape", tensor.shape},
                             {"data_offsets", {tensor.begin, tensor.end}}};
    }
    std::string text;
    try {
        text = root.dump();
    } catch (const nlohmann::json::exception& e) {
        throw argument_error("names and metadata", "UTF-8", e.what());
    }
    text.resize((text.size() + 7) / 8 * 8, ' ');
    if (text.size() > largest_header)
        throw argument_error("safetensors header", "at most " + data::bytes_text(largest_header),
                             data::bytes_text(text.size()));
    std::array<std::uint8_t, 8> length_bytes{};
    for (std::size_t i = 0; i < 8; ++i)
        length_bytes[i] = static_cast<std::uint8_t>(std::uint64_t{text.size()} >> (8 * i));
    std::vector<std::span<const std::uint8_t>> all{
        length_bytes, std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size())};
    all.insert(all.end(), pieces.begin(), pieces.end());
    write_file_atomically(path, all);
}

}  // namespace lamella::io
