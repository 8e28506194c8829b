# Dependencies of the build: one that the machine (or the embedding project) has is used as it is; otherwise, with
# LAMELLA_FETCH, a pinned archive is downloaded and checked. Only the headers of header-only projects are used, never
# their CMake files, which would bring options and tests of their own.
include(FetchContent)
if(POLICY CMP0135)
    cmake_policy(SET CMP0135 NEW)
endif()

# lamella_fetch(<name> <url> <sha256> [SOURCE_SUBDIR <dir>]): unpacks the archive into ${<name>_SOURCE_DIR}.
macro(lamella_fetch name url sha256)
    if(NOT LAMELLA_FETCH)
        message(FATAL_ERROR "${name} was not found. Install it, or allow its download with -DLAMELLA_FETCH=ON.")
    endif()
    message(STATUS "${name} was not found: using ${url}")
    FetchContent_Declare(${name} URL ${url} URL_HASH SHA256=${sha256} ${ARGN})
    FetchContent_MakeAvailable(${name})
endmacro()

# lamella_need_headers(<package> <target> <include dir> <url> <sha256>)
macro(lamella_need_headers package target include url sha256)
    if(NOT TARGET ${target})
        find_package(${package} QUIET)
    endif()
    if(NOT TARGET ${target})
        string(TOLOWER ${package} lamella_name)
        lamella_fetch(${lamella_name} ${url} ${sha256} SOURCE_SUBDIR no-cmake)
        add_library(${target} INTERFACE IMPORTED GLOBAL)
        target_include_directories(${target} INTERFACE ${${lamella_name}_SOURCE_DIR}/${include})
    endif()
endmacro()

macro(lamella_need_xtensor)
    if(NOT TARGET xtensor)
        find_package(xtensor QUIET)
    endif()
    if(NOT TARGET xtensor)
        lamella_need_headers(xtl xtl include
            https://github.com/xtensor-stack/xtl/archive/refs/tags/0.7.7.tar.gz
            44fb99fbf5e56af5c43619fc8c29aa58e5fad18f3ba6e7d9c55c111b62df1fbb)
        lamella_need_headers(xtensor xtensor include
            https://github.com/xtensor-stack/xtensor/archive/refs/tags/0.25.0.tar.gz
            32d5d9fd23998c57e746c375a544edf544b74f0a18ad6bc3c38cbba968d5e6c7)
        target_link_libraries(xtensor INTERFACE xtl)
    endif()
endmacro()

macro(lamella_need_json)
    lamella_need_headers(nlohmann_json nlohmann_json::nlohmann_json include
        https://github.com/nlohmann/json/archive/refs/tags/v3.11.2.tar.gz
        d69f9deb6a75e2580465c6c4c5111b89c4dc2fa94e3a85fcd2ffcd9a143d9273)
endmacro()

macro(lamella_need_doctest)
    lamella_need_headers(doctest doctest::doctest .
        https://github.com/doctest/doctest/archive/refs/tags/v2.4.11.tar.gz
        632ed2c05a7f53fa961381497bf8069093f0d6628c5f26286161fbd32a560186)
endmacro()

macro(lamella_need_cli11)
    lamella_need_headers(CLI11 CLI11::CLI11 include
        https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.2.tar.gz
        f2d893a65c3b1324c50d4e682c0cdc021dd0477ae2c048544f39eed6654b699a)
endmacro()

# zlib's CMake file renames a header of its own source tree; its C files need nothing but to be compiled.
macro(lamella_need_zlib)
    find_package(ZLIB QUIET)
    if(NOT TARGET ZLIB::ZLIB)
        lamella_fetch(zlib https://github.com/madler/zlib/releases/download/v1.3.1/zlib-1.3.1.tar.gz
            9a93b2b7dfdac77ceba5a558a580e74667dd6fede4585b91eefb60f03b72df23 SOURCE_SUBDIR no-cmake)
        enable_language(C)
        file(GLOB lamella_zlib_sources ${zlib_SOURCE_DIR}/*.c)
        add_library(lamella_zlib STATIC ${lamella_zlib_sources})
        target_compile_definitions(lamella_zlib PRIVATE HAVE_UNISTD_H)
        target_include_directories(lamella_zlib SYSTEM PUBLIC ${zlib_SOURCE_DIR})
        add_library(ZLIB::ZLIB INTERFACE IMPORTED GLOBAL)
        target_link_libraries(ZLIB::ZLIB INTERFACE lamella_zlib)
    endif()
endmacro()

macro(lamella_need_benchmark)
    find_package(benchmark QUIET)
    if(NOT TARGET benchmark::benchmark)
        set(BENCHMARK_ENABLE_TESTING OFF CACHE BOOL "")
        set(BENCHMARK_ENABLE_INSTALL OFF CACHE BOOL "")
        set(BENCHMARK_ENABLE_WERROR OFF CACHE BOOL "")
        lamella_fetch(benchmark https://github.com/google/benchmark/archive/refs/tags/v1.7.1.tar.gz
            6430e4092653380d9dc4ccb45a1e2dc9259d581f4866dc0759713126056bc1d7)
    endif()
endmacro()
