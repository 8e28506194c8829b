// Fuzz targets without a fuzzer: their seeds, random edits of them, and the saved inputs of corpus/TARGET.hex, within
// little memory.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <cstdint>
#include <exception>
#include <fstream>
#include <lamella/core/random.hpp>
#include <string>

#include "target.hpp"

#ifndef LAMELLA_SOURCE_DIR
#define LAMELLA_SOURCE_DIR "."
#endif

namespace fuzz {

// Leaves this process `bytes` more than it has; a size that was believed becomes a bad_alloc, which no target allows.
class memory_limit {
  public:
    explicit memory_limit([[maybe_unused]] std::uint64_t more) {
        getrlimit(RLIMIT_AS, &before_);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // their shadow is larger than any limit
        std::uint64_t pages = 0;
        std::ifstream("/proc/self/statm") >> pages;
        rlimit limit = before_;
        limit.rlim_cur = pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) + more;
        if (pages != 0 && limit.rlim_cur < before_.rlim_cur) setrlimit(RLIMIT_AS, &limit);
#endif
    }
    memory_limit(const memory_limit&) = delete;
    memory_limit& operator=(const memory_limit&) = delete;
    ~memory_limit() { setrlimit(RLIMIT_AS, &before_); }

  private:
    rlimit before_{};
};

inline std::string hex_of(input content) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t byte : content) (text += digits[byte >> 4]) += digits[byte & 15];
    return text;
}

inline std::vector<bytes> saved_inputs(std::string_view name) {
    std::ifstream file(std::string(LAMELLA_SOURCE_DIR "/tests/fuzz/corpus/").append(name).append(".hex"));
    std::vector<bytes> all;
    for (std::string line; std::getline(file, line);) {
        bytes& one = all.emplace_back();
        for (std::size_t i = 0; i + 1 < line.size(); i += 2)
            one.push_back(static_cast<std::uint8_t>(std::stoi(line.substr(i, 2), nullptr, 16)));
    }
    return all;
}

// One to four edits: a bit, a byte at its ends, bytes left out, bytes repeated.
inline bytes edited(bytes content, lamella::random_sequence& random) {
    for (std::uint32_t left = 1 + random.below(4); left > 0 && !content.empty(); --left) {
        const auto size = static_cast<std::uint32_t>(content.size());
        const std::uint32_t at = random.below(size), count = 1 + random.below(std::min(8u, size - at));
        const auto place = content.begin() + at;
        switch (random.below(4)) {
            case 0: *place ^= static_cast<std::uint8_t>(1u << random.below(8)); break;
            case 1: *place = random.below(2) == 0 ? 0 : 255; break;
            case 2: content.erase(place, place + count); break;
            default: {
                const bytes again(place, place + count);
                content.insert(place, again.begin(), again.end());
            }
        }
    }
    return content;
}

// Runs a target on all of it, and on `edits` edits of each seed. Returns how many inputs there were.
inline int feed(const target& one, std::uint32_t edits) {
    const std::vector<bytes> seeds = one.seeds(), saved = saved_inputs(one.name);
    int count = 0;
    const auto run = [&](const bytes& content) {
        ++count;
        try {
            const memory_limit limit(std::uint64_t{48} << 20);
            one.run(content);
        } catch (const std::exception& failure) {
            FAIL_CHECK(one.name << ": " << std::string(failure.what()) << "; input " << hex_of(content));
        }
    };
    for (const bytes& content : saved) run(content);
    for (std::size_t i = 0; i < seeds.size(); ++i) {
        run(seeds[i]);
        lamella::random_sequence random({.seed = i, .use = lamella::stream::digits});
        for (std::uint32_t edit = 0; edit < edits; ++edit) run(edited(seeds[i], random));
    }
    return count;
}

}  // namespace fuzz
