#pragma once
// One request at work on a thread of its own, and the place where that thread and the connection meet. In the stateless
// revision a request that asks something is answered with the question; its thread waits for the retry.

#include "tools/mcp/offer.hpp"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace kontor::tools::mcp {

/// What the sender of the request can do and wants.
struct Caller {
  Json capabilities = Json::object();
  Json progress_token = nullptr;
  std::string log_level;                 ///< The least level that is sent; "" for none.
  bool stateless = false;
  std::string id;                        ///< Who may come back with answers; for the stateless revision the method and a digest.
};

/// Position of a syslog word, debug is 0; -1 for no such word.
int log_level_rank(const std::string& word);

class Work final : public Conversation, public std::enable_shared_from_this<Work> {
 public:
  /// Asks the client in the middle of a request, in revisions that can; set by the session.
  using AskNow = std::function<Result<Json>(const std::string& method, const Json& params, Work& work)>;

  /// `given`: answers that came with the request already.
  Work(Caller caller, Json given, AskNow ask_now) : caller_(std::move(caller)), given_(std::move(given)), ask_now_(std::move(ask_now)) {}

  /// Runs `job` on a thread of its own, which keeps this object.
  void start(std::function<Reply(Conversation&)> job);

  struct Event {
    std::vector<std::string> messages;   ///< To be sent now.
    bool done = false, asks = false;
    Reply reply;                         ///< When done.
    Json questions;                      ///< When it asks.
  };
  /// Waits for something to happen, at most `wait_ms`.
  Event next(std::int64_t wait_ms);
  /// Answers to the questions it waits with. False when some are missing or have no form: the questions stay.
  bool answer(const Json& answers);
  Json questions() const;
  void cancel() { stop_.request_stop(); }
  /// Queues a message of this request.
  void post(std::string message);
  const Caller& caller() const { return caller_; }
  std::chrono::steady_clock::time_point expires() const;

  void progress(double fraction, const std::string& note) override;
  void log(const std::string& level, const Json& data) override;
  Result<Json> ask(const Json& questions) override;
  std::stop_token stop() const override { return stop_.get_token(); }

 private:
  Result<Json> askable(const Json& questions) const;
  Result<Json> ask_later(const Json& questions);

  const Caller caller_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::stop_source stop_;
  std::deque<std::string> messages_;
  Json given_;
  Json questions_ = nullptr;
  bool done_ = false;
  Reply reply_;
  Json missing_ = nullptr;               ///< Capabilities that a question lacked.
  double progressed_ = -1;
  std::chrono::steady_clock::time_point expires_;
  const AskNow ask_now_;
};

}  // namespace kontor::tools::mcp
