// What an agent has to call: known words, or the name of something it may call.

#include "agent/spec/spec.hpp"

#include "tests/support/catch.hpp"

namespace {

/// Kind of the first diagnostic, or what the agent's choice became.
std::string choice(const std::string& agent) {
  const std::string text = "kontor: 1\nname: x\nmodels: {m: {path: m.gguf}}\ntools: {files: {use: builtin.files, root: .}, math: {use: builtin.math}}\nagents:\n"
                           "  a: {model: m, instruction: Work., " + agent + "}\n  b: {model: m, instruction: Help.}\n";
  const auto checked = kontor::agent::check_text(text, "x.yaml", KONTOR_SOURCE_DIR);
  return checked.spec ? checked.spec->agents.front().tool_choice : checked.diagnostics.front().kind;
}

}  // namespace

TEST_CASE("tool_choice is a word or a name of what the agent may call", "[check]") {
  CHECK(choice("tools: [files.*]") == "auto");
  CHECK(choice("tools: [files.*], tool_choice: required") == "required");
  CHECK(choice("tool_choice: none") == "none");
  CHECK(choice("tools: [files.*], tool_choice: files.read") == "files.read");
  CHECK(choice("sub_agents: [b], tool_choice: b") == "b");
  CHECK(choice("handoffs: [b], tool_choice: transfer_to_b") == "transfer_to_b");
  CHECK(choice("sub_agents: [b], tool_choice: required") == "required");
  CHECK(choice("tool_choice: required") == "conflict");
  CHECK(choice("tools: [math.*], tool_choice: files.read") == "unknown-tool");
  CHECK(choice("tools: [files.*], tool_choice: files.raed") == "unknown-tool");
  CHECK(choice("tools: [files.*], tool_choice: [files.read]") == "wrong-type");
}
