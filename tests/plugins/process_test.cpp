#include "base/hash.hpp"
#include "plugins/host/loader.hpp"
#include "tests/support/catch.hpp"
#include "tools/tool.hpp"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

using namespace kontor;
using namespace kontor::plugins;
using SteadyClock = std::chrono::steady_clock;

namespace {

PluginOptions rude(Isolation isolation = Isolation::process) {
  PluginOptions options;
  options.path = std::string(KONTOR_BINARY_DIR) + "/tests/plugins/libkontor_fixture_rude.so";
  options.isolation = isolation;
  if (isolation == Isolation::in_process) options.sha256 = *sha256_file(options.path);
  return options;
}

/// The host process that this one has started: the plugin itself may see another number (namespaces). -1: not exactly one.
int host_process() {
  int found = -1, count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "stat");  // PID (NAME) STATE PARENT ...
    std::string number, name, state, parent;
    if (!(file >> number >> name >> state >> parent) || name != "(kontor-plugin-h)" || state == "Z" || parent != std::to_string(::getpid())) continue;
    found = std::stoi(number);
    ++count;
  }
  return count == 1 ? found : -1;
}

struct Plugin {
  explicit Plugin(const PluginOptions& options = rude()) : loaded(load_plugin(options).value()) {}
  tools::ToolResult act(const std::string& what) { return loaded.tools[0]->call(Json{{"do", what}}, {}); }
  tools::ToolResult raw(const std::string& what) { return loaded.tools[1]->call(Json{{"do", what}}, {}); }
  /// It answers, and this is its process.
  int pid() {
    const int own = act("hello").value.at("pid").get<int>();
    const int process = own == ::getpid() ? own : host_process();
    REQUIRE(process > 0);
    return process;
  }
  tools::Tool& patient() { return *loaded.tools[2]; }
  tools::Tool& hasty() { return *loaded.tools[3]; }  // Its time limit is 400 ms.
  LoadedPlugin loaded;
};

}  // namespace

TEST_CASE("a crash is a tool error, and the next call finds a fresh process") {
  for (const auto* what : {"crash", "abort", "exit", "garble"}) {
    INFO(what);
    Plugin plugin;
    const int before = plugin.pid();
    CHECK(before != ::getpid());
    const auto result = plugin.act(what);
    CHECK(result.is_error);
    CHECK(result.error_kind == "crashed");
    const int after = plugin.pid();
    CHECK(after != before);
    CHECK(::kill(before, 0) != 0);
  }
}

