# What `cmake --install` puts where: headers, libraries, the program and its man page, and what find_package(halftone)
# and pkg-config need. Everything is relative to the prefix, so an installed tree may be moved.
include(CMakePackageConfigHelpers)

install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/halftone DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS halftone RUNTIME)

# The targets: halftone::static, halftone::shared; halftone::halftone is the shared one when it exists.
set_target_properties(halftone_static PROPERTIES EXPORT_NAME static)
install(TARGETS halftone_static EXPORT halftone ARCHIVE)
if(HT_SHARED)
  set_target_properties(halftone_shared PROPERTIES EXPORT_NAME shared)
  install(TARGETS halftone_shared EXPORT halftone LIBRARY NAMELINK_COMPONENT Development)
endif()
set(package_directory ${CMAKE_INSTALL_LIBDIR}/cmake/halftone)
install(EXPORT halftone NAMESPACE halftone:: FILE halftoneTargets.cmake DESTINATION ${package_directory})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/halftoneConfig.cmake.in
  ${CMAKE_BINARY_DIR}/halftoneConfig.cmake INSTALL_DESTINATION ${package_directory})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/halftoneConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/halftoneConfig.cmake ${CMAKE_BINARY_DIR}/halftoneConfigVersion.cmake
  DESTINATION ${package_directory})

# pkg-config finds the prefix from where the file lies.
set(pkgconfig_directory ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH HT_PC_PREFIX /${pkgconfig_directory} /)
string(REGEX REPLACE "/$" "" HT_PC_PREFIX "${HT_PC_PREFIX}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/halftone.pc.in ${CMAKE_BINARY_DIR}/halftone.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/halftone.pc DESTINATION ${pkgconfig_directory})

# The man page is printed by the program from its own tables.
add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/halftone.1
  COMMAND halftone help --man > ${CMAKE_BINARY_DIR}/halftone.1 DEPENDS halftone VERBATIM)
add_custom_target(man ALL DEPENDS ${CMAKE_BINARY_DIR}/halftone.1)
install(FILES ${CMAKE_BINARY_DIR}/halftone.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
