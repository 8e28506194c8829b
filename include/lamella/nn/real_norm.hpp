// Batch normalisation of the twin: the formulas of fixed_norm.hpp in floating point, sums in double.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "../core/path.hpp"
#include "real.hpp"

namespace lamella::nn {

namespace detail {

// Rows of `channels`: adds x to `first` and x y to `second`.
template <class T>
LAMELLA_ALWAYS_INLINE void real_sums_body(const T* x, const T* y, std::int64_t rows, std::int64_t channels,
                                          double* LAMELLA_RESTRICT first, double* LAMELLA_RESTRICT second) {
    for (std::int64_t r = 0; r < rows; ++r) {
        const T* a = x + r * channels;
        const T* b = y + r * channels;
        for (std::int64_t c = 0; c < channels; ++c) {
            first[c] += static_cast<double>(a[c]);
            second[c] += static_cast<double>(a[c]) * static_cast<double>(b[c]);
        }
    }
}
LAMELLA_MULTIVERSION_TEMPLATE(real_sums, (class T),
                              (const T* x, const T* y, std::int64_t rows, std::int64_t channels,
                               double* LAMELLA_RESTRICT first, double* LAMELLA_RESTRICT second),
                              (x, y, rows, channels, first, second))

// normal = (x - mean) inverse, out = scale normal + shift, a channel's numbers each.
template <class T>
LAMELLA_ALWAYS_INLINE void real_normalise_body(const T* x, std::int64_t rows, std::int64_t channels,
                                               const T* LAMELLA_RESTRICT mean, const T* LAMELLA_RESTRICT inverse,
                                               const T* LAMELLA_RESTRICT scale, const T* LAMELLA_RESTRICT shift,
                                               T* LAMELLA_RESTRICT normal, T* LAMELLA_RESTRICT out) {
    for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < channels; ++c) {
            const std::int64_t i = r * channels + c;
            normal[i] = (x[i] - mean[c]) * inverse[c];
            out[i] = scale[c] * normal[i] + shift[c];
        }
}
LAMELLA_MULTIVERSION_TEMPLATE(real_normalise, (class T),
                              (const T* x, std::int64_t rows, std::int64_t channels, const T* LAMELLA_RESTRICT mean,
                               const T* LAMELLA_RESTRICT inverse, const T* LAMELLA_RESTRICT scale,
                               const T* LAMELLA_RESTRICT shift, T* LAMELLA_RESTRICT normal, T* LAMELLA_RESTRICT out),
                              (x, rows, channels, mean, inverse, scale, shift, normal, out))

// out = gain (error - first - normal second), a channel's numbers each.
template <class T>
LAMELLA_ALWAYS_INLINE void real_normalised_error_body(const T* error, const T* LAMELLA_RESTRICT normal,
                                                      std::int64_t rows, std::int64_t channels,
                                                      const T* LAMELLA_RESTRICT gain, const T* LAMELLA_RESTRICT first,
                                                      const T* LAMELLA_RESTRICT second, T* LAMELLA_RESTRICT out) {
    for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < channels; ++c) {
            const std::int64_t i = r * channels + c;
            out[i] = gain[c] * (error[i] - first[c] - normal[i] * second[c]);
        }
}
LAMELLA_MULTIVERSION_TEMPLATE(real_normalised_error, (class T),
                              (const T* error, const T* LAMELLA_RESTRICT normal, std::int64_t rows,
                               std::int64_t channels, const T* LAMELLA_RESTRICT gain, const T* LAMELLA_RESTRICT first,
                               const T* LAMELLA_RESTRICT second, T* LAMELLA_RESTRICT out),
                              (error, normal, rows, channels, gain, first, second, out))

}  // namespace detail

template <class T>
class real<T>::normaliser {
  public:
    void build(const image_shape& s) {
        channels_ = static_cast<std::size_t>(s.channels);
        for (buffer<T>* b : {&mean_, &inverse_, &by_first_, &by_second_}) b->resize(channels_);
        for (buffer<double>* b : {&first_, &second_, &running_mean_, &running_variance_}) b->resize(channels_);
    }

