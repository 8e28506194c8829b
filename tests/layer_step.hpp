// The GEMMs of one layer's training step as events, from random geometry and data: what tests of counts share.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <lamella/accelerator/counting.hpp>
#include <lamella/core/memory.hpp>
#include <lamella/gemm/event.hpp>
#include <lamella/nn/shape.hpp>

namespace testing {

using namespace lamella;
using gemm::gemm_event;

using generator = std::mt19937_64;
inline std::int64_t draw(generator& g, std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(g() % static_cast<std::uint64_t>(high - low + 1));
}

// Mantissas in memory with a border of zeros around each image.
struct stored_operand {
    buffer<std::int8_t> bytes;
    gemm::stored_images images;
    int width = 8;
    role what = role::activation;
    std::optional<std::uint64_t> nonzeros;  // as events tell

    const void* at(std::int64_t element) const { return bytes.data() + element * (width <= byte_width ? 1 : 2); }

    void fill(generator& g, role r, const gemm::stored_images& layout, int w, int zeros_of_16, int bits) {
        images = layout;
        width = w;
        what = r;
        bytes.resize(static_cast<std::size_t>(2 * layout.samples * layout.image()));
        bytes.fill_zero();
        images.data = bytes.data();
        const std::int64_t largest = largest_mantissa(std::min(w, bits));
        for (std::int64_t i = 0; i < layout.samples * layout.image(); ++i) {
            if (!accelerator::detail::inside(images, i) || draw(g, 0, 15) < zeros_of_16) continue;
            const std::int64_t mantissa = draw(g, -largest, largest);
            if (w <= byte_width)
                bytes[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(mantissa);
            else
                reinterpret_cast<std::int16_t*>(bytes.data())[i] = static_cast<std::int16_t>(mantissa);
        }
    }
    void tell_nonzeros() {
        nonzeros = 0;
        for (std::int64_t i = 0; i < images.samples * images.image(); ++i)
            *nonzeros += width <= byte_width ? bytes[static_cast<std::size_t>(i)] != 0
                                             : reinterpret_cast<const std::int16_t*>(bytes.data())[i] != 0;
    }
    gemm::event_operand seen(std::int64_t base, const gemm::axis& rows, const gemm::axis& depth) const {
        gemm::event_operand o;
        o.view = {at(base), width, 0, rows, depth};
        o.stored = images;
        o.what = what;
        o.nonzeros = nonzeros;
        return o;
    }
};

// One layer's training step as events, from the geometry alone.
struct layer_step {
    nn::geometry g;
    std::int64_t samples = 1;
    bool merge = true;  // views as the network makes them, or with every level written out
    bool flat = false;  // errors stored as wider images of one channel
    stored_operand activation, weight, error;
    buffer<std::int32_t> values;  // of the input: the gate
    std::vector<std::int64_t> active;  // samples whose error is not all zero
    bool tell_active = true;           // to events

    gemm::axis nest(std::array<std::int64_t, 3> extent, std::array<std::int64_t, 3> stride) const {
        return merge ? gemm::axis::nested(extent, stride) : gemm::axis{extent, stride};
    }

