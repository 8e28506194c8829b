// The user's container of fixed-point numbers: mantissas in an xtensor container, with one width and one exponent.
//
//   const auto x = quantise_tensor<2, std::int8_t>(floats, 8);   // any xtensor expression in
//   xt::xtensor<float, 2> back = dequantize(x);                  // a lazy expression out
//
// Invariant: the width suits the mantissa type and every mantissa lies in +-(2^(width-1) - 1). Floating-point values
// are taken apart by their bits and rounded once, as integers, so what comes in depends on no rounding mode or compiler
// flag. With core/xtensor.hpp the only core header that knows xtensor; kernels take raw spans (core/quantise.hpp).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "format.hpp"
#include "histogram.hpp"
#include "rounding.hpp"
#include "sdfxp.hpp"
#include "xtensor.hpp"

namespace lamella {

// Mantissa: int8 for widths 2..8, int16 for 2..16, int32 for 2..32 (wide tensors).
template <std::size_t Rank, class Mantissa>
class fixed_tensor {
    static_assert(std::is_same_v<Mantissa, std::int8_t> || std::is_same_v<Mantissa, std::int16_t> ||
                  std::is_same_v<Mantissa, std::int32_t>);

  public:
    using mantissa_type = Mantissa;
    using container_type = xt::xtensor<Mantissa, Rank>;  // row-major
    static constexpr std::size_t rank = Rank;
    static constexpr int largest_width = 8 * static_cast<int>(sizeof(Mantissa));

    fixed_tensor() = default;
    // Throws argument_error when the width does not suit the mantissa type, or a mantissa does not fit the width.
    fixed_tensor(container_type mantissas, int width, int exponent)
        : mantissas_(std::move(mantissas)), width_(checked(width)), exponent_(exponent) {
        for (const Mantissa m : mantissas_)
            if (m > largest_mantissa(width) || m < -largest_mantissa(width))
                throw argument_error("mantissa", "one of " + std::to_string(width) + " bits", std::to_string(m));
    }

    const container_type& mantissas() const noexcept { return mantissas_; }
    const Mantissa* data() const noexcept { return mantissas_.data(); }
    const auto& shape() const noexcept { return mantissas_.shape(); }
    std::size_t size() const noexcept { return mantissas_.size(); }
    int width() const noexcept { return width_; }
    int exponent() const noexcept { return exponent_; }

    friend bool operator==(const fixed_tensor& a, const fixed_tensor& b) {
        return a.width_ == b.width_ && a.exponent_ == b.exponent_ && a.shape() == b.shape() &&
               std::equal(a.mantissas_.begin(), a.mantissas_.end(), b.mantissas_.begin());
    }

    // Throws argument_error unless a mantissa of that width can be stored.
    static int checked(int width) {
        if (width < min_width || width > largest_width)
            throw argument_error("width", "2.." + std::to_string(largest_width) + " bits", std::to_string(width));
        return width;
    }

