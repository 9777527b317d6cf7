#include "tools/mcp/dispatcher.hpp"

#include "tools/base64.hpp"

#include <thread>

namespace kontor::tools::mcp {
namespace {

constexpr std::int64_t kPollMs = 100;
constexpr std::int64_t kListTtlMs = 60'000;
constexpr std::size_t kWaitingMax = 256;
constexpr auto kAnswerTime = std::chrono::minutes(10);

std::string key_of(const Json& id) { return id.dump(); }

bool is_list(const std::string& method) {
  return method == "tools/list" || method == "prompts/list" || method == "resources/list" || method == "resources/templates/list" || method == "resources/read";
}

bool may_ask(const std::string& method) { return method == "tools/call" || method == "prompts/get" || method == "resources/read"; }

int status_of(const RpcError& error) {
  if (error.code == kMethodNotFound) return 404;
  if (error.code == kInvalidParams || error.code == kInvalidRequest || error.code == kParseError || error.code == kHeaderMismatch || error.code == kMissingCapability || error.code == kUnsupportedVersion) return 400;
  return 200;
}

/// What a retry has to be the same in.
std::string digest_of(const Message& request) {
  Json essence{{"method", request.method}, {"name", text_at(request.body, "name")}, {"uri", text_at(request.body, "uri")}};
  if (const auto arguments = request.body.find("arguments"); arguments != request.body.end()) essence["arguments"] = *arguments;
  return base64_url(sha256_bytes(nlohmann::json(essence).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
}

}  // namespace

// ---- session

void Session::answered(const Message& answer) {
  const std::lock_guard lock(mutex_);
  const auto found = questions_.find(key_of(answer.id));
  if (found == questions_.end()) return;
  found->second.answer = answer;
  found->second.done = true;
  changed_.notify_all();
}

void Session::cancel(const Json& request_id) {
  std::shared_ptr<Work> work;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = running_.find(key_of(request_id)); found != running_.end()) work = found->second;
  }
  if (work) work->cancel();
}

void Session::cancel_all() {
  std::map<std::string, std::shared_ptr<Work>> running;
  {
    const std::lock_guard lock(mutex_);
    running = running_;
  }
  for (const auto& [id, work] : running) work->cancel();
}

Result<Json> Session::ask(const std::string& method, const Json& params, Work& work) {
  std::unique_lock lock(mutex_);
  const Json id = "kontor-" + std::to_string(next_question_++);
  const std::string key = key_of(id);
  questions_[key];
  lock.unlock();
  work.post(write_request(id, method, params));
  lock.lock();
  const bool woken = changed_.wait_until(lock, work.stop(), std::chrono::steady_clock::now() + kAnswerTime, [&] { return questions_[key].done; });
  const Message answer = std::move(questions_[key].answer);
  questions_.erase(key);
  if (!woken) return work.stop().stop_requested() ? fail(Errc::cancelled, "the request was cancelled", "cancelled") : fail(Errc::timeout, "nobody answered", "timeout");
  if (answer.kind == Message::Kind::error) return fail(Errc::denied, "the client refuses: " + answer.error.message.substr(0, 500), "refused");
  return answer.body;
}

// ---- dispatcher

Dispatcher::Dispatcher(Offer& offer) : offer_(offer), key_(random_text(32)) {}

Dispatcher::~Dispatcher() {
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [state, work] : waiting_) work->cancel();
  }
  for (int i = 0; i < 500 && *active_ > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

void Dispatcher::begin(const std::shared_ptr<Work>& work, std::function<Reply(Conversation&)> job) {
  struct Count {
    std::shared_ptr<std::atomic<int>> active;
    ~Count() { --*active; }
  };
  ++*active_;
  work->start([count = std::shared_ptr<Count>(new Count{active_}), job = std::move(job)](Conversation& conversation) { return job(conversation); });
}

Json Dispatcher::revisions() { return Json::array({std::string(kStateless), std::string(kHandshake), "2025-06-18", "2025-03-26"}); }

bool Dispatcher::is_stateless(const Message& message) { return object_at(message.body, "_meta").contains(kMetaVersion); }

Outcome Dispatcher::handle(const Message& message, Session& session, const Send& send, const Gone& gone) {
  switch (message.kind) {
    case Message::Kind::result:
    case Message::Kind::error: session.answered(message); return {"", 202};
    case Message::Kind::notification:
      if (message.method == "notifications/cancelled" && message.body.contains("requestId")) session.cancel(message.body.at("requestId"));
      return {"", 202};
    case Message::Kind::request: break;
  }
  return is_stateless(message) ? handle_stateless(message, session, send, gone) : handle_session(message, session, send, gone);
}

Outcome Dispatcher::finish(const Message& request, const Reply& reply, bool stateless) const {
  if (const auto* error = std::get_if<RpcError>(&reply)) {
    RpcError shown = *error;
    if (stateless && shown.code == kResourceNotFound) shown.code = kInvalidParams;  // What it is called since.
    return {write_error(request.id, shown), stateless ? status_of(shown) : 200};
  }
  Json result = std::get<Json>(reply);
  if (stateless) {
    if (!result.contains("resultType")) result["resultType"] = "complete";
    result["_meta"][kMetaServerInfo] = offer_.info();
    if (is_list(request.method) || request.method == "server/discover") {
      if (!result.contains("ttlMs")) result["ttlMs"] = kListTtlMs;
      if (!result.contains("cacheScope")) result["cacheScope"] = "private";
    }
  }
  return {write_result(request.id, result), 200};
}

Reply Dispatcher::discover() const {
  Json capabilities = offer_.more_capabilities();
  capabilities["tools"] = Json::object();
  Json result{{"supportedVersions", revisions()}, {"capabilities", std::move(capabilities)}};
  if (const std::string text = offer_.instructions(); !text.empty()) result["instructions"] = text;
  return result;
}

Reply Dispatcher::initialize(const Json& params, Session& session) {
  const std::string wanted = text_at(params, "protocolVersion");
  if (wanted.empty()) return RpcError{kInvalidParams, "'protocolVersion' is missing"};
  const std::lock_guard lock(session.mutex_);
  if (session.open_) return RpcError{kInvalidRequest, "the session is open already"};
  session.revision_ = is_handshake_revision(wanted) ? wanted : std::string(kHandshake);
  session.capabilities_ = object_at(params, "capabilities");
  session.open_ = true;
  Json capabilities = offer_.more_capabilities();
  capabilities["tools"] = Json{{"listChanged", false}};
  capabilities["logging"] = Json::object();
  Json result{{"protocolVersion", session.revision_}, {"capabilities", std::move(capabilities)}, {"serverInfo", offer_.info()}};
  if (const std::string text = offer_.instructions(); !text.empty()) result["instructions"] = text;
  return result;
}

/// Nothing for methods that are not known.
std::optional<std::function<Reply(Conversation&)>> Dispatcher::job_of(const Message& request, bool stateless) {
  const std::string& method = request.method;
  const Json& params = request.body;
  if (method == "tools/list") return [this](Conversation&) -> Reply { return Json{{"tools", offer_.tools()}}; };
  if (method == "tools/call") {
    const std::string name = text_at(params, "name");
    const Json arguments = params.contains("arguments") && !params.at("arguments").is_null() ? params.at("arguments") : Json::object();
    if (name.empty() || !arguments.is_object()) {
      return [](Conversation&) -> Reply { return RpcError{kInvalidParams, "tools/call needs a 'name', and 'arguments' that are an object"}; };
    }
    return [this, name, arguments](Conversation& conversation) { return offer_.call(name, arguments, conversation); };
  }
  const Json more = offer_.more_capabilities();
  const bool resources = method.starts_with("resources/") && more.contains("resources");
  const bool prompts = method.starts_with("prompts/") && more.contains("prompts");
  const bool completion = method == "completion/complete" && more.contains("completions");
  const bool gone_with_sessions = method == "resources/subscribe" || method == "resources/unsubscribe";
  if (!(resources || prompts || completion) || (stateless && gone_with_sessions)) return std::nullopt;
  return [this, method, params](Conversation& conversation) { return offer_.other(method, params, conversation); };
}

Outcome Dispatcher::handle_session(const Message& request, Session& session, const Send& send, const Gone& gone) {
  const std::string& method = request.method;
  if (method == "initialize") return finish(request, initialize(request.body, session), false);
  if (method == "ping") return finish(request, Json::object(), false);
  if (method == "server/discover") return finish(request, RpcError{kInvalidParams, std::string("'_meta' has no ") + kMetaVersion}, true);
  if (!session.is_open()) return finish(request, RpcError{kInvalidRequest, "the session begins with initialize"}, false);
  if (method == "logging/setLevel") {
    const std::string level = text_at(request.body, "level");
    if (log_level_rank(level) < 0) return finish(request, RpcError{kInvalidParams, "'level' is none of debug, info, notice, warning, error, critical, alert, emergency"}, false);
    const std::lock_guard lock(session.mutex_);
    session.log_level_ = level;
    return finish(request, Json::object(), false);
  }
  const auto job = job_of(request, false);
  if (!job) return finish(request, RpcError{kMethodNotFound, "method '" + method.substr(0, 64) + "' is not known"}, false);
  Caller caller;
  {
    const std::lock_guard lock(session.mutex_);
    caller.capabilities = session.capabilities_;
    caller.log_level = session.log_level_;
  }
  const Json& meta = object_at(request.body, "_meta");
  if (meta.contains("progressToken")) caller.progress_token = meta.at("progressToken");
  auto work = std::make_shared<Work>(caller, Json::object(), [owner = session.shared_from_this()](const std::string& asked, const Json& params, Work& at) {
    return owner->ask(asked, params, at);
  });
  begin(work, *job);
  return pump(work, request, session, send, gone);
}

Outcome Dispatcher::handle_stateless(const Message& request, Session& session, const Send& send, const Gone& gone) {
  const Json& meta = object_at(request.body, "_meta");
  const std::string version = text_at(meta, kMetaVersion);
  if (version.empty()) return finish(request, RpcError{kInvalidParams, std::string(kMetaVersion) + " is not a text"}, true);
  if (version != kStateless) {
    return finish(request, RpcError{kUnsupportedVersion, "revision '" + version.substr(0, 64) + "' is not served this way", Json{{"supported", revisions()}, {"requested", version}}}, true);
  }
  if (!meta.contains(kMetaCapabilities) || !meta.at(kMetaCapabilities).is_object()) return finish(request, RpcError{kInvalidParams, std::string("'_meta' has no ") + kMetaCapabilities}, true);
  if (request.method == "server/discover") return finish(request, discover(), true);
  if (request.method == "subscriptions/listen") return listen(request, session, send, gone);
  const auto job = job_of(request, true);
  if (!job) return finish(request, RpcError{kMethodNotFound, "method '" + request.method.substr(0, 64) + "' is not known"}, true);
  const auto answers = request.body.find("inputResponses");
  if (answers != request.body.end()) {
    bool formed = answers->is_object();
    for (const auto& answer : formed ? *answers : Json::object()) formed = formed && answer.is_object();
    if (!formed) return finish(request, RpcError{kInvalidParams, "'inputResponses' is no object of objects"}, true);
  }
  if (request.body.contains("requestState")) {
    auto work = resumed(request);
    if (!work) return finish(request, RpcError{kInvalidParams, work.error().message}, true);
    if (!(*work)->answer(answers == request.body.end() ? Json::object() : *answers)) return input_required(request, *work, (*work)->questions());
    return pump(*work, request, session, send, gone);
  }
  Caller caller;
  caller.stateless = true;
  caller.capabilities = meta.at(kMetaCapabilities);
  caller.log_level = text_at(meta, kMetaLogLevel);
  if (meta.contains("progressToken")) caller.progress_token = meta.at("progressToken");
  caller.id = digest_of(request);
  auto work = std::make_shared<Work>(caller, answers == request.body.end() ? Json::object() : *answers, Work::AskNow());
  begin(work, *job);
  return pump(work, request, session, send, gone);
}

Outcome Dispatcher::pump(const std::shared_ptr<Work>& work, const Message& request, Session& session, const Send& send, const Gone& gone) {
  const std::string key = key_of(request.id);
  {
    const std::lock_guard lock(session.mutex_);
    session.running_[key] = work;
  }
  Outcome outcome;
  for (;;) {
    const auto event = work->next(kPollMs);
    for (const auto& message : event.messages) send(message);
    if (event.done) {
      // To what was cancelled nobody wants an answer.
      outcome = work->stop().stop_requested() ? Outcome{"", 202} : finish(request, event.reply, work->caller().stateless);
      break;
    }
    if (event.asks) {
      outcome = may_ask(request.method) ? input_required(request, work, event.questions) : finish(request, RpcError{kInternalError, "this method cannot ask"}, true);
      if (!may_ask(request.method)) work->cancel();
      break;
    }
    if (gone()) work->cancel();
    if (work->stop().stop_requested() && event.messages.empty()) {
      // It was told; whether it ends soon is its own matter.
      outcome = {"", 202};
      break;
    }
  }
  const std::lock_guard lock(session.mutex_);
  session.running_.erase(key);
  return outcome;
}

Outcome Dispatcher::input_required(const Message& request, const std::shared_ptr<Work>& work, const Json& questions) {
  if (questions.is_null()) return finish(request, RpcError{kInvalidParams, "this request waits for nothing any more"}, true);
  forget_expired();
  std::string number;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() >= kWaitingMax) {
      work->cancel();
      return finish(request, RpcError{kInternalError, "too many requests wait for answers"}, true);
    }
    number = std::to_string(next_state_++);
    waiting_[number] = work;
  }
  const std::string state = number + "." + base64_url(hmac_sha256(key_, number + "." + work->caller().id));
  return finish(request, Json{{"resultType", "input_required"}, {"inputRequests", questions}, {"requestState", state}}, true);
}

