// A run's whole state in one safetensors file, and back. Needs nlohmann-json (`lamella::json`).
//
// Mantissas are tensors; __metadata__ holds their widths and exponents ("lamella.width/NAME", "lamella.exponent/NAME"),
// the state hash that proves the file's integrity ("lamella.state_sha256") and whatever the caller wants to be known.
// Writing is atomic (atomic_file.hpp). Reading checks everything before it changes anything.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../core/errors.hpp"
#include "../core/format.hpp"
#include "../core/state.hpp"
#include "../data/file.hpp"
#include "hashes.hpp"
#include "safetensors.hpp"

namespace lamella::io {

namespace detail {

inline constexpr std::string_view own_prefix = "lamella.";
inline constexpr std::string_view version_key = "lamella.checkpoint";
inline constexpr std::string_view version = "1";
inline constexpr std::string_view hash_key = "lamella.state_sha256";
inline constexpr int largest_exponent = 32767;

inline std::string width_key(const std::string& tensor) { return "lamella.width/" + tensor; }
inline std::string exponent_key(const std::string& tensor) { return "lamella.exponent/" + tensor; }

// First mantissa that its width (bits, 0 for plain integers) does not allow, as text.
template <class T>
std::optional<std::string> first_too_wide(std::size_t count, int width, auto&& value_at) {
    constexpr int bits = std::numeric_limits<T>::digits + std::numeric_limits<T>::is_signed;
    if (width == 0 || width > bits) return std::nullopt;
    const int magnitude_bits = width - (std::numeric_limits<T>::is_signed ? 1 : 0);
    const auto highest = static_cast<T>((std::uint64_t{1} << (magnitude_bits - 1)) * 2 - 1);
    const auto lowest = static_cast<T>(std::numeric_limits<T>::is_signed ? -highest : 0);
    for (std::size_t i = 0; i < count; ++i) {
        const T value = value_at(i);
        if (value > highest || value < lowest) return std::to_string(value);
    }
    return std::nullopt;
}

inline void require_consistent(const std::string& name, std::span<const std::size_t> shape, const integer_span& values,
                               int width, const int* exponent) {
    std::size_t count = 1;
    for (const std::size_t extent : shape)
        if (__builtin_mul_overflow(count, extent, &count))
            throw argument_error(name, "a size that fits 64 bits", "more");
    if (count != count_of(values))
        throw argument_error(name, std::to_string(count) + " elements, as its shape says",
                             std::to_string(count_of(values)));
    if (width < 0 || width == 1 || width > 64)
        throw argument_error(name + " width", "0 or 2..64", std::to_string(width));
    if (exponent != nullptr && (*exponent > largest_exponent || *exponent < -largest_exponent))
        throw argument_error(name + " exponent", "-32767..32767", std::to_string(*exponent));
}

// Copies the state, so that the file is of one moment. What a reader would refuse is refused here already.
class collecting_visitor final : public state_visitor {
  public:
    struct copied_tensor {
        tensor_entry entry;
        std::vector<std::uint8_t> bytes;
    };
    std::vector<copied_tensor> tensors;
    metadata about;
    state_hash hash;

