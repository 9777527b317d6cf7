// test_plugins "[bench]": what a call costs. Not part of the normal run.

#include "base/hash.hpp"
#include "plugins/host/loader.hpp"
#include "tests/support/catch.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

using namespace kontor;
using namespace kontor::plugins;

namespace {

constexpr int kCalls = 20'000;

double now_us() { return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void report(const char* what, std::size_t bytes, std::vector<double> microseconds) {
  std::sort(microseconds.begin(), microseconds.end());
  std::printf("plugin call, %s, %zu bytes: median %.1f us, p10 %.1f us, p99 %.1f us\n", what, bytes, microseconds[microseconds.size() / 2],
              microseconds[microseconds.size() / 10], microseconds[microseconds.size() * 99 / 100]);
}

/// To another process and back through two pipes, as many bytes both ways: what no call can be cheaper than.
std::vector<double> bare_pipe(std::size_t bytes) {
  int there[2], back[2];
  REQUIRE((::pipe(there) == 0 && ::pipe(back) == 0));
  std::string text(bytes, 'x');
  const auto whole = [&](auto transfer, int descriptor) {
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t count = transfer(descriptor, text.data() + done, text.size() - done);
      if (count <= 0) return false;
      done += static_cast<std::size_t>(count);
    }
    return true;
  };
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::close(there[1]);
    while (whole(::read, there[0]) && whole(::write, back[1])) {}
    ::_exit(0);
  }
  std::vector<double> times;
  for (int i = 0; i < kCalls; ++i) {
    const double begin = now_us();
    if (!whole(::write, there[1]) || !whole(::read, back[0])) FAIL("the pipe is broken");
    times.push_back(now_us() - begin);
  }
  for (const int descriptor : {there[0], there[1], back[0], back[1]}) ::close(descriptor);
  ::waitpid(child, nullptr, 0);
  return times;
}

}  // namespace

TEST_CASE("the overhead of a plugin call", "[.][bench]") {
  const std::size_t sizes[] = {5, 4096};
  for (const std::size_t bytes : sizes) report("bare pipe", bytes, bare_pipe(bytes));
  PluginOptions options;
  options.path = std::string(KONTOR_BINARY_DIR) + "/plugins/libecho_c.so";
  for (const auto isolation : {Isolation::in_process, Isolation::process}) {
    options.isolation = isolation;
    options.sha256 = *sha256_file(options.path);
    const auto plugin = load_plugin(options).value();
    for (const std::size_t bytes : sizes) {
      const Json arguments{{"text", std::string(bytes, 'x')}};
      std::vector<double> times;
      for (int i = 0; i < kCalls; ++i) {
        const double begin = now_us();
        if (plugin.tools[0]->call(arguments, {}).is_error) FAIL("the call failed");
        times.push_back(now_us() - begin);
      }
      report(isolation == Isolation::process ? "process" : "in_process", bytes, times);
    }
    if (isolation == Isolation::in_process) continue;
    // Calls that come seldom find a process that sleeps, whatever it waited for before.
    const Json arguments{{"text", std::string(4096, 'x')}};
    std::vector<double> times;
    for (int i = 0; i < kCalls / 20; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      const double begin = now_us();
      if (plugin.tools[0]->call(arguments, {}).is_error) FAIL("the call failed");
      times.push_back(now_us() - begin);
    }
    report("process, one every 2 ms", 4096, times);
  }
}

TEST_CASE("the start of a host process does not depend on how much memory this one holds", "[.][bench]") {
  PluginOptions options;
  options.path = std::string(KONTOR_BINARY_DIR) + "/plugins/libecho_c.so";
  std::vector<char> weights;
  for (const std::size_t gigabytes : {std::size_t{0}, std::size_t{2}}) {
    weights.assign(gigabytes << 30, 'x');
    std::vector<double> times;
    for (int i = 0; i < 30; ++i) {
      const double begin = now_us();
      REQUIRE(load_plugin(options).has_value());
      times.push_back(now_us() - begin);
    }
    std::sort(times.begin(), times.end());
    std::printf("plugin load (two processes and their ends), %zu GiB in use: median %.0f us, p10 %.0f us\n", gigabytes, times[15], times[3]);
  }
}
