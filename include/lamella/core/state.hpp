// One state visitor: every stateful part of a run has `visit(state_visitor&)`, which names its integers. Checkpoint,
// resume, the weight and state hashes and the comparison of ranks all use it, so none can forget a part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "memory.hpp"

namespace lamella {

// `parameter`: what the network has learned (weights, biases, normalisation statistics); the weight hash covers these.
// `state`: everything else that a resumed run needs (optimizer, controller, histograms, step).
enum class state_kind : std::uint8_t { parameter, state };

// The integers of one named tensor, writable so that a checkpoint can be read back.
using integer_span = std::variant<std::span<std::int8_t>, std::span<std::uint8_t>, std::span<std::int16_t>,
                                  std::span<std::int32_t>, std::span<std::int64_t>, std::span<std::uint64_t>>;

// A visitor sees each tensor as (full name, kind, shape, mantissas, width in bits, exponent). Counts and settings are
// tensors of width 0 whose exponent is null.
class state_visitor {
  public:
    virtual ~state_visitor() = default;

    // Names the tensors of one part "part.name"; lives while the part is visited.
    class scope {
      public:
        scope(state_visitor& visitor, std::string_view part) : visitor_(visitor), length_(visitor.prefix_.size()) {
            visitor_.prefix_.append(part).push_back('.');
        }
        scope(const scope&) = delete;
        scope& operator=(const scope&) = delete;
        ~scope() { visitor_.prefix_.resize(length_); }

      private:
        state_visitor& visitor_;
        std::size_t length_;
    };

    // A tensor of mantissas of `width` bits, all times 2^*exponent. `values` holds the product of `shape` elements.
    void tensor(std::string_view name, state_kind kind, std::span<const std::size_t> shape, integer_span values,
                int width, int* exponent) {
        on_tensor(prefix_ + std::string(name), kind, shape, values, width, exponent);
    }
    template <class T>
    void tensor(std::string_view name, state_kind kind, std::span<const std::size_t> shape, buffer<T>& values,
                int width, int& exponent) {
        tensor(name, kind, shape, integer_span(values.span()), width, &exponent);
    }
    // Plain integers without an exponent.
    template <class T>
    void integers(std::string_view name, std::span<T> values) {
        const std::size_t shape[1] = {values.size()};
        tensor(name, state_kind::state, shape, integer_span(values), 0, nullptr);
    }
    // One integer, enumeration or bool of any size.
    template <class T>
    void integer(std::string_view name, T& value) {
        std::int64_t copy = static_cast<std::int64_t>(value);
        on_integer(prefix_ + std::string(name), copy, range_of<T>());
        value = static_cast<T>(copy);
    }
    // Said before the tensors of a fully connected layer: its weights' inputs are the values of an image of height x
    // width x channels, in that order. For visitors that trade layouts with other tools.
    virtual void reads_image(std::int64_t /*height*/, std::int64_t /*width*/, std::int64_t /*channels*/) {}

  protected:
    // What a single integer's type can hold, so that a reader can refuse a value before anything is changed. An
    // unsigned 64-bit one travels as the signed one of the same bits.
    struct range {
        std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
        std::int64_t highest = std::numeric_limits<std::int64_t>::max();
    };
    virtual void on_integer(const std::string& name, std::int64_t& value, range /*of its type*/) {
        const std::size_t shape[1] = {1};
        on_tensor(name, state_kind::state, shape, std::span<std::int64_t>(&value, 1), 0, nullptr);
    }

  private:
    template <class T>
    static constexpr range range_of() noexcept {
        if constexpr (std::is_enum_v<T>)
            return range_of<std::underlying_type_t<T>>();
        else if constexpr (sizeof(T) == sizeof(std::int64_t))
            return {};
        else
            return {std::int64_t{std::numeric_limits<T>::min()}, std::int64_t{std::numeric_limits<T>::max()}};
    }

    virtual void on_tensor(const std::string& name, state_kind kind, std::span<const std::size_t> shape,
                           integer_span values, int width, int* exponent) = 0;
    std::string prefix_;
};

// Anything that a checkpoint, a hash or a comparison of ranks can be made of.
template <class Part>
concept stateful = requires(Part& part, state_visitor& visitor) { part.visit(visitor); };

}  // namespace lamella
