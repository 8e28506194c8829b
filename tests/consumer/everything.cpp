// With everything_again.cpp: all headers in two translation units of one program.
#include "every_header.hpp"

int zlib_enabled_again();

int main() { return LAMELLA_ZLIB == 1 && zlib_enabled_again() == 1 ? 0 : 1; }
