# What `cmake --install` puts into a prefix: the program, the plugin host, the headers for plugin authors, the ERP sample,
# and a package that find_package(Kontor) finds.
include(CMakePackageConfigHelpers)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/Kontor)
set_target_properties(kontor_plugin_sdk PROPERTIES EXPORT_NAME plugin_sdk)

install(TARGETS kontor EXPORT KontorTargets RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS kontor_plugin_sdk EXPORT KontorTargets)
# kontor looks for it in ../libexec/kontor, seen from its own folder.
install(TARGETS kontor-plugin-host RUNTIME DESTINATION libexec/kontor)
install(TARGETS erp procurement LIBRARY DESTINATION lib/kontor/plugins)
install(FILES plugins/abi/kontor_plugin.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/kontor/plugins/abi)
install(FILES plugins/sdk/kontor_plugin.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/kontor/plugins/sdk)
install(FILES cmake/KontorPlugin.cmake cmake/kontor_plugin.map DESTINATION ${package_folder})
install(EXPORT KontorTargets NAMESPACE Kontor:: DESTINATION ${package_folder})

configure_package_config_file(cmake/KontorConfig.cmake.in ${CMAKE_BINARY_DIR}/KontorConfig.cmake INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/KontorConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/KontorConfig.cmake ${CMAKE_BINARY_DIR}/KontorConfigVersion.cmake DESTINATION ${package_folder})
