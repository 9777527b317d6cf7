// The invoice example through the real program, with recorded model turns: results, approval, and what is left after
// the process was killed.

#include "tests/support/program.hpp"

#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

namespace {

namespace fs = std::filesystem;

using kontor::test::read_text;

/// A copy of the example that plays its tape, with a journal of its own.
struct Example : kontor::test::ExampleCopy {
  Example() : ExampleCopy("invoice-triage") {
    std::string yaml = read("agent.yaml");
    yaml.replace(yaml.find("model: pocket"), 13, "model: tape");
    yaml.erase(yaml.find("tests:"));
    write("agent.yaml", yaml);
  }
  /// Tests of agent files have journals of their own.
  pid_t start(const std::vector<std::string>& words) const { return ExampleCopy::start(words, words[0] != "eval"); }
  int run(const std::vector<std::string>& words) const { return wait(start(words)); }

  /// Effects in the ERP's log, by kind and file.
  std::map<std::string, int> effects() const {
    std::map<std::string, int> counts;
    std::ifstream in(folder / "out/erp-log.jsonl");
    for (std::string line; std::getline(in, line);) {
      const auto kind = line.find("\"kind\"");
      const auto file = line.find("inv-");
      REQUIRE(kind != std::string::npos);
      REQUIRE(file != std::string::npos);
      const auto begin = line.find('"', line.find(':', kind)) + 1;
      ++counts[line.substr(begin, line.find('"', begin) - begin) + " " + line.substr(file, 7)];
    }
    return counts;
  }
};

const std::map<std::string, int> kEffectsBeforeApproval = {{"hold inv-005", 1}, {"hold inv-007", 1}, {"hold inv-008", 1}, {"pay inv-001", 1},
                                                           {"pay inv-002", 1}, {"reject inv-004", 1}, {"reject inv-006", 1}};

}  // namespace

TEST_CASE("the example writes its report, waits for the large payment, and ends when it is approved", "[cli][run]") {
  const Example example;
  const int parked = example.run({"run", example.folder.string()});
  INFO(example.output());
  REQUIRE(parked == 3);
  CHECK(read_text(example.folder / "out/decisions.csv") == read_text(example.folder / "expected.csv"));
  CHECK(example.effects() == kEffectsBeforeApproval);
  CHECK(example.run({"runs", "resume"}) == 3);
  CHECK(example.run({"runs", "approve", "--by", "anna"}) == 0);
  auto effects = kEffectsBeforeApproval;
  effects["pay inv-003"] = 1;
  CHECK(example.effects() == effects);
  CHECK(example.run({"runs", "resume"}) == 0);
  CHECK(example.run({"runs", "replay"}) == 0);
  CHECK(example.effects() == effects);
  // The same documents again: the same decisions, and no second payment.
  CHECK(example.run({"run", example.folder.string(), "--approve", "erp.pya=yes"}) == 2);
  CHECK(example.run({"run", example.folder.string(), "--approve", "epr.pay=yes"}) == 2);
  CHECK(example.run({"run", example.folder.string(), "--approve", "erp.pay=yes"}) == 0);
  CHECK(read_text(example.folder / "out/decisions.csv") == read_text(example.folder / "expected.csv"));
  CHECK(example.effects()["pay inv-001"] == 1);
  CHECK(example.effects()["pay inv-003"] == 1);
}

TEST_CASE("a rejected payment is not made", "[cli][run]") {
  const Example example;
  REQUIRE(example.run({"run", example.folder.string(), "--approve", "park"}) == 3);
  CHECK(example.run({"runs", "reject"}) == 0);
  CHECK(example.effects() == kEffectsBeforeApproval);
}

TEST_CASE("a test is content with the share of right rows that it asks for", "[cli][eval]") {
  const Example example;
  std::string expected = read_text(example.folder / "expected.csv");
  expected.replace(expected.find("po_closed"), 9, "po_missed");
  std::ofstream(example.folder / "other.csv") << expected;
  const auto with_tests = [&](const std::string& expect) {
    const std::string yaml = read_text(example.folder / "agent.yaml");
    std::ofstream(example.folder / "agent.yaml") << yaml.substr(0, yaml.find("tests:"))
                                                 << "tests:\n  - name: shares\n    expect: {file: out/decisions.csv, " << expect << "}\n";
    return example.run({"eval", example.folder.string()});
  };
  CHECK(with_tests("equals: expected.csv") == 0);
  CHECK(with_tests("equals: other.csv") == 1);
  CHECK(with_tests("equals: other.csv, at_least: 0.9") == 1);
  CHECK(with_tests("equals: other.csv, at_least: 0.875") == 0);
  INFO(example.output());
  CHECK(std::regex_search(example.output(), std::regex("7/8 +87\\.5 %")));
  CHECK(example.output().find("po_missed") != std::string::npos);
}

