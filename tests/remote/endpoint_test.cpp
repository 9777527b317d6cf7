// Models behind a server, over real sockets: what is sent, what comes back, and every way in which it goes wrong.

#include "agent/endpoint/endpoint.hpp"

#include "base/json.hpp"
#include "inference/remote/server_text.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/http_server.hpp"

#include <nlohmann/json.hpp>

#include <atomic>
#include <chrono>
#include <thread>

using namespace kontor;
using namespace kontor::inference;
using kontor::test::http_reply;
using kontor::test::HttpServer;

namespace {

const std::string kName = "deepseek-ai/DeepSeek-R1-0528";

std::string json_reply(const Json& body, const std::string& status = "200 OK") {
  return http_reply(status, "Content-Type: application/json\r\n", body.dump());
}
std::string models(const Json& extra = Json::object()) {
  Json entry{{"id", kName}, {"object", "model"}, {"max_model_len", 4096}};
  entry.update(extra);
  return json_reply(Json{{"object", "list"}, {"data", {{{"id", "other"}}, entry}}});
}
/// The answer to the one token that opening asks for.
std::string probe(int prompt_tokens = 2) { return json_reply(Json{{"choices", {{{"text", "b"}}}}, {"usage", {{"prompt_tokens", prompt_tokens}}}}); }

const std::string kStreamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n";
std::string token(const std::string& text) { return "data: " + Json{{"choices", {{{"text", text}, {"logprobs", {{"tokens", {text}}, {"token_logprobs", {-0.5}}}}}}}}.dump() + "\n\n"; }
std::string finish(int prompt = 30, int generated = 2) {
  return "data: " + Json{{"choices", {{{"text", ""}, {"finish_reason", "stop"}}}}, {"usage", {{"prompt_tokens", prompt}, {"completion_tokens", generated}}}}.dump() + "\n\ndata: [DONE]\n\n";
}

bool opens(const std::string& request) { return request.starts_with("GET ") || request.find("\"prompt\":\"a\"") != std::string::npos; }
std::string opening(const std::string& request) { return request.starts_with("GET /v1/models ") ? models() : probe(); }

Json body_of(const std::string& request) {
  auto body = parse_json(request.substr(request.find("\r\n\r\n") + 4));
  REQUIRE(body);
  return *body;
}

Result<std::unique_ptr<TextModel>> open(const HttpServer& server, const std::string& key = "", bool airgap = false) {
  agent::ModelSpec spec;
  spec.name = "big";
  spec.endpoint = server.url("/v1/");
  spec.endpoint_model = kName;
  spec.api_key = key;
  if (airgap) spec.egress = tools::Egress::airgap();
  return agent::open_endpoint_model(spec);
}

/// With short waits.
Result<std::unique_ptr<TextModel>> open_fast(const HttpServer& server, std::chrono::milliseconds silence = std::chrono::seconds(10)) {
  agent::EndpointConnection connection;
  connection.url = *tools::mcp::parse_url(server.url("/v1"));
  connection.silence = silence;
  remote::EndpointOptions options;
  options.address = server.url("/v1");
  options.model = kName;
  options.first_wait_ms = 1;
  return remote::open_endpoint(options, agent::make_transport(connection));
}

GenerateRequest hello() {
  GenerateRequest request;
  request.prompt = {{"<｜begin▁of▁sentence｜><｜User｜>", true, {}}, {"Hi <think>", false, {}}, {"<｜Assistant｜>", true, {}}};
  request.max_tokens = 64;
  request.sampling.temperature = 0;
  request.sampling.seed = 7;
  return request;
}

const auto kAll = [](const Piece&) { return true; };

/// The error of one turn against a server that gives this answer each time.
Error error_of(const std::string& answer, std::chrono::milliseconds silence = std::chrono::seconds(10)) {
  HttpServer server([&](const std::string& request) { return opens(request) ? opening(request) : answer; });
  auto model = open_fast(server, silence);
  REQUIRE(model.has_value());
  const auto generated = (*model)->generate(hello(), kAll);
  REQUIRE(!generated.has_value());
  return generated.error();
}

}  // namespace