Result<std::shared_ptr<Work>> Dispatcher::resumed(const Message& request) {
  const auto refused = [] { return fail(Errc::denied, "'requestState' is not one of this server, or too old, or of another request", "request_state"); };
  const Json& state = request.body.at("requestState");
  if (!state.is_string()) return refused();
  const std::string text = state.get<std::string>();
  const std::string number = text.substr(0, text.find('.'));
  if (text != number + "." + base64_url(hmac_sha256(key_, number + "." + digest_of(request)))) return refused();
  forget_expired();
  const std::lock_guard lock(mutex_);
  const auto found = waiting_.find(number);
  if (found == waiting_.end()) return refused();
  auto work = found->second;
  waiting_.erase(found);  // Each state serves once.
  return work;
}

void Dispatcher::forget_expired() {
  const auto now = std::chrono::steady_clock::now();
  const std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [&](const auto& entry) { return entry.second->expires() < now; });
}

/// Nothing that we have changes, so an accepted subscription is silent until one side ends it.
Outcome Dispatcher::listen(const Message& request, Session& session, const Send& send, const Gone& gone) {
  if (!request.body.contains("notifications") || !request.body.at("notifications").is_object()) {
    return finish(request, RpcError{kInvalidParams, "subscriptions/listen needs 'notifications', an object"}, true);
  }
  Caller caller;
  caller.stateless = true;
  auto work = std::make_shared<Work>(caller, Json::object(), Work::AskNow());
  const std::string key = key_of(request.id);
  {
    const std::lock_guard lock(session.mutex_);
    session.running_[key] = work;
  }
  send(write_notification("notifications/subscriptions/acknowledged", Json{{"_meta", Json{{kMetaSubscription, request.id}}}, {"notifications", Json::object()}}));
  while (!work->stop().stop_requested() && !gone()) std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
  const std::lock_guard lock(session.mutex_);
  session.running_.erase(key);
  return {"", 202};
}

}  // namespace kontor::tools::mcp
