// The twin: the same networks in float32 and float64, layer for layer, with the same initial weights, batches and
// order.
//
// `real<T>` answers the same calls as `fixed`. float32 is the accuracy that the integers are compared with, float64 is
// what gradients and integer layers are checked against. Products run over an im2col matrix through CBLAS when it is
// there (`lamella::cblas`), otherwise through a blocked kernel.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

#include "../core/config.hpp"
#include "../core/format.hpp"
#include "../core/memory.hpp"
#include "../core/path.hpp"
#include "../core/state.hpp"
#include "feedback.hpp"
#include "parameter.hpp"
#include "shape.hpp"

#if LAMELLA_CBLAS
#include <cblas.h>
#endif

namespace lamella::nn {

namespace detail {

// c[m][n] = sum over k of a(m, k) b(k, n), with a(m, k) = a[m * am + k * ak] and rows of b and c contiguous; `add`: +=.
// Four rows at a time, so that the compiler keeps them in registers while it walks b.
template <class T>
LAMELLA_ALWAYS_INLINE void real_multiply_body(const T* a, std::int64_t am, std::int64_t ak, const T* b, T* c,
                                              std::int64_t m, std::int64_t n, std::int64_t k, bool add) {
    const auto put = [add](T& to, T sum) { to = add ? to + sum : sum; };
    constexpr std::int64_t tile = 64;
    for (std::int64_t j0 = 0; j0 < n; j0 += tile) {
        const std::int64_t columns = n - j0 < tile ? n - j0 : tile;
        std::int64_t i = 0;
        for (; i + 4 <= m; i += 4) {
            T sum[4][tile] = {};
            for (std::int64_t p = 0; p < k; ++p) {
                const T* row = b + p * n + j0;
                const T x0 = a[i * am + p * ak], x1 = a[(i + 1) * am + p * ak];
                const T x2 = a[(i + 2) * am + p * ak], x3 = a[(i + 3) * am + p * ak];
                for (std::int64_t j = 0; j < columns; ++j) {
                    sum[0][j] += x0 * row[j];
                    sum[1][j] += x1 * row[j];
                    sum[2][j] += x2 * row[j];
                    sum[3][j] += x3 * row[j];
                }
            }
            for (std::int64_t r = 0; r < 4; ++r)
                for (std::int64_t j = 0; j < columns; ++j) put(c[(i + r) * n + j0 + j], sum[r][j]);
        }
        for (; i < m; ++i) {
            T sum[tile] = {};
            for (std::int64_t p = 0; p < k; ++p)
                for (std::int64_t j = 0; j < columns; ++j) sum[j] += a[i * am + p * ak] * b[p * n + j0 + j];
            for (std::int64_t j = 0; j < columns; ++j) put(c[i * n + j0 + j], sum[j]);
        }
    }
}
LAMELLA_MULTIVERSION_TEMPLATE(real_multiply, (class T),
                              (const T* a, std::int64_t am, std::int64_t ak, const T* b, T* c, std::int64_t m,
                               std::int64_t n, std::int64_t k, bool add),
                              (a, am, ak, b, c, m, n, k, add))

}  // namespace detail

template <class T>
struct real {
    using value = T;
    using parameter = real_parameter<T>;
    static constexpr std::string_view name = std::is_same_v<T, float> ? "float32" : "float64";

    struct tensor {
        std::int64_t samples = 0;
        image_shape shape;
        buffer<T> data;
        bool gated = false;

        std::int64_t size() const noexcept { return samples * shape.size(); }
        void reshape(std::int64_t count, const image_shape& s) {
            samples = count;
            shape = s;
            data.resize(static_cast<std::size_t>(size()));
            gated = false;
        }
        void changed() noexcept {}
    };

    struct settings {
        struct {
            path isa = best_path();
            int threads = 1;
        } kernels;
        nn::feedback feedback = nn::feedback::propagated;
    };

    struct engine {
        settings options;
        std::uint64_t seed = 0;
        std::uint32_t step = 0;
        std::uint32_t first_position = 0;
        bool training = false;
        tensor output_error;  // of this step; direct feedback alone
        buffer<T> feedback;   // the matrix of the layer at work, direct feedback alone
        // [layer][role]: the largest magnitudes of activations, weights and errors in training, for who wants to know
        // what range fixed point needs. Not owned, a row a layer; null: nobody does.
        std::vector<std::array<T, 3>>* largest = nullptr;

        path isa() const noexcept { return options.kernels.isa; }
        int threads() const noexcept { return options.kernels.threads; }
        void count(const tensor&) noexcept {}
    };

    static void same_scale(const tensor&, tensor&) noexcept {}

