// Counter-based random bits: Philox4x32-10 (Salmon et al., SC 2011), keyed by what the bits are for, never by the order
// of calls. So results do not depend on threads, vector width, or where a run was resumed.
//
// Key: the 64-bit seed. Counter: (element / 8, position in the global batch, step, layer << 16 | stream).
// Element e takes the 16-bit half e % 8 of its block, low half first; e counts in memory order within the position.
// Vectorised filling is in quantise_kernels.hpp.
#pragma once

#include <array>
#include <cstdint>

namespace lamella {

// What random bits are for. One list for the whole library: no two uses share a value, and values never change, since
// checkpoints and published hashes depend on them.
enum class stream : std::uint16_t {
    activation = 1,
    error = 2,
    weight = 3,
    bias = 4,
    first_moment = 5,
    second_moment = 6,
    bias_first_moment = 7,
    bias_second_moment = 8,
    allowance = 9,
    initial_weight = 10,
    shuffle = 11,
    augmentation = 12,
    digits = 13,
    dropout = 14,
    feedback = 15,
    split = 16,
    master_weight = 17,
    master_bias = 18,
    feedback_error = 19,
    feedback_allowance = 20,
};

// 128 random bits.
using philox_block = std::array<std::uint32_t, 4>;

// Philox4x32-10 of a counter and a key (Salmon et al., SC 2011).
constexpr philox_block philox4x32_10(philox_block counter, std::array<std::uint32_t, 2> key) noexcept {
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter[0];
        const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter[2];
        counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
                   static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    return counter;
}

// Where in a run random bits are used; all but the position in the batch and the element.
struct random_site {
    std::uint64_t seed = 0;
    std::uint32_t step = 0;
    std::uint16_t layer = 0;
    stream use = stream::activation;

    constexpr std::array<std::uint32_t, 2> key() const noexcept {
        return {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
    }
    constexpr philox_block counter(std::uint32_t position, std::uint32_t block) const noexcept {
        return {block, position, step, (std::uint32_t{layer} << 16) | static_cast<std::uint32_t>(use)};
    }
};

// The 16 random bits of one element.
constexpr std::uint16_t random_16(const random_site& site, std::uint32_t position, std::uint64_t element) noexcept {
    const philox_block block =
        philox4x32_10(site.counter(position, static_cast<std::uint32_t>(element / 8)), site.key());
    return static_cast<std::uint16_t>(block[(element % 8) / 2] >> (16 * (element % 2)));
}

// A sequential reader of one position's random bits, for set-up code (shuffles, generated digits) where speed is no
// matter. 32 bits a draw, in counter order.
class random_sequence {
  public:
    constexpr explicit random_sequence(random_site site, std::uint32_t position = 0) noexcept
        : site_(site), position_(position) {}

    constexpr std::uint32_t next() noexcept {
        if (used_ == 4) {
            block_ = philox4x32_10(site_.counter(position_, index_++), site_.key());
            used_ = 0;
        }
        return block_[static_cast<std::size_t>(used_++)];
    }
    // Uniform in [0, bound), bound >= 1, exactly unbiased (Lemire's multiply with rejection).
    constexpr std::uint32_t below(std::uint32_t bound) noexcept {
        const std::uint32_t threshold = (0u - bound) % bound;
        for (;;) {
            const std::uint64_t product = std::uint64_t{next()} * bound;
            if (static_cast<std::uint32_t>(product) >= threshold) return static_cast<std::uint32_t>(product >> 32);
        }
    }
    // Uniform in [low, high].
    constexpr std::int32_t between(std::int32_t low, std::int32_t high) noexcept {
        // Modulo 2^32, since high - low may not fit; 0 stands for all 2^32 values.
        const std::uint32_t values = static_cast<std::uint32_t>(high) - static_cast<std::uint32_t>(low) + 1u;
        return static_cast<std::int32_t>(static_cast<std::uint32_t>(low) + (values == 0 ? next() : below(values)));
    }

  private:
    random_site site_;
    std::uint32_t position_;
    philox_block block_{};
    std::uint32_t index_ = 0;
    int used_ = 4;
};

}  // namespace lamella
