// Sums of an error's channels: equal to a plain loop on all paths, and past the point where int32 would overflow.
#include <doctest/doctest.h>

#include <cstdint>
#include <lamella/core/random.hpp>
#include <lamella/nn/channel_sums.hpp>
#include <vector>

using namespace lamella;

namespace {

constexpr std::uint64_t seed = 21;

// Checks the sums of the images at `samples` on all paths.
template <class Mantissa>
void check_sums(const std::vector<Mantissa>& images, std::size_t size, std::size_t channels,
                const std::vector<std::int64_t>& samples) {
    std::vector<std::int64_t> want(channels);
    for (const std::int64_t sample : samples)
        for (std::size_t i = 0; i < size; ++i)
            want[i % channels] += images[static_cast<std::size_t>(sample) * size + i];
    for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
        if (!available(isa)) continue;
        std::vector<std::int64_t> found(channels, -1);
        nn::detail::channel_sums()(isa, images.data(), static_cast<std::int64_t>(size), samples, found);
        REQUIRE(found == want);
    }
}

template <class Mantissa>
void check_random(std::int32_t largest) {
    random_sequence draw({seed, 1, 0, stream::split});
    for (int k = 0; k < 200; ++k) {
        const std::size_t channels = 1 + draw.below(80), pixels = 1 + draw.below(40), count = 1 + draw.below(9);
        const std::size_t size = channels * pixels;
        std::vector<Mantissa> images(count * size);
        for (Mantissa& x : images) x = static_cast<Mantissa>(draw.between(-largest, largest));
        std::vector<std::int64_t> samples;
        for (std::size_t s = 0; s < count; ++s)
            if (draw.below(3) != 0) samples.push_back(static_cast<std::int64_t>(s));
        INFO("case " << k << ", seed " << seed);
        check_sums(images, size, channels, samples);
    }
}

}  // namespace

TEST_CASE("channels are summed over the samples named and no others") {
    check_random<std::int8_t>(127);
    check_random<std::int16_t>(32767);
}

TEST_CASE("sums of the largest mantissas do not overflow on the way") {
    const std::size_t rows = 3 * 65535 + 7;  // of 64 elements, in one image and in three
    check_sums(std::vector<std::int16_t>(rows * 64, 32767), rows * 64, 1, {0});
    check_sums(std::vector<std::int16_t>(3 * 50000 * 64, -32767), 50000 * 64, 2, {0, 1, 2});
}