  private:
    void on_tensor(const std::string& name, state_kind, std::span<const std::size_t> shape, integer_span values,
                   int width, int* exponent) override {
        require_consistent(name, shape, values, width, exponent);
        std::visit(
            [&](auto span) {
                using value = typename decltype(span)::value_type;
                const auto wrong = first_too_wide<value>(span.size(), width, [&](std::size_t i) { return span[i]; });
                if (wrong) throw argument_error(name, "mantissas of " + std::to_string(width) + " bits", *wrong);
            },
            values);
        const std::span<const std::uint8_t> bytes = little_endian_bytes(values, scratch_);
        copied_tensor& copy = tensors.emplace_back();
        copy.entry.name = name;
        copy.entry.type = type_of(values);
        copy.entry.shape.assign(shape.begin(), shape.end());
        copy.bytes.assign(bytes.begin(), bytes.end());
        about[width_key(name)] = std::to_string(width);
        if (exponent != nullptr) about[exponent_key(name)] = std::to_string(*exponent);
        hash.add(name, type_of(values), shape, width,
                 exponent == nullptr ? std::nullopt : std::optional<int>(*exponent), bytes);
    }
    std::vector<std::uint8_t> scratch_;
};

}  // namespace detail

// Writes everything that `part` names, and `about` (description of the network, seed, batch, schedule, ... in any
// words; keys must not start with "lamella."). Returns the state hash. Throws argument_error for a state that could not
// be read back, file_error when writing fails; an earlier file of that name stays intact then.
template <stateful Part>
std::string write_checkpoint(const std::string& path, Part& part, const metadata& about = {}) {
    detail::collecting_visitor state;
    part.visit(state);
    for (const auto& [key, value] : about) {
        if (key.starts_with(detail::own_prefix))
            throw argument_error("metadata key", "one that does not start with lamella.", key);
        state.about.emplace(key, value);
    }
    const std::string hash = state.hash.finish();
    state.about.emplace(detail::version_key, detail::version);
    state.about.emplace(detail::hash_key, hash);

    // Widest elements first: with the padded header, every tensor is aligned to its element size.
    std::stable_sort(state.tensors.begin(), state.tensors.end(),
                     [](const auto& a, const auto& b) { return bytes_of(a.entry.type) > bytes_of(b.entry.type); });
    safetensors_header header;
    header.about = std::move(state.about);
    std::vector<std::span<const std::uint8_t>> pieces;
    for (auto& tensor : state.tensors) {
        tensor.entry.begin = header.data_bytes();
        tensor.entry.end = tensor.entry.begin + tensor.bytes.size();
        header.tensors.push_back(tensor.entry);
        pieces.push_back(tensor.bytes);
    }
    write_safetensors(path, header, pieces);
    return hash;
}

// A checkpoint file, opened and its header checked. The file stays open, so that what is loaded is what was checked
// even if another run replaces it meanwhile.
class checkpoint {
  public:
    // Throws file_error when the file is missing, not a safetensors file, truncated, or not a checkpoint of this
    // library.
    explicit checkpoint(const std::string& path) : file_(path, data::unpacking::never) {
        header_ = read_safetensors_header(file_);
        require_equal(detail::version_key, detail::version);
        for (std::size_t i = 0; i < header_.tensors.size(); ++i) index_.emplace(header_.tensors[i].name, i);
    }

    const std::string& path() const noexcept { return file_.path(); }
    const std::vector<tensor_entry>& tensors() const noexcept { return header_.tensors; }
    // The state hash that the writer computed; `load` proves it.
    const std::string& state_sha256() const { return value(detail::hash_key); }
    // What the writer said under a key. Throws file_error when it said nothing.
    const std::string& value(std::string_view key) const {
        const auto found = header_.about.find(std::string(key));
        if (found == header_.about.end()) throw file_error(path(), key, "this key in __metadata__", "none");
        return found->second;
    }
    // Throws file_error unless the writer said just that: for settings that a resumed run must share.
    void require_equal(std::string_view key, std::string_view expected) const {
        if (const std::string& found = value(key); found != expected) throw file_error(path(), key, expected, found);
    }

    // Fills everything that `part` names. Throws file_error, with `part` untouched, unless the file holds exactly these
    // tensors with these types, shapes and widths, every value is in range, and the state hash is right.
    template <stateful Part>
    void load(Part& part) {
        checking_visitor check(*this);
        part.visit(check);
        check.require_complete();
        read_data();
        require_values(check.wanted);
        copying_visitor copy(*this, check.wanted);
        part.visit(copy);
    }

  private:
    // One tensor of the visited part, in visiting order.
    struct wanted_tensor {
        std::size_t index;  // in header_.tensors
        int width;
        std::optional<int> exponent;
        std::int64_t lowest = std::numeric_limits<std::int64_t>::min();  // of a single integer
        std::int64_t highest = std::numeric_limits<std::int64_t>::max();
    };

    class checking_visitor final : public state_visitor {
      public:
        explicit checking_visitor(const checkpoint& from) : from_(from), seen_(from.header_.tensors.size(), false) {}
        std::vector<wanted_tensor> wanted;

        void require_complete() const {
            for (std::size_t i = 0; i < seen_.size(); ++i)
                if (!seen_[i]) throw file_error(from_.path(), from_.header_.tensors[i].name, "no such tensor", "one");
        }

      private:
        void on_tensor(const std::string& name, state_kind, std::span<const std::size_t> shape, integer_span values,
                       int width, int* exponent) override {
            detail::require_consistent(name, shape, values, width, exponent);
            const auto found = from_.index_.find(name);
            if (found == from_.index_.end()) throw file_error(from_.path(), name, "this tensor", "none");
            if (seen_[found->second]) throw argument_error("tensor name", "one not used yet", name);
            seen_[found->second] = true;
            const tensor_entry& entry = from_.header_.tensors[found->second];
            if (entry.type != type_of(values))
                throw file_error(from_.path(), name + ".dtype", name_of(type_of(values)), name_of(entry.type));
            if (!std::ranges::equal(entry.shape, shape))
                throw file_error(from_.path(), name + ".shape", detail::text_of(shape), detail::text_of(entry.shape));
            if (const int stored = from_.number(detail::width_key(name), 0, 64); stored != width)
                throw file_error(from_.path(), detail::width_key(name), std::to_string(width), std::to_string(stored));
            wanted_tensor next{.index = found->second, .width = width, .exponent = std::nullopt};
            if (exponent != nullptr)
                next.exponent =
                    from_.number(detail::exponent_key(name), -detail::largest_exponent, detail::largest_exponent);
            else if (from_.header_.about.contains(detail::exponent_key(name)))
                throw file_error(from_.path(), detail::exponent_key(name), "no such key", "one");
            wanted.push_back(next);
        }
        void on_integer(const std::string& name, std::int64_t& value, range type_range) override {
            state_visitor::on_integer(name, value, type_range);
            wanted.back().lowest = type_range.lowest;
            wanted.back().highest = type_range.highest;
        }
        const checkpoint& from_;
        std::vector<bool> seen_;
    };

