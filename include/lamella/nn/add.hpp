// The sum of two tensors of one shape, where the paths of a residual block meet.
//
// In integers: out = x + y in units of 2^e with e = max(min(ex, ey), top - 30), top being the largest bit length +
// exponent of either: left shifts are exact, right shifts to nearest, and the sum cannot overflow. Forward, bit lengths
// are those that `tensor::bits` promises, so that inference does not depend on the batch; those of errors are measured.
// An operand that is all zero takes no part in the choice.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../core/format.hpp"
#include "../core/path.hpp"
#include "../core/quantise.hpp"
#include "../core/rounding.hpp"
#include "../core/threads.hpp"
#include "fixed.hpp"
#include "real.hpp"

namespace lamella::nn {

namespace detail {

// What an operand of a sum is shifted by: `left` bits up, or `dropped` bits down; `keep` is 0 when nothing is left
// then.
struct alignment {
    int left = 0, dropped = 0;
    std::int32_t keep = -1;

    constexpr alignment(int exponent, int to) noexcept
        : left(std::clamp(exponent - to, 0, 31)),
          dropped(std::clamp(to - exponent, 0, 31)),
          keep(to - exponent > 31 ? 0 : -1) {}
};

template <bool Drop>
LAMELLA_ALWAYS_INLINE std::int32_t aligned(std::int32_t x, const alignment& by) noexcept {
    return (Drop ? drop_nearest(x, by.dropped) : x << by.left) & by.keep;
}
template <bool DropX, bool DropY>
LAMELLA_ALWAYS_INLINE void add_shifted(const std::int32_t* x, alignment of_x, const std::int32_t* y, alignment of_y,
                                       std::int32_t* out, std::int64_t n) noexcept {
    for (std::int64_t i = 0; i < n; ++i) out[i] = aligned<DropX>(x[i], of_x) + aligned<DropY>(y[i], of_y);
}
LAMELLA_ALWAYS_INLINE void add_aligned_body(const std::int32_t* x, alignment of_x, const std::int32_t* y,
                                            alignment of_y, std::int32_t* out, std::int64_t n) noexcept {
    if (of_x.dropped != 0 && of_y.dropped != 0) return add_shifted<true, true>(x, of_x, y, of_y, out, n);
    if (of_x.dropped != 0) return add_shifted<true, false>(x, of_x, y, of_y, out, n);
    if (of_y.dropped != 0) return add_shifted<false, true>(x, of_x, y, of_y, out, n);
    add_shifted<false, false>(x, of_x, y, of_y, out, n);
}
LAMELLA_MULTIVERSION(add_aligned,
                     (const std::int32_t* x, alignment of_x, const std::int32_t* y, alignment of_y, std::int32_t* out,
                      std::int64_t n),
                     (x, of_x, y, of_y, out, n))

template <class T>
LAMELLA_ALWAYS_INLINE void add_values_body(const T* x, const T* y, T* out, std::int64_t n) noexcept {
    for (std::int64_t i = 0; i < n; ++i) out[i] = x[i] + y[i];
}
LAMELLA_MULTIVERSION_TEMPLATE(add_values, (class T), (const T* x, const T* y, T* out, std::int64_t n), (x, y, out, n))

// Bit lengths of the mantissas: promised and measured.
struct promised_bits {
    int operator()(fixed::engine&, fixed::tensor& t) const noexcept { return t.bits; }
};
struct measured_bits {
    int operator()(fixed::engine& e, fixed::tensor& t) const { return bit_length(e.largest(t)); }
};

// out = x + y; out may be x. `bits_of` is one of the two above, and makes no difference to the twin.
template <class Bits>
void add(fixed::engine& e, fixed::tensor& x, fixed::tensor& y, fixed::tensor& out, Bits bits_of) {
    const int bits_x = bits_of(e, x), bits_y = bits_of(e, y);
    const int top_x = bits_x + x.exponent, top_y = bits_y + y.exponent;
    int exponent = 0, top = 0;
    if (bits_x != 0 && bits_y != 0) {
        top = std::max(top_x, top_y);
        exponent = std::max(std::min(x.exponent, y.exponent), top - 30);
    } else if (bits_x != 0 || bits_y != 0) {
        top = bits_x != 0 ? top_x : top_y;
        exponent = std::max(bits_x != 0 ? x.exponent : y.exponent, top - 30);
    }
    const alignment of_x(x.exponent, exponent), of_y(y.exponent, exponent);
    out.reshape(x.samples, x.shape);
    out.exponent = exponent;
    out.bits = bits_x == 0 && bits_y == 0 ? 0 : std::min(31, top - exponent + 1);
    const int threads = lamella::detail::threads_worth(e.threads(), x.size(), lamella::detail::elements_a_thread);
    lamella::detail::parallel(threads, [&](std::int64_t id, std::int64_t count) {
        const std::int64_t begin = x.size() * id / count, end = x.size() * (id + 1) / count;
        add_aligned(e.isa(), x.data.data() + begin, of_x, y.data.data() + begin, of_y, out.data.data() + begin,
                    end - begin);
    });
}
template <class Engine, class Tensor, class Bits>
void add(Engine& e, Tensor& x, Tensor& y, Tensor& out, Bits) {
    out.reshape(x.samples, x.shape);
    add_values(e.isa(), x.data.data(), y.data.data(), out.data.data(), x.size());
}

}  // namespace detail

}  // namespace lamella::nn