    class product;     // the three GEMMs of a layer
    class normaliser;  // batch normalisation
};

// The three products of a layer; see fixed_product.hpp for what they compute.
template <class T>
class real<T>::product {
  public:
    void build(engine&, const geometry& g, int layer, std::uint16_t key) {
        layer_ = static_cast<std::size_t>(layer);
        geometry_ = g;
        key_ = key;
        geometry_.groups = 1;
        groups_ = g.groups;
        if (groups_ > 1) dense_.value.resize(static_cast<std::size_t>(geometry_.weights()));
        if (groups_ > 1) dense_.gradient.resize(dense_.value.size());
        if (pointwise()) return;
        const std::int64_t elements = g.out_pixels() * g.depth();
        block_ = std::max<std::int64_t>(1, (std::int64_t{1} << 19) / (elements * static_cast<std::int64_t>(sizeof(T))));
        patches_.resize(static_cast<std::size_t>(block_ * elements));
        spread_.resize(patches_.size());
        patches_.fill_zero();  // padding stays
    }

    void forward(engine& e, tensor& in, const parameter& given, const parameter& bias, tensor& out) {
        const geometry& g = geometry_;
        const std::int64_t n = g.out.channels, k = g.depth();
        note(e, role::activation, in.data);
        note(e, role::weight, given.value);
        if (groups_ > 1) each_weight([&](std::size_t at, std::size_t part) { dense_.value[at] = given.value[part]; });
        const parameter& weight = groups_ > 1 ? dense_ : given;
        out.reshape(in.samples, g.out);
        each_block(in.samples, [&](std::int64_t first, std::int64_t samples) {
            multiply(e, false, true, samples * g.out_pixels(), n, k, gather(in, first, samples), weight.value.data(),
                     out.data.data() + first * g.out.size());
        });
        T* to = out.data.data();
        for (std::int64_t i = 0; !bias.value.empty() && i < out.size(); i += n)
            for (std::int64_t j = 0; j < n; ++j) to[i + j] += bias.value[static_cast<std::size_t>(j)];
    }

    void backward(engine& e, const tensor& in, tensor& error, parameter& given, parameter& bias, tensor* in_error) {
        const geometry& g = geometry_;
        parameter& weight = groups_ > 1 ? dense_ : given;
        const std::int64_t n = g.out.channels, k = g.depth();
        note(e, role::error, error.data);
        bias.gradient.fill_zero();
        for (std::int64_t i = 0; !bias.value.empty() && i < error.size(); i += n)
            for (std::int64_t j = 0; j < n; ++j)
                bias.gradient[static_cast<std::size_t>(j)] += error.data[static_cast<std::size_t>(i + j)];
        if (in_error != nullptr) in_error->reshape(in.samples, g.in);
        if (in_error != nullptr && e.options.feedback == feedback::direct) {
            project(e, *in_error);
            in_error = nullptr;
        }
        if (in_error != nullptr && !pointwise()) in_error->data.fill_zero();
        each_block(in.samples, [&](std::int64_t first, std::int64_t samples) {
            const std::int64_t m = samples * g.out_pixels();
            const T* from = error.data.data() + first * g.out.size();
            multiply(e, true, false, n, k, m, from, gather(in, first, samples), weight.gradient.data(), first != 0);
            if (in_error == nullptr) return;
            T* to = in_error->data.data() + first * g.in.size();
            multiply(e, false, false, m, k, n, from, weight.value.data(), pointwise() ? to : spread_.data());
            if (pointwise()) return;
            walk(samples, [&](std::int64_t patch, std::int64_t image, std::int64_t run) {
                const T* const part = spread_.data() + patch;
                for (std::int64_t i = 0; i < run; ++i) to[image + i] += part[i];
            });
        });
        if (groups_ > 1)
            each_weight([&](std::size_t at, std::size_t part) { given.gradient[part] = dense_.gradient[at]; });
    }

    void halve() noexcept {}
    void visit(state_visitor&) {}