TEST_CASE("a turn goes to the server as text and comes back in pieces", "[remote]") {
  HttpServer server([](const std::string& request) { return opens(request) ? opening(request) : kStreamHead + token("Grü") + token("ße") + finish(); });
  auto model = open(server, "k-123");
  REQUIRE(model.has_value());
  CHECK((*model)->info().name == kName);
  CHECK((*model)->info().dialect == "r1-0528");
  CHECK((*model)->info().context == 4096);
  CHECK((*model)->info().device == "127.0.0.1");
  CHECK((*model)->is_concurrent());
  CHECK(!(*model)->is_reproducible());
  CHECK((*model)->tokenizer() == nullptr);

  std::vector<std::string> pieces;
  const auto generated = (*model)->generate(hello(), [&](const Piece& piece) {
    CHECK(piece.id == -1);
    CHECK(piece.probability == Approx(std::exp(-0.5)));
    pieces.emplace_back(piece.text);
    return true;
  });
  REQUIRE(generated.has_value());
  CHECK(pieces == std::vector<std::string>{"Grü", "ße"});
  CHECK(generated->text == "Grüße");
  CHECK(generated->usage.prompt_tokens_new == 30);
  CHECK(generated->usage.generated == 2);

  const auto requests = server.requests();
  REQUIRE(requests.size() == 3);
  CHECK(requests[2].starts_with("POST /v1/completions HTTP/1.1\r\n"));
  for (const auto& request : requests) CHECK(request.find("\r\nAuthorization: Bearer k-123\r\n") != std::string::npos);
  const Json body = body_of(requests[2]);
  CHECK(body.at("model") == kName);
  // This server begins texts itself; what the user wrote is no markup.
  CHECK(body.at("prompt") == "<｜User｜>Hi <\xe2\x81\xa0think><｜Assistant｜>");
  CHECK(body.at("max_tokens") == 64);
  CHECK(body.at("temperature") == 0.0);
  CHECK(body.at("seed") == 7);
  CHECK(body.at("stream") == true);
  CHECK(body.at("skip_special_tokens") == false);
}

TEST_CASE("a server that does not begin texts gets the whole prompt", "[remote]") {
  HttpServer server([](const std::string& request) { return request.starts_with("GET ") ? models() : opens(request) ? probe(1) : kStreamHead + token("x") + finish(); });
  auto model = open(server);
  REQUIRE(model.has_value());
  REQUIRE((*model)->generate(hello(), kAll).has_value());
  CHECK(body_of(server.requests().back()).at("prompt").get<std::string>().starts_with("<｜begin▁of▁sentence｜><｜User｜>"));
  CHECK(server.requests().back().find("Authorization") == std::string::npos);
}

TEST_CASE("the bound of a prompt shrinks with what the server has counted", "[remote]") {
  HttpServer server([](const std::string& request) { return opens(request) ? opening(request) : kStreamHead + token("x") + finish(30, 1); });
  auto model = open(server);
  REQUIRE(model.has_value());
  GenerateRequest request = hello();
  const auto bytes = static_cast<std::int64_t>(remote::server_text(request).size());
  CHECK((*model)->prompt_bound(request) <= bytes + 1);
  CHECK((*model)->prompt_bound(request) > 30);
  REQUIRE((*model)->generate(request, kAll).has_value());
  CHECK((*model)->prompt_bound(request) >= 30);
  CHECK((*model)->prompt_bound(request) < 45);
  request.prompt.push_back({"0123456789", false, {}});
  CHECK((*model)->prompt_bound(request) >= 40);
  CHECK((*model)->prompt_bound(request) < 55);
  // A prompt that begins as a known one has no more tokens in front than all of that.
  GenerateRequest other = hello();
  other.prompt[2].text += std::string(200, 'x');
  request.prompt[2].text += std::string(100, 'y');
  CHECK((*model)->prompt_bound(other) <= 30 + 8 + 200 + 1);
  request.prompt.front().text = "<｜User｜>other";
  CHECK((*model)->prompt_bound(request) == static_cast<std::int64_t>(remote::server_text(request).size()) + 1);
}

