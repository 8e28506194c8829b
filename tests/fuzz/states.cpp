#include "states.hpp"

#include "fuzzer.hpp"
