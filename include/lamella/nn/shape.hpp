// Shapes of samples and the geometry of a layer that multiplies.
//
// Activations are NHWC, weights OHWI. A linear layer is a convolution whose image is one pixel, so one geometry
// describes every layer with a GEMM.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "../core/errors.hpp"

namespace lamella::nn {

// One sample: height x width x channels, channels innermost.
struct image_shape {
    std::int64_t height = 1, width = 1, channels = 1;
    constexpr std::int64_t size() const noexcept { return height * width * channels; }
    friend bool operator==(const image_shape&, const image_shape&) = default;
};

LAMELLA_SELDOM inline std::string to_string(const image_shape& s) {
    return std::to_string(s.height) + "x" + std::to_string(s.width) + "x" + std::to_string(s.channels);
}

// out(oh, ow, oc) = sum over kh, kw, ic of in(oh * stride + kh - padding, ow * stride + kw - padding, ic)
// x weight(oc, kh, kw, ic), with zeros outside the image. With groups, the channels of the input and of the output are
// cut into as many parts, each with a GEMM of its own, and ic counts in the part of oc.
struct geometry {
    image_shape in, out;
    std::int64_t kernel_height = 1, kernel_width = 1;
    std::int64_t stride = 1, padding = 0;
    std::int64_t groups = 1;

    constexpr std::int64_t in_part() const noexcept { return in.channels / groups; }    // channels of a group
    constexpr std::int64_t out_part() const noexcept { return out.channels / groups; }
    constexpr std::int64_t taps() const noexcept { return kernel_height * kernel_width; }
    constexpr std::int64_t depth() const noexcept { return taps() * in_part(); }         // K of FF
    constexpr std::int64_t error_depth() const noexcept { return taps() * out_part(); }  // K of EP, without a stride
    constexpr std::int64_t out_pixels() const noexcept { return out.height * out.width; }
    constexpr std::int64_t weights() const noexcept { return out.channels * depth(); }

    // Taps of the kernel that fall inside the image, summed over output positions of one axis.
    static constexpr std::int64_t inside(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
                                         std::int64_t padding) noexcept {
        std::int64_t taps = 0;
        for (std::int64_t o = 0; o < out; ++o)
            for (std::int64_t k = 0; k < kernel; ++k) {
                const std::int64_t i = o * stride + k - padding;
                taps += i >= 0 && i < in;
            }
        return taps;
    }
    // Logical multiply-accumulates of one sample: padding never counts. The same for FF, EP and WG.
    constexpr std::int64_t macs() const noexcept {
        return inside(in.height, out.height, kernel_height, stride, padding) *
               inside(in.width, out.width, kernel_width, stride, padding) * in_part() * out.channels;
    }
};

// The geometry of a convolution on `in`. Throws argument_error when a size is not positive, the padding reaches past
// the kernel, or the kernel does not fit the padded image.
inline geometry convolution(const image_shape& in, std::int64_t channels, std::int64_t kernel_height,
                            std::int64_t kernel_width, std::int64_t stride, std::int64_t padding) {
    const auto positive = [](std::int64_t value, const char* name) {
        if (value < 1) throw argument_error(name, "at least 1", std::to_string(value));
    };
    positive(channels, "conv2d channels");
    positive(kernel_height, "conv2d kernel height");
    positive(kernel_width, "conv2d kernel width");
    positive(stride, "conv2d stride");
    if (padding < 0 || padding >= kernel_height || padding >= kernel_width)
        throw argument_error("conv2d padding", "0 .. kernel - 1", std::to_string(padding));
    const std::int64_t high = in.height + 2 * padding - kernel_height, wide = in.width + 2 * padding - kernel_width;
    if (high < 0 || wide < 0)
        throw argument_error("conv2d kernel", "one that fits the padded input " + to_string(in),
                             std::to_string(kernel_height) + "x" + std::to_string(kernel_width));
    return {in, {high / stride + 1, wide / stride + 1, channels}, kernel_height, kernel_width, stride, padding};
}

}  // namespace lamella::nn
