// What the library throws. Every message names the place (file or argument), what was expected and what was found.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "config.hpp"

namespace lamella {

// Base of all exceptions of this library.
class error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// A value handed to the library is out of its range, or two values do not fit together.
class argument_error : public error {
  public:
    LAMELLA_SELDOM argument_error(std::string_view name, std::string_view expected, std::string_view found)
        : error(std::string(name) + ": expected " + std::string(expected) + ", found " + std::string(found)) {}
};

// Throws argument_error unless lowest <= value <= highest.
inline void require_between(std::string_view name, int value, int lowest, int highest) {
    if (value < lowest || value > highest)
        throw argument_error(name, std::to_string(lowest) + ".." + std::to_string(highest), std::to_string(value));
}

// A file is missing, unreadable, unwritable, or does not hold what it should.
class file_error : public error {
  public:
    LAMELLA_SELDOM file_error(std::string_view path, std::string_view field, std::string_view expected,
                              std::string_view found)
        : error(std::string(path) + ": " + std::string(field) + ": expected " + std::string(expected) + ", found " +
                std::string(found)) {}
};

}  // namespace lamella
