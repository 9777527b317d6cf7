// The parse corpus at every chunking: the result may never depend on how the output was split.

#include "agent/dialect/parse_case.hpp"
#include "base/json.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <vector>

using namespace kontor;
using namespace kontor::agent;

namespace {

JsonLimits case_limits() {
  JsonLimits limits;
  limits.depth = 1024;
  limits.refuse_duplicate_keys = false;
  return limits;
}

std::vector<Json> read_lines(const std::string& name) {
  std::ifstream in(test::corpus_path(name));
  std::vector<Json> out;
  for (std::string line; std::getline(in, line);) {
    if (line.empty()) continue;
    auto json = parse_json(line, case_limits());
    REQUIRE(json.has_value());
    out.push_back(std::move(*json));
  }
  return out;
}

/// Long texts of an expectation: {"input_parts": [text | {"repeat", "count"}]}.
Json expanded(const Json& value) {
  if (value.is_array()) {
    Json out = Json::array();
    for (const auto& item : value) out.push_back(expanded(item));
    return out;
  }
  if (!value.is_object()) return value;
  if (value.size() == 1 && value.contains("input_parts")) {
    std::string text;
    for (const auto& part : value["input_parts"]) {
      if (part.is_string()) text += part.get<std::string>();
      else for (int i = 0; i < part["count"].get<int>(); ++i) text += part["repeat"].get_ref<const std::string&>();
    }
    return text;
  }
  Json out = Json::object();
  for (const auto& [key, item] : value.items()) out[key] = expanded(item);
  return out;
}

/// Numbers as numbers, members as a set.
bool same(const Json& a, const Json& b) {
  if (a.is_object() && b.is_object()) {
    if (a.size() != b.size()) return false;
    for (const auto& [key, value] : a.items()) {
      if (!b.contains(key) || !same(value, b[key])) return false;
    }
    return true;
  }
  if (a.is_array() && b.is_array()) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (!same(a[i], b[i])) return false;
    }
    return true;
  }
  return a == b;
}

std::string shorten(const std::string& text) { return text.size() < 600 ? text : text.substr(0, 600) + "..."; }

/// Runs one chunking and compares; also checks that the streamed events add up to the result.
std::string check(const ParseCase& parse_case, std::size_t chunk, const Json& expected, const std::string& how) {
  std::string reasoning, content;
  std::vector<std::string> started;
  std::size_t done = 0;
  ParseResult result = run_parse_case(parse_case, chunk, [&](const ParseEvent& event) {
    switch (event.kind) {
      case ParseEvent::Kind::reasoning: reasoning += event.text; break;
      case ParseEvent::Kind::content: content += event.text; break;
      case ParseEvent::Kind::call_started: started.push_back(event.text); break;
      case ParseEvent::Kind::argument_delta: break;
      case ParseEvent::Kind::call_done: ++done; break;
    }
  });
  const auto has_warning = [&](const char* kind) {
    return std::find(result.warnings.begin(), result.warnings.end(), kind) != result.warnings.end();
  };
  const auto has_error = [&](const char* kind) {
    for (const auto& error : result.errors) {
      if (error.kind == kind) return true;
    }
    return false;
  };
  const bool discarded = has_error("output_too_large") || has_error("too_many_calls");
  const bool streams_fit = discarded || has_warning("missing_think_open") ||
                           (reasoning == result.reasoning && content.substr(0, result.content.size()) == result.content &&
                            done == result.calls.size() && started.size() >= done);
  const Json got = to_json(std::move(result));
  if (!same(got, expected)) return how + ": got " + shorten(got.dump());
  if (!streams_fit) return how + ": events do not add up to the result: " + shorten(reasoning + "|" + content);
  return {};
}

std::size_t input_size(const ParseCase& parse_case) {
  std::size_t size = 0;
  for (const auto& piece : parse_case.pieces) size += piece.bytes.size();
  return size;
}

bool has_control(const ParseCase& parse_case) {
  for (const auto& piece : parse_case.pieces) {
    if (piece.control) return true;
  }
  return false;
}

