#include "inference/remote/endpoint_model.hpp"

#include "base/json.hpp"
#include "inference/model_info.hpp"
#include "inference/remote/answer.hpp"
#include "inference/remote/server_text.hpp"
#include "inference/weight_file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace kontor::inference::remote {
namespace {

using Time = std::chrono::steady_clock;

constexpr std::size_t kWholeBytesMax = 4u << 20;
constexpr std::size_t kErrorBytesMax = 16u << 10;
constexpr int kLeastTokens = 256;
constexpr std::size_t kRemembered = 16;
constexpr std::int64_t kSeam = 8;  // Tokens that a prompt may have more than its two parts.
constexpr const char* kKind = "endpoint";

double seconds(Time::time_point from, Time::time_point to) { return std::chrono::duration<double>(to - from).count(); }

/// Waits; false when stopped before.
bool wait(const std::stop_token& stop, std::chrono::milliseconds time) {
  std::mutex mutex;
  std::condition_variable_any woken;
  std::unique_lock lock(mutex);
  woken.wait_for(lock, stop, time, [] { return false; });
  return !stop.stop_requested();
}

std::string compact(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

bool is_busy(int status) { return status == 429 || (status >= 502 && status <= 504); }

/// An answer that is read as a whole.
struct Whole {
  int status = 0;
  std::string body;
};

/// The server, and how its refusals are told.
class Server {
 public:
  Server(EndpointOptions options, Transport transport) : options_(std::move(options)), transport_(std::move(transport)) {}

  const EndpointOptions& options() const { return options_; }
  const Transport& transport() const { return transport_; }

  /// Sends as often as it helps. Errors: those of the transport, limit.
  Result<Whole> fetch(const Exchange& exchange) const {
    Backoff backoff(options_);
    for (;;) {
      Whole whole;
      const auto sent = transport_(
          exchange, [&](const AnswerHead& head) { return whole.status = head.status, true; },
          [&](std::string_view piece) { return whole.body += piece, whole.body.size() <= kWholeBytesMax; });
      if (whole.body.size() > kWholeBytesMax) return fail(Errc::limit, options_.address + exchange.path + " answers with more than " + std::to_string(kWholeBytesMax) + " bytes", kKind);
      const bool again = sent ? is_busy(whole.status) : sent.error().kind == "refused";
      if (again && backoff.wait(exchange.stop)) continue;
      if (!sent) return hidden(sent.error());
      return whole;
    }
  }

  /// What a status other than 200 says.
  Error refusal(const std::string& path, int status, const std::string& body) const {
    const auto json = parse_json(body);
    std::string message = json ? error_message(*json) : std::string();
    // The key goes before the text is cut: half of it is too much too.
    message = message.empty() ? printable(without_key(body), 200) : printable(without_key(message), 300);
    const std::string where = options_.address + path + " answers " + std::to_string(status) + (message.empty() ? "" : ": " + message);
    if (status == 401 || status == 403) return fail(Errc::denied, where + "; it wants the right key: `api_key: secret:NAME`", kKind);
    if (status == 404) return fail(Errc::not_found, where + "; the address of most servers ends with /v1", kKind);
    if (status >= 300 && status < 400) return fail(Errc::unsupported, where + "; redirections are not followed, write the address it names", kKind);
    if (status >= 400 && status < 500 && says_context_full(message)) return fail(Errc::limit, where, "context_full");
    return fail(Errc::io, where, kKind);
  }

  Error hidden(Error error) const {
    error.message = without_key(std::move(error.message));
    return error;
  }
  /// A server might repeat the key.
  std::string without_key(std::string text) const {
    const std::string& key = options_.key;
    for (auto at = key.empty() ? std::string::npos : text.find(key); at != std::string::npos; at = text.find(key, at + 3)) text.replace(at, key.size(), "***");
    return text;
  }

  /// Counts the tries of one request.
  class Backoff {
   public:
    explicit Backoff(const EndpointOptions& options) : left_(options.tries - 1), time_(options.first_wait_ms) {}
    /// False: no more tries, or stopped.
    bool wait(const std::stop_token& stop) {
      if (left_-- <= 0) return false;
      return remote::wait(stop, std::chrono::milliseconds(std::exchange(time_, time_ * 2)));
    }

   private:
    int left_, time_;
  };

 private:
  EndpointOptions options_;
  Transport transport_;
};

class EndpointModel final : public TextModel {
 public:
  EndpointModel(Server server, ModelInfo info, bool begins) : server_(std::move(server)), info_(std::move(info)), begins_(begins) {}

  const ModelInfo& info() const override { return info_; }
  bool is_concurrent() const override { return true; }
  bool is_reproducible() const override { return false; }
  Result<std::vector<float>> embed(std::string_view) override {
    return fail(Errc::unsupported, "this entry of the file is used for texts; name one for vectors", kKind);
  }
  /// A token is at least one byte: a budget that is reserved by this count is never passed.
  std::int64_t count_tokens(std::string_view text) const override { return static_cast<std::int64_t>(text.size()); }
  std::int64_t prompt_bound(const GenerateRequest& request) const override { return bound(sent_text(request)); }
  Result<Generation> generate(const GenerateRequest& request, const std::function<bool(const Piece&)>& sink) override;

 private:
  std::string sent_text(const GenerateRequest& request) const;
  Json body_of(const GenerateRequest& request) const;
  std::int64_t bound(const std::string& prompt) const;
  void remember(const std::string& prompt, std::int64_t tokens);

  Server server_;
  ModelInfo info_;
  bool begins_;  ///< The server puts the begin token in front itself.
  struct Known {
    std::string prompt;
    std::int64_t tokens;
  };
  mutable std::mutex mutex_;
  std::vector<Known> known_;  ///< The latest prompts that the server has counted.
};

std::string EndpointModel::sent_text(const GenerateRequest& request) const {
  std::string text = server_text(request);
  if (begins_) text.erase(0, begin_marker(text).size());
  return text;
}

/// Most prompts begin as an earlier one, and a part has no more tokens than the whole.
std::int64_t EndpointModel::bound(const std::string& prompt) const {
  const auto bytes = static_cast<std::int64_t>(prompt.size()) + 1;
  std::int64_t best = bytes;
  const std::lock_guard lock(mutex_);
  for (const Known& known : known_) {
    const auto common = std::mismatch(prompt.begin(), prompt.end(), known.prompt.begin(), known.prompt.end()).first - prompt.begin();
    best = std::min(best, known.tokens + kSeam + bytes - common);
  }
  return best;
}

void EndpointModel::remember(const std::string& prompt, std::int64_t tokens) {
  const std::lock_guard lock(mutex_);
  // A prompt that the new one goes on from is not needed any more.
  const auto old = std::find_if(known_.begin(), known_.end(), [&](const Known& known) { return prompt.starts_with(known.prompt); });
  if (old != known_.end()) known_.erase(old);
  else if (known_.size() >= kRemembered) known_.erase(known_.begin());
  known_.push_back({prompt, tokens});
}

Json EndpointModel::body_of(const GenerateRequest& request) const {
  const Sampling& sampling = request.sampling;
  // Beyond the API of OpenAI: the first two keep the markers of calls and turns in the text (vLLM and SGLang; llama.cpp).
  Json body{{"model", server_.options().model}, {"prompt", sent_text(request)}, {"skip_special_tokens", false},
            {"preserved_tokens", {"<think>", "</think>", "<tool_call>", "</tool_call>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"}},
            {"max_tokens", request.max_tokens}, {"temperature", std::max(0.0f, sampling.temperature)}, {"top_p", sampling.top_p}, {"seed", sampling.seed & 0x7fffffff},
            {"stream", true}, {"stream_options", Json{{"include_usage", true}, {"continuous_usage_stats", true}}}, {"timings_per_token", true}, {"logprobs", 1}};
  // Servers have defaults of their own: everything is said.
  body["top_k"] = sampling.top_k > 0 ? sampling.top_k : -1;
  body["min_p"] = sampling.min_p;
  if (sampling.repeat_penalty != 1.0f) body["repetition_penalty"] = body["repeat_penalty"] = sampling.repeat_penalty;
  if (sampling.frequency_penalty != 0) body["frequency_penalty"] = sampling.frequency_penalty;
  if (sampling.presence_penalty != 0) body["presence_penalty"] = sampling.presence_penalty;
  return body;
}

Result<Generation> EndpointModel::generate(const GenerateRequest& request, const std::function<bool(const Piece&)>& sink) {
  Json body = body_of(request);
  const std::string prompt = body.at("prompt").get<std::string>();
  const std::string& address = server_.options().address;
  const auto start = Time::now();
  std::optional<Time::time_point> first;
  Server::Backoff backoff(server_.options());
  for (;;) {
    Answer answer(request.max_tokens, request.stop, [&](const Piece& piece) {
      if (!first) first = Time::now();
      return !sink || sink(piece);
    });
    AnswerHead head;
    std::string refused;
    bool streams = false;
    const Exchange exchange{"/completions", compact(body), request.stop};
    const auto sent = server_.transport()(
        exchange,
        [&](const AnswerHead& came) {
          head = came;
          streams = came.content_type.starts_with("text/event-stream");
          return true;
        },
        [&](std::string_view piece) {
          if (head.status == 200 && streams) return answer.feed(piece);
          refused += piece.substr(0, kErrorBytesMax - std::min(kErrorBytesMax, refused.size()));
          return refused.size() < kErrorBytesMax;
        });
    const auto done = [&] {
      if (answer.prompt_tokens() >= 0) remember(prompt, answer.prompt_tokens());
      Generation generation = answer.take(bound(prompt));
      const auto now = Time::now();
      generation.usage.prefill_seconds = seconds(start, first.value_or(now));
      generation.usage.decode_seconds = seconds(first.value_or(now), now);
      return generation;
    };
    if (request.stop.stop_requested()) {
      Generation cut = done();
      cut.stop_reason = StopReason::cancelled;
      return cut;
    }
    std::optional<Error> error = answer.error();
    if (!error && answer.over()) {  // What the connection came to behind the end does not matter.
      const bool counted = answer.counted();
      Generation generation = done();
      const std::int64_t generated = generation.usage.generated;
      if (generation.stop_reason != StopReason::length || !counted || generated + 1 >= request.max_tokens) return generation;
      // Cut by the server, not by us: only a shorter conversation helps. (Lists of models seldom tell what a server has room for.)
      return fail(Errc::limit, address + " ended the text after " + std::to_string(generated) + " of " + std::to_string(request.max_tokens) + " tokens: its context is full", "context_full");
    }
    if (!error && !answer.began() && (sent ? is_busy(head.status) : sent.error().kind == "refused")) {
      if (backoff.wait(request.stop)) continue;
      if (request.stop.stop_requested()) continue;  // Said above.
    }
    if (!error && head.status != 0 && head.status != 200) {
      error = server_.refusal("/completions", head.status, refused);
    } else if (!error && !sent) {
      error = sent.error();
    } else if (!error && !streams) {
      error = fail(Errc::malformed, address + "/completions answers with '" + printable(head.content_type, 60) + "', which is no stream of events", kKind);
    } else if (!error) {
      error = fail(Errc::io, address + " ended its answer in the middle", kKind);
    }
    // The prompt may fit with less room behind it.
    const int tokens = body.at("max_tokens").get<int>();
    if (error->kind != "context_full" || tokens <= kLeastTokens || answer.began()) return server_.hidden(*error);
    body["max_tokens"] = std::max(kLeastTokens, tokens / 2);
  }
}

std::string text_of(const Json& value, const char* key) {
  return value.is_object() && value.contains(key) && value.at(key).is_string() ? value.at(key).get<std::string>() : std::string();
}

std::int64_t count_of(const Json& value, const char* key) {
  if (!value.is_object() || !value.contains(key) || !value.at(key).is_number_integer()) return 0;
  return std::clamp<std::int64_t>(value.at(key).get<std::int64_t>(), 0, std::int64_t{1} << 32);
}

/// The entry of the model in the server's list.
Result<Json> find_model(const Server& server) {
  const EndpointOptions& options = server.options();
  auto whole = server.fetch({"/models", {}, {}});
  if (!whole) return whole.error();
  if (whole->status != 200) return server.refusal("/models", whole->status, whole->body);
  const auto list = parse_json(whole->body);
  if (!list || !list->is_object() || !list->contains("data") || !list->at("data").is_array()) {
    return fail(Errc::malformed, options.address + "/models is no list of models; the address of most servers ends with /v1", kKind);
  }
  std::string known;
  for (const Json& entry : list->at("data")) {
    const std::string id = text_of(entry, "id");
    if (id == options.model) return entry;
    if (known.size() < 500 && !id.empty()) known += (known.empty() ? "" : ", ") + printable(id);
  }
  return server.hidden(fail(Errc::not_found, options.address + " has no model '" + printable(options.model) + "'; it has " + (known.empty() ? "none" : known), kKind));
}

/// Whether the server puts the begin token in front of a text: "a" is one token without it.
Result<bool> begins_itself(const Server& server) {
  const Json body{{"model", server.options().model}, {"prompt", "a"}, {"max_tokens", 1}, {"temperature", 0}};
  auto whole = server.fetch({"/completions", compact(body), {}});
  if (!whole) return whole.error();
  if (whole->status != 200) return server.refusal("/completions", whole->status, whole->body);
  const auto answer = parse_json(whole->body);
  if (!answer || !answer->is_object() || !answer->contains("choices")) {
    return fail(Errc::malformed, server.options().address + "/completions is no completion of a text", kKind);
  }
  return !answer->contains("usage") || count_of(answer->at("usage"), "prompt_tokens") != 1;
}

/// Vectors of texts; the other half of the API.
class EndpointEmbeddings final : public TextModel {
 public:
  EndpointEmbeddings(Server server, ModelInfo info) : server_(std::move(server)), info_(std::move(info)) {}

  const ModelInfo& info() const override { return info_; }
  bool is_concurrent() const override { return true; }
  bool is_reproducible() const override { return false; }
  std::int64_t count_tokens(std::string_view text) const override { return static_cast<std::int64_t>(text.size() + 3) / 4; }
  Result<Generation> generate(const GenerateRequest&, const std::function<bool(const Piece&)>&) override {
    return fail(Errc::unsupported, "this entry of the file embeds texts and generates none", kKind);
  }
  Result<std::vector<float>> embed(std::string_view text) override {
    const Json body{{"model", server_.options().model}, {"input", without_markers(text)}, {"encoding_format", "float"}};
    auto whole = server_.fetch({"/embeddings", compact(body), {}});
    if (!whole) return whole.error();
    if (whole->status != 200) return server_.refusal("/embeddings", whole->status, whole->body);
    const auto answer = parse_json(whole->body);
    const Json* list = nullptr;
    if (answer && answer->is_object() && answer->contains("data") && answer->at("data").is_array() && answer->at("data").size() == 1) list = &answer->at("data").front();
    std::vector<float> vector;
    if (list && list->is_object() && list->contains("embedding") && list->at("embedding").is_array() && list->at("embedding").size() <= kWidthMax) {
      for (const Json& value : list->at("embedding")) {
        if (!value.is_number()) return wrong();
        vector.push_back(value.get<float>());
      }
    }
    double square = 0;
    for (const float x : vector) square += double{x} * double{x};
    if (!std::isfinite(square) || square == 0) return wrong();
    for (float& x : vector) x = static_cast<float>(double{x} / std::sqrt(square));
    return vector;
  }

 private:
  static constexpr std::size_t kWidthMax = 65'536;
  Error wrong() const { return fail(Errc::malformed, server_.options().address + "/embeddings gives no vector of numbers", kKind); }

  Server server_;
  ModelInfo info_;
};

}  // namespace

Result<std::unique_ptr<TextModel>> open_endpoint_embeddings(EndpointOptions options, Transport transport) {
  Server server(std::move(options), std::move(transport));
  if (const auto entry = find_model(server); !entry) return entry.error();
  ModelInfo info;
  info.name = server.options().model;
  info.architecture = "endpoint";
  info.device = server.options().host;
  return std::unique_ptr<TextModel>(std::make_unique<EndpointEmbeddings>(std::move(server), std::move(info)));
}

Result<std::unique_ptr<TextModel>> open_endpoint(EndpointOptions options, Transport transport) {
  Server server(std::move(options), std::move(transport));
  const EndpointOptions& given = server.options();
  const auto entry = find_model(server);
  if (!entry) return entry.error();
  ModelInfo info;
  info.name = given.model;
  info.architecture = "endpoint";
  info.device = given.host;
  info.dialect = dialect_of_name(given.model);
  if (info.dialect.empty()) info.dialect = dialect_of_name(text_of(*entry, "root"));
  if (info.dialect.empty()) {
    return fail(Errc::unsupported, "the name '" + printable(given.model) + "' tells no prompt format; serve the model under a name that holds one of DeepSeek-R1, DeepSeek-R1-0528, "
                "DeepSeek-R1-0528-Qwen3-8B, DeepSeek-R1-Distill, DeepSeek-V3, DeepSeek-V3.1, DeepSeek-V3.2, QwQ, Qwen3, Qwen2.5 or Hermes", "dialect");
  }
  std::int64_t context = count_of(*entry, "max_model_len");
  if (context == 0 && entry->contains("meta")) context = count_of(entry->at("meta"), "n_ctx_train");
  info.context = given.context > 0 && context > 0 ? std::min(given.context, context) : std::max(given.context, context);
  const auto begins = begins_itself(server);
  if (!begins) return begins.error();
  return std::unique_ptr<TextModel>(std::make_unique<EndpointModel>(std::move(server), std::move(info), *begins));
}

}  // namespace kontor::inference::remote
