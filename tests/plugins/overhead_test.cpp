// test_plugins "[bench]": what a call costs. Not part of the normal run.

#include "base/hash.hpp"
#include "plugins/host/loader.hpp"
#include "tests/support/catch.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

using namespace kontor;
using namespace kontor::plugins;

TEST_CASE("the overhead of a plugin call", "[.][bench]") {
  PluginOptions options;
  options.path = std::string(KONTOR_BINARY_DIR) + "/plugins/libecho_c.so";
  for (const auto isolation : {Isolation::in_process, Isolation::process}) {
    options.isolation = isolation;
    options.sha256 = *sha256_file(options.path);
    const auto plugin = load_plugin(options).value();
    for (const std::size_t bytes : {std::size_t{5}, std::size_t{4096}}) {
      const Json arguments{{"text", std::string(bytes, 'x')}};
      std::vector<double> microseconds;
      for (int i = 0; i < 20'000; ++i) {
        const auto start = std::chrono::steady_clock::now();
        if (plugin.tools[0]->call(arguments, {}).is_error) FAIL("the call failed");
        microseconds.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
      }
      std::sort(microseconds.begin(), microseconds.end());
      std::printf("plugin call, %s, %zu bytes: median %.1f us, p10 %.1f us, p99 %.1f us\n", isolation == Isolation::process ? "process" : "in_process", bytes,
                  microseconds[microseconds.size() / 2], microseconds[microseconds.size() / 10], microseconds[microseconds.size() * 99 / 100]);
    }
  }
}
