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
