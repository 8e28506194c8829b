// What tests of packed files share: content as gzip.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <lamella/core/config.hpp>
#include <vector>

#if LAMELLA_ZLIB
#include <zlib.h>
#endif

using bytes = std::vector<std::uint8_t>;

#if LAMELLA_ZLIB
inline bytes gzip(const bytes& content) {
    z_stream stream{};
    REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    bytes packed(deflateBound(&stream, static_cast<uLong>(content.size())) + 64);
    bytes source = content;
    stream.next_in = source.data();
    stream.avail_in = static_cast<uInt>(source.size());
    stream.next_out = packed.data();
    stream.avail_out = static_cast<uInt>(packed.size());
    REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    packed.resize(packed.size() - stream.avail_out);
    deflateEnd(&stream);
    return packed;
}
#endif
