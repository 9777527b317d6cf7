// A question of builtin.ask_user in what people see of a run.

#include "tests/support/program.hpp"

using namespace kontor;

TEST_CASE("an answered question is shown as answered, and a refused one as declined", "[cli]") {
  const test::ExampleCopy copy("invoice-triage");
  copy.write("agent.yaml", "kontor: 1\nname: ask\ntools: {person: {use: builtin.ask_user}}\nworkflow:\n"
                           "  - {id: one, tool: person.ask, with: {question: Which account?}}\n"
                           "  - {id: two, tool: person.ask, with: {question: Which colour?}, on_error: {collect: errors}}\n");
  REQUIRE(copy.run({"run", copy.folder.string()}) == 3);
  CHECK(copy.output().find("kontor runs answer ") != std::string::npos);
  REQUIRE(copy.run({"runs", "answer", "4400", "--by", "anna"}) == 3);
  CHECK(copy.output().find("approve by") == std::string::npos);
  REQUIRE(copy.run({"runs", "reject", "--by", "bob", "--reason", "no idea"}) == 0);
  REQUIRE(copy.run({"runs", "show"}) == 0);
  CHECK(copy.output().find("answered by anna: 4400") != std::string::npos);
  CHECK(copy.output().find("declined by bob: no idea") != std::string::npos);
  CHECK(copy.output().find("approve by") == std::string::npos);
}

TEST_CASE("an approval step with choices of its own takes one of them and no bare approval", "[cli]") {
  const test::ExampleCopy copy("invoice-triage");
  copy.write("agent.yaml", "kontor: 1\nname: ask\ntools: {files: {use: builtin.files, write: out}}\npolicy: {allow: [files.write]}\nworkflow:\n"
                           "  - {id: one, approval: {message: Pay or refuse?, choices: [pay, refuse], who: [boss, cfo]}}\n"
                           "  - {tool: files.write, with: {path: choice.txt, text: \"${steps.one.choice}\"}}\n");
  REQUIRE(copy.run({"run", copy.folder.string()}) == 3);
  CHECK(copy.read("stdout").find(" one --choice refuse --runs ") != std::string::npos);
  CHECK(copy.read("stdout").find("    asked: boss, cfo\n") != std::string::npos);
  REQUIRE(copy.run({"runs", "show"}) == 0);
  CHECK(copy.read("stdout").find("Pay or refuse? (asked: boss, cfo)") != std::string::npos);
  REQUIRE(copy.run({"runs", "approve"}) == 2);
  CHECK(copy.read("stderr") == "kontor: error: one has choices of its own; name one of them with --choice: pay, refuse\n");
  REQUIRE(copy.run({"runs", "approve", "--choice", "perhaps"}) == 2);
  REQUIRE(copy.run({"runs", "approve", "two"}) == 2);
  CHECK(copy.read("stderr").find("'two' is neither a run nor what the latest run, ") != std::string::npos);
  REQUIRE(copy.run({"runs", "approve", "one", "--choice", "refuse", "--by", "anna"}) == 0);
  CHECK(copy.read("stdout").find("approved: one by anna\n") == 0);
  CHECK(copy.read("out/choice.txt") == "refuse");
  CHECK(copy.read("stdout").find("approve by") == std::string::npos);
  REQUIRE(copy.run({"runs", "show"}) == 0);
  CHECK(copy.read("stdout").find("refuse by anna") != std::string::npos);
  CHECK(copy.read("stdout").find("approve by") == std::string::npos);
  REQUIRE(copy.run({"runs", "approve", "one", "--choice", "pay"}) == 2);
  CHECK(copy.read("stderr").find(" is done") != std::string::npos);
}
