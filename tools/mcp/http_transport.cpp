#include "tools/mcp/http_transport.hpp"

#include "base/stream_reader.hpp"
#include "tools/mcp/headers.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

namespace kontor::tools::mcp {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::int64_t kRetryMs = 1'000, kRetryMsMax = 60'000;
constexpr std::size_t kStreamBytesMax = 1u << 30;  // Of one event stream; each message has its own bound.
constexpr int kNoiseMax = 200;
constexpr int kUnaskedMax = 100'000;               // Messages of one stream that are no answer.
constexpr int kShortStreamsMax = 8;                // One after the other, until no more are opened.
constexpr auto kShortStream = std::chrono::seconds(5);

/// What came back for one POST or GET, while it comes.
struct Answer {
  std::optional<Message> message;
  std::string body;                        ///< Of an answer that is no event stream.
  std::optional<std::string> last_event;
  std::int64_t retry_ms = kRetryMs;
  bool is_stream = false;
  int unasked = 0;
};

class HttpTransport final : public Transport {
 public:
  HttpTransport(HttpSetup setup, Url url, OAuthSetup oauth) : setup_(std::move(setup)), url_(url), oauth_(url, std::move(oauth)) {}

  ~HttpTransport() override {
    closing_.request_stop();
    if (listener_.joinable()) listener_.join();
    end_session();
  }

  Result<void> start(Peer& peer) override {
    peer_ = &peer;
    return {};
  }

  bool has_headers() const override { return true; }
  bool alive() const override { return !dead_; }

  void agreed(const std::string& revision) override {
    const std::lock_guard lock(mutex_);
    revision_ = revision;
  }

  Result<Message> exchange(const std::string& method, const Json& params, const Headers& headers, const Patience& patience) override {
    const std::int64_t id = next_id_++;
    Json sent = params;
    if (patience.progress) sent["_meta"]["progressToken"] = id;
    Answer answer;
    auto head = post(write_request(id, method, sent), method, params, headers, patience, id, answer);
    if (!head) {
      if (head.error().code == Errc::timeout || head.error().code == Errc::cancelled) cancel(id, method);
      return head.error();
    }
    if (answer.message) return accept(std::move(*answer.message), *head, method);
    if (!answer.is_stream) return read_plain(*head, answer, id, method);
    return resume(std::move(answer), id, patience);
  }

