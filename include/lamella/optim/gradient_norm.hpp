// The 2-norm of a step's gradient over all parameters, for clipping (optimizer.hpp). What OPTC's hardware would need
// for it is not modelled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "../core/elementary.hpp"
#include "../core/format.hpp"
#include "../nn/parameter.hpp"

namespace lamella::optim {

// Sums the squares of gradient sums, parameter by parameter; the order is part of the result's last bits.
class gradient_norm {
  public:
    // In integers. What lies 31 bits below the parameter's largest gradient counts as nothing, and so it is from one
    // parameter to the next: up to 2^32 weights the norm's relative error is below 2^-13.
    void add(const nn::fixed_parameter& p) noexcept {
        std::uint64_t all = 0;
        for (const std::int64_t g : p.gradient.span()) all |= magnitude(g);
        const int dropped = std::max(0, bit_length(all) - 31);
        lamella::detail::uint128 sum = 0;
        for (const std::int64_t g : p.gradient.span()) {
            const std::uint64_t kept = magnitude(g) >> dropped;
            sum += kept * kept;
        }
        const int rest = std::max(0, lamella::detail::bit_length(sum) - 62);
        add(to_scaled(static_cast<std::uint64_t>(sum >> rest), 2 * (p.gradient_exponent + dropped) + rest));
    }
    // Of a twin, which adds its squares up itself.
    template <class Real>
    void add(const nn::real_parameter<Real>& p) noexcept {
        add(p.squared_gradient());
    }
    scaled norm() const noexcept { return square_root(sum_); }

  private:
    static constexpr std::uint64_t magnitude(std::int64_t g) noexcept {
        return g < 0 ? 0 - static_cast<std::uint64_t>(g) : static_cast<std::uint64_t>(g);
    }
    void add(scaled x) noexcept {
        if (x.mantissa == 0) return;
        scaled y = std::exchange(sum_, x);
        if (y.mantissa == 0) return;
        if (x.exponent < y.exponent) std::swap(x, y);
        const int apart = x.exponent - y.exponent;
        sum_ = x;
        if (apart <= 31)
            sum_ = to_scaled((static_cast<std::uint64_t>(x.mantissa) << 31) +
                                 (static_cast<std::uint64_t>(y.mantissa) << (31 - apart)),
                             x.exponent - 31);
    }
    scaled sum_;
};

}  // namespace lamella::optim
