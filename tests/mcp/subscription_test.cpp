// The client's subscription over HTTP, against a server that is written here.

#include "tests/support/catch.hpp"
#include "tools/http/connection.hpp"
#include "tools/mcp/client.hpp"
#include "tools/mcp/http_transport.hpp"

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

using namespace kontor;
using namespace kontor::tools;
using namespace kontor::tools::mcp;

namespace {

/// Speaks the stateless revision; what it does with a subscription is up to the test.
struct Server {
  using Stream = std::function<void(HttpConnection& line, const Json& id, int number)>;
  Stream stream;
  std::atomic<int> subscriptions{0}, lists{0};
  std::unique_ptr<HttpListener> listener = HttpListener::open("127.0.0.1", 0).value();
  const ServeLimits limits;
  std::jthread thread;

  explicit Server(Stream given) : stream(std::move(given)) {
    thread = std::jthread([this](std::stop_token stop) {
      listener->run(stop, limits, [this](HttpConnection& line) {
        for (auto request = line.read(); request; request = line.read()) {
          const auto message = parse_message(request->body());
          if (!message || !answer(line, *message)) return;
        }
      });
      listener->wait_closed(5'000);
    });
  }

  bool answer(HttpConnection& line, const Message& message) {
    if (message.method == "server/discover") {
      return line.send(http_answer(200, write_result(message.id, Json{{"resultType", "complete"}, {"supportedVersions", Json::array({"2026-07-28"})}, {"capabilities", Json{{"tools", Json{{"listChanged", true}}}}}})));
    }
    if (message.method == "tools/list") {
      ++lists;
      return line.send(http_answer(200, write_result(message.id, Json{{"resultType", "complete"}, {"tools", Json::array()}})));
    }
    if (message.method == "subscriptions/listen") {
      if (object_at(message.body, "notifications") != Json{{"toolsListChanged", true}}) return false;
      stream(line, message.id, ++subscriptions);
      return false;
    }
    return line.send(http_answer(404, write_error(message.id, {kMethodNotFound, "no"})));
  }

  std::unique_ptr<Client> connect(std::vector<std::string>* notes = nullptr) {
    HttpSetup setup;
    setup.url = "http://127.0.0.1:" + std::to_string(listener->port()) + "/mcp";
    ClientHooks hooks;
    if (notes != nullptr) {
      hooks.note = [this, notes](const std::string& line) {
        const std::lock_guard lock(mutex);
        notes->push_back(line);
      };
    }
    ClientOptions options;
    options.revision = "2026-07-28";
    return Client::connect(make_http_transport(setup).value(), hooks, options).value();
  }

  std::mutex mutex;
};

const char* const kHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

std::string event(const std::string& method, const Json& id, Json params = Json::object()) {
  params["_meta"] = Json{{kMetaSubscription, id}};
  return "data: " + write_notification(method, params) + "\n\n";
}

void acknowledge(HttpConnection& line, const Json& id, const Json& what) {
  line.send(kHead + event("notifications/subscriptions/acknowledged", id, Json{{"notifications", what}}));
}

bool soon(const std::function<bool()>& true_at_last) {
  for (int i = 0; i < 1'000 && !true_at_last(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return true_at_last();
}

void wait_until_gone(HttpConnection& line) {
  while (!line.gone()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

}  // namespace

TEST_CASE("a subscription over HTTP tells that the tools changed", "[mcp]") {
  std::atomic<bool> say{false};
  Server server([&](HttpConnection& line, const Json& id, int) {
    acknowledge(line, id, Json{{"toolsListChanged", true}});
    while (!say && !line.gone()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    line.send(event("notifications/tools/list_changed", id));
    wait_until_gone(line);
  });
  const auto client = server.connect();
  REQUIRE(client->list_tools(Patience::of_ms(5'000)).has_value());
  CHECK(soon([&] { return server.subscriptions == 1; }));
  CHECK_FALSE(client->tools_changed());
  say = true;
  CHECK(soon([&] { return client->tools_changed(); }));
  REQUIRE(client->list_tools(Patience::of_ms(5'000)).has_value());
  CHECK_FALSE(client->tools_changed());
}

TEST_CASE("a subscription that broke off is opened again, and what was missed is taken for a change", "[mcp]") {
  Server server([&](HttpConnection& line, const Json& id, int number) {
    acknowledge(line, id, Json{{"toolsListChanged", true}});
    if (number > 1) wait_until_gone(line);
  });
  const auto client = server.connect();
  REQUIRE(client->list_tools(Patience::of_ms(5'000)).has_value());
  CHECK(soon([&] { return server.subscriptions == 2; }));
  CHECK(soon([&] { return client->tools_changed(); }));
}

TEST_CASE("a subscription that is refused, or honoured in part, is noted and not asked for again", "[mcp]") {
  std::vector<std::string> notes;
  Server refusing([&](HttpConnection& line, const Json& id, int) { line.send(http_answer(400, write_error(id, {kInvalidParams, "not today"}))); });
  {
    const auto client = refusing.connect(&notes);
    CHECK(soon([&] {
      const std::lock_guard lock(refusing.mutex);
      return !notes.empty();
    }));
    CHECK(client->list_tools(Patience::of_ms(5'000)).has_value());
    std::this_thread::sleep_for(std::chrono::milliseconds(1'500));
    CHECK(refusing.subscriptions == 1);
  }
  std::vector<std::string> more;
  Server partial([&](HttpConnection& line, const Json& id, int) {
    acknowledge(line, id, Json::object());
    wait_until_gone(line);
  });
  const auto client = partial.connect(&more);
  CHECK(soon([&] {
    const std::lock_guard lock(partial.mutex);
    return !more.empty() && more.front().find("does not tell when its tools change") != std::string::npos;
  }));
}

TEST_CASE("streams that flood are cut, and the client is still of use", "[mcp][hostile]") {
  std::atomic<bool> cut{false};
  Server server([&](HttpConnection& line, const Json& id, int) {
    line.send(kHead);
    std::string many;
    for (int i = 0; i < 1'000; ++i) many += event("notifications/tools/list_changed", id);
    while (line.send(many)) {}
    cut = true;
  });
  const auto client = server.connect();
  CHECK(soon([&] { return cut.load(); }));
  CHECK(client->list_tools(Patience::of_ms(5'000)).has_value());
}
