// The instances of the public JSON Schema Test Suite against grammars: what is valid can be written, what is invalid
// cannot. Schemas that a grammar refuses are skipped; values are spelled and ordered as grammars spell them.

#include "tests/grammar/support.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <sstream>

using namespace kontor;

namespace {

std::string suite_folder() {
  if (const char* chosen = std::getenv("KONTOR_JSON_SCHEMA_SUITE")) return chosen;
  return "/usr/share/json-schema-test-suite";
}

/// Names below `properties` and `required` in the order in which the schema mentions them.
void collect(const Json& schema, std::map<std::string, std::size_t>& order) {
  if (schema.is_object()) {
    for (const char* keyword : {"properties", "required"}) {
      if (!schema.contains(keyword)) continue;
      for (const auto& entry : schema.at(keyword).items()) {
        const bool name = keyword[0] == 'r' && entry.value().is_string();
        order.emplace(name ? entry.value().get<std::string>() : entry.key(), order.size());
      }
    }
  }
  if (schema.is_object() && (schema.contains("const") || schema.contains("enum"))) {
    // Objects that are given as a whole are written as they stand there.
    Json given = schema.contains("enum") && schema.at("enum").is_array() ? schema.at("enum") : Json::array();
    if (schema.contains("const")) given.push_back(schema.at("const"));
    for (const auto& value : given)
      if (value.is_object())
        for (const auto& entry : value.items()) order.emplace(entry.key(), order.size());
  }
  if (schema.is_structured())
    for (const auto& part : schema) collect(part, order);
}

/// The value in the one spelling that grammars know: declared members first, whole numbers without a point.
Json canonical(const Json& value, const std::map<std::string, std::size_t>& order) {
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::floor(number) == number && std::fabs(number) <= 9007199254740992.0) return static_cast<std::int64_t>(number);
    return value;
  }
  if (value.is_array()) {
    Json out = Json::array();
    for (const auto& item : value) out.push_back(canonical(item, order));
    return out;
  }
  if (!value.is_object()) return value;
  std::vector<std::string> names;
  for (const auto& [name, member] : value.items()) names.push_back(name);
  const auto rank = [&](const std::string& name) {
    const auto found = order.find(name);
    return found == order.end() ? order.size() : found->second;
  };
  std::stable_sort(names.begin(), names.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  Json out = Json::object();
  for (const auto& name : names) out[name] = canonical(value.at(name), order);
  return out;
}

struct Totals {
  int right = 0, false_accepts = 0, false_rejects = 0, refused = 0;
};

void run_file(const std::filesystem::path& file, bool legacy, Totals& totals) {
  std::ifstream in(file);
  std::stringstream text;
  text << in.rdbuf();
  const auto groups = parse_json(text.str());
  REQUIRE(groups.has_value());
  for (const auto& group : *groups) {
    Json schema = group.at("schema");
    if (legacy && schema.is_object() && !schema.contains("$schema")) schema["$schema"] = "http://json-schema.org/draft-07/schema#";
    const auto grammar = test::grammar_of(schema, {.open_objects = true});
    std::map<std::string, std::size_t> order;
    collect(schema, order);
    const bool nothing = !grammar && grammar.error().kind == "unsatisfiable";
    for (const auto& test : group.at("tests")) {
      if (!grammar && !nothing) {
        ++totals.refused;
        continue;
      }
      const std::string value = spaced_json(canonical(test.at("data"), order));
      const bool accepted = !nothing && test::reads(*grammar, value), valid = test.at("valid").get<bool>();
      if (accepted == valid) {
        ++totals.right;
        continue;
      }
      ++(accepted ? totals.false_accepts : totals.false_rejects);
      std::cout << (accepted ? "accepted: " : "rejected: ") << file.filename().string() << ": " << group.at("description").get<std::string>() << ": "
                << test.at("description").get<std::string>() << ": " << value.substr(0, 200) << "\n";
    }
  }
}

void run(const std::string& draft, const std::vector<std::string>& only = {}) {
  const std::filesystem::path folder = suite_folder() + "/tests/" + draft;
  Totals totals;
  if (!std::filesystem::exists(folder)) return test::count_cases("grammar " + draft, 0, 0, 1);
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    // format.json says that formats are not asserted; here they are. refRemote.json fetches, vocabulary.json redefines.
    if (entry.path().extension() != ".json" || name == "format.json" || name == "refRemote.json" || name == "vocabulary.json") continue;
    if (!only.empty() && std::find(only.begin(), only.end(), name) == only.end()) continue;
    run_file(entry.path(), draft.find("draft7") != std::string::npos, totals);
  }
  std::cout << draft << ": " << totals.right << " right, " << totals.false_accepts << " false accepts, " << totals.false_rejects << " false rejects, "
            << totals.refused << " of schemas that are refused\n";
  test::count_cases("grammar " + draft, totals.right, totals.false_accepts + totals.false_rejects, totals.refused);
  CHECK(totals.false_accepts == 0);
  CHECK(totals.false_rejects == 0);
}

}  // namespace

TEST_CASE("draft 7 of the JSON Schema test suite: what is valid can be written, what is invalid cannot", "[corpus]") { run("draft7"); }

TEST_CASE("2020-12 of the JSON Schema test suite: the same, where it is installed", "[corpus]") { run("draft2020-12"); }

TEST_CASE("formats of the JSON Schema test suite", "[corpus]") {
  run("draft7/optional/format", {"date.json", "time.json", "date-time.json", "ipv4.json", "ipv6.json", "email.json", "uri.json"});
}