    layer_step(generator& r, const nn::geometry& geometry, std::int64_t count) : g(geometry), samples(count) {
        renew(r);
    }
    explicit layer_step(generator& r) {
        const auto random_geometry = [&] {
            const std::int64_t kernel_height = draw(r, 1, 4), kernel_width = draw(r, 1, 4);
            const std::int64_t padding = draw(r, 0, std::min(kernel_height, kernel_width) - 1);
            const nn::image_shape in{draw(r, kernel_height, 7), draw(r, kernel_width, 7), draw(r, 1, 9)};
            const std::int64_t channels = draw(r, 1, draw(r, 0, 2) == 0 ? 24 : 9), stride = draw(r, 1, 3);
            return nn::convolution(in, channels, kernel_height, kernel_width, stride, padding);
        };
        const auto random_linear = [&] {
            const std::int64_t inputs = draw(r, 1, 140), units = draw(r, 1, 40);
            return nn::convolution({1, 1, inputs}, units, 1, 1, 1, 0);
        };
        g = draw(r, 0, 3) == 0 ? random_linear() : random_geometry();
        samples = draw(r, 1, 5) == 1 ? draw(r, 50, 120) / g.out_pixels() + 1 : draw(r, 1, 4);
        merge = draw(r, 0, 1) == 1;
        flat = draw(r, 0, 4) == 0;
        renew(r);
    }
    // Fresh data of the same shape.
    void renew(generator& r) {
        const auto tail = [&](std::int64_t in, std::int64_t out) {
            return std::max<std::int64_t>(0, (in - 1 + g.padding) / g.stride - (out - 1));
        };
        const std::int64_t p = g.padding;
        const auto any = [&](stored_operand& o, role what, const gemm::stored_images& layout) {
            const auto width = static_cast<int>(draw(r, 2, 16)), zeros_of_16 = static_cast<int>(draw(r, 0, 15));
            o.fill(r, what, layout, width, zeros_of_16, static_cast<int>(draw(r, 2, 16)));
        };
        any(activation, role::activation, {nullptr, samples, g.in.height, g.in.width, g.in.channels, p, p, p, p});
        any(weight, role::weight, {nullptr, 1, 1, 1, g.weights(), 0, 0, 0, 0});
        any(error, role::error,
            {nullptr, samples, g.out.height, g.out.width, g.out.channels, (g.kernel_height - 1 - p) / g.stride,
             tail(g.in.height, g.out.height), (g.kernel_width - 1 - p) / g.stride, tail(g.in.width, g.out.width)});
        if (flat) {
            gemm::stored_images& s = error.images;
            for (std::int64_t* x : {&s.width, &s.left, &s.right}) *x *= s.channels;
            s.channels = 1;
        }
        const std::int64_t learned_of_8 = draw(r, 0, 8), pixels = error.images.image();
        active.clear();
        for (std::int64_t i = 0; i < samples; ++i) {
            std::int8_t* const first = error.bytes.data() + i * pixels * (error.width <= byte_width ? 1 : 2);
            std::int8_t* const last = first + pixels * (error.width <= byte_width ? 1 : 2);
            if (draw(r, 0, 7) < learned_of_8) std::fill(first, last, std::int8_t{0});
            if (std::any_of(first, last, [](std::int8_t byte) { return byte != 0; })) active.push_back(i);
        }
        tell_active = draw(r, 0, 3) != 0;
        const bool told = draw(r, 0, 1) != 0;
        for (stored_operand* o : {&activation, &weight, &error}) {
            o->nonzeros.reset();
            if (told) o->tell_nonzeros();
        }
        values.resize(static_cast<std::size_t>(samples * g.in.size()));
        const std::int64_t alive_of_8 = draw(r, 0, 8);
        for (std::int32_t& v : values)
            v = draw(r, 0, 7) < alive_of_8 ? static_cast<std::int32_t>(draw(r, 1, 1 << 30))
                                           : -static_cast<std::int32_t>(draw(r, 0, 2));
    }