TEST_CASE("recorded turns are generated again and compared, and a changed model is found out", "[cli][run]") {
  const Example example;
  REQUIRE(example.run({"run", example.folder.string(), "--approve", "park"}) == 3);
  CHECK(example.run({"runs", "verify"}) == 0);
  CHECK(example.effects() == kEffectsBeforeApproval);
  fs::path tape;
  for (const auto& file : fs::directory_iterator(example.folder / "tapes")) tape = file.path();
  std::string text = read_text(tape);
  const auto at = text.find('"', text.find(':', text.find("\"text\""))) + 1;
  text.insert(at, "Well. ");
  std::ofstream(tape, std::ios::trunc) << text;
  CHECK(example.run({"runs", "verify"}) == 1);
  INFO(example.output());
  CHECK(example.output().find("first difference") != std::string::npos);
  CHECK(example.effects() == kEffectsBeforeApproval);
}

TEST_CASE("the pocket model writes every turn again token by token, and what it computed is kept while the run waits", "[cli][run]") {
  const Example example;
  const std::string model = std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket-invoice.gguf";
  const int ended = example.run({"run", example.folder.string(), "--model", model, "--approve", "park"});
  INFO(example.output());
  // What the model can do is said before it writes anything.
  CHECK(example.output().find("  its file says: Runs the invoice triage example, and nothing else.") != std::string::npos);
  const auto kept = [&] {
    std::size_t files = 0;
    if (fs::exists(example.folder / "runs/kv")) for (const auto& file : fs::directory_iterator(example.folder / "runs/kv")) files += file.is_regular_file();
    return files;
  };
  CHECK(kept() == (ended == 3 ? 1 : 0));
  CHECK(example.run({"runs", "verify"}) == 0);
  CHECK(example.output().find("DIFFERENT") == std::string::npos);
  if (ended == 3) CHECK(example.run({"runs", "cancel"}) == 0);
  CHECK(kept() == 0);
}

namespace {

/// A printed line without what differs between two runs and machines: numbers, run ids, lengths of time.
std::string shape_of(const std::string& line) {
  std::string text = std::regex_replace(line, std::regex("[0-9]{8}-[0-9]{6}-[0-9a-f]{6}"), "RUN");
  text = std::regex_replace(text, std::regex("[0-9][0-9.,]*"), "#");
  return std::regex_replace(text, std::regex("# (ms|s)\\b"), "TIME");
}

/// The lines of a picture that docs/record.py drew, without the command at its top.
std::vector<std::string> lines_of_picture(const std::string& svg) {
  std::vector<std::string> lines;
  const std::regex element("<text y=[^>]*>(.*?)</text>"), tag("<[^>]*>");
  for (std::sregex_iterator found(svg.begin(), svg.end(), element), end; found != end; ++found) {
    std::string line = std::regex_replace((*found)[1].str(), tag, "");
    for (const auto& [entity, sign] : std::map<std::string, std::string>{{"&quot;", "\""}, {"&gt;", ">"}, {"&lt;", "<"}, {"&#x27;", "'"}}) {
      for (auto at = line.find(entity); at != std::string::npos; at = line.find(entity, at + 1)) line.replace(at, entity.size(), sign);
    }
    lines.push_back(line);
  }
  return lines;
}

}  // namespace

TEST_CASE("the picture in the README shows what the program prints", "[cli][run][docs]") {
  const Example example;
  const std::string model = std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket-invoice.gguf";
  REQUIRE(example.run({"run", example.folder.string(), "--model", model}) == 3);
  std::set<std::string> printed;
  std::istringstream lines(example.read("stdout"));
  for (std::string line; std::getline(lines, line);) printed.insert(shape_of(line));
  const auto drawn = lines_of_picture(read_text(std::string(KONTOR_SOURCE_DIR) + "/docs/invoice-triage.svg"));
  std::size_t compared = 0;
  for (const auto& line : drawn) {
    // What a model wrote, and what was cut at the edge of the terminal, may differ.
    if (line.find('{') != std::string::npos || line.find("…") != std::string::npos || line.find("    ·") == 0 || line == "  ..." || line.find("kontor runs ") != std::string::npos) continue;
    const std::string shape = shape_of(line);
    INFO(line);
    const auto same = printed.lower_bound(shape);
    CHECK((same != printed.end() && same->rfind(shape, 0) == 0));
    ++compared;
  }
  CHECK(compared > 20);
}
