// Traces: what a collector receives of real runs, and runs whose collector is bad.

#include "agent/traces.hpp"
#include "tests/agent/bank_run.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include <chrono>
#include <algorithm>
#include <mutex>
#include <set>
#include <stop_token>
#include <thread>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = boost::asio::ip::tcp;

/// An HTTP server on this machine that keeps what is posted to it.
class Collector {
 public:
  explicit Collector(int status = 200, bool mute = false) : status_(status), mute_(mute), acceptor_(io_, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0)) {
    thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
  }
  ~Collector() {
    thread_.request_stop();
    boost::system::error_code code;
    tcp::socket knock(io_);
    knock.connect(acceptor_.local_endpoint(), code);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }

  std::vector<Json> spans() {
    const std::lock_guard guard(mutex_);
    std::vector<Json> all;
    for (const auto& body : bodies_) {
      for (const auto& resource : body.at("resourceSpans")) {
        for (const auto& scope : resource.at("scopeSpans")) {
          for (const auto& span : scope.at("spans")) all.push_back(span);
        }
      }
    }
    return all;
  }
  std::string text() {
    const std::lock_guard guard(mutex_);
    return text_;
  }
  std::vector<std::string> targets() {
    const std::lock_guard guard(mutex_);
    return targets_;
  }

 private:
  void serve(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      boost::system::error_code code;
      tcp::socket socket(io_);
      acceptor_.accept(socket, code);
      if (code || stop.stop_requested()) return;
      beast::flat_buffer buffer;
      http::request<http::string_body> request;
      http::read(socket, buffer, request, code);
      if (code) continue;
      {
        const std::lock_guard guard(mutex_);
        text_ += request.body();
        targets_.emplace_back(request.target());
        if (auto body = parse_json(request.body())) bodies_.push_back(std::move(*body));
      }
      while (mute_ && !stop.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      http::response<http::string_body> response{http::int_to_status(static_cast<unsigned>(status_)), request.version()};
      response.body() = "{}";
      response.keep_alive(false);
      response.prepare_payload();
      http::write(socket, response, code);
    }
  }

  const int status_;
  const bool mute_;
  boost::asio::io_context io_;
  tcp::acceptor acceptor_;
  std::mutex mutex_;
  std::vector<Json> bodies_;
  std::vector<std::string> targets_;
  std::string text_;
  std::jthread thread_;
};

Json attribute(const Json& span, const std::string& key) {
  for (const auto& one : span.at("attributes")) {
    if (one.at("key") == Json(key)) return one.at("value").begin().value();
  }
  return nullptr;
}

const Json* named(const std::vector<Json>& spans, const std::string& name) {
  for (const auto& span : spans) {
    if (span.at("name") == Json(name)) return &span;
  }
  return nullptr;
}

std::string yaml_with(const std::string& observe, const std::string& more = "") {
  return std::string(kHead) + "policy: {allow: [\"bank.*\"]" + more + "}\nobserve: {" + observe + "}\n" + R"(agents:
  clerk: {model: tape, role: Clerk, instruction: Pay., tools: [bank.pay]}
workflow:
  - {id: look, tool: bank.balance, with: {amount: 1}}
  - {id: pay, agent: clerk, with: {item: "1"}}
)";
}

std::string tape_text() { return turn(call("bank.pay", R"({"amount": 7, "to": "DE00SECRETACCOUNT"})")) + turn("done"); }

}  // namespace

