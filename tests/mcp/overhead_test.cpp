// test_mcp "[bench]": what a call over stdio costs, beside the bare pipe to the same server. Not part of the normal run.
// tests/bench/mcp adds a client of another language.

#include "tests/support/catch.hpp"
#include "tools/mcp/child.hpp"
#include "tools/mcp/server_tools.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

using namespace kontor;
using namespace kontor::tools::mcp;

namespace {

constexpr int kCalls = 5'000;
const std::string kFixture = std::string(KONTOR_BINARY_DIR) + "/tests/mcp_fixture_server";

double now_us() { return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void report(const char* what, std::size_t bytes, std::vector<double> times) {
  std::sort(times.begin(), times.end());
  std::printf("mcp call, %s, %zu bytes: median %.1f us, p10 %.1f us, p99 %.1f us\n", what, bytes, times[times.size() / 2], times[times.size() / 10], times[times.size() * 99 / 100]);
}

/// Prepared bytes in, a line out: the server and the pipe alone.
std::vector<double> bare(const std::string& text) {
  auto child = Child::start({{kFixture, "legacy"}, {}, {}}).value();
  const std::string line = write_request(1, "tools/call", Json{{"name", "echo"}, {"arguments", Json{{"text", text}}}}) + "\n";
  std::vector<double> times;
  std::string answer(1 << 20, '\0');
  for (int i = 0; i < kCalls; ++i) {
    const double begin = now_us();
    if (::write(child.input(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) break;
    for (std::size_t got = 0; got == 0 || answer[got - 1] != '\n';) {
      pollfd from{child.output(), POLLIN, 0};
      ::poll(&from, 1, 1000);
      const ssize_t count = ::read(child.output(), answer.data() + got, answer.size() - got);
      if (count > 0) got += static_cast<std::size_t>(count);
    }
    times.push_back(now_us() - begin);
  }
  return times;
}

}  // namespace

TEST_CASE("the overhead of an MCP call", "[.][bench]") {
  for (const std::size_t bytes : {std::size_t{5}, std::size_t{4096}}) {
    const std::string text(bytes, 'x');
    ServerConfig config;
    config.group = "fix";
    config.command = {kFixture, "legacy"};
    const auto tools = make_server_tools(config).value();
    const Json arguments{{"text", text}};
    std::vector<double> times;
    for (int i = 0; i < kCalls; ++i) {
      const double begin = now_us();
      if (tools[0]->call(arguments, {}).is_error) FAIL("the call failed");
      times.push_back(now_us() - begin);
    }
    report("bare pipe", bytes, bare(text));
    report("kontor", bytes, times);
  }
}