    class copying_visitor final : public state_visitor {
      public:
        copying_visitor(const checkpoint& from, const std::vector<wanted_tensor>& wanted)
            : from_(from), wanted_(wanted) {}

      private:
        void on_tensor(const std::string& name, state_kind, std::span<const std::size_t>, integer_span values, int,
                       int* exponent) override {
            if (next_ == wanted_.size() || from_.header_.tensors[wanted_[next_].index].name != name)
                throw error(name + ": visit() named other tensors the second time");
            const wanted_tensor& tensor = wanted_[next_++];
            copy_little_endian(from_.bytes_of_tensor(tensor.index), values);
            if (exponent != nullptr) *exponent = *tensor.exponent;
        }
        const checkpoint& from_;
        const std::vector<wanted_tensor>& wanted_;
        std::size_t next_ = 0;
    };

    int number(const std::string& key, int lowest, int highest) const {
        const std::string& text = value(key);
        int parsed = 0;
        const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), parsed);
        if (code != std::errc() || end != text.data() + text.size() || parsed < lowest || parsed > highest)
            throw file_error(path(), key, "an integer " + std::to_string(lowest) + ".." + std::to_string(highest),
                             "\"" + text + "\"");
        return parsed;
    }

    std::span<const std::uint8_t> bytes_of_tensor(std::size_t index) const {
        const tensor_entry& entry = header_.tensors[index];
        return std::span(data_).subspan(entry.begin, entry.end - entry.begin);
    }

    // As many bytes as the visited state has, since types and shapes are equal by now.
    void read_data() {
        if (data_.size() == header_.data_bytes()) return;
        std::vector<std::uint8_t> bytes(header_.data_bytes());
        file_.read(bytes, "tensors");
        file_.require_end();
        data_ = std::move(bytes);
    }

    void require_values(const std::vector<wanted_tensor>& wanted) const {
        state_hash hash;
        for (const wanted_tensor& tensor : wanted) {
            const tensor_entry& entry = header_.tensors[tensor.index];
            const std::span<const std::uint8_t> bytes = bytes_of_tensor(tensor.index);
            require_in_range(entry, tensor, bytes);
            hash.add(entry.name, entry.type, entry.shape, tensor.width, tensor.exponent, bytes);
        }
        if (const std::string found = hash.finish(); found != state_sha256())
            throw file_error(path(), detail::hash_key, state_sha256(),
                             found + " from the file's tensors: it is damaged");
    }

    void require_in_range(const tensor_entry& entry, const wanted_tensor& tensor,
                          std::span<const std::uint8_t> bytes) const {
        const auto check = [&]<class T>(T) {
            const auto value_at = [&](std::size_t i) { return little_endian_value<T>(bytes.data() + i * sizeof(T)); };
            const auto wrong = detail::first_too_wide<T>(bytes.size() / sizeof(T), tensor.width, value_at);
            if (wrong)
                throw file_error(path(), entry.name, "mantissas of " + std::to_string(tensor.width) + " bits", *wrong);
        };
        switch (entry.type) {
            case element_type::i8: return check(std::int8_t{});
            case element_type::u8: return check(std::uint8_t{});
            case element_type::i16: return check(std::int16_t{});
            case element_type::i32: return check(std::int32_t{});
            case element_type::u64: return check(std::uint64_t{});
            case element_type::i64: check(std::int64_t{}); break;
            default: return;  // a float has no integer's type, and was refused
        }
        if (tensor.lowest == std::numeric_limits<std::int64_t>::min()) return;
        const auto value = little_endian_value<std::int64_t>(bytes.data());
        if (value < tensor.lowest || value > tensor.highest)
            throw file_error(path(), entry.name, std::to_string(tensor.lowest) + ".." + std::to_string(tensor.highest),
                             std::to_string(value));
    }

    data::file_reader file_;
    safetensors_header header_;
    std::unordered_map<std::string, std::size_t> index_;
    std::vector<std::uint8_t> data_;
};

}  // namespace lamella::io
