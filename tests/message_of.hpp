// The message of the error that a call throws.
#pragma once

#include <lamella/core/errors.hpp>
#include <string>

// Errors of another kind pass.
template <class Error>
std::string message_of(auto&& call) {
    try {
        call();
    } catch (const Error& e) {
        return e.what();
    }
    return "nothing was thrown";
}
