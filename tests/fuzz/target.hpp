// What a fuzz target is: something that takes any bytes, and throws only when the library broke a promise.
//
// A reader may refuse an input with a file_error that begins with the file's name, and nothing else. What it accepts
// must survive being written and read again. fuzzer.hpp makes libFuzzer programs of targets, ../fuzz_*_test.cpp run
// them on seeds, on mutations of seeds and on the inputs kept in corpus/.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <lamella/core/errors.hpp>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace fuzz {

using bytes = std::vector<std::uint8_t>;
using input = std::span<const std::uint8_t>;

struct target {
    std::string_view name;
    void (*run)(input);
    std::vector<bytes> (*seeds)();  // made by this library's own writers, most of them accepted
    std::size_t longest;            // bytes of an input worth trying
};

inline void require(bool kept, std::string_view promise) {
    if (!kept) throw std::logic_error("broken promise: " + std::string(promise));
}

// A file in memory where the machine has such a place; gone when the program ends.
class scratch_file {
  public:
    explicit scratch_file(std::string_view name) {
        std::error_code ignored;
        const std::filesystem::path shared = "/dev/shm";
        const auto folder =
            std::filesystem::is_directory(shared, ignored) ? shared : std::filesystem::temp_directory_path();
        path_ = (folder / ("lamella-fuzz-" + std::to_string(::getpid()) + "-" + std::string(name))).string();
    }
    scratch_file(const scratch_file&) = delete;
    scratch_file& operator=(const scratch_file&) = delete;
    ~scratch_file() {
        std::error_code ignored;
        std::filesystem::remove(path_, ignored);
    }
    const std::string& holding(input content) const {
        std::ofstream(path_, std::ios::binary)
            .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
        return path_;
    }
    const std::string& path() const noexcept { return path_; }
    bytes content() const {
        std::ifstream file(path_, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    }

  private:
    std::string path_;
};

// What read() gives, or nothing when it refuses the file, for other reasons than a lack of memory.
template <class Read>
auto accepted(Read&& read) -> std::optional<decltype(read())> {
    try {
        return read();
    } catch (const lamella::file_error& refusal) {
        const std::string_view message = refusal.what();
        require(message.find(": expected ") != message.npos && message.find(", found ") != message.npos,
                "a refusal says what was expected and found");
        require(!message.ends_with("content that fits the memory, found more than that"),
                "sizes are checked before memory is taken");
        return std::nullopt;
    }
}

inline input bytes_of(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
inline bytes copy_of(std::string_view text) { return {text.begin(), text.end()}; }
inline std::string text_of(input content) { return {content.begin(), content.end()}; }

}  // namespace fuzz