TEST_CASE("opening says what is wrong with a server", "[remote]") {
  const auto message = [](const std::string& list, const std::string& completion = probe()) {
    HttpServer server([&](const std::string& request) { return request.starts_with("GET ") ? list : completion; });
    auto model = open(server, "k-123456");
    if (model) return std::string();
    std::string text = model.error().message;
    if (const auto at = text.find(server.url("/v1")); at != std::string::npos) text.replace(at, server.url("/v1").size(), "URL");
    return text;
  };
  CHECK(message(models()).empty());
  CHECK(message(json_reply(Json{{"error", {{"message", "bad key k-123456"}}}}, "401 Unauthorized")) == "URL/models answers 401: bad key ***; it wants the right key: `api_key: secret:NAME`");
  CHECK(message(http_reply("404 Not Found", "", "nothing here")) == "URL/models answers 404: nothing here; the address of most servers ends with /v1");
  CHECK(message(http_reply("302 Found", "Location: http://192.0.2.1/\r\n", "")) == "URL/models answers 302; redirections are not followed, write the address it names");
  CHECK(message(http_reply("500 Oops", "", "")) == "URL/models answers 500");
  CHECK(message(http_reply("200 OK", "", "<html>")) == "URL/models is no list of models; the address of most servers ends with /v1");
  CHECK(message(json_reply(Json{{"data", {{{"id", "a"}}, {{"id", "b"}}, 5}}})) == "URL has no model '" + kName + "'; it has a, b");
  CHECK(message(json_reply(Json{{"data", Json::array()}})) == "URL has no model '" + kName + "'; it has none");
  CHECK(message(http_reply("200 OK", "", std::string((4u << 20) + 1, ' '))) == "URL/models answers with more than 4194304 bytes");
  CHECK(message(models(), json_reply(Json{{"detail", "Not Found"}}, "404 Not Found")) == "URL/completions answers 404: Not Found; the address of most servers ends with /v1");
  CHECK(message(models(), json_reply(Json::array())) == "URL/completions is no completion of a text");
  HttpServer server([](const std::string&) { return json_reply(Json{{"data", {{{"id", "gpt-5"}}}}}); });
  agent::ModelSpec spec;
  spec.endpoint = server.url("/v1");
  spec.endpoint_model = "gpt-5";
  const auto unknown = agent::open_endpoint_model(spec);
  REQUIRE(!unknown.has_value());
  CHECK(unknown.error().kind == "dialect");
}

TEST_CASE("a server that is not there, and one that --airgap refuses", "[remote]") {
  std::string url;
  {
    HttpServer server([](const std::string&) { return std::string(); });
    url = server.url("/v1");
  }
  agent::EndpointConnection connection;
  connection.url = *tools::mcp::parse_url(url);
  remote::EndpointOptions options;
  options.address = url;
  options.model = kName;
  options.first_wait_ms = 1;
  const auto gone = remote::open_endpoint(options, agent::make_transport(connection));
  REQUIRE(!gone.has_value());
  CHECK(gone.error().kind == "refused");
  agent::ModelSpec spec;
  spec.endpoint_model = kName;
  for (const char* away : {"http://192.0.2.1:8000/v1", "http://127.evil.example/v1", "https://models.example/v1"}) {
    spec.endpoint = away;
    spec.egress = tools::Egress::airgap();
    const auto refused = agent::open_endpoint_model(spec);
    REQUIRE(!refused.has_value());
    CHECK(refused.error().code == Errc::denied);
    CHECK(refused.error().kind == "airgap");
  }
  HttpServer here([](const std::string& request) { return opening(request); });
  CHECK(open(here, "", true).has_value());
}

TEST_CASE("a busy server is asked again, but not once text has come", "[remote]") {
  for (const char* status : {"429 Too Many", "502 Bad", "503 Busy", "504 Late"}) {
    INFO(status);
    std::atomic<int> turns{0};
    HttpServer server([&](const std::string& request) {
      if (opens(request)) return opening(request);
      return ++turns < 3 ? http_reply(status, "", "busy") : kStreamHead + token("x") + finish();
    });
    auto model = open_fast(server);
    REQUIRE(model.has_value());
    const auto generated = (*model)->generate(hello(), kAll);
    REQUIRE(generated.has_value());
    CHECK(generated->text == "x");
    CHECK(turns == 3);
  }
  std::atomic<int> turns{0};
  HttpServer server([&](const std::string& request) {
    if (opens(request)) return opening(request);
    ++turns;
    return kStreamHead + token("x") + "data: {\"error\":{\"message\":\"busy\"}}\n\n";
  });
  auto model = open_fast(server);
  REQUIRE(model.has_value());
  const auto generated = (*model)->generate(hello(), kAll);
  REQUIRE(!generated.has_value());
  CHECK(generated.error().message == "the answer has an error: busy");
  CHECK(turns == 1);
  CHECK(error_of(http_reply("429 Too Many", "", "")).message.ends_with("/completions answers 429"));
}

