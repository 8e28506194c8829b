#include <lamella/lamella.hpp>

#if LAMELLA_ZLIB || LAMELLA_CBLAS
#error "an optional component is on although only lamella::lamella was asked for"
#endif

int main() { return lamella::version{}.major == LAMELLA_VERSION_MAJOR ? 0 : 1; }
