# Installs Kontor into an empty prefix, lets it write a plugin project, builds and tests that project alone, and lets an
# agent call its tool: the three commands of plugins/README.md.
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
run(${WORK}/prefix/bin/kontor plugin build ${WORK}/project)
execute_process(COMMAND ${WORK}/prefix/bin/kontor run ${WORK}/project/agent.yaml --task "How many words has 'one two three'?" --runs ${WORK}/runs --json
  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT status EQUAL 0 OR NOT output MATCHES "It has 3 words")
  message(FATAL_ERROR "the agent did not call the tool: ${status}\n${output}")
endif()
run(${CMAKE_CTEST_COMMAND} --test-dir ${WORK}/project/build --output-on-failure)
run(${WORK}/prefix/bin/kontor plugin list)
message(STATUS "an installed Kontor writes, builds and tests a plugin project")