    std::int64_t origin() const {  // of the errors within their border
        return error.images.top * error.images.row() + error.images.left * error.images.channels;
    }
    gemm::event_operand patches() const {
        const std::int64_t row = activation.images.row(), image = activation.images.image();
        return activation.seen(
            0, nest({samples, g.out.height, g.out.width}, {image, g.stride * row, g.stride * g.in.channels}),
            nest({1, g.kernel_height, g.kernel_width * g.in.channels}, {0, row, 1}));
    }
    gemm_event event(stage where, std::uint64_t step, int layer) const {
        gemm_event e;
        e.where = where;
        e.step = step;
        e.layer = layer;
        e.samples = samples;
        e.macs = samples * g.macs();
        return e;
    }
    gemm_event forward(std::uint64_t step, int layer) const {
        gemm_event e = event(stage::feed_forward, step, layer);
        e.a = patches();
        e.b = weight.seen(0, gemm::axis::linear(g.out.channels, g.depth()), gemm::axis::linear(g.depth(), 1));
        return e;
    }
    gemm_event gradient(std::uint64_t step, int layer) const {
        gemm_event e = event(stage::weight_gradient, step, layer);
        const gemm::stored_images& s = error.images;
        e.a = error.seen(origin(), gemm::axis::linear(g.out.channels, 1),
                         nest({samples, g.out.height, g.out.width}, {s.image(), s.row(), g.out.channels}));
        e.b = patches();
        std::swap(e.b.view.rows, e.b.view.depth);
        if (tell_active) e.active = &active;
        return e;
    }
    // One event for each class of input pixels that a stride makes.
    std::vector<gemm_event> propagation(std::uint64_t step, int layer, bool gated) const {
        std::vector<gemm_event> events;
        const gemm::stored_images& s = error.images;
        const std::int64_t channels = g.out.channels;
        for (std::int64_t y = 0; y < std::min(g.stride, g.in.height); ++y)
            for (std::int64_t x = 0; x < std::min(g.stride, g.in.width); ++x) {
                const std::int64_t top = (y + g.padding) % g.stride, left = (x + g.padding) % g.stride;
                const std::int64_t taps_down = (g.kernel_height - top + g.stride - 1) / g.stride;
                const std::int64_t taps_across = (g.kernel_width - left + g.stride - 1) / g.stride;
                if (taps_down <= 0 || taps_across <= 0) continue;
                const std::int64_t down = (g.in.height - y + g.stride - 1) / g.stride;
                const std::int64_t across = (g.in.width - x + g.stride - 1) / g.stride;
                gemm_event e = event(stage::error_propagation, step, layer);
                e.a = error.seen(origin() + (y + g.padding - top) / g.stride * s.row() +
                                     (x + g.padding - left) / g.stride * channels,
                                 nest({samples, down, across}, {s.image(), s.row(), channels}),
                                 nest({taps_down, taps_across, channels}, {-s.row(), -channels, 1}));
                e.b = weight.seen((top * g.kernel_width + left) * g.in.channels, gemm::axis::linear(g.in.channels, 1),
                                  nest({taps_down, taps_across, channels}, {g.stride * g.kernel_width * g.in.channels,
                                                                            g.stride * g.in.channels, g.depth()}));
                if (tell_active) e.active = &active;
                if (gated) e.gate = values.data() + (y * g.in.width + x) * g.in.channels;
                e.gate_rows = nest({samples, down, across}, {g.in.size(), g.stride * g.in.width * g.in.channels,
                                                             g.stride * g.in.channels});
                e.macs = inner_products(e);
                events.push_back(e);
            }
        return events;
    }
    static std::int64_t inner_products(const gemm_event& e) {
        std::int64_t count = 0;
        for (std::int64_t m = 0; m < e.a.view.rows.size(); ++m)
            for (std::int64_t k = 0; k < e.a.view.depth.size(); ++k)
                count += accelerator::detail::inside(
                    e.a.stored, accelerator::detail::base_of(e.a) + e.a.view.rows.offset(m) + e.a.view.depth.offset(k));
        return count * e.b.view.rows.size();
    }
    std::string describe() const {
        return to_string(g.in) + " -> " + to_string(g.out) + ", kernel " + std::to_string(g.kernel_height) + "x" +
               std::to_string(g.kernel_width) + " stride " + std::to_string(g.stride) + " padding " +
               std::to_string(g.padding) + ", samples " + std::to_string(samples) + ", widths " +
               std::to_string(activation.width) + " " + std::to_string(weight.width) + " " +
               std::to_string(error.width) + (merge ? " merged" : "") + (flat ? " flat" : "") +
               (tell_active ? " of which " + std::to_string(active.size()) + " active" : "");
    }
};

}  // namespace testing
