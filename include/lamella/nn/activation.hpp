// Layers that look at one element at a time, beside relu (layers.hpp): leaky_relu and dropout. Both work in place.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include "../core/quantise.hpp"
#include "../core/rounding.hpp"
#include "../core/threads.hpp"
#include "layers.hpp"

namespace lamella::nn {

namespace detail {

// x 2^up where `by` is positive, x 2^(up - places) to nearest elsewhere; up <= places. x may be `by`.
LAMELLA_ALWAYS_INLINE void leak_body(const std::int32_t* by, std::int32_t* x, std::int64_t n, int up,
                                     int places) noexcept {
    const int dropped = places - up;
    if (dropped == 0)
        for (std::int64_t i = 0; i < n; ++i) x[i] = by[i] > 0 ? x[i] << up : x[i];
    else
        for (std::int64_t i = 0; i < n; ++i) x[i] = by[i] > 0 ? x[i] << up : drop_nearest(x[i], dropped);
}
LAMELLA_MULTIVERSION(leak, (const std::int32_t* by, std::int32_t* x, std::int64_t n, int up, int places),
                     (by, x, n, up, places))

template <class T>
LAMELLA_ALWAYS_INLINE void leak_values_body(const T* by, T* x, std::int64_t n, T slope) noexcept {
    for (std::int64_t i = 0; i < n; ++i) x[i] = by[i] > 0 ? x[i] : slope * x[i];
}
LAMELLA_MULTIVERSION_TEMPLATE(leak_values, (class T), (const T* by, T* x, std::int64_t n, T slope), (by, x, n, slope))

// Elements whose draw is below the threshold become 0, others are multiplied by scale x 2^-15, to nearest.
LAMELLA_ALWAYS_INLINE void drop_elements_body(std::int32_t* x, const std::uint16_t* draw, std::int64_t n,
                                              std::int32_t threshold, std::int32_t scale) noexcept {
    for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t product = std::int64_t{x[i]} * scale;
        const std::int64_t odd = product >> 15 & 1;
        const auto kept = static_cast<std::int32_t>((product + (1 << 14) - 1 + odd) >> 15);
        x[i] = draw[i] < threshold ? 0 : kept;
    }
}
LAMELLA_MULTIVERSION(drop_elements,
                     (std::int32_t * x, const std::uint16_t* draw, std::int64_t n, std::int32_t threshold,
                      std::int32_t scale),
                     (x, draw, n, threshold, scale))

template <class T>
LAMELLA_ALWAYS_INLINE void drop_values_body(T* x, const std::uint16_t* draw, std::int64_t n, std::int32_t threshold,
                                            T scale) noexcept {
    for (std::int64_t i = 0; i < n; ++i) x[i] = draw[i] < threshold ? T{0} : x[i] * scale;
}
LAMELLA_MULTIVERSION_TEMPLATE(drop_values, (class T),
                              (T * x, const std::uint16_t* draw, std::int64_t n, std::int32_t threshold, T scale),
                              (x, draw, n, threshold, scale))

}  // namespace detail

// x where it is positive, x 2^-places elsewhere (places = 3: a slope of 0.125). In integers the positive values move up
// as far as the tensor's bits leave room, and only what then remains of the slope is rounded, to nearest.
struct leaky_relu {
    int places = 3;  // 1 .. 16

    LAMELLA_SELDOM std::string describe() const { return "leaky_relu(2^-" + std::to_string(places) + ")"; }

    template <class A>
    class layer : public detail::stateless {
        using tensor = typename A::tensor;

      public:
        explicit layer(const leaky_relu& blueprint) : places_(blueprint.places) {}
        image_shape build(typename A::engine&, const image_shape& in, layer_ids& ids) {
            ++ids.structure;
            if (places_ < 1 || places_ > 16)
                throw argument_error("leaky_relu places", "1..16", std::to_string(places_));
            return in;
        }
        tensor& forward(typename A::engine& e, tensor& in) {
            leak(e, in, in);
            out_ = &in;
            return in;
        }
        tensor* backward(typename A::engine& e, tensor& error, bool wanted) {
            if (!wanted) return nullptr;
            leak(e, *out_, error);
            return &error;
        }