/// The same bytes with other piece borders.
ParseCase resplit(const ParseCase& from, const std::vector<std::size_t>& sizes) {
  std::string all;
  for (const auto& piece : from.pieces) all += piece.bytes;
  ParseCase out = from;
  out.pieces.clear();
  std::size_t at = 0;
  for (const std::size_t size : sizes) {
    out.pieces.push_back({all.substr(at, size), false});
    at += out.pieces.back().bytes.size();
  }
  out.pieces.push_back({all.substr(at), false});
  return out;
}

std::string check_all(const ParseCase& parse_case, const Json& expected, std::mt19937& random) {
  if (auto why = check(parse_case, 0, expected, "as given"); !why.empty()) return why;
  const std::size_t size = input_size(parse_case);
  if (!has_control(parse_case)) {
    if (auto why = check(resplit(parse_case, {}), 0, expected, "whole"); !why.empty()) return why;
  }
  if (auto why = check(parse_case, 1, expected, "byte by byte"); !why.empty()) return why;
  if (auto why = check(parse_case, 4, expected, "4 bytes at a time"); !why.empty()) return why;
  if (has_control(parse_case) || size > (1u << 16)) return {};
  if (size <= 700) {
    for (std::size_t at = 1; at < size; ++at) {
      if (auto why = check(resplit(parse_case, {at}), 0, expected, "split at " + std::to_string(at)); !why.empty()) return why;
    }
  }
  for (int round = 0; round < 20; ++round) {
    std::vector<std::size_t> sizes;
    for (std::size_t sum = 0; sum < size;) {
      sizes.push_back(1 + random() % 40);
      sum += sizes.back();
    }
    if (auto why = check(resplit(parse_case, sizes), 0, expected, "random chunks"); !why.empty()) return why;
  }
  return {};
}

}  // namespace

TEST_CASE("every parse case gives its result at every chunking", "[dialect][parse]") {
  std::mt19937 random(7);
  int passed = 0, failed = 0;
  for (const Json& line : read_lines("r1/parse.jsonl")) {
    const std::string id = line["id"].get<std::string>();
    auto parse_case = read_parse_case(line);
    std::string why = parse_case ? std::string() : parse_case.error().message;
    if (why.empty()) why = check_all(*parse_case, expanded(line["expected"]), random);
    if (why.empty()) {
      ++passed;
      continue;
    }
    ++failed;
    std::printf("parse %s: %s\n  expected %s\n", id.c_str(), why.c_str(), shorten(line["expected"].dump()).c_str());
  }
  test::count_cases("r1/parse", passed, failed);
  REQUIRE(failed == 0);
}

TEST_CASE("streamed output is shown as early as the progress cases ask", "[dialect][parse]") {
  int passed = 0, failed = 0;
  for (const Json& line : read_lines("r1/parse.jsonl")) {
    if (!line.contains("progress")) continue;
    auto parse_case = read_parse_case(line);
    REQUIRE(parse_case.has_value());
    std::string reasoning, content, arguments;
    std::size_t started = 0, done = 0;
    Parser parser(parse_case->options, [&](const ParseEvent& event) {
      switch (event.kind) {
        case ParseEvent::Kind::reasoning: reasoning += event.text; break;
        case ParseEvent::Kind::content: content += event.text; break;
        case ParseEvent::Kind::call_started: ++started; break;
        case ParseEvent::Kind::argument_delta: arguments += event.text; break;
        case ParseEvent::Kind::call_done: ++done; break;
      }
    });
    bool fine = true;
    for (std::size_t i = 0; i < parse_case->pieces.size(); ++i) {
      parser.feed(parse_case->pieces[i].bytes, parse_case->pieces[i].control);
      for (const auto& step : line["progress"]) {
        if (step["after_chunk"].get<std::size_t>() != i) continue;
        const auto text = [&](const char* key) { return step.contains(key) ? step[key].get<std::string>() : std::string(); };
        const auto number = [&](const char* key) { return step.contains(key) ? step[key].get<std::size_t>() : 0; };
        fine &= reasoning.starts_with(text("reasoning")) && content.starts_with(text("content")) &&
                arguments.starts_with(text("arguments_prefix")) && started >= number("calls_started") && done >= number("calls_done");
      }
    }
    (fine ? passed : failed) += 1;
    if (!fine) std::printf("progress %s: too late\n", line["id"].get<std::string>().c_str());
  }
  test::count_cases("r1/parse progress", passed, failed);
  REQUIRE(failed == 0);
}
