// What the program says to words it does not know.

#include "tests/support/program.hpp"

#include <algorithm>
#include <cctype>
#include <sstream>
#include <utility>

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

namespace {

/// The entries of a help text below a title: name and explanation.
std::vector<std::pair<std::string, std::string>> entries_of(const std::string& help, const std::string& title) {
  std::vector<std::pair<std::string, std::string>> entries;
  auto at = help.find("\n" + title + "\n");
  if (at == std::string::npos) return entries;
  std::istringstream lines(help.substr(at + title.size() + 2));
  for (std::string line; std::getline(lines, line) && !line.empty();) {
    const std::string name = line.substr(2, line.find(' ', 2) - 2);
    if (line[2] != ' ') entries.emplace_back(name, line.size() > 30 && line[29] == ' ' ? line.substr(30) : "");
    else if (!entries.empty() && entries.back().second.empty()) entries.back().second = line.substr(line.find_first_not_of(' '));
  }
  return entries;
}

/// How an explanation begins: a small letter, a sign or a name; never the beginning of a sentence.
bool begins_plainly(const std::string& text) {
  return !text.empty() && !(text.size() > 1 && std::isupper(static_cast<unsigned char>(text[0])) && (std::islower(static_cast<unsigned char>(text[1])) || text[1] == ' '));
}

void check_help(const kontor::test::ExampleCopy& place, std::vector<std::string> verb) {
  std::vector<std::string> words = verb;
  words.push_back("--help");
  REQUIRE(place.run(words, false) == 0);
  const std::string help = place.read("stdout");
  INFO(help);
  for (const char* title : {"Options:", "Positionals:", "Subcommands:"}) {
    for (const auto& [name, text] : entries_of(help, title)) {
      INFO(name << ": " << text);
      CHECK(begins_plainly(text));
      if (std::string(title) == "Positionals:") CHECK(std::none_of(name.begin(), name.end(), [](unsigned char c) { return std::islower(c); }));
    }
  }
  CHECK(entries_of(help, "Options:").size() >= 1);
  for (const auto& [name, text] : entries_of(help, "Subcommands:")) {
    auto below = verb;
    below.push_back(name);
    check_help(place, below);
  }
}

}  // namespace

TEST_CASE("every verb explains every option, in the same way everywhere", "[cli][help]") {
  const kontor::test::ExampleCopy place("kpi-report");
  check_help(place, {});
  // What looks at recorded turns asks nobody anything.
  REQUIRE(place.run({"runs", "verify", "--help"}, false) == 0);
  CHECK(place.read("stdout").find("--approve") == std::string::npos);
  REQUIRE(place.run({"run", "--seed", "-3", place.folder.string()}) == 2);
}

TEST_CASE("looking at a folder without a journal makes none", "[cli]") {
  const kontor::test::ExampleCopy place("kpi-report");
  REQUIRE(place.run({"runs", "list"}) == 0);
  CHECK(place.read("stdout").find("no runs in ") == 0);
  REQUIRE(place.run({"runs", "list", "--json"}) == 0);
  CHECK(place.read("stdout") == "{\"runs\":[]}\n");
  REQUIRE(place.run({"runs", "show"}) == 2);
  CHECK(place.read("stderr").find("there are no runs in ") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(place.folder / "runs"));
}

TEST_CASE("runs show tells time, cost and rule of every event, and an input that is null is named", "[cli]") {
  const kontor::test::ExampleCopy place("kpi-report");
  place.write("agent.yaml", "kontor: 1\nname: small\ninputs: {who: {type: string}}\ntools: {files: {use: builtin.files, write: out}}\npolicy: {allow: [files.write]}\n"
                            "workflow:\n  - {id: one, tool: files.write, with: {path: a.txt, text: \"" + std::string(300, 'x') + "\"}}\n");
  REQUIRE(place.run({"run", place.folder.string()}) == 0);
  CHECK(place.read("stderr") == "kontor: note: input 'who' is not given and has no default: it is null; --input who=...\n");
  REQUIRE(place.run({"runs", "show"}) == 0);
  const std::string shown = place.read("stdout");
  INFO(shown);
  CHECK(shown.find("#  TIME") != std::string::npos);
  CHECK(shown.find("files.write (idempotent; policy.allow \"files.write\" permits files.write) {\"path\": \"a.txt\"") != std::string::npos);
  CHECK(shown.find(" s  ") != std::string::npos);
  CHECK(shown.find("0 model turns, 1 tool call\n") != std::string::npos);
  REQUIRE(place.run({"run", place.folder.string(), "--input", "who=me"}) == 0);
  CHECK(place.read("stderr").empty());
}