TEST_CASE("a process that was killed while idle costs no call") {
  Plugin plugin;
  const int pid = plugin.pid();
  ::kill(pid, SIGKILL);
  for (int i = 0; i < 2000 && ::kill(pid, 0) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  for (int i = 0; i < 3; ++i) CHECK_FALSE(plugin.act("hello").is_error);
}

TEST_CASE("restarts are bounded") {
  auto options = rude();
  options.process.restarts_max = 2;
  Plugin plugin(options);
  for (int i = 0; i < 3; ++i) CHECK(plugin.act("abort").error_kind == "crashed");
  const auto result = plugin.act("hello");
  CHECK(result.error_kind == "crashed");
  CHECK(result.value.dump().find("not started again") != std::string::npos);
}

TEST_CASE("a hanging call ends at its time limit and takes its process with it") {
  Plugin plugin;
  const int before = plugin.pid();
  const auto start = SteadyClock::now();
  const auto result = plugin.hasty().call(Json{{"do", "hang"}}, {});
  CHECK(result.error_kind == "timeout");
  CHECK(SteadyClock::now() - start < std::chrono::seconds(5));
  CHECK(plugin.pid() != before);
}

TEST_CASE("a process that reads nothing holds a large call up for its time and no longer, and no other call") {
  Plugin plugin;
  const int before = plugin.pid();
  REQUIRE(::kill(-before, SIGSTOP) == 0);  // Its group: where there are namespaces, the plugin is in a child of it.
  const auto start = SteadyClock::now();
  tools::ToolResult small;
  std::jthread beside([&] { small = plugin.hasty().call(Json{{"do", "hello"}}, {}); });
  const auto large = plugin.hasty().call(Json{{"do", std::string(std::size_t{4} << 20, 'x')}}, {});
  const auto took = SteadyClock::now() - start;
  beside.join();
  CHECK(large.error_kind == "timeout");
  CHECK(took >= std::chrono::milliseconds(400));
  CHECK(took < std::chrono::seconds(5));
  // It came first, or was answered by the process that came after.
  CHECK((!small.is_error || small.error_kind == "timeout" || small.error_kind == "crashed"));
  CHECK(SteadyClock::now() - start < std::chrono::seconds(10));
  CHECK(plugin.pid() != before);
}

TEST_CASE("a call that waits for a new process ends when it is asked to, whoever starts it") {
  PluginOptions options = rude();
  options.config = Json{{"slow_ms", 4000}};
  Plugin plugin(options);
  CHECK(plugin.act("crash").error_kind == "crashed");
  const auto start = SteadyClock::now();
  std::stop_source stop;
  tools::CallContext context;
  context.stop = stop.get_token();
  tools::ToolResult results[2];
  {
    std::jthread one([&] { results[0] = plugin.patient().call(Json{{"do", "hello"}}, context); });
    std::jthread two([&] { results[1] = plugin.patient().call(Json{{"do", "hello"}}, context); });
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    stop.request_stop();
  }
  CHECK(SteadyClock::now() - start < std::chrono::milliseconds(3000));
  for (const auto& result : results) {
    INFO(result.value.dump());
    CHECK(result.error_kind == "cancelled");
  }
  CHECK_FALSE(plugin.act("hello").is_error);
}

TEST_CASE("only a plugin inside the process answers at once for the host, only one outside ends whatever it does") {
  for (const auto isolation : {Isolation::process, Isolation::in_process}) {
    Plugin plugin(rude(isolation));
    CHECK(plugin.hasty().spec().ends_on_stop == (isolation == Isolation::process));
    CHECK(plugin.hasty().spec().at_once == (isolation == Isolation::in_process));
    CHECK_FALSE(plugin.patient().spec().at_once);
  }
}

TEST_CASE("a call that stops when asked keeps its process") {
  for (const auto isolation : {Isolation::process, Isolation::in_process}) {
    Plugin plugin(rude(isolation));
    const int before = plugin.pid();
    const auto result = plugin.hasty().call(Json{{"do", "wait"}}, {});
    CHECK(result.is_error);
    CHECK(result.error_kind == "timeout");
    CHECK(plugin.pid() == before);
    std::stop_source stop;
    tools::CallContext context;
    context.stop = stop.get_token();
    std::thread stopper([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      stop.request_stop();
    });
    const auto stopped = plugin.patient().call(Json{{"do", "wait"}}, context);
    stopper.join();
    CHECK(stopped.is_error);
    CHECK(stopped.error_kind == "cancelled");
    CHECK(plugin.pid() == before);
  }
}

TEST_CASE("errors and misuse of the boundary are tool errors") {
  for (const auto isolation : {Isolation::process, Isolation::in_process}) {
    Plugin plugin(rude(isolation));
    CHECK(plugin.act("throw").error_kind == "failed");
    CHECK(plugin.act("throw").value == Json{{"error", "thrown on purpose"}});
    CHECK(plugin.act("tool_error").error_kind == "not_found");
    CHECK(plugin.raw("silent").error_kind == "bad_result");
    CHECK(plugin.raw("twice").error_kind == "bad_result");
    CHECK(plugin.raw("bad_json").error_kind == "bad_result");
    CHECK(plugin.raw("deep").error_kind == "bad_result");
    CHECK(plugin.raw("large").error_kind == "bad_result");
    CHECK(plugin.raw("throw").error_kind == "crashed");
    CHECK(plugin.raw("probe").error_kind == "bad_result");
    CHECK(plugin.raw("bad_kind").error_kind == "failed");
    CHECK_FALSE(plugin.act("hello").is_error);
  }
}

TEST_CASE("the call's context and progress reach both sides") {
  for (const auto isolation : {Isolation::process, Isolation::in_process}) {
    Plugin plugin(rude(isolation));
    tools::CallContext context{"run-1", "call-2", "run-1/pay/3", {}, {}};
    CHECK(plugin.hasty().call(Json{{"do", "context"}}, context).value ==
          Json{{"run", "run-1"}, {"call", "call-2"}, {"key", "run-1/pay/3"}, {"ms", 400}});
    double seen = 0;
    std::string note;
    context.progress = [&](double fraction, const std::string& text) { seen = fraction, note = text; };
    CHECK_FALSE(plugin.patient().call(Json{{"do", "progress"}}, context).is_error);
    CHECK(seen == 0.5);
    CHECK(note == "half way");
  }
}

TEST_CASE("what a result begins with reaches the caller while the call works") {
  for (const auto isolation : {Isolation::process, Isolation::in_process}) {
    Plugin plugin(rude(isolation));
    tools::CallContext context;
    std::vector<std::string> seen;
    context.partial = [&](std::string_view text) { seen.emplace_back(text); };
    CHECK_FALSE(plugin.patient().call(Json{{"do", "partial"}}, context).is_error);
    REQUIRE(!seen.empty());
    CHECK(seen.back() == "[" + std::string(600, '1'));
    for (const auto& text : seen) CHECK(seen.back().starts_with(text));
    context.partial = nullptr;
    CHECK_FALSE(plugin.patient().call(Json{{"do", "partial"}}, context).is_error);
  }
}

TEST_CASE("calls run beside each other, more of them wait their turn") {
  Plugin plugin;
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  const auto start = SteadyClock::now();
  for (int i = 0; i < 24; ++i) {
    threads.emplace_back([&] { good += !plugin.patient().call(Json{{"do", "sleep"}, {"ms", 100}}, {}).is_error; });
  }
  for (auto& thread : threads) thread.join();
  CHECK(good == 24);
  CHECK(SteadyClock::now() - start < std::chrono::milliseconds(2400));
}

TEST_CASE("who reads for all may leave, and the others get their answers") {
  Plugin plugin;
  std::stop_source stop;
  tools::CallContext context;
  context.stop = stop.get_token();
  std::string first, second;
  // The first waits alone, so it reads; when it is stopped, somebody else has to.
  std::thread reader([&] { first = plugin.patient().call(Json{{"do", "wait"}}, context).error_kind; });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  std::thread other([&] { second = plugin.patient().call(Json{{"do", "sleep"}, {"ms", 300}}, {}).value.dump(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  stop.request_stop();
  reader.join();
  CHECK(first == "cancelled");
  CHECK_FALSE(plugin.act("hello").is_error);
  other.join();
  CHECK(second.find("sleep") != std::string::npos);
}

TEST_CASE("large arguments and results pass whole") {
  PluginOptions options;
  options.path = std::string(KONTOR_BINARY_DIR) + "/plugins/libecho_c.so";
  const auto plugin = load_plugin(options).value();
  const Json arguments{{"text", std::string(8u << 20, 'x')}};
  std::vector<std::thread> threads;
  std::vector<Json> results(4);
  for (auto& result : results) threads.emplace_back([&] { result = plugin.tools[0]->call(arguments, {}).value; });
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) {
    INFO(result.dump().substr(0, 300));
    CHECK((result == arguments));
  }
}

TEST_CASE("arguments that do not fit into a message cost the call and nothing else") {
  Plugin plugin;
  const int before = plugin.pid();
  CHECK(plugin.patient().call(Json{{"do", "hello"}, {"more", std::string(65u << 20, 'x')}}, {}).error_kind == "invalid_arguments");
  CHECK(plugin.pid() == before);
}

TEST_CASE("a crash ends all calls of the process, each with an error") {
  Plugin plugin;
  std::atomic<int> crashed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] { crashed += plugin.patient().call(Json{{"do", "sleep"}, {"ms", 5000}}, {}).error_kind == "crashed"; });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(plugin.act("abort").error_kind == "crashed");
  for (auto& thread : threads) thread.join();
  CHECK(crashed == 6);
}

TEST_CASE("the process sees no secrets of ours, writes to its log, and has bounded memory") {
  ::setenv("KONTOR_TEST_TOKEN", "secret", 1);
  const auto folder = std::filesystem::temp_directory_path() / ("kontor-plugin-" + std::to_string(::getpid()));
  auto options = rude();
  options.data_dir = folder.string();
  {
    Plugin plugin(options);
    CHECK(plugin.act("environment").value == false);
    CHECK(plugin.act("descriptors").value.get<int>() < 9);
    CHECK_FALSE(plugin.act("print").is_error);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK(plugin.act("memory").value == true);
#endif
  }
  std::ifstream file(folder / "plugin.log");
  const std::string log{std::istreambuf_iterator<char>(file), {}};
  CHECK(log.find("printed by the plugin\n") != std::string::npos);
  CHECK(log.find("warning: logged by the plugin\n") != std::string::npos);
  std::filesystem::remove_all(folder);
}

TEST_CASE("the constructor's message reaches the user, and a plugin that does not get ready is given up") {
  auto options = rude();
  options.config = Json{{"throw", "the database is away"}};
  const auto refused = load_plugin(options);
  REQUIRE(refused.has_error());
  CHECK(refused.error().kind == "refused");
  CHECK(refused.error().message.find("the database is away") != std::string::npos);
  options.config = Json{{"slow_ms", 60000}};
  options.process.start_timeout_ms = 200;
  const auto slow = load_plugin(options);
  REQUIRE(slow.has_error());
  CHECK(slow.error().code == Errc::timeout);
  options.process.program = "/no/such/program";
  CHECK(load_plugin(options).error().code == Errc::not_found);
}

TEST_CASE("the process ends with the plugin's last tool") {
  int pid = 0;
  {
    Plugin plugin;
    pid = plugin.pid();
    CHECK(::kill(pid, 0) == 0);
  }
  CHECK(::kill(pid, 0) != 0);
}
