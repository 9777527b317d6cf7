# kontor_add_plugin(NAME SOURCES file... [LIBS target...] [TESTS])
#
# A plugin library lib<NAME>.so that exports kontor_plugin_entry and nothing else. TESTS adds a test that loads it with
# `kontor plugin check`. The same file serves Kontor's own samples and, installed, everybody else's plugins.
set(KONTOR_PLUGIN_EXPORTS ${CMAKE_CURRENT_LIST_DIR}/kontor_plugin.map)

function(kontor_add_plugin name)
  cmake_parse_arguments(arg "TESTS" "" "SOURCES;LIBS" ${ARGN})
  if(NOT arg_SOURCES)
    message(FATAL_ERROR "kontor_add_plugin(${name}): SOURCES is missing")
  endif()
  add_library(${name} MODULE ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE Kontor::plugin_sdk ${arg_LIBS})
  target_compile_features(${name} PRIVATE cxx_std_20 c_std_11)
  set_target_properties(${name} PROPERTIES
    PREFIX lib C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    LINK_DEPENDS ${KONTOR_PLUGIN_EXPORTS})
  # Templates of the standard library would be exported in spite of hidden visibility.
  target_link_options(${name} PRIVATE -Wl,--version-script=${KONTOR_PLUGIN_EXPORTS})
  if(arg_TESTS)
    add_test(NAME ${name}_check COMMAND Kontor::kontor plugin check $<TARGET_FILE:${name}>)
  endif()
endfunction()
