// Pooling: max_pool2d (exact; ties go to the first position in row-major order), avg_pool2d and global_avg_pool.
//
// Where windows overlap (stride below the kernel), a pixel's errors are summed; they first lose the bits that this may
// need.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <type_traits>

#include "../core/memory.hpp"
#include "../core/rounding.hpp"
#include "layers.hpp"

namespace lamella::nn {

namespace detail {

// Shapes of one pooling layer.
struct pooling {
    image_shape in, out;
    std::int64_t kernel = 2, stride = 2;

    bool overlaps() const noexcept { return stride < kernel; }
    // Bits that the sum of a pixel's errors may be longer than one of them: at most this many windows share a pixel.
    int sum_bits() const noexcept {
        const std::int64_t windows = (kernel + stride - 1) / stride;
        return overlaps() ? bit_length(static_cast<std::uint64_t>(windows * windows)) : 0;
    }
};

inline pooling make_pooling(const char* name, const image_shape& in, std::int64_t kernel, std::int64_t stride) {
    if (kernel < 1 || kernel > 15) throw argument_error(std::string(name) + " kernel", "1..15", std::to_string(kernel));
    if (stride < 1) throw argument_error(std::string(name) + " stride", "at least 1", std::to_string(stride));
    if (in.height < kernel || in.width < kernel)
        throw argument_error(std::string(name) + " kernel", "one that fits " + to_string(in), std::to_string(kernel));
    return {in, {(in.height - kernel) / stride + 1, (in.width - kernel) / stride + 1, in.channels}, kernel, stride};
}

// Division by the number of values in a window. In integers a power of two goes into the exponent; otherwise the
// fixed-point reciprocal, to nearest.
template <class T>
class window_mean {
    static constexpr bool integers = std::is_same_v<T, std::int32_t>;

  public:
    using sum = std::conditional_t<integers, std::int64_t, T>;

    explicit window_mean(std::int64_t count) noexcept : count_(count) {
        if constexpr (integers)
            if (!std::has_single_bit(static_cast<std::uint64_t>(count))) reciprocal_ = (std::int64_t{1} << 31) / count;
    }
    // Divides sums of the input's values for the output, whose exponent and bits it sets.
    template <class Tensor>
    window_mean of_sums(const Tensor& in, Tensor& out) noexcept {
        if constexpr (integers) {
            shift_ = reciprocal_ == 0 ? std::max(0, in.bits + bits() - 31) : 0;
            out.exponent = in.exponent + (reciprocal_ == 0 ? shift_ - bits() : 0);
            out.bits = std::min(31, in.bits + (reciprocal_ == 0 ? bits() - shift_ : 0));
        }
        return *this;
    }
    // The same for single values, whose quotients are summed afterwards and may be `sum_bits` longer then.
    template <class Tensor>
    window_mean of_values(const Tensor& in, Tensor& out, int sum_bits = 0) noexcept {
        if constexpr (integers) {
            shift_ = std::max(0, in.bits + sum_bits - 31);
            out.exponent = in.exponent + shift_ - (reciprocal_ == 0 ? bits() : 0);
            out.bits = std::min(31, in.bits + sum_bits);
        }
        return *this;
    }
    T operator()(sum x) const noexcept {
        if constexpr (integers)
            return static_cast<T>(reciprocal_ == 0 ? round_nearest(x, shift_)
                                                   : round_nearest(x * reciprocal_, 31 + shift_));
        else
            return x / static_cast<T>(count_);
    }

  private:
    int bits() const noexcept { return bit_length(static_cast<std::uint64_t>(count_ - 1)); }
    std::int64_t count_;
    std::int64_t reciprocal_ = 0;  // rounded down, so that no mean passes its largest value
    int shift_ = 0;
};

// Places are as wide as values while they are compared, so that both fill vectors alike.
template <class T>
using place_of = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;

// One row of output: for each of `width` windows and `channels` channels the maximum and its place kh * kernel + kw. T:
// int32, float or double. `best` and `where` hold two input rows each.
template <class T>
void max_pool_row(path isa, const T* in, std::int64_t in_row, std::int64_t channels, std::int64_t width,
                  std::int64_t kernel, std::int64_t stride, T* best, place_of<T>* where, T* out, std::uint8_t* place);

}  // namespace detail

// The largest value of each kernel x kernel window; stride 0 stands for the kernel.
struct max_pool2d {
    std::int64_t kernel = 2;
    std::int64_t stride = 0;

    LAMELLA_SELDOM std::string describe() const {
        return "max_pool2d(" + std::to_string(kernel) + "," + std::to_string(stride == 0 ? kernel : stride) + ")";
    }

    template <class A>
    class layer;
};

template <class A>
class max_pool2d::layer : public detail::stateless {
    using value = typename A::value;
    using tensor = typename A::tensor;

