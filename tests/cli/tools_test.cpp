// Tools through the real program: called by hand, asking a person, started where the agent file says.

#include "tests/support/program.hpp"

namespace {

namespace fs = std::filesystem;
using kontor::test::read_text;

struct Folder : kontor::test::ExampleCopy {
  Folder() : ExampleCopy("invoice-triage") { fs::remove(folder / "agent.yaml"); }
  int run_file(const std::string& yaml) {
    write("own.yaml", "kontor: 1\nname: own\n" + yaml);
    return run({"run", (folder / "own.yaml").string()});
  }
};

}  // namespace

TEST_CASE("built-in tools are called by hand, and those that need settings say so", "[cli]") {
  const Folder files;
  CHECK(files.run({"tools", "call", "math.eval", R"({"expression": "1250.00 * 0.19"})", "--json"}, false) == 0);
  CHECK(files.output().find("237.5") != std::string::npos);
  CHECK(files.run({"tools", "call", "web.get", "{}"}, false) == 2);
  CHECK(files.run({"tools", "call", "mail.send", "{}"}, false) == 2);
  CHECK(files.output().find("--file") != std::string::npos);
  CHECK(files.run({"tools", "call", "ask_user.ask", R"({"question": "Why?"})"}, false) == 1);
}

TEST_CASE("a question parks a run without terminal, and its answer goes on with it", "[cli][run]") {
  Folder files;
  const std::string yaml = "tools: {person: {use: builtin.ask_user}}\nworkflow: [{id: paint, tool: person.ask, with: {question: \"Which colour?\", choices: [red, blue]}}]\n";
  REQUIRE(files.run_file(yaml) == 3);
  CHECK(files.output().find("kontor runs answer") != std::string::npos);
  CHECK(files.run({"runs", "resume"}) == 3);
  CHECK(files.run({"runs", "approve"}) == 2);
  CHECK(files.run({"runs", "answer", "green"}) == 2);
  CHECK(files.run({"runs", "answer", "paint", "green"}) == 2);
  CHECK(files.run({"runs", "answer", "paint", "blue", "--by", "anna"}) == 0);
  CHECK(files.output().find(R"({"answer": "blue", "by": "anna"})") != std::string::npos);
  CHECK(files.run({"runs", "answer", "blue"}) != 0);
  CHECK(files.run({"runs", "replay"}) == 0);
  REQUIRE(files.run_file(yaml) == 3);
  CHECK(files.run({"runs", "reject"}) == 1);  // the step fails
}

TEST_CASE("an MCP server starts in its cwd, or in the folder of the agent file", "[cli]") {
  const Folder files;
  fs::create_directories(files.folder / "sub");
  const auto list = [&](const std::string& more) {
    files.write("own.yaml", "kontor: 1\nname: own\nworkflow: [{wait: 1s}]\ntools: {here: {use: mcp, command: [/bin/sh, -c, \"pwd > where.txt\"]" + more + "}}\n");
    return files.run({"tools", "list", (files.folder / "own.yaml").string()});
  };
  CHECK(list("") == 1);  // it speaks no MCP
  CHECK(read_text(files.folder / "where.txt") == fs::canonical(files.folder).string() + "\n");
  CHECK(list(", cwd: sub") == 1);
  CHECK(read_text(files.folder / "sub/where.txt") == fs::canonical(files.folder / "sub").string() + "\n");
  CHECK(list(", cwd: ../x") == 2);
}
