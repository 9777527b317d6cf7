// What the program says to words it does not know.

#include "tests/support/program.hpp"

namespace {

/// The first line of the diagnostics; every one of these calls is a usage error.
std::string complaint(const std::vector<std::string>& words) {
  const kontor::test::ExampleCopy place("invoice-triage");
  CHECK(place.run(words, false) == 2);
  CHECK(place.read("stdout").empty());
  const std::string text = place.read("stderr");
  return text.substr(0, text.find('\n'));
}

}  // namespace

TEST_CASE("misspelt verbs, commands and options are named with what was meant", "[cli]") {
  CHECK(complaint({"rnu", "x.yaml"}) == "kontor: error: 'kontor' has no verb 'rnu' (did you mean 'run'?)");
  CHECK(complaint({"runs", "shwo"}) == "kontor: error: 'kontor runs' has no command 'shwo' (did you mean 'show'?)");
  CHECK(complaint({"run", "--inptu", "a=b", "x.yaml"}) == "kontor: error: 'kontor run' has no option '--inptu' (did you mean '--input'?)");
  CHECK(complaint({"run", "--task=3", "--inpt=a=b", "x.yaml"}) == "kontor: error: 'kontor run' has no option '--inpt' (did you mean '--input'?)");
  CHECK(complaint({"model", "bench", "x", "--thread", "3"}) == "kontor: error: 'kontor model bench' has no option '--thread' (did you mean '--threads'?)");
  CHECK(complaint({"--xyzzy"}) == "kontor: error: 'kontor' has no option '--xyzzy'");
  // Bytes that would move the cursor are shown, not printed.
  CHECK(complaint({"\x1b[2J"}) == "kontor: error: 'kontor' has no verb '\\u{1B}[2J'");
}

TEST_CASE("a verb without its command lists what it has", "[cli]") {
  CHECK(complaint({"plugin"}).find("new") != std::string::npos);
  CHECK(complaint({"model"}).find("quantize") != std::string::npos);
}

TEST_CASE("check and explain take a folder as run does", "[cli]") {
  const kontor::test::ExampleCopy place("kpi-report");
  CHECK(place.run({"check", place.folder.string()}, false) == 0);
  CHECK(place.read("stdout") == (place.folder / "agent.yaml").string() + ": ok\n");
  CHECK(place.run({"explain", place.folder.string()}, false) == 0);
  CHECK(complaint({"check", place.folder.string(), "nowhere.yaml"}) == "kontor: error: no such file or folder: nowhere.yaml");
}
