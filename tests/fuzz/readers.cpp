#include "readers.hpp"

#include "fuzzer.hpp"
