// The sandbox of plugin processes: what is granted works, and ways out that work without it fail inside it.

#include "plugins/host/loader.hpp"
#include "tests/support/catch.hpp"
#include "tools/tool.hpp"

#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

using namespace kontor;
using namespace kontor::plugins;

namespace {

/// A folder outside of all permissions, with somebody behind the socket and the port.
struct Outside {
  std::filesystem::path folder;
  int tcp = -1, udp = -1, local = -1, port = 0;

  Outside() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kontor-outside-XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
    for (const char* name : {"secret", "old", "other", "to_remove", "to_rename"}) std::ofstream(folder / name) << "nobody's business\n";
    std::filesystem::create_symlink("secret", folder / "link");
    for (const char* name : {"sub", "sub2", "granted"}) std::filesystem::create_directory(folder / name);
    std::ofstream(folder / "granted.txt") << "for the plugin\n";
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    tcp = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(tcp, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(tcp, 8) == 0);
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(tcp, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port = ntohs(address.sin_port);
    udp = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(udp, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    sockaddr_un path{};
    path.sun_family = AF_UNIX;
    std::strncpy(path.sun_path, (folder / "socket").c_str(), sizeof path.sun_path - 1);
    local = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(local, reinterpret_cast<sockaddr*>(&path), sizeof path) == 0);
    REQUIRE(::listen(local, 8) == 0);
  }
  ~Outside() {
    for (const int descriptor : {tcp, udp, local}) ::close(descriptor);
    std::filesystem::remove_all(folder);
  }
};

LoadedPlugin escape(SandboxMode mode, const Outside& outside) {
  PluginOptions options;
  options.path = std::string(KONTOR_BINARY_DIR) + "/tests/plugins/libkontor_fixture_escape.so";
  options.config = Json{{"read", (outside.folder / "granted.txt").string()}, {"write", (outside.folder / "granted").string()}};
  options.process.sandbox = mode;
  auto loaded = load_plugin(options);
  INFO((loaded ? std::string() : loaded.error().describe()));
  REQUIRE(loaded.has_value());
  return std::move(*loaded);
}

Json attempt(LoadedPlugin& plugin, const std::string& name, const Outside& outside) {
  const auto result = plugin.tools[1]->call(Json{{"name", name}, {"folder", outside.folder.string()}, {"victim", ::getpid()}, {"port", outside.port}}, {});
  if (result.is_error) return Json{{"ok", false}, {"error", result.error_kind}};
  return result.value;
}

}  // namespace

TEST_CASE("no way out of a plugin's process", "[sandbox]") {
  ::setenv("KONTOR_TEST_TOKEN", "secret", 1);
#ifdef PR_SET_PTRACER
  ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);  // so that tracing is refused by the sandbox, not by Yama
#endif
  Json names;
  {
    Outside outside;
    auto plugin = escape(SandboxMode::required, outside);
    names = plugin.tools[0]->call(Json::object(), {}).value;
  }
  REQUIRE(names.size() >= 60);
  int blocked = 0, escaped = 0, idle = 0;
  for (const auto& entry : names) {
    const auto name = entry.get<std::string>();
    Outside outside;  // each attempt finds things as they were
    auto open = escape(SandboxMode::off, outside);
    const Json without = attempt(open, name, outside);
    Outside again;
    auto confined = escape(SandboxMode::required, again);
    const Json with = attempt(confined, name, again);
    if (with.at("ok").get<bool>()) {
      ++escaped;
      std::printf("ESCAPED: %s\n", name.c_str());
    } else if (without.at("ok").get<bool>() || name == "read a token of the environment") {
      ++blocked;
    } else {
      ++idle;
      std::printf("   not possible here even without a sandbox: %s (%s)\n", name.c_str(), without.at("error").get<std::string>().c_str());
    }
  }
  kontor::test::count_cases("escapes", blocked, escaped, idle);
  CHECK(escaped == 0);
  CHECK(blocked >= 40);
}

TEST_CASE("a plugin's process has what the machine offers for itself alone, and no capabilities but those to files", "[sandbox]") {
  const auto offer = sandbox_offer().value();
  std::printf("   namespaces: %s %s\n", offer.namespaces == Namespaces::all ? "all" : offer.namespaces == Namespaces::none ? "none" : "all but processes", offer.missing.c_str());
  for (const auto mode : {SandboxMode::required, SandboxMode::off}) {
    PluginOptions options;
    options.path = std::string(KONTOR_BINARY_DIR) + "/tests/plugins/libkontor_fixture_rude.so";
    options.process.sandbox = mode;
    const auto plugin = load_plugin(options).value();
    const Json seen = plugin.tools[0]->call(Json{{"do", "namespaces"}}, {}).value;
    INFO(seen.dump());
    for (const char* name : {"ipc", "mnt", "net", "pid", "uts"}) {
      const auto own = std::filesystem::read_symlink(std::string("/proc/self/ns/") + name).string();
      const bool apart = mode != SandboxMode::off && offer.namespaces != Namespaces::none && (name != std::string("pid") || offer.namespaces == Namespaces::all);
      CHECK((seen.at(name).get<std::string>() != own) == apart);
    }
    if (mode == SandboxMode::off || offer.namespaces == Namespaces::none) continue;
    constexpr std::uint64_t kOfFiles = 0b1110;  // DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
    CHECK((std::stoull(seen.at("capabilities").get<std::string>(), nullptr, 16) & ~kOfFiles) == 0);
  }
}

