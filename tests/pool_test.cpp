// Max pooling against plain loops: maxima, places (ties!), and where errors go.
#include <doctest/doctest.h>

#include <cstdint>
#include <lamella/core/random.hpp>
#include <lamella/nn/pool.hpp>
#include <vector>

using namespace lamella;

namespace {

constexpr std::uint64_t seed = 31;

struct pooled {
    std::vector<std::int32_t> value;
    std::vector<std::int64_t> from;  // index of the input
};

pooled plain(const std::vector<std::int32_t>& in, std::int64_t samples, const nn::image_shape& shape,
             const nn::image_shape& out, std::int64_t kernel, std::int64_t stride) {
    pooled p;
    for (std::int64_t s = 0; s < samples; ++s)
        for (std::int64_t y = 0; y < out.height; ++y)
            for (std::int64_t x = 0; x < out.width; ++x)
                for (std::int64_t c = 0; c < shape.channels; ++c) {
                    std::int64_t best = -1;
                    for (std::int64_t i = 0; i < kernel * kernel; ++i) {
                        const std::int64_t row = y * stride + i / kernel, column = x * stride + i % kernel;
                        const std::int64_t at = ((s * shape.height + row) * shape.width + column) * shape.channels + c;
                        if (best < 0 || in[static_cast<std::size_t>(at)] > in[static_cast<std::size_t>(best)])
                            best = at;
                    }
                    p.value.push_back(in[static_cast<std::size_t>(best)]);
                    p.from.push_back(best);
                }
    return p;
}

}  // namespace

TEST_CASE("max pooling takes the first of the largest, and its error goes back there and nowhere else") {
    random_sequence draw({seed, 1, 0, stream::split});
    for (int k = 0; k < 300; ++k) {
        const std::int64_t kernel = draw.between(1, 5), stride = kernel + draw.between(0, 2),
                           samples = draw.between(1, 4);
        const nn::image_shape shape{kernel + draw.between(0, 9), kernel + draw.between(0, 9), draw.between(1, 9)};
        INFO("case " << k << ", seed " << seed << ", kernel " << kernel << ", stride " << stride);
        for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
            if (!available(isa)) continue;
            nn::fixed::engine engine;
            engine.options.kernels.isa = isa;
            nn::layer_ids ids;
            nn::max_pool2d::layer<nn::fixed> layer(nn::max_pool2d{kernel, stride});
            const nn::image_shape out_shape = layer.build(engine, shape, ids);
            nn::fixed::tensor in, error;
            in.reshape(samples, shape);
            const std::int32_t values = draw.between(0, 3);  // few, so that there are ties
            for (std::int32_t& x : in.data)
                x = values == 0 ? draw.between(-1000000, 1000000) : draw.between(-values, values);
            const pooled want = plain({in.data.begin(), in.data.end()}, samples, shape, out_shape, kernel, stride);
            const nn::fixed::tensor& out = layer.forward(engine, in);
            REQUIRE(std::vector<std::int32_t>(out.data.begin(), out.data.end()) == want.value);

            error.reshape(samples, out_shape);
            std::vector<std::int32_t> routed(in.data.size());
            for (std::int64_t s = 0; s < samples; ++s) {
                const bool learned = draw.below(3) == 0;
                for (std::int64_t i = s * out_shape.size(); i < (s + 1) * out_shape.size(); ++i) {
                    const auto at = static_cast<std::size_t>(i);
                    error.data[at] = learned ? 0 : draw.between(-9, 9);
                    routed[static_cast<std::size_t>(want.from[at])] += error.data[at];
                }
            }
            const nn::fixed::tensor* back = layer.backward(engine, error, true);
            REQUIRE(back != nullptr);
            REQUIRE(std::vector<std::int32_t>(back->data.begin(), back->data.end()) == routed);
        }
    }
}
