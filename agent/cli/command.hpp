#pragma once
// A verb of the command line. Each verb lives in its own file, named for it, and registers itself:
//
//   const Verb verb{"check", "validate YAML files", [](CLI::App& app) -> Action { ...; return [=] { return 0; }; }};

#include <CLI/CLI.hpp>

#include <functional>
#include <string>
#include <vector>

namespace kontor::agent::cli {

/// Process exit codes; part of the command-line contract.
enum Exit : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kParked = 3,
  kBudget = 4,
  kModel = 5,
  kInterrupted = 130,
};

/// Runs the verb after its options were read; returns an exit code.
using Action = std::function<int()>;

struct Verb {
  /// Registers the verb. `setup` adds options to the verb's sub-command (captured state must be heap-allocated, it is
  /// used after setup returns) and returns what to run. A verb with sub-verbs returns an empty Action and fills `leaf`
  /// actions through `add_leaf`.
  Verb(std::string name, std::string summary, std::function<Action(CLI::App&)> setup);
};

/// Declares a sub-verb ("runs list"): creates the sub-command, lets `setup` add options, remembers its action.
void add_leaf(CLI::App& parent, const std::string& name, const std::string& summary,
              const std::function<Action(CLI::App&)>& setup);

/// Reads the arguments and runs the chosen verb. Unknown verbs and options: exit code 2 and a suggestion.
int run(int argc, char** argv);

/// "--device", checked.
CLI::Option* add_device_option(CLI::App& app, std::string& device);

/// What to write in front of the commands we print: the program as it was called, when that was by a path.
const std::string& program_name();

/// The text as one word of a shell, for commands we print.
std::string shell_word(const std::string& text);

/// "--json" output goes to stdout through here: one document and a newline.
void print_json(const std::string& text);

/// "kontor: error: MESSAGE" on stderr.
void print_error(const std::string& message);

}  // namespace kontor::agent::cli
