// What a planted fault becomes in the copy of the headers that plant.py makes: a choice at run time between the text
// that was there and the mutated one, so that one compilation holds every fault. In constant expressions the original.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <type_traits>

namespace lamella_mutant {

inline constexpr int most = 4096;

// LAMELLA_MUTANT is the number of the fault that is planted in this run, none without it. LAMELLA_REACHED names a file
// that gets the numbers of all that were executed.
struct plan {
    int active = 0;
    bool reached[most] = {};
    plan() {
        if (const char* const number = std::getenv("LAMELLA_MUTANT")) active = std::atoi(number);
    }
    ~plan() {
        const char* const path = std::getenv("LAMELLA_REACHED");
        std::FILE* const file = path != nullptr ? std::fopen(path, "w") : nullptr;
        if (file == nullptr) return;
        for (int i = 0; i < most; ++i)
            if (reached[i]) std::fprintf(file, "%d\n", i);
        std::fclose(file);
    }
};
inline plan now;

constexpr bool on(int number) {
    if (std::is_constant_evaluated()) return false;
    if (!now.reached[number]) now.reached[number] = true;
    return now.active == number;
}
template <class T>
constexpr T pick(int number, T original, T mutated) {
    return on(number) ? mutated : original;
}
template <class T>
constexpr T smaller(int number, T x, T y) {
    return (x < y) != on(number) ? x : y;
}
template <class T>
constexpr T larger(int number, T x, T y) {
    return (x < y) == on(number) ? x : y;
}

}  // namespace lamella_mutant
