// libFuzzer's entry points over the targets() of the file that includes this. LAMELLA_FUZZ_TARGET names the target;
// with LAMELLA_FUZZ_SEEDS, a folder, the target's seeds are written there first. run.sh does both.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "target.hpp"

namespace fuzz {

inline const target*& chosen() {
    static const target* one = nullptr;
    return one;
}

}  // namespace fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    const char* const name = std::getenv("LAMELLA_FUZZ_TARGET");
    for (const fuzz::target& one : fuzz::targets())
        if (name != nullptr && one.name == name) fuzz::chosen() = &one;
    if (fuzz::chosen() == nullptr) {
        std::fprintf(stderr, "LAMELLA_FUZZ_TARGET: none of this program's targets\n");
        std::exit(2);
    }
    if (const char* const folder = std::getenv("LAMELLA_FUZZ_SEEDS")) {
        int number = 0;
        for (const fuzz::bytes& seed : fuzz::chosen()->seeds())
            std::ofstream(std::string(folder) + "/seed-" + std::to_string(number++), std::ios::binary)
                .write(reinterpret_cast<const char*>(seed.data()), static_cast<std::streamsize>(seed.size()));
    }
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::chosen()->run({data, size});
    return 0;
}