TEST_CASE("hostile and broken answers of a turn are errors", "[remote]") {
  CHECK(error_of(kStreamHead + token("x")).message.ends_with("ended its answer in the middle"));
  CHECK(error_of(kStreamHead).message.ends_with("ended its answer in the middle"));
  CHECK(error_of("").kind == "closed");
  CHECK(error_of("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 900\r\n\r\n" + token("x")).kind == "closed");
  CHECK(error_of("garbage\r\n\r\n").code == Errc::io);
  CHECK(error_of(json_reply(Json{{"choices", {{{"text", "whole"}}}}})).message.find("answers with 'application/json', which is no stream of events") != std::string::npos);
  CHECK(error_of(http_reply("200 OK", "Content-Type: text/html\r\n", "<p>")).message.find("'text/html'") != std::string::npos);
  CHECK(error_of(kStreamHead + "data: {\n\n").message == "the answer has an event that is no JSON object");
  CHECK(error_of(kStreamHead + "data: " + std::string(3u << 20, 'x')).code == Errc::limit);
  CHECK(error_of(http_reply("500 Oops", "", std::string(1u << 20, 'x'))).message.size() < 400);
  CHECK(error_of(json_reply(Json{{"error", {{"message", "no"}}}}, "403 Forbidden")).code == Errc::denied);
}

TEST_CASE("a silent server is given up", "[remote]") {
  HttpServer server(HttpServer::Handler([](const std::string& request, HttpServer::Client& client) {
    if (opens(request)) {
      client.send(opening(request));
      return;
    }
    client.send(kStreamHead + token("x"));
    client.wait_for_close();
  }));
  auto model = open_fast(server, std::chrono::milliseconds(200));
  REQUIRE(model.has_value());
  const auto generated = (*model)->generate(hello(), kAll);
  REQUIRE(!generated.has_value());
  CHECK(generated.error().code == Errc::timeout);
}

TEST_CASE("a turn ends at once when it is stopped or no more is wanted", "[remote]") {
  std::atomic<int> closed{0};
  HttpServer server(HttpServer::Handler([&](const std::string& request, HttpServer::Client& client) {
    if (opens(request)) {
      client.send(opening(request));
      return;
    }
    client.send(kStreamHead + token("x") + token("y"));
    closed += client.wait_for_close();
  }));
  auto model = open_fast(server);
  REQUIRE(model.has_value());
  const auto unwanted = (*model)->generate(hello(), [](const Piece&) { return false; });
  REQUIRE(unwanted.has_value());
  CHECK(unwanted->stop_reason == StopReason::stopped_by_sink);
  CHECK(unwanted->text == "x");
  CHECK(unwanted->usage.generated == 1);

  std::stop_source stop;
  GenerateRequest request = hello();
  request.stop = stop.get_token();
  const auto began = std::chrono::steady_clock::now();
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    stop.request_stop();
  });
  const auto stopped = (*model)->generate(request, kAll);
  later.join();
  REQUIRE(stopped.has_value());
  CHECK(stopped->stop_reason == StopReason::cancelled);
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(5));
  // The server hears of both.
  for (int i = 0; i < 100 && closed < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(closed == 2);
}

TEST_CASE("a prompt that fits with less room behind it is sent with less", "[remote]") {
  std::vector<int> asked;
  HttpServer server([&](const std::string& request) {
    if (opens(request)) return opening(request);
    asked.push_back(body_of(request).at("max_tokens").get<int>());
    if (asked.back() > 1000) return json_reply(Json{{"error", {{"message", "This model's maximum context length is 4096 tokens."}}}}, "400 Bad Request");
    return kStreamHead + token("x") + finish();
  });
  auto model = open_fast(server);
  REQUIRE(model.has_value());
  GenerateRequest request = hello();
  request.max_tokens = 4096;
  REQUIRE((*model)->generate(request, kAll).has_value());
  CHECK(asked == std::vector<int>{4096, 2048, 1024, 512});
  CHECK(error_of(json_reply(Json{{"error", {{"message", "exceeds the available context size"}}}}, "400 Bad Request")).kind == "context_full");
  // A text that ends before its limit has filled the server's context.
  const auto cut = [](int generated) {
    return kStreamHead + token("x") + "data: " + Json{{"choices", {{{"text", ""}, {"finish_reason", "length"}}}}, {"usage", {{"prompt_tokens", 30}, {"completion_tokens", generated}}}}.dump() + "\n\n";
  };
  CHECK(error_of(cut(9)).kind == "context_full");
  HttpServer limited([&](const std::string& request) { return opens(request) ? opening(request) : cut(64); });
  auto whole = open_fast(limited);
  REQUIRE(whole.has_value());
  const auto generated = (*whole)->generate(hello(), kAll);
  REQUIRE(generated.has_value());
  CHECK(generated->stop_reason == StopReason::length);
}

