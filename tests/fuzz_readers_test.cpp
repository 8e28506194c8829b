// Readers under hostile files: what fuzz/readers.hpp promises, on its seeds, edits of them and inputs that a fuzzer
// found worth keeping.
#include "fuzz/readers.hpp"

#include <doctest/doctest.h>

#include <cstdio>

#include "fuzz/regression.hpp"

TEST_CASE("readers refuse or read every input, and take little memory for it") {
    for (const fuzz::target& one : fuzz::targets()) {
        CAPTURE(one.name);
        const int inputs = fuzz::feed(one, 200);
        std::printf("%.*s: %d inputs\n", static_cast<int>(one.name.size()), one.name.data(), inputs);
    }
}
