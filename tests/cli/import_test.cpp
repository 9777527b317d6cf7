// kontor import through the real program: exit codes, files that belong together, files that are there already.

#include "tests/support/program.hpp"

#include <nlohmann/json.hpp>

namespace {

namespace fs = std::filesystem;
using kontor::test::ExampleCopy;

const char* const kAgents = R"(agents:
  root:
    model: openai/gpt-5
    instruction: Extract the person.
    welcome_message: Hello
    structured_output: {name: person, schema: {type: object, properties: {name: {type: string}}, required: [name]}}
)";

}  // namespace

TEST_CASE("an imported agent is written with its schema and passes the check", "[cli][import]") {
  const ExampleCopy copy("kpi-report");
  copy.write("theirs.yaml", kAgents);
  const std::string theirs = (copy.folder / "theirs.yaml").string(), ours = (copy.folder / "made/agent.yaml").string();
  CHECK(copy.run({"import", "cagent", theirs}, false) == 2);  // two files do not fit into one stream
  CHECK(copy.output().find("-o FILE") != std::string::npos);
  REQUIRE(copy.run({"import", "cagent", theirs, "-o", ours}, false) == 0);
  CHECK(copy.output().find(theirs + ":5:5: left-out: 'welcome_message'") != std::string::npos);
  CHECK(copy.output().find("set models.gpt-5.path") != std::string::npos);
  CHECK(fs::exists(copy.folder / "made/schemas/root.json"));
  CHECK(copy.run({"check", ours}, false) == 0);
  CHECK(copy.run({"import", "cagent", theirs, "-o", ours}, false) == 2);  // it is there
  CHECK(copy.run({"import", "cagent", theirs, "-o", ours, "--force"}, false) == 0);
}

TEST_CASE("what is not supported stops an import unless the rest is wanted", "[cli][import]") {
  const ExampleCopy copy("kpi-report");
  copy.write("theirs.yaml", "agents:\n  root: {model: a, instruction: b, hooks: {x: y}}\n");
  const std::string theirs = (copy.folder / "theirs.yaml").string(), ours = (copy.folder / "made.yaml").string();
  CHECK(copy.run({"import", "cagent", theirs, "-o", ours}, false) == 1);
  CHECK(copy.output().find(theirs + ":2:36: unsupported: 'hooks'") != std::string::npos);
  CHECK_FALSE(fs::exists(ours));
  CHECK(copy.run({"import", "cagent", theirs, "-o", ours, "--partial"}, false) == 0);
  CHECK(copy.read("made.yaml").find("#   line 2: 'hooks'") != std::string::npos);

  CHECK(copy.run({"import", "cagent", theirs, "--json"}, false) == 1);
  const auto json = nlohmann::json::parse(copy.read("stdout"));
  CHECK(json.at("ok") == false);
  CHECK(json.at("agent").is_null());
  CHECK(json.at("findings").at(0).at("column") == 36);
  CHECK(copy.run({"import", "mcp", theirs}, false) == 2);
  CHECK(copy.run({"import", "goose", (copy.folder / "nothing.yaml").string()}, false) == 2);
}
