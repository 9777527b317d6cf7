#include "plugins/host/loader.hpp"

#include "base/hash.hpp"
#include "tests/support/catch.hpp"
#include "tools/tool.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

using namespace kontor;
using namespace kontor::plugins;

namespace {

std::string built(const std::string& name) { return std::string(KONTOR_BINARY_DIR) + "/" + name; }
std::string variant(const std::string& name) { return built("tests/plugins/libkontor_fixture_" + name + ".so"); }

PluginOptions isolated(const std::string& path) {
  PluginOptions options;
  options.path = path;
  return options;
}

PluginOptions pinned(const std::string& path) {
  PluginOptions options = isolated(path);
  options.isolation = Isolation::in_process;
  options.sha256 = *sha256_file(path);
  return options;
}

}  // namespace

TEST_CASE("a C plugin answers with the text it wrote, in both isolations") {
  for (const auto& options : {isolated(built("plugins/libecho_c.so")), pinned(built("plugins/libecho_c.so"))}) {
    const auto plugin = load_plugin(options);
    REQUIRE(plugin.has_value());
    CHECK(plugin->name == "echo");
    CHECK(plugin->version == "1.0.0");
    CHECK(plugin->sha256 == *sha256_file(options.path));
    REQUIRE(plugin->tools.size() == 2);
    CHECK(plugin->tools[0]->spec().name == "echo.say");
    CHECK(plugin->tools[0]->spec().timeout_ms == 5000);
    const auto result = plugin->tools[0]->call(Json{{"text", "Grüße \"x\""}}, {});
    REQUIRE_FALSE(result.is_error);
    CHECK(result.value == Json{{"text", "Grüße \"x\""}});
    CHECK(result.text == "{\"text\":\"Grüße \\\"x\\\"\"}");
    CHECK(plugin->tools[1]->call(Json{{"text", "abc"}}, {}).value == Json{{"bytes", 14}});
    CHECK(plugin->tools[1]->probe(Json{{"text", "abc"}}, {}).state == tools::Probe::State::unknown);
  }
}

TEST_CASE("a plugin inside the process needs a pin, and the message names the hash") {
  auto options = pinned(built("plugins/libecho_c.so"));
  const std::string hash = options.sha256;
  options.sha256.clear();
  auto plugin = load_plugin(options);
  REQUIRE(plugin.has_error());
  CHECK(plugin.error().kind == "pin_missing");
  CHECK(plugin.error().code == Errc::denied);
  CHECK(plugin.error().message.find(hash) != std::string::npos);
  options.sha256 = std::string(64, '0');
  for (const auto isolation : {Isolation::in_process, Isolation::process}) {
    options.isolation = isolation;
    plugin = load_plugin(options);
    REQUIRE(plugin.has_error());
    CHECK(plugin.error().kind == "pin_mismatch");
    CHECK(plugin.error().message.find(hash) != std::string::npos);
  }
  options.sha256 = "abc";
  CHECK(load_plugin(options).error().code == Errc::usage);
}

TEST_CASE("pins in upper case are the same pins") {
  auto options = pinned(built("plugins/libecho_c.so"));
  for (char& c : options.sha256) c = static_cast<char>(std::toupper(c));
  CHECK(load_plugin(options).has_value());
}

