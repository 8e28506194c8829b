# cmake -D SOURCE_DIR= -D BUILD_DIR= -D WORK_DIR= -D CXX= -D VERSION= -P run.cmake
# Installs the library into WORK_DIR, then builds and runs the consumer project on the installed package and with the
# source embedded.
function(run)
    execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)

file(GLOB_RECURSE headers RELATIVE ${SOURCE_DIR}/include ${SOURCE_DIR}/include/*.hpp)
list(TRANSFORM headers PREPEND "#include <")
list(TRANSFORM headers APPEND ">\n")
list(JOIN headers "" headers)

foreach(way installed embedded)
    file(WRITE ${WORK_DIR}/${way}/every_header.hpp "${headers}")
    if(way STREQUAL installed)
        set(options -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix -D LAMELLA_VERSION=${VERSION})
    else()
        set(options -D LAMELLA_SOURCE=${SOURCE_DIR})
    endif()
    run(${CMAKE_COMMAND} -S ${SOURCE_DIR}/tests/consumer -B ${WORK_DIR}/${way} -D CMAKE_CXX_COMPILER=${CXX} ${options})
    run(${CMAKE_COMMAND} --build ${WORK_DIR}/${way} --target umbrella)
    run(${WORK_DIR}/${way}/umbrella)
endforeach()
run(${CMAKE_COMMAND} --build ${WORK_DIR}/installed --target everything --parallel 2)
run(${WORK_DIR}/installed/everything)
