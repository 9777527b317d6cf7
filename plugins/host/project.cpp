#include "plugins/host/project.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <utility>

namespace kontor::plugins {
namespace {

namespace fs = std::filesystem;

// "@name@" and "@Class@" are replaced.
constexpr std::string_view kCMake = R"~(cmake_minimum_required(VERSION 3.25)
project(@name@ LANGUAGES C CXX)

find_package(Kontor REQUIRED)  # Not found? -DCMAKE_PREFIX_PATH=/where/kontor/is/installed
enable_testing()

# lib@name@.so; TESTS adds a test that loads it with `kontor plugin check`.
kontor_add_plugin(@name@ SOURCES @name@.cpp TESTS)

# Calls the tool through a host process, as Kontor does.
add_test(NAME @name@_call COMMAND Kontor::kontor plugin call $<TARGET_FILE:@name@> count [[{"text": "one two three"}]])
set_tests_properties(@name@_call PROPERTIES PASS_REGULAR_EXPRESSION "\"words\": *3")
)~";

constexpr std::string_view kSource = R"~(#include "plugins/sdk/kontor_plugin.hpp"

#include <sstream>
#include <string>

namespace {

using namespace kontor::plugin;

// One instance per configured plugin. Methods may run on several threads at once. What a method throws becomes a tool
// error; ToolError carries a kind of your own.
struct @Class@ {
  explicit @Class@(const Setup&) {}

  Json count(const Json& arguments, Call&) {
    std::istringstream text(arguments.at("text").get<std::string>());
    int words = 0;
    for (std::string word; text >> word;) ++words;
    if (words == 0) throw ToolError("empty", "the text has no words");
    return Json{{"words", words}};
  }
};

}  // namespace

KONTOR_PLUGIN(@Class@, "@name@", "0.1.0", "Counts words.", KONTOR_NO_PERMISSIONS,
              {.name = "count",
               .description = "Count the words of a text.",
               .parameters = R"({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})",
               .call = call<&@Class@::count>,
               .effect = Effect::none});
)~";

constexpr std::string_view kAgent = R"~(# kontor run agent.yaml --task "How many words has 'one two three'?"
kontor: 1
name: @name@-agent
models:
  # What a model said once, so that the plugin can be tried without one. With a model:
  # r1: {path: /path/to/deepseek-r1-distill-qwen-7b.gguf}
  r1: {replay: example.jsonl}
tools:
  @name@: {use: plugin, library: build/lib@name@.so}
agents:
  helper:
    model: r1
    instruction: Answer with the help of your tools.
    tools: [@name@.count]
)~";

constexpr std::string_view kTape = R"~({"dialect": "r1-0528"}
{"text": "<think>\nI count with the tool.</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>@name@.count\n```json\n{\"text\": \"one two three\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"}
{"text": "<think>\nThe tool says 3.</think>\n\nIt has 3 words."}
)~";

constexpr std::string_view kReadme = R"~(# @name@

A plugin for Kontor with one tool, `@name@.count`.

    kontor plugin build .                                # CMake, in ./build
    ctest --test-dir build
    kontor run agent.yaml --task "How many words has 'one two three'?"

`kontor plugin check build/lib@name@.so` prints what it declares and the hash to pin. `agent.yaml` shows how an agent
uses it; it plays back what a model said once (`example.jsonl`).
)~";

std::string fill(std::string_view text, const std::string& name, const std::string& type) {
  std::string out(text);
  for (const auto& [mark, value] : {std::pair<std::string_view, const std::string&>{"@name@", name}, {"@Class@", type}}) {
    for (std::size_t at = 0; (at = out.find(mark, at)) != std::string::npos; at += value.size()) out.replace(at, mark.size(), value);
  }
  return out;
}

/// "vat_check" -> "VatCheck"
std::string type_name(const std::string& name) {
  std::string type;
  bool upper = true;
  for (const char c : name) {
    if (c != '_') type += upper && c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    upper = c == '_';
  }
  return type;
}

bool is_name(const std::string& name) {
  if (name.empty() || name.size() > 64 || name[0] < 'a' || name[0] > 'z') return false;
  return name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos;
}

}  // namespace

Result<std::vector<std::string>> write_project(const std::string& name, const std::string& folder) {
  if (!is_name(name)) return fail(Errc::usage, "the name \"" + name + "\" is not [a-z][a-z0-9_]* of at most 64 characters", "bad_name");
  std::error_code status;
  fs::create_directories(folder, status);
  if (status) return fail(Errc::io, "make folder " + folder + ": " + status.message(), "system");
  if (!fs::is_empty(folder, status)) return fail(Errc::conflict, "the folder " + folder + " is not empty", "exists");
  const std::string type = type_name(name);
  const std::pair<std::string, std::string_view> files[] = {
      {"CMakeLists.txt", kCMake}, {name + ".cpp", kSource}, {"agent.yaml", kAgent}, {"example.jsonl", kTape}, {"README.md", kReadme}};
  std::vector<std::string> written;
  for (const auto& [file, text] : files) {
    const std::string path = (fs::path(folder) / file).string();
    std::ofstream out(path, std::ios::binary);
    out << fill(text, name, type);
    if (!out.flush()) return fail_errno("write", path);
    written.push_back(path);
  }
  return written;
}

}  // namespace kontor::plugins
