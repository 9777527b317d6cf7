# Installs Kontor into an empty prefix, lets it write a plugin project, and builds and tests that project alone.
# cmake -DBUILD=build -DWORK=folder -P run_project.cmake
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nstatus ${status}\n${output}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
run(${WORK}/prefix/bin/kontor plugin new word_count --dir ${WORK}/project)
run(${CMAKE_COMMAND} -S ${WORK}/project -B ${WORK}/project/build -DCMAKE_PREFIX_PATH=${WORK}/prefix)
run(${CMAKE_COMMAND} --build ${WORK}/project/build)
run(${CMAKE_CTEST_COMMAND} --test-dir ${WORK}/project/build --output-on-failure)
run(${WORK}/prefix/bin/kontor plugin list)
message(STATUS "an installed Kontor writes, builds and tests a plugin project")
