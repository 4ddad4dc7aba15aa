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