    void forward(engine& e, tensor& in, const parameter& scale, const parameter& shift, tensor& out) {
        const std::int64_t rows = in.samples * in.shape.height * in.shape.width;
        if (e.training) measure(e, in, rows);
        for (std::size_t c = 0; !e.training && c < channels_; ++c) set(c, running_mean_[c], running_variance_[c]);
        out.reshape(in.samples, in.shape);
        normal_.resize(in.data.size());
        detail::real_normalise<T>(e.isa(), in.data.data(), rows, in.shape.channels, mean_.data(), inverse_.data(),
                                  scale.value.data(), shift.value.data(), normal_.data(), out.data.data());
    }

    void backward(engine& e, tensor& error, parameter& scale, parameter& shift, tensor* in_error) {
        const std::int64_t rows = error.samples * error.shape.height * error.shape.width;
        sum(e, error.data.data(), normal_.data(), rows);
        for (std::size_t c = 0; c < channels_; ++c) {
            shift.gradient[c] = static_cast<T>(first_[c]);
            scale.gradient[c] = static_cast<T>(second_[c]);
            mean_[c] = scale.value[c] * inverse_[c];
            by_first_[c] = static_cast<T>(first_[c] / static_cast<double>(rows));
            by_second_[c] = static_cast<T>(second_[c] / static_cast<double>(rows));
        }
        if (in_error == nullptr) return;
        in_error->reshape(error.samples, error.shape);
        detail::real_normalised_error<T>(e.isa(), error.data.data(), normal_.data(), rows, error.shape.channels,
                                         mean_.data(), by_first_.data(), by_second_.data(), in_error->data.data());
    }

    // The integers are the values' bit patterns.
    void visit(state_visitor& visitor) {
        bits(visitor, "running_mean", running_mean_);
        bits(visitor, "running_variance", running_variance_);
        visitor.integer("started", started_);
    }

  private:
    static constexpr double added_variance = 1.0 / (1 << 17), follow = 0.125;

    void sum(engine& e, const T* x, const T* y, std::int64_t rows) {
        first_.fill_zero();
        second_.fill_zero();
        detail::real_sums<T>(e.isa(), x, y, rows, static_cast<std::int64_t>(channels_), first_.data(), second_.data());
    }
    void measure(engine& e, const tensor& in, std::int64_t rows) {
        sum(e, in.data.data(), in.data.data(), rows);
        const auto n = static_cast<double>(rows);
        for (std::size_t c = 0; c < channels_; ++c) {
            const double mean = first_[c] / n, squares = std::max(0.0, second_[c] - first_[c] * mean);
            set(c, mean, squares / n);
            const double unbiased = rows == 1 ? 0 : squares / (n - 1);
            running_mean_[c] = started_ ? running_mean_[c] + follow * (mean - running_mean_[c]) : mean;
            running_variance_[c] =
                started_ ? running_variance_[c] + follow * (unbiased - running_variance_[c]) : unbiased;
        }
        started_ = true;
    }
    void set(std::size_t c, double mean, double variance) {
        mean_[c] = static_cast<T>(mean);
        inverse_[c] = static_cast<T>(1 / std::sqrt(variance + added_variance));
    }
    void bits(state_visitor& visitor, std::string_view part, buffer<double>& reals) {
        std::vector<std::int64_t> copy(reals.size());
        for (std::size_t i = 0; i < copy.size(); ++i) copy[i] = std::bit_cast<std::int64_t>(reals[i]);
        const std::size_t shape[1] = {copy.size()};
        visitor.tensor(part, state_kind::parameter, shape, integer_span(std::span<std::int64_t>(copy)), 0, nullptr);
        for (std::size_t i = 0; i < copy.size(); ++i) reals[i] = std::bit_cast<double>(copy[i]);
    }

    std::size_t channels_ = 0;
    bool started_ = false;
    buffer<T> normal_, mean_, inverse_, by_first_, by_second_;
    buffer<double> first_, second_, running_mean_, running_variance_;
};

}  // namespace lamella::nn
