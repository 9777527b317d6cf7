#include "tools/mcp/work.hpp"

#include <array>
#include <thread>

namespace kontor::tools::mcp {
namespace {

constexpr std::size_t kMessagesMax = 1'000;
constexpr std::size_t kQuestionsMax = 16;
constexpr auto kAnswerTime = std::chrono::minutes(10);

/// The capability that a question needs.
std::string capability_of(const std::string& method) {
  if (method == "elicitation/create") return "elicitation";
  if (method == "sampling/createMessage") return "sampling";
  if (method == "roots/list") return "roots";
  return {};
}

/// All keys of `questions` with an object each.
bool answers_all(const Json& answers, const Json& questions) {
  if (!answers.is_object()) return false;
  for (const auto& [key, question] : questions.items()) {
    const auto found = answers.find(key);
    if (found == answers.end() || !found->is_object()) return false;
  }
  return true;
}

Json answers_to(const Json& answers, const Json& questions) {
  Json picked = Json::object();
  for (const auto& [key, question] : questions.items()) picked[key] = answers.at(key);
  return picked;
}

}  // namespace

int log_level_rank(const std::string& word) {
  constexpr std::array kWords = {"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"};
  for (std::size_t i = 0; i < kWords.size(); ++i) {
    if (word == kWords[i]) return static_cast<int>(i);
  }
  return -1;
}

void Work::start(std::function<Reply(Conversation&)> job) {
  std::thread([self = shared_from_this(), job = std::move(job)] {
    Reply reply = RpcError{kInternalError, "internal error"};
    try {
      reply = job(*self);
    } catch (const std::exception& error) {
      reply = RpcError{kInternalError, std::string("internal error: ") + error.what()};
    }
    const std::lock_guard lock(self->mutex_);
    if (!self->missing_.is_null()) reply = RpcError{kMissingCapability, "the client has to offer what this request needs", Json{{"requiredCapabilities", self->missing_}}};
    self->reply_ = std::move(reply);
    self->done_ = true;
    self->changed_.notify_all();
  }).detach();
}

Work::Event Work::next(std::int64_t wait_ms) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(wait_ms), [this] { return done_ || !questions_.is_null() || !messages_.empty(); });
  Event event;
  event.messages.assign(std::make_move_iterator(messages_.begin()), std::make_move_iterator(messages_.end()));
  messages_.clear();
  event.done = done_;
  if (done_) event.reply = reply_;
  event.asks = !done_ && !questions_.is_null();
  if (event.asks) event.questions = questions_;
  return event;
}

bool Work::answer(const Json& answers) {
  const std::lock_guard lock(mutex_);
  if (questions_.is_null() || !answers_all(answers, questions_)) return false;
  given_ = answers_to(answers, questions_);
  questions_ = nullptr;
  changed_.notify_all();
  return true;
}

Json Work::questions() const {
  const std::lock_guard lock(mutex_);
  return questions_;
}

std::chrono::steady_clock::time_point Work::expires() const {
  const std::lock_guard lock(mutex_);
  return expires_;
}

void Work::post(std::string message) {
  const std::lock_guard lock(mutex_);
  if (messages_.size() >= kMessagesMax) return;
  messages_.push_back(std::move(message));
  changed_.notify_all();
}

void Work::progress(double fraction, const std::string& note) {
  if (caller_.progress_token.is_null()) return;
  Json params{{"progressToken", caller_.progress_token}};
  {
    const std::lock_guard lock(mutex_);
    const double now = fraction >= 0 ? fraction * 100 : progressed_ + 1;
    if (now <= progressed_) return;  // It has to grow.
    progressed_ = now;
    params["progress"] = now;
    if (fraction >= 0) params["total"] = 100;
  }
  if (!note.empty()) params["message"] = note;
  post(write_notification("notifications/progress", params));
}

void Work::log(const std::string& level, const Json& data) {
  const int rank = log_level_rank(level);
  if (caller_.log_level.empty() || rank < log_level_rank(caller_.log_level)) return;
  post(write_notification("notifications/message", Json{{"level", rank < 0 ? "info" : level}, {"logger", "kontor"}, {"data", data}}));
}

Result<Json> Work::askable(const Json& questions) const {
  if (!questions.is_object() || questions.empty() || questions.size() > kQuestionsMax) return fail(Errc::malformed, "there are no questions, or too many", "questions");
  Json possible = Json::object(), missing = Json::object();
  for (const auto& [key, question] : questions.items()) {
    const std::string capability = capability_of(text_at(question, "method"));
    if (capability.empty()) return fail(Errc::malformed, "'" + text_at(question, "method") + "' is nothing a client can be asked", "questions");
    if (caller_.capabilities.contains(capability)) possible[key] = question;
    else missing[capability] = Json::object();
  }
  if (possible.empty()) return fail(Errc::unsupported, missing.dump(), "missing_capability");
  return possible;
}

Result<Json> Work::ask(const Json& questions) {
  auto possible = askable(questions);
  if (!possible) {
    if (possible.error().kind != "missing_capability") return possible.error();
    const auto missing = parse_json(possible.error().message);
    const std::string names = missing && !missing->empty() ? missing->begin().key() : std::string();
    if (caller_.stateless && missing) {
      const std::lock_guard lock(mutex_);
      missing_ = *missing;
    }
    return fail(Errc::unsupported, "the client does not offer " + names, "missing_capability");
  }
  if (caller_.stateless) return ask_later(*possible);
  Json answers = Json::object();
  for (const auto& [key, question] : possible->items()) {
    auto answer = ask_now_(text_at(question, "method"), object_at(question, "params"), *this);
    if (!answer) return answer.error();
    answers[key] = std::move(*answer);
  }
  return answers;
}

Result<Json> Work::ask_later(const Json& questions) {
  std::unique_lock lock(mutex_);
  if (answers_all(given_, questions)) {
    // They came with the request, or with an earlier answer; each serves once.
    Json picked = answers_to(given_, questions);
    for (const auto& [key, question] : questions.items()) given_.erase(key);
    return picked;
  }
  questions_ = questions;
  expires_ = std::chrono::steady_clock::now() + kAnswerTime;
  changed_.notify_all();
  const bool woken = changed_.wait_until(lock, stop_.get_token(), expires_, [this] { return questions_.is_null(); });
  if (!woken) {
    questions_ = nullptr;
    return stop_.stop_requested() ? fail(Errc::cancelled, "the request was cancelled", "cancelled") : fail(Errc::timeout, "nobody answered", "timeout");
  }
  Json picked = std::move(given_);
  given_ = Json::object();
  return picked;
}

}  // namespace kontor::tools::mcp
