# The optional components of lamella. The build tree and the installed package both include this file, so that a
# component is defined in one place and depends on what the consumer's machine has, not on what the installer's had.
set(lamella_components zlib json openmp cblas)

# component: package, its target, what is defined for the headers
set(lamella_component_zlib ZLIB ZLIB::ZLIB LAMELLA_ZLIB=1)
set(lamella_component_json nlohmann_json nlohmann_json::nlohmann_json)
set(lamella_component_openmp OpenMP OpenMP::OpenMP_CXX)
set(lamella_component_cblas CBLAS CBLAS::CBLAS LAMELLA_CBLAS=1)

set(lamella_module_dir ${CMAKE_CURRENT_LIST_DIR})

# Defines lamella::<component> when its package is found. Further arguments go to add_library (GLOBAL).
macro(lamella_define_component component)
    if(NOT TARGET lamella::${component})
        set(lamella_definitions ${lamella_component_${component}})
        list(POP_FRONT lamella_definitions lamella_package lamella_library)
        if(NOT TARGET ${lamella_library})
            list(APPEND CMAKE_MODULE_PATH ${lamella_module_dir})
            find_package(${lamella_package} QUIET)
            list(POP_BACK CMAKE_MODULE_PATH)
        endif()
        if(TARGET ${lamella_library})
            add_library(lamella::${component} INTERFACE IMPORTED ${ARGN})
            set_target_properties(lamella::${component} PROPERTIES
                INTERFACE_LINK_LIBRARIES "lamella::lamella;${lamella_library}"
                INTERFACE_COMPILE_DEFINITIONS "${lamella_definitions}")
        endif()
    endif()
endmacro()