TEST_CASE("a collector receives run, steps, turns and calls as one trace", "[agent][traces]") {
  Collector collector;
  Setup setup;
  setup.tape = tape_text();
  setup.yaml = yaml_with("otlp: \"" + collector.url() + "\", redact: [to]");
  const RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "done");
  const auto spans = collector.spans();
  const Json* root = named(spans, "run bank-run");
  REQUIRE(root != nullptr);
  CHECK(!root->contains("parentSpanId"));
  CHECK(attribute(*root, "kontor.run.id") == Json(report.id));
  CHECK(attribute(*root, "kontor.run.status") == Json("done"));
  const Json* agent = named(spans, "invoke_agent clerk");
  const Json* chat = named(spans, "chat tape");
  const Json* tool = named(spans, "execute_tool bank.pay");
  const Json* look = named(spans, "execute_tool bank.balance");
  REQUIRE((agent && chat && tool && look));
  CHECK(agent->at("parentSpanId") == root->at("spanId"));
  CHECK(chat->at("parentSpanId") == agent->at("spanId"));
  CHECK(tool->at("parentSpanId") == agent->at("spanId"));
  CHECK(attribute(*chat, "gen_ai.operation.name") == Json("chat"));
  CHECK(attribute(*chat, "gen_ai.usage.output_tokens") != Json(nullptr));
  CHECK(attribute(*tool, "gen_ai.tool.name") == Json("bank.pay"));
  std::set<std::string> ids;
  for (const auto& span : spans) {
    CHECK(span.at("traceId") == root->at("traceId"));
    CHECK(span.at("traceId").get<std::string>().size() == 32);
    ids.insert(span.at("spanId").get<std::string>());
    CHECK(std::stoll(span.at("startTimeUnixNano").get<std::string>()) <= std::stoll(span.at("endTimeUnixNano").get<std::string>()));
    CHECK(span.at("status").at("code") == Json(0));
  }
  CHECK(ids.size() == spans.size());
  CHECK(spans.size() == 7);  // the run, two steps, two turns, two calls
  for (const auto& target : collector.targets()) CHECK(target == "/v1/traces");
  // What was said is not in it.
  CHECK(collector.text().find("SECRETACCOUNT") == std::string::npos);
}

TEST_CASE("a failed run says so in its trace", "[agent][traces]") {
  Collector collector;
  Setup setup;
  setup.yaml = std::string(kHead) + "observe: {otlp: \"" + collector.url() + "/v1/traces\"}\nworkflow: [{id: end, fail: \"no such invoice\"}]\n";
  const RunReport report = setup.start();
  REQUIRE(report.status == "failed");
  const auto spans = collector.spans();
  const Json* root = named(spans, "run bank-run");
  REQUIRE(root != nullptr);
  CHECK(root->at("status").at("code") == Json(2));
  CHECK(root->at("status").at("message").get<std::string>().find("no such invoice") != std::string::npos);
}

TEST_CASE("a collector that is gone, refuses or says nothing fails and holds no run", "[agent][traces]") {
  std::string gone;
  {
    Collector closed;
    gone = closed.url();
  }
  Collector refusing(503), mute(200, true);
  for (const std::string& url : {gone, refusing.url(), mute.url()}) {
    Setup setup;
    setup.tape = tape_text();
    setup.yaml = yaml_with("otlp: \"" + url + "\"");
    const auto began = std::chrono::steady_clock::now();
    const RunReport report = setup.start();
    INFO(url << ": " << report.note);
    CHECK(report.status == "done");
    CHECK(setup.bank.payments.size() == 1);
    CHECK(std::find(setup.events.begin(), setup.events.end(), "notice") != setup.events.end());
    CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(20));
  }
}

TEST_CASE("policy.egress holds for the collector", "[agent][traces][egress]") {
  Collector collector;
  Setup setup;
  setup.tape = tape_text();
  setup.yaml = yaml_with("otlp: \"" + collector.url() + "\"");
  tools::EgressRules rules;
  rules.allow.emplace();
  auto sender = TraceSender::create(collector.url(), tools::Egress(rules), "run", "name", system_clock());
  REQUIRE(sender.has_value());
  const std::string lost = (*sender)->finish("done", "");
  CHECK(lost.find("policy.egress.allow") != std::string::npos);
  CHECK(collector.targets().empty());
  CHECK(!TraceSender::create("gopher://x", {}, "run", "name", system_clock()));
}

TEST_CASE("spans that the collector cannot take in time are dropped and counted", "[agent][traces]") {
  Collector mute(200, true);
  TraceSender::Limits limits;
  limits.queued = 10, limits.batch = 2, limits.linger_ms = 50;
  auto sender = TraceSender::create(mute.url(), {}, "run", "name", system_clock(), limits);
  REQUIRE(sender.has_value());
  for (int i = 0; i < 1000; ++i) {
    const std::string place = "each/" + std::to_string(i);
    (*sender)->on_event({"step_started", place, Json{{"kind", "tool"}, {"target", "t"}}});
    (*sender)->on_event({"step_finished", place, Json{{"kind", "tool"}}});
  }
  const std::string lost = (*sender)->finish("done", "");
  INFO(lost);
  CHECK(lost.find("1001 spans were not sent") == 0);
}
