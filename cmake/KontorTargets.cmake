# One interface target carries the language level, warnings and sanitizers for all C++ code of the project.
add_library(kontor_options INTERFACE)
target_compile_features(kontor_options INTERFACE cxx_std_20)
target_include_directories(kontor_options INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}>)
# Json never turns into another type unasked (and so fits into Result<Json>).
target_compile_definitions(kontor_options INTERFACE JSON_USE_IMPLICIT_CONVERSIONS=0)
target_compile_options(kontor_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wno-missing-field-initializers;-Wno-mismatched-new-delete>)
if(KONTOR_SANITIZE STREQUAL "address")
  target_compile_options(kontor_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_link_options(kontor_options INTERFACE -fsanitize=address,undefined)
elseif(KONTOR_SANITIZE STREQUAL "thread")
  target_compile_options(kontor_options INTERFACE -fsanitize=thread -fno-omit-frame-pointer -Wno-tsan)
  target_link_options(kontor_options INTERFACE -fsanitize=thread)
endif()

if(KONTOR_FUZZ)
  target_compile_options(kontor_options INTERFACE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
  target_link_options(kontor_options INTERFACE -fsanitize=address,undefined)
endif()

# kontor_library(NAME DIRS dir... LIBS lib...): a static library of every .cpp directly in the given folders
# (relative to the caller), found by globbing so that adding a file needs no build change.
function(kontor_library name)
  cmake_parse_arguments(arg "" "" "DIRS;LIBS" ${ARGN})
  set(sources)
  foreach(dir IN LISTS arg_DIRS)
    file(GLOB found CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/*.cpp)
    list(APPEND sources ${found})
  endforeach()
  if(NOT sources)
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE kontor_options ${arg_LIBS})
    return()
  endif()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC kontor_options ${arg_LIBS})
endfunction()

# kontor_kernels(NAME FOR library RUNTIME file): the .cu files in cuda/ of the calling folder as a target of their own (CMake
# 3.25 knows no C++20 for CUDA), linked into the library, of which only RUNTIME sees the toolkit's headers.
function(kontor_kernels name)
  cmake_parse_arguments(arg "" "FOR;RUNTIME" "" ${ARGN})
  file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda/*.cu)
  add_library(${name} STATIC ${kernels})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE -std=c++20)
  set_source_files_properties(${arg_RUNTIME} PROPERTIES INCLUDE_DIRECTORIES "${CUDAToolkit_INCLUDE_DIRS}")
  target_link_libraries(${arg_FOR} PUBLIC ${name} $<LINK_ONLY:CUDA::cudart_static>)
endfunction()