  private:
    container_type mantissas_ = container_type::from_shape(typename container_type::shape_type{});
    int width_ = largest_width;
    int exponent_ = 0;
};

namespace detail {

// A number as mantissa x 2^exponent, exactly; |mantissa| < 2^62.
struct exact_number {
    std::int64_t mantissa = 0;
    int exponent = 0;
};

// Takes a number apart by its bits. Throws argument_error for infinities, NaNs, and integers beyond 2^62.
template <class Number>
exact_number take_apart(Number value) {
    if constexpr (std::is_integral_v<Number>) {
        constexpr std::int64_t limit = std::int64_t{1} << 62;
        if (std::cmp_greater_equal(value, limit) || std::cmp_less_equal(value, -limit))
            throw argument_error("tensor", "integers below 2^62", std::to_string(value));
        return {static_cast<std::int64_t>(value), 0};
    } else {
        static_assert(std::numeric_limits<Number>::is_iec559 && (sizeof(Number) == 4 || sizeof(Number) == 8),
                      "elements are integers, float or double");
        using bits_type = std::conditional_t<sizeof(Number) == 4, std::uint32_t, std::uint64_t>;
        constexpr int fraction_bits = std::numeric_limits<Number>::digits - 1;
        constexpr int largest_field = 2 * std::numeric_limits<Number>::max_exponent - 1;  // all ones: not finite
        const bits_type bits = std::bit_cast<bits_type>(value);
        const int field = static_cast<int>(bits >> fraction_bits) & largest_field;
        if (field == largest_field) throw argument_error("tensor", "finite values", "a value that is not");
        std::int64_t mantissa = static_cast<std::int64_t>(bits & ((bits_type{1} << fraction_bits) - 1));
        if (field != 0) mantissa |= std::int64_t{1} << fraction_bits;
        const int exponent = std::max(field, 1) + std::numeric_limits<Number>::min_exponent - 1 - fraction_bits - 1;
        return {bits >> (8 * sizeof(Number) - 1) != 0 ? -mantissa : mantissa, exponent};
    }
}

// The number in units of 2^exponent, to nearest, ties to even, clipped to the width.
constexpr std::int64_t in_units(const exact_number& x, int exponent, int width) noexcept {
    const int dropped = exponent - x.exponent;
    const std::int64_t magnitude = x.mantissa < 0 ? -x.mantissa : x.mantissa;
    if (dropped < 0 && bit_length(static_cast<std::uint64_t>(magnitude)) - dropped > 62)
        return clip(x.mantissa < 0 ? -(std::int64_t{1} << 62) : std::int64_t{magnitude != 0} << 62, width);
    return clip(round_nearest(x.mantissa, dropped), width);
}

// Magnitudes in 2^(top - 30), rounded up, so that no_overflow sees whether the maximum fits.
inline histogram count_exact(const std::vector<exact_number>& numbers, int exponent) {
    histogram seen;
    for (const exact_number& x : numbers) {
        const std::int64_t magnitude = x.mantissa < 0 ? -x.mantissa : x.mantissa;
        const int dropped = exponent - x.exponent;
        const std::int64_t units = magnitude == 0 ? 0
                                   : dropped <= 0 ? magnitude << -dropped
                                   : dropped > 62 ? 1
                                                  : ((magnitude - 1) >> dropped) + 1;
        seen.add(static_cast<std::int32_t>(units));
    }
    return seen;
}

}  // namespace detail

// An expression of integers, floats or doubles, rounded to nearest, ties to even. The exponent is the radix policy's
// (its allowance is not used); a tensor of zeros has exponent 0. Throws argument_error when the expression has another
// rank, a value is not finite, or the width does not suit the mantissa type.
template <std::size_t Rank, class Mantissa, class Expression>
fixed_tensor<Rank, Mantissa> quantise_tensor(const xt::xexpression<Expression>& expression, int width,
                                             radix_policy policy = {radix_rule::no_overflow, 0, 0}) {
    using result_type = fixed_tensor<Rank, Mantissa>;
    const Expression& source = expression.derived_cast();
    result_type::checked(width);
    if (source.dimension() != Rank)
        throw argument_error("tensor", "rank " + std::to_string(Rank), "rank " + std::to_string(source.dimension()));
    typename result_type::container_type::shape_type shape{};
    std::copy(source.shape().begin(), source.shape().end(), shape.begin());

    std::vector<detail::exact_number> numbers;
    numbers.reserve(source.size());
    int top = std::numeric_limits<int>::min();  // all magnitudes are below 2^top
    for (auto it = source.template begin<xt::layout_type::row_major>();
         it != source.template end<xt::layout_type::row_major>(); ++it) {
        const detail::exact_number x = detail::take_apart(*it);
        numbers.push_back(x);
        const std::int64_t magnitude = x.mantissa < 0 ? -x.mantissa : x.mantissa;
        if (magnitude != 0) top = std::max(top, x.exponent + bit_length(static_cast<std::uint64_t>(magnitude)));
    }
    auto mantissas = result_type::container_type::from_shape(shape);
    if (top == std::numeric_limits<int>::min()) {
        std::fill(mantissas.begin(), mantissas.end(), Mantissa{0});
        return {std::move(mantissas), width, 0};
    }
    policy.allowance = 0;
    const int exponent =
        top - 30 + dropped_bits(policy, detail::count_exact(numbers, top - 30), width, rounding::nearest, 0);
    std::transform(numbers.begin(), numbers.end(), mantissas.begin(), [&](const detail::exact_number& x) {
        return static_cast<Mantissa>(detail::in_units(x, exponent, width));
    });
    return {std::move(mantissas), width, exponent};
}

// The tensor's values as a lazy expression of float or double; it refers to the tensor, which must outlive it.
// Exact in double while 2^exponent's neighbourhood is in double's range, in float up to 25 bits.
template <class Real = float, std::size_t Rank, class Mantissa>
auto dequantize(const fixed_tensor<Rank, Mantissa>& tensor) {
    return xt::make_lambda_xfunction(
        [exponent = tensor.exponent()](Mantissa m) {
            return static_cast<Real>(std::ldexp(static_cast<double>(m), exponent));
        },
        tensor.mantissas());
}
template <class Real = float, std::size_t Rank, class Mantissa>
void dequantize(const fixed_tensor<Rank, Mantissa>&&) = delete;  // the expression would refer to a dead tensor

}  // namespace lamella