TEST_CASE("what the machine offers survives the way from the host process", "[sandbox]") {
  const SandboxOffer offer{7, true, Namespaces::shared_processes, "unshare: no"};
  const auto back = parse_offer(write_offer(offer)).value();
  CHECK((back.landlock == 7 && back.seccomp && back.namespaces == offer.namespaces && back.missing == offer.missing));
  for (const char* bad : {"", "[]", "{}", R"({"landlock": 7, "seccomp": true, "namespaces": 3, "missing": ""})", R"({"landlock": "7", "seccomp": true, "namespaces": 1, "missing": ""})",
                          R"({"landlock": 7, "seccomp": true, "namespaces": 1, "missing": 1})"}) {
    CHECK_FALSE(parse_offer(bad).has_value());
  }
}

TEST_CASE("declared permissions are granted", "[sandbox]") {
  ::setenv("KONTOR_TEST_GIVEN", "yes", 1);
  Outside outside;
  auto plugin = escape(SandboxMode::required, outside);
  CHECK(plugin.tools[2]->call(Json::object(), {}).value ==
        Json{{"read", true}, {"write", true}, {"rename", true}, {"remove", true}, {"environment", true}});
}

TEST_CASE("permissions become paths", "[sandbox]") {
  const auto rules = resolve_permissions({"read:config.in", "write:config.out", "write:logs/", "network:erp.example", "environment:LANG", "read:config.none"},
                                         R"({"in": ["a.csv", "/b/c.csv"], "out": "made/log.jsonl", "none": null})", "/base", "/data");
  REQUIRE(rules.has_value());
  CHECK(rules->read == std::vector<std::string>{"/base/a.csv", "/b/c.csv"});
  CHECK(rules->write == std::vector<std::string>{"/base/made", "/base/logs/", "/data"});
  CHECK(rules->hosts == std::vector<std::string>{"erp.example"});
  CHECK(rules->environment == std::vector<std::string>{"LANG"});
  const auto wrong = resolve_permissions({"read:config.in"}, R"({"in": 5})", "/base", "");
  REQUIRE_FALSE(wrong.has_value());
  CHECK(wrong.error().kind == "permission");
}

TEST_CASE("rules survive the way to the host process", "[sandbox]") {
  SandboxRules rules;
  rules.mode = SandboxMode::partial;
  rules.namespaces = Namespaces::all;
  rules.read = {"/a"}, rules.write = {"/b", "/ü"}, rules.append = "/log", rules.hosts = {"a.example", "b.example:1"};
  const auto back = parse_rules(write_rules(rules));
  REQUIRE(back.has_value());
  CHECK((back->mode == rules.mode && back->namespaces == rules.namespaces && back->read == rules.read && back->write == rules.write && back->append == "/log" && back->hosts == rules.hosts));
  for (const char* bad : {"", "{}", "[]", R"({"mode": 7, "namespaces": 0, "read": [], "write": [], "hosts": []})", R"({"mode": 0, "namespaces": 0, "read": [1], "write": [], "hosts": []})",
                          R"({"mode": 0, "namespaces": 3, "read": [], "write": [], "hosts": []})", R"({"mode": 0, "read": [], "write": [], "hosts": []})"}) CHECK_FALSE(parse_rules(bad).has_value());
}

TEST_CASE("the user's word about the sandbox is one of two", "[sandbox]") {
  ::setenv("KONTOR_PLUGIN_SANDBOX", "of", 1);
  CHECK_FALSE(sandbox_mode_of_environment().has_value());
  ::setenv("KONTOR_PLUGIN_SANDBOX", "partial", 1);
  CHECK((sandbox_mode_of_environment().value() == SandboxMode::partial));
  ::unsetenv("KONTOR_PLUGIN_SANDBOX");
  CHECK((sandbox_mode_of_environment().value() == SandboxMode::required));
}

TEST_CASE("no way out for an unprivileged user either", "[sandbox-user]") {
  const std::string program = std::string(KONTOR_BINARY_DIR) + "/tests/test_plugins";
  const std::string as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups ";
  if (::geteuid() != 0) {
    std::puts("   skipped: this user is unprivileged, so the attempts above were made by one");
    return;
  }
  if (std::system((as_nobody + "test -x '" + program + "' 2>/dev/null").c_str()) != 0) {
    std::puts("   skipped: there is no setpriv, or user 65534 cannot reach the build folder");
    return;
  }
  CHECK(std::system((as_nobody + "'" + program + "' '[sandbox]' </dev/null").c_str()) == 0);
}