  public:
    explicit layer(const max_pool2d& blueprint) : blueprint_(blueprint) {}
    image_shape build(typename A::engine&, const image_shape& in, layer_ids& ids) {
        ++ids.structure;
        shape_ = detail::make_pooling("max_pool2d", in, blueprint_.kernel,
                                      blueprint_.stride == 0 ? blueprint_.kernel : blueprint_.stride);
        best_.resize(static_cast<std::size_t>(2 * in.width * in.channels));
        where_.resize(static_cast<std::size_t>(2 * in.width * in.channels));
        return shape_.out;
    }
    tensor& forward(typename A::engine& e, tensor& in) {
        const auto& p = shape_;
        out_.reshape(in.samples, p.out);
        out_.gated = in.gated;
        A::same_scale(in, out_);
        place_.resize(static_cast<std::size_t>(out_.size()));
        const std::int64_t in_row = p.in.width * p.in.channels, out_row = p.out.width * p.out.channels;
        for (std::int64_t s = 0; s < in.samples; ++s)
            for (std::int64_t y = 0; y < p.out.height; ++y) {
                const std::int64_t to = (s * p.out.height + y) * out_row;
                detail::max_pool_row<value>(e.isa(), in.data.data() + (s * p.in.height + y * p.stride) * in_row, in_row,
                                            p.in.channels, p.out.width, p.kernel, p.stride, best_.data(), where_.data(),
                                            out_.data.data() + to, place_.data() + to);
            }
        return out_;
    }
    tensor* backward(typename A::engine& e, tensor& error, bool wanted) {
        if (!wanted) return nullptr;
        const auto& p = shape_;
        // The gate that a ReLU in front would apply, on a quarter of the elements: an output that is not positive
        // passes nothing back.
        if (out_.gated) detail::gate(e.isa(), out_.data.data(), error.data.data(), error.size());
        in_error_.reshape(error.samples, p.in);
        in_error_.gated = out_.gated;
        if (p.overlaps()) make_room(error);
        A::same_scale(error, in_error_);
        in_error_.data.fill_zero();
        value* to = in_error_.data.data();
        const value* from = error.data.data();
        const std::uint8_t* place = place_.data();
        const std::int64_t c = p.in.channels;
        std::array<std::int64_t, 225> offset{};
        for (std::int64_t k = 0; k < p.kernel * p.kernel; ++k)
            offset[static_cast<std::size_t>(k)] = ((k / p.kernel) * p.in.width + k % p.kernel) * c;
        for (std::int64_t s = 0; s < error.samples; ++s) {
            if (lamella::detail::all_zero(from, p.out.size())) {  // a learned sample
                from += p.out.size();
                place += p.out.size();
                continue;
            }
            for (std::int64_t y = 0; y < p.out.height; ++y)
                for (std::int64_t x = 0; x < p.out.width; ++x, from += c, place += c) {
                    value* window = to + ((s * p.in.height + y * p.stride) * p.in.width + x * p.stride) * c;
                    for (std::int64_t i = 0; i < c; ++i) window[offset[place[i]] + i] += from[i];
                }
        }
        if (!p.overlaps()) count_routed(e, error);
        return &in_error_;
    }

  private:
    void make_room(tensor& error) const {
        if constexpr (requires { error.bits; }) {
            const int dropped = std::max(0, error.bits + shape_.sum_bits() - 31);
            for (value& x : error.data) x = static_cast<value>(round_nearest(x, dropped));
            error.exponent += dropped;
            error.bits += shape_.sum_bits() - dropped;
        }
    }
    // The error's magnitudes are those of the pooled error, and zeros elsewhere.
    void count_routed(typename A::engine& e, tensor& error) {
        if constexpr (requires { error.counted; }) {
            error.changed();
            e.count(error);
            in_error_.seen = error.seen;
            in_error_.seen.zeros += static_cast<std::uint64_t>(in_error_.size() - error.size());
            in_error_.counted = in_error_.measured = true;
        } else {
            (void)e;
        }
    }
    max_pool2d blueprint_;
    detail::pooling shape_;
    tensor out_, in_error_;
    buffer<std::uint8_t> place_;
    buffer<detail::place_of<value>> where_;
    buffer<value> best_;
};

// The mean of each kernel x kernel window; stride 0 stands for the kernel. In integers: the sum, whose division goes
// into the exponent when the window is a power of two, else is a product with the fixed-point reciprocal, to nearest.
struct avg_pool2d {
    std::int64_t kernel = 2;
    std::int64_t stride = 0;

    LAMELLA_SELDOM std::string describe() const {
        return "avg_pool2d(" + std::to_string(kernel) + "," + std::to_string(stride == 0 ? kernel : stride) + ")";
    }

    template <class A>
    class layer;
};

template <class A>
class avg_pool2d::layer : public detail::stateless {
    using value = typename A::value;
    using tensor = typename A::tensor;
    using window_mean = detail::window_mean<value>;

  public:
    static constexpr bool in_place = false;

