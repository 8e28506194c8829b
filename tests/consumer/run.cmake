# cmake -D SOURCE_DIR= -D BUILD_DIR= -D WORK_DIR= -D CXX= -D VERSION= -P run.cmake
# Installs the library into WORK_DIR, then builds and runs the consumer project on the installed package, with the source
# embedded, and with an archive of it fetched; at last one of its programs by pkg-config alone.
function(run)
    execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)

file(GLOB_RECURSE headers RELATIVE ${SOURCE_DIR}/include ${SOURCE_DIR}/include/*.hpp)
list(TRANSFORM headers PREPEND "#include <")
list(TRANSFORM headers APPEND ">\n")
list(JOIN headers "" headers)

file(MAKE_DIRECTORY ${WORK_DIR}/archive)
execute_process(COMMAND ${CMAKE_COMMAND} -E tar czf ${WORK_DIR}/archive/lamella.tar.gz CMakeLists.txt LICENSE .cmake include
    WORKING_DIRECTORY ${SOURCE_DIR} COMMAND_ERROR_IS_FATAL ANY)

foreach(way installed embedded fetched)
    file(WRITE ${WORK_DIR}/${way}/every_header.hpp "${headers}")
    if(way STREQUAL installed)
        set(options -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix -D LAMELLA_VERSION=${VERSION})
    elseif(way STREQUAL embedded)
        set(options -D LAMELLA_SOURCE=${SOURCE_DIR})
    else()
        set(options -D LAMELLA_ARCHIVE=${WORK_DIR}/archive/lamella.tar.gz)
    endif()
    run(${CMAKE_COMMAND} -S ${SOURCE_DIR}/tests/consumer -B ${WORK_DIR}/${way} -D CMAKE_CXX_COMPILER=${CXX} ${options})
    run(${CMAKE_COMMAND} --build ${WORK_DIR}/${way} --target umbrella)
    run(${WORK_DIR}/${way}/umbrella)
endforeach()
# The README's project: hello.cpp itself is compiled elsewhere.
file(COPY ${SOURCE_DIR}/tests/consumer/hello/CMakeLists.txt ${SOURCE_DIR}/examples/hello.cpp DESTINATION ${WORK_DIR}/hello)
run(${CMAKE_COMMAND} -S ${WORK_DIR}/hello -B ${WORK_DIR}/hello/build -D CMAKE_CXX_COMPILER=${CXX}
    -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix)
run(${CMAKE_COMMAND} --build ${WORK_DIR}/installed --target everything --parallel 2)
run(${WORK_DIR}/installed/everything)

find_program(PKG_CONFIG pkg-config)
set(ENV{PKG_CONFIG_PATH} ${WORK_DIR}/prefix/share/pkgconfig:$ENV{PKG_CONFIG_PATH})
if(PKG_CONFIG)
    execute_process(COMMAND ${PKG_CONFIG} --exists xtensor RESULT_VARIABLE no_xtensor)
endif()
if(NOT PKG_CONFIG OR no_xtensor)
    message(STATUS "skipped: pkg-config, or its file of xtensor, is not here")
    return()
endif()
execute_process(COMMAND ${PKG_CONFIG} --cflags "lamella = ${VERSION}" OUTPUT_VARIABLE flags COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${flags}")
string(FIND "${flags}" ${WORK_DIR}/prefix at)
if(at LESS 0)
    message(FATAL_ERROR "pkg-config names another installed copy: ${flags}")
endif()
run(${CXX} -std=c++20 ${flags} ${SOURCE_DIR}/tests/consumer/umbrella.cpp -o ${WORK_DIR}/by_pkg_config)
run(${WORK_DIR}/by_pkg_config)
