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
# NAME, the option for its language, what is asked, what comes back
function(try name option task answer)
  run(${WORK}/prefix/bin/kontor plugin new ${name} ${option} --dir ${WORK}/${name})
  run(${WORK}/prefix/bin/kontor plugin build ${WORK}/${name})
  execute_process(COMMAND ${WORK}/prefix/bin/kontor run ${WORK}/${name}/agent.yaml --task ${task} --runs ${WORK}/runs --json
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0 OR NOT output MATCHES ${answer})
    message(FATAL_ERROR "the agent did not call the tool: ${status}\n${output}")
  endif()
  run(${CMAKE_CTEST_COMMAND} --test-dir ${WORK}/${name}/build --output-on-failure)
endfunction()

try(word_count "" "How many words has 'one two three'?" "It has 3 words")
try(echo_say --c "Say 'one two three'." "It says: one two three")
execute_process(COMMAND ${WORK}/prefix/bin/kontor plugin build ${WORK}/runs RESULT_VARIABLE status ERROR_VARIABLE output)
if(NOT status EQUAL 2 OR NOT output MATCHES "there is no plugin project in")
  message(FATAL_ERROR "a folder without a project: ${status}\n${output}")
endif()
run(${WORK}/prefix/bin/kontor plugin list)
message(STATUS "an installed Kontor writes, builds and tests a plugin project")
