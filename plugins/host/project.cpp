#include "plugins/host/project.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <utility>

namespace kontor::plugins {
namespace {

namespace fs = std::filesystem;

// The words of Words between "@" are replaced.
constexpr std::string_view kCMake = R"~(cmake_minimum_required(VERSION 3.25)
project(@name@ LANGUAGES C CXX)

find_package(Kontor REQUIRED)  # Not found? -DCMAKE_PREFIX_PATH=/where/kontor/is/installed
enable_testing()

# lib@name@.so; TESTS adds a test that loads it with `kontor plugin check`.
kontor_add_plugin(@name@ SOURCES @source@ TESTS)

# Calls the tool through a host process, as Kontor does.
add_test(NAME @name@_call COMMAND Kontor::kontor plugin call $<TARGET_FILE:@name@> @tool@ [[{"text": "one two three"}]])
set_tests_properties(@name@_call PROPERTIES PASS_REGULAR_EXPRESSION "@expected@")
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

constexpr std::string_view kSourceOfC = R"~(#include "plugins/abi/kontor_plugin.h"

/* What each function may do, on which thread it runs and how long memory lives stands in the header. Arguments and results
 * are JSON texts; they fit the schemas that the tool declares. */
static int instance; /* One instance per configured plugin; this one keeps nothing. */

static void* create(const kontor_host* host, const kontor_setup* setup) {
  (void)host, (void)setup; /* To refuse: host->refuse(host, reason), and return NULL. */
  return &instance;
}

static void destroy(void* self) { (void)self; }

/* May run on several threads at once. Exactly one answer: call->result or call->fail. */
static void say(void* self, const kontor_call* call, kontor_text arguments) {
  (void)self;
  call->result(call, arguments);
}

static const kontor_tool say_tool = {
    KONTOR_HEAD(kontor_tool), KONTOR_TEXT("say"), KONTOR_TEXT("Answers with what it was given."),
    KONTOR_TEXT("{\"type\": \"object\", \"properties\": {\"text\": {\"type\": \"string\"}}, \"required\": [\"text\"]}"),
    KONTOR_TEXT(""), KONTOR_EFFECT_NONE, 0, 0, say, NULL};
static const kontor_tool* const tools[] = {&say_tool};

KONTOR_PLUGIN_EXPORT const kontor_plugin kontor_plugin_entry = {
    KONTOR_HEAD(kontor_plugin), KONTOR_TEXT("@name@"), KONTOR_TEXT("0.1.0"), KONTOR_TEXT("Answers with what it was given."),
    0, NULL, 0, tools, sizeof tools / sizeof tools[0], create, destroy, NULL};
)~";

constexpr std::string_view kAgent = R"~(# kontor run agent.yaml --task "@task@"
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
    tools: [@name@.@tool@]
)~";

constexpr std::string_view kTape = R"~({"dialect": "r1-0528"}
{"text": "<think>\nI @tool@ with the tool.</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>@name@.@tool@\n```json\n{\"text\": \"one two three\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"}
{"text": "<think>\nThe tool has answered.</think>\n\n@answer@"}
)~";

constexpr std::string_view kReadme = R"~(# @name@

A plugin for Kontor with one tool, `@name@.@tool@`.

    kontor plugin build .                                # CMake, in ./build
    ctest --test-dir build
    kontor run agent.yaml --task "@task@"

`kontor plugin check build/lib@name@.so` prints what it declares and the hash to pin. `agent.yaml` shows how an agent
uses it; it plays back what a model said once (`example.jsonl`).
)~";

using Words = std::vector<std::pair<std::string_view, std::string>>;

std::string fill(std::string_view text, const Words& words) {
  std::string out(text);
  for (const auto& [mark, value] : words) {
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

Result<std::vector<std::string>> write_project(const std::string& name, const std::string& folder, Language language) {
  if (!is_name(name)) return fail(Errc::usage, "the name \"" + name + "\" is not [a-z][a-z0-9_]* of at most 64 characters", "bad_name");
  std::error_code status;
  fs::create_directories(folder, status);
  if (status) return fail(Errc::io, "make folder " + folder + ": " + status.message(), "system");
  if (!fs::is_empty(folder, status)) return fail(Errc::conflict, "the folder " + folder + " is not empty", "exists");
  const bool in_c = language == Language::c;
  const std::string source = name + (in_c ? ".c" : ".cpp");
  const Words words = {{"@name@", name}, {"@Class@", type_name(name)}, {"@source@", source},
                       {"@tool@", in_c ? "say" : "count"},
                       {"@task@", in_c ? "Say 'one two three'." : "How many words has 'one two three'?"},
                       {"@answer@", in_c ? "It says: one two three" : "It has 3 words."},
                       {"@expected@", in_c ? "\\\"text\\\": *\\\"one two three\\\"" : "\\\"words\\\": *3"}};
  const std::pair<std::string, std::string_view> files[] = {
      {"CMakeLists.txt", kCMake}, {source, in_c ? kSourceOfC : kSource}, {"agent.yaml", kAgent}, {"example.jsonl", kTape}, {"README.md", kReadme}};
  std::vector<std::string> written;
  for (const auto& [file, text] : files) {
    const std::string path = (fs::path(folder) / file).string();
    std::ofstream out(path, std::ios::binary);
    out << fill(text, words);
    if (!out.flush()) return fail_errno("write", path);
    written.push_back(path);
  }
  return written;
}

}  // namespace kontor::plugins
