#pragma once
// The server's side of the protocol, without transports: which request means what, in both revisions.

#include "tools/mcp/work.hpp"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace kontor::tools::mcp {

/// What a client and we agreed on with `initialize`; also the requests that are at work for it. Thread-safe; lives in a
/// shared_ptr, which its requests keep.
class Session : public std::enable_shared_from_this<Session> {
 public:
  explicit Session(std::string id) : id_(std::move(id)) {}
  const std::string& id() const { return id_; }
  bool is_open() const { return open_; }
  /// What `initialize` agreed on; "" before.
  std::string revision() const {
    const std::lock_guard lock(mutex_);
    return revision_;
  }
  /// An answer of the client to one of our questions.
  void answered(const Message& answer);
  void cancel(const Json& request_id);
  void cancel_all();

 private:
  friend class Dispatcher;
  struct Question {
    bool done = false;
    Message answer;
  };
  Result<Json> ask(const std::string& method, const Json& params, Work& work);

  const std::string id_;
  std::atomic<bool> open_{false};
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::string revision_, log_level_ = "info";
  Json capabilities_ = Json::object();
  std::map<std::string, Question> questions_;
  std::map<std::string, std::shared_ptr<Work>> running_;  ///< By the request's id as JSON.
  std::int64_t next_question_ = 1;
};

/// The end of a request.
struct Outcome {
  std::string message;                   ///< "" for notifications and for what was cancelled.
  int status = 200;                      ///< For HTTP.
};

class Dispatcher {
 public:
  /// `offer` outlives it.
  explicit Dispatcher(Offer& offer);
  /// Cancels what is at work and waits some seconds for it.
  ~Dispatcher();

  /// Sends a message that belongs to a request while it is at work.
  using Send = std::function<void(const std::string& message)>;
  /// Asked now and then: is the client gone?
  using Gone = std::function<bool()>;

  /// Handles a message of a client and blocks until its answer. A request that says its version in `_meta` is of the
  /// stateless revision, all others belong to the session.
  Outcome handle(const Message& message, Session& session, const Send& send, const Gone& gone);
  /// Is it a request of the stateless revision?
  static bool is_stateless(const Message& message);
  const Offer& offer() const { return offer_; }
  /// Revisions that are served.
  static Json revisions();

 private:
  Outcome handle_stateless(const Message& request, Session& session, const Send& send, const Gone& gone);
  Outcome handle_session(const Message& request, Session& session, const Send& send, const Gone& gone);
  Reply initialize(const Json& params, Session& session);
  Reply discover() const;
  std::optional<std::function<Reply(Conversation&)>> job_of(const Message& request, bool stateless);
  Outcome listen(const Message& request, Session& session, const Send& send, const Gone& gone);
  Outcome pump(const std::shared_ptr<Work>& work, const Message& request, Session& session, const Send& send, const Gone& gone);
  Outcome finish(const Message& request, const Reply& reply, bool stateless) const;
  Outcome input_required(const Message& request, const std::shared_ptr<Work>& work, const Json& questions);
  /// The work that a retry belongs to; an error when the state is not one of ours.
  Result<std::shared_ptr<Work>> resumed(const Message& request);
  void forget_expired();
  void begin(const std::shared_ptr<Work>& work, std::function<Reply(Conversation&)> job);

  Offer& offer_;
  const std::shared_ptr<std::atomic<int>> active_ = std::make_shared<std::atomic<int>>(0);
  const std::string key_;                ///< Of the request states; lives as long as the process.
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Work>> waiting_;  ///< By the number in their request state.
  std::int64_t next_state_ = 1;
};

}  // namespace kontor::tools::mcp
