# Libraries from the system. Each becomes an imported target dep::<name>; a missing one stops the configuration
# with the Debian package to install. The choice of libraries: docs/architecture.md.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

function(ht_dependency name module package)
  pkg_check_modules(${name} QUIET IMPORTED_TARGET ${module})
  if(NOT ${name}_FOUND)
    message(FATAL_ERROR "${module} not found: install the Debian package ${package}, or run script/bootstrap")
  endif()
  add_library(dep::${name} ALIAS PkgConfig::${name})
endfunction()

ht_dependency(jansson jansson libjansson-dev)
ht_dependency(yaml yaml-0.1 libyaml-dev)
ht_dependency(pcre2 libpcre2-8 libpcre2-dev)
ht_dependency(utf8proc libutf8proc libutf8proc-dev)
ht_dependency(xxhash libxxhash libxxhash-dev)

# OpenBLAS, for factorizations of calibration. Matmul does not use it: the serial build must not be called from two
# threads at once, and its rounding depends on shapes (docs/models.md, Numerics).
find_library(HT_OPENBLAS NAMES openblas
  PATH_SUFFIXES openblas-serial ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial ${CMAKE_LIBRARY_ARCHITECTURE}
  PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial)
find_path(HT_CBLAS_INCLUDE cblas.h PATHS /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial
  /usr/include/${CMAKE_LIBRARY_ARCHITECTURE})
if(NOT HT_OPENBLAS OR NOT HT_CBLAS_INCLUDE)
  message(FATAL_ERROR "OpenBLAS not found: install the Debian package libopenblas-serial-dev, or run script/bootstrap")
endif()
add_library(dep_openblas INTERFACE)
target_link_libraries(dep_openblas INTERFACE ${HT_OPENBLAS})
target_include_directories(dep_openblas SYSTEM INTERFACE ${HT_CBLAS_INCLUDE})
