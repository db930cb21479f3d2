# What `cmake --install` gives to C++ projects: the component "development". It holds the public headers, all libraries
# that iterand::iterate and iterand::client are made of, and iterandConfig.cmake for find_package(iterand).
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

get_property(libraries GLOBAL PROPERTY ITERAND_LIBRARIES)
install(TARGETS ${libraries}
        EXPORT iterandTargets
        ARCHIVE COMPONENT development
        FILE_SET HEADERS COMPONENT development)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/iterand)
install(EXPORT iterandTargets NAMESPACE iterand:: DESTINATION ${package_folder} COMPONENT development)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/iterandConfig.cmake.in ${PROJECT_BINARY_DIR}/iterandConfig.cmake
                              INSTALL_DESTINATION ${package_folder})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/iterandConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/iterandConfig.cmake ${PROJECT_BINARY_DIR}/iterandConfigVersion.cmake
        DESTINATION ${package_folder}
        COMPONENT development)