    explicit layer(const avg_pool2d& blueprint) : blueprint_(blueprint) {}
    image_shape build(typename A::engine&, const image_shape& in, layer_ids& ids) {
        ++ids.structure;
        shape_ = detail::make_pooling("avg_pool2d", in, blueprint_.kernel,
                                      blueprint_.stride == 0 ? blueprint_.kernel : blueprint_.stride);
        return shape_.out;
    }
    tensor& forward(typename A::engine&, tensor& in) {
        const auto& p = shape_;
        out_.reshape(in.samples, p.out);
        const window_mean by = window().of_sums(in, out_);
        const std::int64_t c = p.in.channels;
        value* to = out_.data.data();
        for (std::int64_t s = 0; s < in.samples; ++s)
            for (std::int64_t y = 0; y < p.out.height; ++y)
                for (std::int64_t x = 0; x < p.out.width; ++x)
                    for (std::int64_t i = 0; i < c; ++i, ++to) {
                        const value* from =
                            in.data.data() + ((s * p.in.height + y * p.stride) * p.in.width + x * p.stride) * c + i;
                        typename window_mean::sum sum{0};
                        for (std::int64_t ky = 0; ky < p.kernel; ++ky)
                            for (std::int64_t kx = 0; kx < p.kernel; ++kx) sum += from[(ky * p.in.width + kx) * c];
                        *to = by(sum);
                    }
        return out_;
    }
    tensor* backward(typename A::engine&, tensor& error, bool wanted) {
        if (!wanted) return nullptr;
        const auto& p = shape_;
        in_error_.reshape(error.samples, p.in);
        const window_mean by = window().of_values(error, in_error_, p.sum_bits());
        in_error_.data.fill_zero();
        const std::int64_t c = p.in.channels;
        const value* from = error.data.data();
        for (std::int64_t s = 0; s < error.samples; ++s)
            for (std::int64_t y = 0; y < p.out.height; ++y)
                for (std::int64_t x = 0; x < p.out.width; ++x, from += c) {
                    value* window =
                        in_error_.data.data() + ((s * p.in.height + y * p.stride) * p.in.width + x * p.stride) * c;
                    for (std::int64_t i = 0; i < c; ++i) {
                        const value share = by(from[i]);
                        for (std::int64_t ky = 0; ky < p.kernel; ++ky)
                            for (std::int64_t kx = 0; kx < p.kernel; ++kx)
                                window[(ky * p.in.width + kx) * c + i] += share;
                    }
                }
        return &in_error_;
    }

  private:
    window_mean window() const noexcept { return window_mean(shape_.kernel * shape_.kernel); }
    avg_pool2d blueprint_;
    detail::pooling shape_;
    tensor out_, in_error_;
};

// The mean of each channel over the whole image, divided as avg_pool2d does.
struct global_avg_pool {
    std::string describe() const { return "global_avg_pool"; }

    template <class A>
    class layer;
};

template <class A>
class global_avg_pool::layer : public detail::stateless {
    using value = typename A::value;
    using tensor = typename A::tensor;
    using window_mean = detail::window_mean<value>;

  public:
    static constexpr bool in_place = false;

    explicit layer(const global_avg_pool&) {}
    image_shape build(typename A::engine&, const image_shape& in, layer_ids& ids) {
        ++ids.structure;
        in_shape_ = in;
        sums_.resize(static_cast<std::size_t>(in.channels));
        return {1, 1, in.channels};
    }
    tensor& forward(typename A::engine&, tensor& in) {
        out_.reshape(in.samples, {1, 1, in_shape_.channels});
        const window_mean by = window_mean(pixels()).of_sums(in, out_);
        const std::int64_t c = in_shape_.channels;
        const value* from = in.data.data();
        value* to = out_.data.data();
        for (std::int64_t s = 0; s < in.samples; ++s, to += c) {
            sums_.fill_zero();
            for (std::int64_t p = 0; p < pixels(); ++p, from += c)
                for (std::int64_t i = 0; i < c; ++i) sums_[static_cast<std::size_t>(i)] += from[i];
            for (std::int64_t i = 0; i < c; ++i) to[i] = by(sums_[static_cast<std::size_t>(i)]);
        }
        return out_;
    }
    tensor* backward(typename A::engine&, tensor& error, bool wanted) {
        if (!wanted) return nullptr;
        in_error_.reshape(error.samples, in_shape_);
        const window_mean by = window_mean(pixels()).of_values(error, in_error_);
        const std::int64_t c = in_shape_.channels;
        const value* from = error.data.data();
        value* to = in_error_.data.data();
        for (std::int64_t s = 0; s < error.samples; ++s, from += c) {
            value* const first = to;
            for (std::int64_t i = 0; i < c; ++i) first[i] = by(from[i]);
            for (std::int64_t p = 1; p < pixels(); ++p) std::copy(first, first + c, first + p * c);
            to += pixels() * c;
        }
        return &in_error_;
    }

  private:
    std::int64_t pixels() const noexcept { return in_shape_.height * in_shape_.width; }

    image_shape in_shape_;
    buffer<typename window_mean::sum> sums_;
    tensor out_, in_error_;
};

}  // namespace lamella::nn

#if !LAMELLA_SEPARATE
#include "pool_definition.hpp"
#endif
