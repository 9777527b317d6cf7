// What the program does when standard output is full, closed, or no longer read.

#include "tests/support/program.hpp"

#include <filesystem>

namespace {

/// Exit code of a line of shell in the folder, in which $kontor is the program; stderr lies in the folder.
int shell(const kontor::test::ExampleCopy& place, const std::string& line) {
  const std::string all = "cd '" + place.folder.string() + "' && kontor='" + KONTOR_BINARY_DIR + "/kontor' && { " + line + "; } 2>stderr </dev/null";
  const int status = std::system(("bash -c \"" + all + "\"").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

}  // namespace

TEST_CASE("output that does not fit on the disk is an error of every verb", "[cli][streams]") {
  const kontor::test::ExampleCopy place("kpi-report");
  REQUIRE(std::filesystem::exists("/dev/full"));
  for (const std::string words : {"schema", "check .", "check . --json", "explain .", "tools list", "doctor --json", "--help", "run --help", "--version",
                                  "run . --runs runs", "run . --runs runs --json", "runs list --runs runs", "runs show --runs runs --json",
                                  "runs export --runs runs", "eval ."}) {
    INFO(words);
    CHECK(shell(place, "\\$kontor " + words + " >/dev/full") == 1);
    CHECK(place.read("stderr").find("standard output could not be written") != std::string::npos);
    CHECK(shell(place, "\\$kontor " + words + " >/dev/null") == 0);
    CHECK(place.read("stderr").empty());
  }
  // The exit code of what went wrong before stays.
  CHECK(shell(place, "\\$kontor check data/orders.csv >/dev/full") == 1);
  CHECK(shell(place, "\\$kontor run . --runs runs --model nothing.gguf >/dev/full") == 5);
}

TEST_CASE("a closed standard output is an error, and nothing else is written to in its place", "[cli][streams]") {
  const kontor::test::ExampleCopy place("kpi-report");
  REQUIRE(shell(place, "\\$kontor run . --runs runs --seed 3 >first") == 0);
  CHECK(shell(place, "\\$kontor run . --runs runs --json >&-") == 1);
  CHECK(place.read("stderr").find("standard output could not be written completely") != std::string::npos);
  CHECK(shell(place, "\\$kontor runs show --runs runs <&- >second") == 0);  // The run was made, its journal is whole.
  CHECK(place.read("second").find("run_finished") != std::string::npos);
  CHECK(shell(place, "\\$kontor runs show --runs runs >/dev/null 2>&-") == 0);
}

TEST_CASE("a reader that takes the first line only is no error", "[cli][streams]") {
  const kontor::test::ExampleCopy place("kpi-report");
  CHECK(shell(place, "\\$kontor run . --runs runs --json | head -n1 >/dev/null; exit \\${PIPESTATUS[0]}") == 0);
  CHECK(place.read("stderr").empty());
  REQUIRE(shell(place, "\\$kontor runs list --runs runs >list") == 0);
  CHECK(place.read("list").find("done") != std::string::npos);
}
