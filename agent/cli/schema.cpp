// kontor schema: the JSON Schema of agent files, for editors.

#include "agent/cli/command.hpp"
#include "agent/spec/explain.hpp"

#include <cstdio>

namespace kontor::agent::cli {
namespace {

const Verb verb{"schema", "print the JSON Schema of agent files, for editors", [](CLI::App&) -> Action {
                  return [] {
                    std::fputs(agent_file_schema().c_str(), stdout);
                    return static_cast<int>(kDone);
                  };
                }};

}  // namespace
}  // namespace kontor::agent::cli
