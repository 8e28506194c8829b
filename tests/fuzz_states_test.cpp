// Checkpoints under hostile files: what fuzz/states.hpp promises, on its seeds, edits of them and inputs that a fuzzer
// found worth keeping.
#include "fuzz/states.hpp"

#include <doctest/doctest.h>

#include <cstdio>

#include "fuzz/regression.hpp"

TEST_CASE("a checkpoint with any values is refused, or its run goes on within defined arithmetic") {
    for (const fuzz::target& one : fuzz::targets()) {
        CAPTURE(one.name);
        const int inputs = fuzz::feed(one, 4);
        std::printf("%.*s: %d inputs\n", static_cast<int>(one.name.size()), one.name.data(), inputs);
    }
}
