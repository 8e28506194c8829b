// SHA-256 (FIPS 180-4), so that a run's weights can be compared by one line of text without a library for it.
//
// Used by io/hashes.hpp (weights and state) and io/checkpoint.hpp (integrity of a file).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace lamella {

// Takes bytes in any number of pieces; `finish` may be called once.
class sha256 {
  public:
    using digest = std::array<std::uint8_t, 32>;

    void update(std::span<const std::uint8_t> bytes) noexcept {
        const std::uint8_t* from = bytes.data();
        std::size_t left = bytes.size();
        length_ += left;
        if (filled_ != 0) {
            const std::size_t part = left < block_bytes - filled_ ? left : block_bytes - filled_;
            if (part != 0) std::memcpy(block_.data() + filled_, from, part);
            filled_ += part;
            from += part;
            left -= part;
            if (filled_ < block_bytes) return;
            compress(block_.data());
            filled_ = 0;
        }
        for (; left >= block_bytes; from += block_bytes, left -= block_bytes) compress(from);
        if (left != 0) std::memcpy(block_.data(), from, left);
        filled_ = left;
    }
    void update(std::string_view text) noexcept {
        update(std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
    }
    // The low `bytes` bytes (1..8) of an integer, little-endian on every machine.
    void update_integer(std::uint64_t value, std::size_t bytes) noexcept {
        std::array<std::uint8_t, 8> little{};
        for (std::size_t i = 0; i < bytes; ++i) little[i] = static_cast<std::uint8_t>(value >> (8 * i));
        update(std::span<const std::uint8_t>(little.data(), bytes));
    }

    digest finish() noexcept {
        const std::uint64_t bits = length_ * 8;
        block_[filled_++] = 0x80;
        if (filled_ > block_bytes - 8) {
            std::memset(block_.data() + filled_, 0, block_bytes - filled_);
            compress(block_.data());
            filled_ = 0;
        }
        std::memset(block_.data() + filled_, 0, block_bytes - 8 - filled_);
        for (std::size_t i = 0; i < 8; ++i)
            block_[block_bytes - 8 + i] = static_cast<std::uint8_t>(bits >> (56 - 8 * i));
        compress(block_.data());
        digest result{};
        for (std::size_t i = 0; i < 32; ++i) result[i] = static_cast<std::uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
        return result;
    }
    // The digest as 64 lower-case hexadecimal digits.
    std::string finish_hex() {
        constexpr std::string_view digits = "0123456789abcdef";
        std::string text;
        for (const std::uint8_t byte : finish()) {
            text.push_back(digits[byte >> 4]);
            text.push_back(digits[byte & 15]);
        }
        return text;
    }

  private:
    static constexpr std::size_t block_bytes = 64;
    static constexpr std::array<std::uint32_t, 64> constants{
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

    static constexpr std::uint32_t rotate(std::uint32_t x, int n) noexcept { return (x >> n) | (x << (32 - n)); }

    void compress(const std::uint8_t* block) noexcept {
        std::array<std::uint32_t, 64> w;
        for (std::size_t i = 0; i < 16; ++i)
            w[i] = std::uint32_t{block[4 * i]} << 24 | std::uint32_t{block[4 * i + 1]} << 16 |
                   std::uint32_t{block[4 * i + 2]} << 8 | std::uint32_t{block[4 * i + 3]};
        for (std::size_t i = 16; i < 64; ++i) {
            const std::uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >> 3);
            const std::uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >> 10);
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        auto [a, b, c, d, e, f, g, h] = state_;
        for (std::size_t i = 0; i < 64; ++i) {
            const std::uint32_t t1 =
                h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + w[i];
            const std::uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
        }
        state_[0] += a, state_[1] += b, state_[2] += c, state_[3] += d;
        state_[4] += e, state_[5] += f, state_[6] += g, state_[7] += h;
    }

    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<std::uint8_t, block_bytes> block_{};
    std::size_t filled_ = 0;
    std::uint64_t length_ = 0;
};

// SHA-256 of some bytes, as 64 lower-case hexadecimal digits.
inline std::string sha256_hex(std::span<const std::uint8_t> bytes) {
    sha256 hash;
    hash.update(bytes);
    return hash.finish_hex();
}

}  // namespace lamella
