// What the operand quantiser knows of a tensor: how often each magnitude occurs, four bins an octave.
//
// (A bit-length histogram alone picks a wrong exponent in a third of cases.) Counts are integers, so that
// histograms of parts, threads and ranks add up to the histogram of the whole.
#pragma once

#include <array>
#include <cstdint>

#include "format.hpp"

namespace lamella {

// Magnitudes of a wide tensor, 0..2^31 - 1. Bin 4(L-1) + q holds the magnitudes of bit length L whose next two bits
// are q (magnitudes under 4 are padded with zero bits: 1 is in bin 0, 2 in bin 4, 3 in bin 6).
struct histogram {
    static constexpr int bins = 4 * 31;

    std::uint64_t zeros = 0;
    std::array<std::uint64_t, bins> count{};
    std::uint32_t maximum = 0;  // largest magnitude seen

    static constexpr int bin_of(std::uint32_t magnitude) noexcept {  // magnitude >= 1
        const int length = bit_length(magnitude);
        const std::uint64_t aligned = (std::uint64_t{magnitude} << 2) >> (length - 1);  // 1qq in binary
        return 4 * (length - 1) + static_cast<int>(aligned & 3);
    }
    static constexpr std::uint32_t lowest_of(int bin) noexcept {  // smallest magnitude that may be in the bin
        const std::uint64_t scaled = (std::uint64_t{4} + static_cast<std::uint64_t>(bin % 4)) << (bin / 4);
        return static_cast<std::uint32_t>((scaled + 3) >> 2);
    }
    static constexpr std::uint32_t highest_of(int bin) noexcept {  // largest magnitude of the bin
        const std::uint64_t scaled = (std::uint64_t{5} + static_cast<std::uint64_t>(bin % 4)) << (bin / 4);
        return static_cast<std::uint32_t>((scaled - 1) >> 2);
    }

    constexpr void add(std::int32_t mantissa) noexcept {
        const std::uint32_t magnitude =
            mantissa < 0 ? 0u - static_cast<std::uint32_t>(mantissa) : static_cast<std::uint32_t>(mantissa);
        if (magnitude == 0) {
            ++zeros;
            return;
        }
        ++count[static_cast<std::size_t>(bin_of(magnitude))];
        if (magnitude > maximum) maximum = magnitude;
    }
    constexpr void add(const histogram& other) noexcept {
        zeros += other.zeros;
        for (std::size_t i = 0; i < count.size(); ++i) count[i] += other.count[i];
        if (other.maximum > maximum) maximum = other.maximum;
    }
    // Halves every count (rounding down), so that old steps fade from a running histogram.
    constexpr void halve() noexcept {
        zeros /= 2;
        int top = -1;
        for (int i = 0; i < bins; ++i) {
            count[static_cast<std::size_t>(i)] /= 2;
            if (count[static_cast<std::size_t>(i)] != 0) top = i;
        }
        if (top < 0)
            maximum = 0;
        else if (maximum > highest_of(top))
            maximum = highest_of(top);
    }
    constexpr std::uint64_t nonzeros() const noexcept {
        std::uint64_t sum = 0;
        for (const std::uint64_t c : count) sum += c;
        return sum;
    }
    friend bool operator==(const histogram&, const histogram&) = default;
};

}  // namespace lamella