TEST_CASE("several turns at the same time do not mix", "[remote]") {
  HttpServer server([](const std::string& request) {
    if (opens(request)) return opening(request);
    const std::string prompt = body_of(request).at("prompt").get<std::string>();
    const std::string asked = prompt.substr(prompt.find("Hi ") + 3, 2);
    return kStreamHead + token(asked) + token("!") + finish(static_cast<int>(prompt.size() / 4));
  });
  auto model = open_fast(server);
  REQUIRE(model.has_value());
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      for (int turn = 0; turn < 5; ++turn) {
        const std::string asked = std::to_string(thread) + std::to_string(turn);
        GenerateRequest request = hello();
        request.prompt[1].text = "Hi " + asked;
        const auto generated = (*model)->generate(request, kAll);
        right += generated && generated->text == asked + "!" && (*model)->prompt_bound(request) > 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(right == 40);
}

TEST_CASE("a server embeds texts", "[remote]") {
  std::string answer = R"({"data": [{"embedding": [3, 0, 4]}], "usage": {"prompt_tokens": 5}})", status = "200 OK";
  HttpServer server([&](const std::string& request) {
    if (request.starts_with("GET ")) return opening(request);
    return http_reply(status, "Content-Type: application/json\r\n", answer);
  });
  agent::ModelSpec spec;
  spec.endpoint = server.url("/v1"), spec.endpoint_model = kName, spec.api_key = "k-123", spec.embeds = true;
  auto model = agent::open_endpoint_model(spec);
  REQUIRE(model.has_value());
  CHECK(server.requests().size() == 1);  // No text was completed to try it.
  const auto vector = (*model)->embed("a fact with <|im_end|> in it");
  REQUIRE(vector.has_value());
  CHECK(*vector == std::vector<float>{0.6f, 0.0f, 0.8f});
  const Json sent = body_of(server.requests().back());
  CHECK(server.requests().back().starts_with("POST /v1/embeddings "));
  CHECK(server.requests().back().find("\r\nAuthorization: Bearer k-123\r\n") != std::string::npos);
  CHECK(sent.at("model") == kName);
  CHECK(sent.at("input").get<std::string>().find("<|") == std::string::npos);
  CHECK(!(*model)->generate(hello(), kAll).has_value());

  for (const char* bad : {"", "[]", "{}", R"({"data": []})", R"({"data": [{"embedding": []}]})", R"({"data": [{"embedding": [0, 0]}]})", R"({"data": [{"embedding": ["a"]}]})", R"({"data": [{"embedding": [1e999]}]})",
                          R"({"data": [{"embedding": [1]}, {"embedding": [1]}]})", R"({"data": [{"embedding": "AACAPw=="}]})"}) {
    answer = bad;
    const auto wrong = (*model)->embed("x");
    INFO(bad);
    REQUIRE(!wrong.has_value());
    CHECK(wrong.error().code == Errc::malformed);
  }
  status = "401 Unauthorized", answer = R"({"error": {"message": "no such key k-123"}})";
  const auto refused = (*model)->embed("x");
  REQUIRE(!refused.has_value());
  CHECK(refused.error().code == Errc::denied);
  CHECK(refused.error().message.find("k-123") == std::string::npos);
}

TEST_CASE("an endpoint that the policy does not allow is not asked", "[remote][egress]") {
  HttpServer server([](const std::string& request) { return opening(request); });
  agent::ModelSpec spec;
  spec.endpoint = server.url("/v1"), spec.endpoint_model = kName;
  tools::EgressRules rules;
  rules.deny.push_back(tools::HostPattern::parse("127.0.0.0/8").value());
  spec.egress = tools::Egress(rules);
  const auto model = agent::open_endpoint_model(spec);
  REQUIRE(!model.has_value());
  CHECK(model.error().kind == "egress");
  CHECK(server.requests().empty());
}
