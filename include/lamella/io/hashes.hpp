// One line of text that stands for all weights, or for the whole state of a run: equal lines, equal integers.
//
// Each tensor enters SHA-256 in visiting order as: name (u32 length, bytes), element type (u8), width (i32), rank
// (u32), shape (u64 each), 1 and its exponent (u8, i32) or 0, mantissas; everything little-endian. The state hash is
// also what checkpoint.hpp proves a file's integrity with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../core/sha256.hpp"
#include "../core/state.hpp"
#include "integers.hpp"

namespace lamella::io {

// Gathers tensors into one digest.
class state_hash {
  public:
    void add(std::string_view name, element_type type, std::span<const std::size_t> shape, int width,
             std::optional<int> exponent, std::span<const std::uint8_t> little_endian_mantissas) {
        hash_.update_integer(name.size(), 4);
        hash_.update(name);
        hash_.update_integer(static_cast<std::uint64_t>(type), 1);
        hash_.update_integer(static_cast<std::uint64_t>(width), 4);
        hash_.update_integer(shape.size(), 4);
        for (const std::size_t extent : shape) hash_.update_integer(extent, 8);
        hash_.update_integer(exponent.has_value() ? 1 : 0, 1);
        if (exponent) hash_.update_integer(static_cast<std::uint64_t>(*exponent), 4);
        hash_.update(little_endian_mantissas);
    }
    // 64 hexadecimal digits; may be called once.
    std::string finish() { return hash_.finish_hex(); }

  private:
    sha256 hash_;
};

namespace detail {

class hashing_visitor final : public state_visitor {
  public:
    explicit hashing_visitor(bool parameters_alone) : parameters_alone_(parameters_alone) {}
    std::string finish() { return hash_.finish(); }

  private:
    void on_tensor(const std::string& name, state_kind kind, std::span<const std::size_t> shape, integer_span values,
                   int width, int* exponent) override {
        if (parameters_alone_ && kind != state_kind::parameter) return;
        hash_.add(name, type_of(values), shape, width, exponent == nullptr ? std::nullopt : std::optional(*exponent),
                  little_endian_bytes(values, scratch_));
    }
    bool parameters_alone_;
    state_hash hash_;
    std::vector<std::uint8_t> scratch_;
};

template <stateful Part>
std::string hash_of(Part& part, bool parameters_alone) {
    hashing_visitor visitor(parameters_alone);
    part.visit(visitor);
    return visitor.finish();
}

}  // namespace detail

// SHA-256 of the tensors of kind `parameter`: what the network has learned.
template <stateful Part>
std::string weights_sha256(Part& part) {
    return detail::hash_of(part, true);
}

// SHA-256 of everything that the part names: two runs with equal hashes go on alike.
template <stateful Part>
std::string state_sha256(Part& part) {
    return detail::hash_of(part, false);
}

}  // namespace lamella::io
