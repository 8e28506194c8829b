// Bits packed into words of 64, read and set up to 64 at a time.
#pragma once

#include <cstdint>

namespace lamella::accelerator::detail {

// Bits at .. at + count - 1 (count 1..64); the word behind may be read.
inline std::uint64_t read_bits(const std::uint64_t* words, std::int64_t at, std::int64_t count) noexcept {
    const std::uint64_t* const w = words + (at >> 6);
    const auto off = static_cast<unsigned>(at & 63);
    return (w[0] >> off | (w[1] << 1) << (63 - off)) & (~std::uint64_t{0} >> (64 - count));
}

// Sets bit at + i where bit i of `bits` is set; the word behind may be written as it was.
inline void set_bits(std::uint64_t* words, std::int64_t at, std::uint64_t bits) noexcept {
    std::uint64_t* const w = words + (at >> 6);
    const auto off = static_cast<unsigned>(at & 63);
    w[0] |= bits << off;
    w[1] |= (bits >> 1) >> (63 - off);
}

}  // namespace lamella::accelerator::detail