  Result<void> notify(const std::string& method, const Json& params) override {
    Answer answer;
    const auto patience = Patience::of_ms(10'000, closing_.get_token());
    auto head = post(write_notification(method, params), method, params, {}, patience, std::nullopt, answer);
    if (!head) return head.error();
    if (head->status / 100 != 2) return fail(Errc::io, url_.origin() + " does not take " + method + ": status " + std::to_string(head->status), "http");
    if (method == "notifications/initialized") listen({}, {});
    return {};
  }

  void subscribe(const std::string& method, const Json& params) override { listen(method, params); }

 private:
  std::string revision() const {
    const std::lock_guard lock(mutex_);
    return revision_;
  }
  std::string session() const {
    const std::lock_guard lock(mutex_);
    return session_;
  }

  Headers headers_for(const std::string& method, const Json& params, const Headers& more, bool is_notification) {
    Headers headers = setup_.headers;
    headers.emplace_back("Accept", "application/json, text/event-stream");
    const std::string agreed_on = revision();
    if (!agreed_on.empty()) headers.emplace_back("MCP-Protocol-Version", agreed_on);
    if (agreed_on == kStateless && !method.empty() && !is_notification) {
      headers.emplace_back("Mcp-Method", method);
      const std::string name = method == "resources/read" ? text_at(params, "uri") : method == "tools/call" || method == "prompts/get" ? text_at(params, "name") : std::string();
      if (!name.empty()) headers.emplace_back("Mcp-Name", header_value(name));
      headers.insert(headers.end(), more.begin(), more.end());
    }
    if (const std::string id = session(); !id.empty()) headers.emplace_back("Mcp-Session-Id", id);
    return headers;
  }

  /// Sends, with authorization where it is asked for. `answer` is filled.
  Result<HttpHead> post(const std::string& body, const std::string& method, const Json& params, const Headers& more, const Patience& patience,
                        std::optional<std::int64_t> id, Answer& answer) {
    for (int attempt = 0;; ++attempt) {
      HttpRequest request{"POST", url_, headers_for(method, params, more, !id), body};
      request.headers.emplace_back("Content-Type", "application/json");
      const std::string token = oauth_.token();
      if (!token.empty()) request.headers.emplace_back("Authorization", "Bearer " + token);
      answer = {};
      auto head = run(request, patience, id, answer);
      if (!head) return head;
      if (head->status != 401 && !lacks_scope(*head)) {
        keep_session(*head);
        return head;
      }
      if (attempt >= setup_.authorizations_max - 1) {
        return fail(Errc::denied, url_.origin() + " still refuses after " + std::to_string(attempt) + " authorizations", "unauthorized");
      }
      if (auto authorized = oauth_.authorize(*head, token, limits_of(patience)); !authorized) return authorized.error();
    }
  }

  static bool lacks_scope(const HttpHead& head) { return head.status == 403 && read_challenge(head.all("WWW-Authenticate")).error == "insufficient_scope"; }

  HttpLimits limits_of(const Patience& patience) const { return {patience.deadline, patience.stop, setup_.message_bytes, setup_.egress}; }

  /// One request and its answer, as far as it comes.
  Result<HttpHead> run(const HttpRequest& request, const Patience& patience, std::optional<std::int64_t> id, Answer& answer) {
    SseReader events(setup_.message_bytes);
    std::optional<Error> broken;
    HttpLimits limits = limits_of(patience);
    limits.body_bytes = kStreamBytesMax;
    auto head = http_stream(request, limits,
        [&](const HttpHead& now) {
          answer.is_stream = now.status == 200 && now.header("Content-Type").starts_with("text/event-stream");
          return now.status != 202;
        },
        [&](std::string_view piece) {
          if (!answer.is_stream) {
            if (answer.body.size() + piece.size() > setup_.message_bytes) broken = fail(Errc::limit, "the answer of " + url_.origin() + " is too long", "message_size");
            else answer.body += piece;
            return !broken;
          }
          const auto fed = events.feed(piece, [&](SseEvent event) { return take(std::move(event), patience, id, answer, broken); });
          if (events.retry_ms()) answer.retry_ms = std::min(*events.retry_ms(), kRetryMsMax);
          if (!fed) broken = fed.error();
          return !broken && !answer.message;
        });
    if (broken) return *broken;
    // A stream that breaks off may be taken up again.
    if (!head && answer.is_stream && head.error().kind == "closed") {
      HttpHead cut;
      cut.status = 200;
      return cut;
    }
    return head;
  }

  /// False when nothing further of the stream matters.
  bool take(SseEvent event, const Patience& patience, std::optional<std::int64_t> id, Answer& answer, std::optional<Error>& broken) {
    if (event.id) answer.last_event = *event.id;
    if (event.data.empty() || event.type != "message") return true;
    auto message = parse_message(event.data);
    if (!message) {
      peer_->noted("not a message: " + message.error().message);
      if (++noise_ > kNoiseMax) broken = fail(Errc::malformed, url_.origin() + " sends what are no messages", "protocol");
      return !broken;
    }
    switch (message->kind) {
      case Message::Kind::result:
      case Message::Kind::error:
        if (id && (message->id == Json(*id) || (message->kind == Message::Kind::error && message->id.is_null()))) {
          answer.message = std::move(*message);
          return false;
        }
        peer_->noted("an answer to another request");
        if (++noise_ > kNoiseMax) broken = fail(Errc::malformed, url_.origin() + " answers requests that were never sent", "protocol");
        return !broken;
      case Message::Kind::request:
        if (!count_unasked(answer, broken)) return false;
        reply(*message);
        return true;
      case Message::Kind::notification:
        if (!count_unasked(answer, broken)) return false;
        if (message->method == "notifications/progress") {
          if (patience.progress && id && message->body.contains("progressToken") && message->body.at("progressToken") == Json(*id)) patience.progress(message->body);
        } else {
          peer_->notified(message->method, message->body);
        }
        return true;
    }
    return true;
  }

  bool count_unasked(Answer& answer, std::optional<Error>& broken) const {
    if (++answer.unasked <= kUnaskedMax) return true;
    broken = fail(Errc::limit, url_.origin() + " floods us with messages", "protocol");
    return false;
  }

  void reply(const Message& question) {
    const Reply reply = revision() == kStateless ? Reply(RpcError{kInvalidRequest, "servers of this revision send no requests"}) : peer_->asked(question.method, question.body);
    const auto* result = std::get_if<Json>(&reply);
    Answer ignored;
    post(result ? write_result(question.id, *result) : write_error(question.id, std::get<RpcError>(reply)), "", Json::object(), {},
         Patience::of_ms(10'000, closing_.get_token()), std::nullopt, ignored);
  }

  /// An answer without event stream.
  Result<Message> read_plain(const HttpHead& head, const Answer& answer, std::int64_t id, const std::string& method) {
    auto message = parse_message(answer.body);
    const bool is_answer = message && (message->kind == Message::Kind::result || message->kind == Message::Kind::error);
    if (is_answer && (message->id == Json(id) || (message->kind == Message::Kind::error && message->id.is_null()))) return accept(std::move(*message), head, method);
    if (head.status == 404 && !session().empty()) {
      dead_ = true;  // The session is over; a new one begins with a new connection.
      return fail(Errc::io, "the session at " + url_.origin() + " is over", "refused");
    }
    const std::string status = std::to_string(head.status);
    if (method == "server/discover" && head.status / 100 == 4) return fail(Errc::unsupported, url_.origin() + " answers " + status, "not_modern");
    if (head.status / 100 != 2) return fail(Errc::io, url_.text() + " answers with status " + status, "http");
    if (is_answer) return fail(Errc::malformed, url_.origin() + " answered another request than it was asked", "protocol");
    return fail(Errc::malformed, url_.origin() + " answered with something that is no message" + (message ? "" : ": " + message.error().message), "protocol");
  }

  Result<Message> accept(Message message, const HttpHead&, const std::string&) { return message; }

  /// The stream ended before the answer came.
  Result<Message> resume(Answer answer, std::int64_t id, const Patience& patience) {
    const Error cut = fail(Errc::io, url_.origin() + " closed the stream before its answer", "closed");
    if (revision() == kStateless) return cut;
    for (int attempt = 0; attempt < setup_.resumptions_max && answer.last_event; ++attempt) {
      if (!pause(answer.retry_ms, patience)) {
        cancel(id, "");
        return patience.stop.stop_requested() ? fail(Errc::cancelled, "the request was cancelled", "cancelled") : fail(Errc::timeout, url_.origin() + " did not answer in time", "timeout");
      }
      Answer next;
      next.last_event = answer.last_event;
      next.retry_ms = answer.retry_ms;
      HttpRequest request = get_request();
      request.headers.emplace_back("Last-Event-ID", *answer.last_event);
      auto head = run(request, patience, id, next);
      if (!head) return head.error();
      if (next.message) return std::move(*next.message);
      if (!next.is_stream) return cut;
      answer = std::move(next);
    }
    return cut;
  }

  HttpRequest get_request() {
    HttpRequest request{"GET", url_, setup_.headers, {}};
    request.headers.emplace_back("Accept", "text/event-stream");
    if (const std::string agreed_on = revision(); !agreed_on.empty()) request.headers.emplace_back("MCP-Protocol-Version", agreed_on);
    if (const std::string id = session(); !id.empty()) request.headers.emplace_back("Mcp-Session-Id", id);
    if (const std::string token = oauth_.token(); !token.empty()) request.headers.emplace_back("Authorization", "Bearer " + token);
    return request;
  }

  static bool pause(std::int64_t wait_ms, const Patience& patience) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    const auto until = SteadyClock::now() + milliseconds(wait_ms);
    never.wait_until(lock, patience.stop, std::min(until, patience.deadline), [] { return false; });
    return !patience.stop.stop_requested() && SteadyClock::now() < patience.deadline;
  }

  /// Keeps open the stream for what the server says unasked, where it has one: that of a subscription, or without `method`
  /// that of the session (GET). One that breaks off is opened again, less and less often while they are short.
  void listen(const std::string& method, const Json& params) {
    if (listener_.joinable()) return;
    listener_ = std::thread([this, method, params] {
      const Patience patience{SteadyClock::time_point::max() - std::chrono::hours(1), closing_.get_token(), {}};
      std::optional<std::string> last;
      for (int shorts = 0; !closing_.stop_requested();) {
        const auto began = SteadyClock::now();
        Answer answer;
        const auto head = method.empty() ? open_session_stream(last, patience, answer) : open_subscription(method, params, patience, answer);
        if (closing_.stop_requested() || (head && !answer.is_stream)) return;  // It has none, or not for us.
        shorts = head && SteadyClock::now() - began > kShortStream ? 0 : shorts + 1;
        if (shorts >= kShortStreamsMax) return peer_->noted("the stream of notifications breaks off again and again, and is given up");
        if (answer.last_event) last = answer.last_event;
        const std::int64_t wait = std::max<std::int64_t>(answer.retry_ms, 100) << std::max(shorts - 1, 0);
        if (!pause(std::min(wait, kRetryMsMax), patience)) return;
        if (!last) peer_->interrupted();  // Nothing is repeated, so something may be missing.
      }
    });
  }

  Result<HttpHead> open_session_stream(const std::optional<std::string>& last, const Patience& patience, Answer& answer) {
    HttpRequest request = get_request();
    if (last) request.headers.emplace_back("Last-Event-ID", *last);
    return run(request, patience, std::nullopt, answer);
  }

  Result<HttpHead> open_subscription(const std::string& method, const Json& params, const Patience& patience, Answer& answer) {
    const std::int64_t id = next_id_++;
    auto head = post(write_request(id, method, params), method, params, {}, patience, id, answer);
    if (answer.message && answer.message->kind == Message::Kind::error) {
      peer_->noted("the subscription has ended: " + answer.message->error.message.substr(0, 200));
      answer.is_stream = false;  // It is refused; asking again would not help.
    } else if (head && !answer.is_stream) {
      peer_->noted(url_.origin() + " does not open the subscription that it offers (status " + std::to_string(head->status) + ")");
    }
    return head;
  }

  void cancel(std::int64_t id, const std::string& method) {
    // In the stateless revision the closed connection says it.
    if (revision() == kStateless || method == "initialize" || method == "server/discover") return;
    Answer ignored;
    const Json params{{"requestId", id}, {"reason", "no longer waited for"}};
    post(write_notification("notifications/cancelled", params), "notifications/cancelled", params, {}, Patience::of_ms(1'000), std::nullopt, ignored);
  }

  void keep_session(const HttpHead& head) {
    const std::string id = head.header("Mcp-Session-Id");
    const bool visible = !id.empty() && id.size() <= 1024 && std::all_of(id.begin(), id.end(), [](char c) { return c > 0x20 && c < 0x7f; });
    const std::lock_guard lock(mutex_);
    if (visible && session_.empty() && revision_.empty()) session_ = id;
  }

  void end_session() {
    if (session().empty()) return;
    HttpRequest request = get_request();
    request.method = "DELETE";
    http_fetch(request, {SteadyClock::now() + milliseconds(1'000), {}, 64u << 10, setup_.egress});
  }

  const HttpSetup setup_;
  const Url url_;
  OAuth oauth_;
  Peer* peer_ = nullptr;
  mutable std::mutex mutex_;
  std::string revision_{kStateless};
  std::string session_;
  std::atomic<std::int64_t> next_id_{1};
  std::atomic<bool> dead_{false};
  std::atomic<int> noise_{0};
  std::stop_source closing_;
  std::thread listener_;
};

}  // namespace

Result<std::unique_ptr<Transport>> make_http_transport(HttpSetup setup) {
  auto url = parse_url(setup.url);
  if (!url) return url.error();
  OAuthSetup oauth;
  oauth.token_file = setup.token_file;
  oauth.open_page = setup.open_page;
  Headers kept;
  for (auto& [name, value] : setup.headers) {
    if (name == "oauth_client_id") oauth.client_id = value;
    else if (name == "oauth_client_secret") oauth.client_secret = value;
    else if (name == "oauth_client_metadata_url") oauth.metadata_url = value;
    else if (name == "oauth_scope") oauth.scope = value;
    else if (name.starts_with("oauth_")) return fail(Errc::usage, "'" + name + "' is not one of oauth_client_id, oauth_client_secret, oauth_client_metadata_url, oauth_scope", "unknown_key");
    else kept.emplace_back(name, value);
  }
  setup.headers = std::move(kept);
  return std::unique_ptr<Transport>(std::make_unique<HttpTransport>(std::move(setup), std::move(*url), std::move(oauth)));
}

}  // namespace kontor::tools::mcp