      private:
        void leak(typename A::engine& e, const tensor& by, tensor& t) const {
            if constexpr (std::is_same_v<A, fixed>) {
                const int up = std::min(places_, 31 - t.bits);
                detail::leak(e.isa(), by.data.data(), t.data.data(), t.size(), up, places_);
                t.exponent -= up;
                t.bits += up;
            } else {
                const auto slope = std::ldexp(typename A::value{1}, -places_);
                detail::leak_values(e.isa(), by.data.data(), t.data.data(), t.size(), slope);
            }
            t.changed();
        }
        int places_;
        tensor* out_ = nullptr;
    };
};

// Each element becomes 0 with a probability of percent / 100 (to the nearest 2^-16) while training; the others are
// divided by the rest of that probability. Nothing happens in inference. Random bits are those of the element at its
// place in the global batch (stream `dropout`); going back, the same elements are dropped, from the same bits.
//
// In integers the factor is a 15-bit fraction, to nearest, and a power of two: 50 percent is exact.
// Srivastava et al., "Dropout", JMLR 2014, with the factor in training instead of inference.
struct dropout {
    int percent = 50;  // 0 .. 99

    LAMELLA_SELDOM std::string describe() const { return "dropout(" + std::to_string(percent) + "%)"; }

    template <class A>
    class layer : public detail::stateless {
        using tensor = typename A::tensor;

      public:
        explicit layer(const dropout& blueprint) : percent_(blueprint.percent) {}
        image_shape build(typename A::engine&, const image_shape& in, layer_ids& ids) {
            key_ = static_cast<std::uint16_t>(ids.structure++);
            if (percent_ < 0 || percent_ > 99)
                throw argument_error("dropout percent", "0..99", std::to_string(percent_));
            threshold_ = (percent_ * 65536 + 50) / 100;
            const std::int64_t kept = 65536 - threshold_;
            while (kept << places_ < 65536) ++places_;  // 1 / share = scale 2^(places - 15), scale in (2^14, 2^15]
            scale_ = static_cast<std::int32_t>(((std::int64_t{1} << 32) / (kept << places_) + 1) / 2);
            return in;
        }
        tensor& forward(typename A::engine& e, tensor& in) {
            if (e.training) drop(e, in);
            return in;
        }
        tensor* backward(typename A::engine& e, tensor& error, bool wanted) {
            if (!wanted) return nullptr;
            drop(e, error);
            return &error;
        }

      private:
        void drop(const typename A::engine& e, tensor& t) const {
            constexpr std::int64_t chunk = 2048;
            const random_site site{e.seed, e.step, key_, stream::dropout};
            const std::int64_t size = t.shape.size(), parts = (size + chunk - 1) / chunk, total = t.samples * parts;
            const int threads =
                lamella::detail::threads_worth(e.threads(), t.size(), lamella::detail::elements_a_thread);
            lamella::detail::parallel(threads, [&](std::int64_t id, std::int64_t count) {
                std::array<std::uint16_t, chunk> draw;
                for (std::int64_t i = total * id / count; i < total * (id + 1) / count; ++i) {
                    const std::int64_t sample = i / parts, begin = i % parts * chunk, n = std::min(chunk, size - begin);
                    fill_random_16(e.isa(), site, e.first_position + static_cast<std::uint32_t>(sample),
                                   static_cast<std::uint64_t>(begin),
                                   std::span(draw.data(), static_cast<std::size_t>(n)));
                    typename A::value* x = t.data.data() + sample * size + begin;
                    if constexpr (std::is_same_v<A, fixed>)
                        detail::drop_elements(e.isa(), x, draw.data(), n, threshold_, scale_);
                    else
                        detail::drop_values(e.isa(), x, draw.data(), n, threshold_,
                                            std::ldexp(static_cast<typename A::value>(scale_), places_ - 15));
                }
            });
            if constexpr (std::is_same_v<A, fixed>) t.exponent += places_;
            t.changed();
        }
        int percent_;
        std::uint16_t key_ = 0;
        std::int32_t threshold_ = 0, scale_ = 0;
        int places_ = 0;
    };
};

}  // namespace lamella::nn