  private:
    void project(engine& e, tensor& in_error) {
        const std::int64_t inputs = geometry_.in.size(), outputs = e.output_error.shape.size();
        e.feedback.resize(static_cast<std::size_t>(inputs * outputs));
        detail::fill_feedback(e.isa(), e.seed, key_, std::ldexp(T{1}, detail::feedback_exponent(inputs)),
                              e.feedback.span());
        multiply(e, false, true, in_error.samples, inputs, outputs, e.output_error.data.data(), e.feedback.data(),
                 in_error.data.data());
    }
    void note(const engine& e, role what, const buffer<T>& values) const {
        if (e.largest == nullptr || !e.training) return;
        T& most = e.largest->at(layer_)[static_cast<std::size_t>(what)];
        for (const T x : values) most = std::max(most, std::abs(x));
    }
    bool pointwise() const noexcept {
        const geometry& g = geometry_;
        return g.kernel_height * g.kernel_width == 1 && g.stride == 1 && g.padding == 0;
    }
    // Groups multiply as a dense layer whose other weights are zero. Calls visit(index in the dense weights, index).
    template <class Visit>
    void each_weight(Visit&& visit) const {
        const std::int64_t in_part = geometry_.in.channels / groups_, out_part = geometry_.out.channels / groups_;
        std::size_t part = 0;
        for (std::int64_t o = 0; o < geometry_.out.channels; ++o)
            for (std::int64_t tap = 0; tap < geometry_.taps(); ++tap)
                for (std::int64_t i = 0; i < in_part; ++i, ++part)
                    visit(static_cast<std::size_t>((o * geometry_.taps() + tap) * geometry_.in.channels +
                                                   o / out_part * in_part + i),
                          part);
    }
    // Calls visit(first sample, samples) for blocks whose patches stay in a second-level cache: to write them to memory
    // and read them again takes longer than their product.
    template <class Visit>
    void each_block(std::int64_t samples, Visit&& visit) const {
        const std::int64_t block = pointwise() ? samples : block_;
        for (std::int64_t first = 0; first < samples; first += block) visit(first, std::min(block, samples - first));
    }
    const T* gather(const tensor& in, std::int64_t first, std::int64_t samples) {
        const T* images = in.data.data() + first * geometry_.in.size();
        if (pointwise()) return images;
        walk(samples, [&](std::int64_t patch, std::int64_t image, std::int64_t run) {
            std::copy_n(images + image, run, patches_.data() + patch);
        });
        return patches_.data();
    }
    // Calls visit(offset in the patch matrix, offset in the image tensor, elements) for every run inside the image.
    template <class Visit>
    void walk(std::int64_t samples, Visit&& visit) const {
        const geometry& g = geometry_;
        const std::int64_t c = g.in.channels;
        std::int64_t patch = 0;
        for (std::int64_t s = 0; s < samples; ++s)
            for (std::int64_t oy = 0; oy < g.out.height; ++oy)
                for (std::int64_t ox = 0; ox < g.out.width; ++ox, patch += g.depth())
                    for (std::int64_t ky = 0; ky < g.kernel_height; ++ky) {
                        const std::int64_t y = oy * g.stride + ky - g.padding;
                        if (y < 0 || y >= g.in.height) continue;
                        const std::int64_t x = ox * g.stride - g.padding;
                        const std::int64_t first = x < 0 ? -x : 0;
                        const std::int64_t last = x + g.kernel_width > g.in.width ? g.in.width - x : g.kernel_width;
                        if (first < last)
                            visit(patch + (ky * g.kernel_width + first) * c,
                                  ((s * g.in.height + y) * g.in.width + x + first) * c, (last - first) * c);
                    }
    }

    // C[m][n] = op(A) op(B), all row-major and dense; a transposed operand is stored k x m (n x k). `add`: C += ...
    void multiply(engine& e, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                  const T* a, const T* b, T* c, bool add = false) {
#if LAMELLA_CBLAS
        const auto ta = transpose_a ? CblasTrans : CblasNoTrans, tb = transpose_b ? CblasTrans : CblasNoTrans;
        const int mi = static_cast<int>(m), ni = static_cast<int>(n), ki = static_cast<int>(k);
        const int lda = transpose_a ? mi : ki, ldb = transpose_b ? ki : ni;
        if constexpr (std::is_same_v<T, float>)
            cblas_sgemm(CblasRowMajor, ta, tb, mi, ni, ki, 1.0f, a, lda, b, ldb, add ? 1.0f : 0.0f, c, ni);
        else
            cblas_dgemm(CblasRowMajor, ta, tb, mi, ni, ki, 1.0, a, lda, b, ldb, add ? 1.0 : 0.0, c, ni);
        (void)e;
#else
        if (transpose_b) {
            turned_.resize(static_cast<std::size_t>(k * n));
            for (std::int64_t j = 0; j < n; ++j)
                for (std::int64_t p = 0; p < k; ++p) turned_[static_cast<std::size_t>(p * n + j)] = b[j * k + p];
            b = turned_.data();
        }
        detail::real_multiply<T>(e.isa(), a, transpose_a ? 1 : k, transpose_a ? m : 1, b, c, m, n, k, add);
#endif
    }

    std::size_t layer_ = 0;   // ordinal
    geometry geometry_;       // without groups
    std::uint16_t key_ = 0;
    std::int64_t groups_ = 1;
    parameter dense_;         // with groups
    std::int64_t block_ = 1;  // samples
    buffer<T> patches_, spread_, turned_;
};

// The twins that users name.
using float32 = real<float>;
using float64 = real<double>;

}  // namespace lamella::nn
