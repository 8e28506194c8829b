#include "every_header.hpp"

int zlib_enabled_again();
int zlib_enabled_again() { return LAMELLA_ZLIB; }