TEST_CASE("what is not a plugin is refused with its reason") {
  const struct {
    const char* name;
    const char* kind;
    const char* message;
  } cases[] = {
      {"major", "abi_version", "ABI 2.0"},         {"small", "abi_size", "24 bytes"},
      {"no_tools", "declaration", "no tools"},     {"bad_name", "declaration", "Not A Name"},
      {"twice", "declaration", "two tools"},       {"bad_schema", "schema", "act"},
      {"no_call", "declaration", "call function"}, {"refuses", "refused", "wrong phase"},
      {"no_entry", "no_entry", "kontor_plugin_entry"}, {"silent", "refused", "gave no reason (host->refuse says one)"},
  };
  for (const auto& wanted : cases) {
    for (const auto& options : {isolated(variant(wanted.name)), pinned(variant(wanted.name))}) {
      INFO(wanted.name);
      const auto plugin = load_plugin(options);
      REQUIRE(plugin.has_error());
      CHECK(plugin.error().kind == wanted.kind);
      INFO(plugin.error().message);
      CHECK(plugin.error().message.find(wanted.message) != std::string::npos);
    }
  }
  const auto missing = load_plugin(isolated("/no/such/plugin.so"));
  REQUIRE(missing.has_error());
  CHECK(missing.error().code == Errc::not_found);
  CHECK(load_plugin(isolated(std::string(KONTOR_SOURCE_DIR) + "/CMakeLists.txt")).error().kind == "not_elf");
  CHECK(load_plugin(isolated("/")).error().kind == "not_elf");
  CHECK(load_plugin(isolated("/dev/zero")).error().kind == "not_elf");
}

TEST_CASE("a broken library is an error of the system's loader") {
  const auto folder = std::filesystem::temp_directory_path() / ("kontor-broken-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const auto path = (folder / "libbroken.so").string();
  std::ofstream(path) << "\177ELF and nothing more";
  const auto plugin = load_plugin(isolated(path));
  REQUIRE(plugin.has_error());
  CHECK(plugin.error().kind == "load");
  CHECK(plugin.error().message.find(path) != std::string::npos);
  // A whole library of another machine, which the system's loader would call a file that is not there.
  std::ifstream good(built("plugins/libecho_c.so"), std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(good)), std::istreambuf_iterator<char>());
  REQUIRE(bytes.size() > 64);
  bytes[18] = 8;  // MIPS
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  CHECK(load_plugin(isolated(path)).error().kind == "machine");
  std::filesystem::remove_all(folder);
}

TEST_CASE("a plugin of a later minor version with longer structs loads and works") {
  for (const auto& options : {isolated(variant("newer")), pinned(variant("newer"))}) {
    const auto plugin = load_plugin(options);
    REQUIRE(plugin.has_value());
    CHECK(plugin->tools[0]->call(Json::object(), {}).value == Json{{"ok", true}});
  }
}

TEST_CASE("effects may be tightened, never loosened") {
  auto options = isolated(built("plugins/libecho_c.so"));
  options.group = "mail";
  options.effects = {{"say", "once"}};
  const auto plugin = load_plugin(options);
  REQUIRE(plugin.has_value());
  CHECK(plugin->tools[0]->spec().name == "mail.say");
  CHECK(plugin->tools[0]->spec().effect == tools::Effect::once);
  CHECK(plugin->tools[1]->spec().effect == tools::Effect::none);
  options.effects = {{"shout", "once"}};
  CHECK(load_plugin(options).error().kind == "unknown_tool");
  options.effects = {{"say", "twice"}};
  CHECK(load_plugin(options).error().kind == "unknown_value");
  options = isolated(variant("rude"));
  options.effects = {{"patient", "idempotent"}};
  CHECK(load_plugin(options).error().kind == "loosened_effect");
}

TEST_CASE("settings of a YAML entry become options") {
  const auto options = plugin_options("erp", Json{{"library", "/x/liberp.so"}, {"sha256", std::string(64, 'a')}, {"isolation", "in_process"},
                                                  {"config", {{"limit", 5}}}});
  REQUIRE(options.has_value());
  CHECK(options->path == "/x/liberp.so");
  CHECK(options->group == "erp");
  CHECK(options->isolation == Isolation::in_process);
  CHECK(options->config == Json{{"limit", 5}});
  CHECK(plugin_options("erp", Json{{"library", "x"}})->isolation == Isolation::process);
  CHECK(plugin_options("erp", Json{{"library", "x"}, {"isolation", "none"}}).error().kind == "unknown_value");
  CHECK(plugin_options("erp", Json{{"library", 1}}).error().kind == "wrong_type");
  CHECK(plugin_options("erp", Json{{"libary", "x"}}).error().kind == "unknown_key");
  CHECK(plugin_options("erp", Json::object()).error().kind == "missing_key");
}
