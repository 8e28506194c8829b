// Settings as exact numbers: decimal text ("0.05", "1e-3", "3") to a 31-bit mantissa with an exponent, or to a binary
// fraction. No floating point, so a setting gives the same bits on every machine and in every rounding mode.
//
// The text is first held exactly, as a 576-bit fixed-point number cut at 2^-256 with a sticky bit for what was cut, and
// then rounded once, to nearest, ties to even. Read core/elementary.hpp next for arithmetic on the results.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "errors.hpp"
#include "format.hpp"

namespace lamella {

// value = mantissa x 2^exponent; the mantissa's magnitude is in [2^30, 2^31), or 0 with exponent 0.
struct scaled {
    std::int32_t mantissa = 0;
    int exponent = 0;
    friend bool operator==(const scaled&, const scaled&) = default;
};

namespace detail {

inline constexpr std::size_t decimal_digits = 18;  // significant ones, so that they fit 64 bits
inline constexpr int decimal_exponent = 60;        // last digit's power of ten, either sign

// A magnitude in units of 2^-256, least significant limb first.
class decimal_number {
  public:
    static constexpr int fraction_bits = 256;

    // Throws argument_error(name) unless the text is [sign] digits [. digits] [e [sign] digits], within the limits
    // above.
    LAMELLA_SELDOM decimal_number(std::string_view text, std::string_view name) {
        std::string_view rest = text;
        negative_ = take_sign(rest);
        std::string digits;
        bool any = false, point = false;
        int power = 0;  // of ten, of the last digit kept
        while (!rest.empty()) {
            const char c = rest.front();
            if (c == '.' && !point) {
                point = true;
            } else if (c >= '0' && c <= '9') {
                any = true;
                if (c != '0' || !digits.empty()) digits.push_back(c);
                power -= point ? 1 : 0;
            } else {
                break;
            }
            rest.remove_prefix(1);
        }
        if (!any || text.size() > 200) refuse(text, name);
        if (!rest.empty()) power += take_exponent(rest, text, name);
        while (!digits.empty() && digits.back() == '0') {
            digits.pop_back();
            ++power;
        }
        if (digits.empty()) return;
        if (digits.size() > decimal_digits || power > decimal_exponent || power < -decimal_exponent)
            throw argument_error(name, "a number of at most 18 significant digits, the last between 1e-60 and 1e60",
                                 std::string(text));
        std::uint64_t integer = 0;
        for (const char c : digits) integer = integer * 10 + static_cast<std::uint64_t>(c - '0');
        limbs_[fraction_bits / 32] = static_cast<std::uint32_t>(integer);
        limbs_[fraction_bits / 32 + 1] = static_cast<std::uint32_t>(integer >> 32);
        for (; power > 0; --power) multiply_by_ten();
        for (; power < 0; ++power) divide_by_ten();
    }

    bool negative() const noexcept { return negative_; }
    // Number of bits of the magnitude in units of 2^-256.
    int length() const noexcept {
        for (std::size_t i = limbs_.size(); i-- > 0;)
            if (limbs_[i] != 0) return static_cast<int>(32 * i) + bit_length(limbs_[i]);
        return 0;
    }
    // The magnitude divided by 2^dropped (in units of 2^-256), to nearest, ties to even. The result fits 64 bits.
    std::uint64_t rounded(int dropped) const noexcept {
        std::uint64_t quotient = 0;
        for (int i = length(); i-- > dropped;) quotient = quotient << 1 | bit(i);
        bool rest = sticky_;
        for (int i = 0; i < dropped - 1; ++i) rest = rest || bit(i) != 0;
        const bool half = dropped > 0 && bit(dropped - 1) != 0;
        return quotient + ((half && (rest || (quotient & 1) != 0)) ? 1u : 0u);
    }
    bool above_one() const noexcept {
        const int bits = length();
        return bits > fraction_bits + 1 || (bits == fraction_bits + 1 && rest_below(fraction_bits));
    }

  private:
    static constexpr std::size_t limbs = 18;  // 256 fraction bits, 60 of the digits, 200 of 10^60, and room

    [[noreturn]] static void refuse(std::string_view text, std::string_view name) {
        throw argument_error(name, "a decimal number such as 0.05, 1e-3 or 3",
                             text.empty() ? "empty text" : std::string(text.substr(0, 200)));
    }
    static bool take_sign(std::string_view& rest) {
        if (rest.empty() || (rest.front() != '-' && rest.front() != '+')) return false;
        const bool minus = rest.front() == '-';
        rest.remove_prefix(1);
        return minus;
    }
    static int take_exponent(std::string_view rest, std::string_view text, std::string_view name) {
        if (rest.front() != 'e' && rest.front() != 'E') refuse(text, name);
        rest.remove_prefix(1);
        const bool minus = take_sign(rest);
        if (rest.empty() || rest.size() > 4) refuse(text, name);
        int value = 0;
        for (const char c : rest) {
            if (c < '0' || c > '9') refuse(text, name);
            value = value * 10 + (c - '0');
        }
        return minus ? -value : value;
    }
    unsigned bit(int i) const noexcept { return limbs_[static_cast<std::size_t>(i / 32)] >> (i % 32) & 1u; }
    bool rest_below(int end) const noexcept {
        bool rest = sticky_;
        for (int i = 0; i < end; ++i) rest = rest || bit(i) != 0;
        return rest;
    }
    void multiply_by_ten() noexcept {
        std::uint64_t carry = 0;
        for (std::uint32_t& limb : limbs_) {
            carry += std::uint64_t{limb} * 10;
            limb = static_cast<std::uint32_t>(carry);
            carry >>= 32;
        }
    }
    void divide_by_ten() noexcept {
        std::uint64_t remainder = 0;
        for (std::size_t i = limbs_.size(); i-- > 0;) {
            remainder = remainder << 32 | limbs_[i];
            limbs_[i] = static_cast<std::uint32_t>(remainder / 10);
            remainder %= 10;
        }
        sticky_ = sticky_ || remainder != 0;
    }

    std::array<std::uint32_t, limbs> limbs_{};
    bool negative_ = false;
    bool sticky_ = false;
};

}  // namespace detail

// Decimal text to the nearest 31-bit mantissa. `name` is the option that the text was given for.
// Throws argument_error for anything but a decimal number of at most 18 significant digits.
inline scaled parse_scaled(std::string_view text, std::string_view name) {
    const detail::decimal_number number(text, name);
    const int length = number.length();
    if (length == 0) return {};
    int dropped = length - 31;
    std::uint64_t magnitude = number.rounded(dropped);
    if (magnitude == std::uint64_t{1} << 31) {
        magnitude >>= 1;
        ++dropped;
    }
    const std::int32_t mantissa = static_cast<std::int32_t>(magnitude);
    return {number.negative() ? -mantissa : mantissa, dropped - detail::decimal_number::fraction_bits};
}

// Decimal text in 0..1 to the nearest multiple of 2^-fraction_bits (bits, 1..63); 1 gives 2^fraction_bits.
// Throws argument_error for anything else.
inline std::uint64_t parse_fraction(std::string_view text, int fraction_bits, std::string_view name) {
    const detail::decimal_number number(text, name);
    if (number.above_one() || (number.negative() && number.length() != 0))
        throw argument_error(name, "a number in 0..1", std::string(text));
    return number.rounded(detail::decimal_number::fraction_bits - fraction_bits);
}

}  // namespace lamella
