#include "tools/mcp/stdio_transport.hpp"

#include "base/stream_reader.hpp"
#include "tools/brief_wait.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace kontor::tools::mcp {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kReadBytes = 64u << 10;
constexpr std::size_t kErrorLineBytesMax = 4096;
constexpr std::int64_t kWindowNs = 100'000;  // What a server takes for a message of some KiB.
constexpr int kPollMs = 50;  // How soon a writer notices that it is asked to stop.

int milliseconds_until(SteadyClock::time_point deadline) {
  const auto left = std::chrono::ceil<milliseconds>(deadline - SteadyClock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, kPollMs));
}

class StdioTransport final : public Transport {
 public:
  StdioTransport(ChildSetup setup, const StdioLimits& limits) : setup_(std::move(setup)), limits_(limits), lines_(limits.message_bytes) {}

  ~StdioTransport() override {
    {
      const std::lock_guard lock(mutex_);
      leaving_ = true;
    }
    if (child_) leave();
    wake();
    if (reader_.joinable()) reader_.join();
    asked_changed_.notify_all();
    if (answerer_.joinable()) answerer_.join();
    if (events_ >= 0) ::close(events_);
    if (wake_ >= 0) ::close(wake_);
  }

  Result<void> start(Peer& peer) override {
    peer_ = &peer;
    // A server that is gone is an error of a write, not the end of this process.
    if (struct sigaction now{}; ::sigaction(SIGPIPE, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) ::signal(SIGPIPE, SIG_IGN);
    wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    events_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (wake_ < 0 || events_ < 0) return fail_errno("make an event for", setup_.command.front());
    auto child = Child::start(setup_);
    if (!child) return child.error();
    child_.emplace(std::move(*child));
    if (!listen_to(child_->output()) || !listen_to(child_->errors()) || !listen_to(wake_)) return fail_errno("wait for", setup_.command.front());
    reader_ = std::thread([this] { read(); });
    answerer_ = std::thread([this] { answer_requests(); });
    return {};
  }

  Result<Message> exchange(const std::string& method, const Json& params, const Headers&, const Patience& patience) override {
    Pending pending;
    pending.progress = patience.progress ? &patience.progress : nullptr;
    std::int64_t id = 0;
    {
      const std::lock_guard lock(mutex_);
      if (dead_) return fail(Errc::io, why_dead_, "refused");
      id = next_id_++;
      pending_.emplace(id, &pending);
    }
    Json sent = params;
    if (patience.progress) sent["_meta"]["progressToken"] = id;
    if (auto written = write(write_request(id, method, sent), patience.deadline, patience.stop); !written) {
      const std::lock_guard lock(mutex_);
      pending_.erase(id);
      return written.error();
    }
    look_for(pending, patience);
    std::unique_lock lock(mutex_);
    const bool answered = wait(lock, pending, patience);
    pending_.erase(id);
    if (!answered) {
      lock.unlock();
      return give_up(id, method, patience);
    }
    if (!pending.answer) return fail(Errc::io, why_dead_, "closed");
    return std::move(*pending.answer);
  }

  Result<void> notify(const std::string& method, const Json& params) override {
    return write(write_notification(method, params), SteadyClock::now() + milliseconds(1000), {});
  }

  void subscribe(const std::string& method, const Json& params) override {
    std::int64_t id = 0;
    {
      const std::lock_guard lock(mutex_);
      id = subscription_ = next_id_++;
    }
    if (const auto written = write(write_request(id, method, params), SteadyClock::now() + milliseconds(1000), {}); !written) peer_->noted(method + ": " + written.error().message);
  }

  void agreed(const std::string&) override {}

  bool alive() const override {
    const std::lock_guard lock(mutex_);
    return !dead_;
  }

 private:
  struct Pending {
    std::condition_variable_any changed;
    bool done = false;
    std::optional<Message> answer;        ///< Empty when the server went away.
    const std::function<void(const Json&)>* progress = nullptr;
    std::deque<Json> reports;             ///< Progress not yet handed on.
  };

  /// The right to write a message, which others may hold for long when the server does not read.
  class WriteTurn {
   public:
    WriteTurn(StdioTransport& owner, SteadyClock::time_point deadline, const std::stop_token& stop) : owner_(owner) {
      std::unique_lock lock(owner.write_mutex_);
      const auto free = [&owner] { return !owner.writing_; };
      if (deadline == SteadyClock::time_point::max()) {
        owner.write_ended_.wait(lock, free);
        taken_ = true;
      } else {
        taken_ = owner.write_ended_.wait_until(lock, stop, deadline, free);
      }
      if (taken_) owner.writing_ = true;
    }
    ~WriteTurn() {
      if (!taken_) return;
      const std::lock_guard lock(owner_.write_mutex_);
      owner_.writing_ = false;
      owner_.write_ended_.notify_one();
    }
    WriteTurn(const WriteTurn&) = delete;
    WriteTurn& operator=(const WriteTurn&) = delete;
    bool taken() const { return taken_; }

   private:
    StdioTransport& owner_;
    bool taken_ = false;
  };

  struct Question {
    Json id;
    std::string method;
    Json params;
  };

  /// Reads itself what comes within microseconds: it would take two other threads to be woken for it. Nobody is, until it
  /// is over.
  void look_for(const Pending& pending, const Patience& patience) {
    const std::unique_lock turn(reading_, std::try_to_lock);
    if (!turn.owns_lock() || !brief_.looks() || !wake_for_output(false)) return;
    const auto open = [&] {
      const std::lock_guard lock(mutex_);
      return !pending.done && pending.reports.empty() && !dead_ && !cut_off_;
    };
    while (open() && !patience.stop.stop_requested() && SteadyClock::now() < patience.deadline && brief_.look_at(child_->output()) && read_output()) {}
    wake_for_output(true);  // Also for what has come meanwhile.
  }

  /// True when it is over, one way or the other; false at the deadline and when asked to stop.
  bool wait(std::unique_lock<std::mutex>& lock, Pending& pending, const Patience& patience) {
    for (;;) {
      const bool woken = pending.changed.wait_until(lock, patience.stop, patience.deadline, [&] { return pending.done || !pending.reports.empty(); });
      while (!pending.reports.empty()) {
        const Json report = std::move(pending.reports.front());
        pending.reports.pop_front();
        lock.unlock();
        if (pending.progress) (*pending.progress)(report);
        lock.lock();
      }
      if (pending.done) return true;
      if (!woken) return false;
    }
  }

  Error give_up(std::int64_t id, const std::string& method, const Patience& patience) {
    const bool stopped = patience.stop.stop_requested();
    // An `initialize` is not to be cancelled.
    if (method != "initialize") {
      write(write_notification("notifications/cancelled", Json{{"requestId", id}, {"reason", stopped ? "stopped" : "timeout"}}),
            SteadyClock::now() + milliseconds(kPollMs), {});
    }
    if (stopped) return fail(Errc::cancelled, "the request was cancelled", "cancelled");
    return fail(Errc::timeout, setup_.command.front() + " did not answer " + method + " in time", "timeout");
  }

  /// A message on a line of its own. Half a line makes the stream useless, so the server is given up then.
  Result<void> write(std::string line, SteadyClock::time_point deadline, const std::stop_token& stop) {
    line += '\n';
    const WriteTurn turn(*this, deadline, stop);
    if (!turn.taken()) {
      if (stop.stop_requested()) return fail(Errc::cancelled, "the request was cancelled", "cancelled");
      return fail(Errc::timeout, setup_.command.front() + " does not read its input", "timeout");
    }
    std::string_view rest = line;
    while (!rest.empty()) {
      if (!child_ || child_->input() < 0) return fail(Errc::io, "the connection is closed", "refused");
      const ssize_t count = ::write(child_->input(), rest.data(), rest.size());
      if (count > 0) {
        rest.remove_prefix(static_cast<std::size_t>(count));
        continue;
      }
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno != EAGAIN) {
        const bool whole = rest.size() == line.size();
        for (int i = 0; i < 100 && alive(); ++i) std::this_thread::sleep_for(milliseconds(5));  // The reader finds out why.
        const std::lock_guard state(mutex_);
        return fail(Errc::io, dead_ ? why_dead_ : setup_.command.front() + " closed its input", whole ? "refused" : "closed");
      }
      const bool late = SteadyClock::now() >= deadline;
      if (late || stop.stop_requested()) {
        if (rest.size() < line.size()) cut_off("it stopped reading in the middle of a message");
        return late ? fail(Errc::timeout, setup_.command.front() + " does not read its input", "timeout")
                    : fail(Errc::cancelled, "the request was cancelled", "cancelled");
      }
      pollfd writable{child_->input(), POLLOUT, 0};
      ::poll(&writable, 1, milliseconds_until(deadline));
    }
    return {};
  }

  // ---- the reader's thread

  void read() {
    bool output_open = true, errors_open = true;
    while (output_open) {
      epoll_event heard[3];
      const int count = ::epoll_wait(events_, heard, 3, -1);
      if (count < 0 && errno != EINTR) break;
      const auto hears = [&](int descriptor) {
        return std::any_of(heard, heard + std::max(count, 0), [&](const epoll_event& event) { return event.data.fd == descriptor; });
      };
      if (hears(wake_)) break;
      if (hears(child_->errors()) && !read_errors()) {
        errors_open = false;
        ::epoll_ctl(events_, EPOLL_CTL_DEL, child_->errors(), nullptr);
      }
      if (hears(child_->output())) {
        const std::lock_guard turn(reading_);
        output_open = read_output();
      }
    }
    while (errors_open && read_errors(true)) {}
    finish();
  }

  bool listen_to(int descriptor, std::uint32_t what = EPOLLIN, int operation = EPOLL_CTL_ADD) const {
    epoll_event event{what, {}};
    event.data.fd = descriptor;
    return ::epoll_ctl(events_, operation, descriptor, &event) == 0;
  }

  bool wake_for_output(bool wanted) const { return listen_to(child_->output(), wanted ? std::uint32_t{EPOLLIN} : 0, EPOLL_CTL_MOD); }

  /// Of whoever has `reading_`. False at the end.
  bool read_output() {
    const ssize_t count = ::read(child_->output(), output_.data(), output_.size());
    if (count < 0) return errno == EINTR || errno == EAGAIN;
    if (count == 0) return false;
    const auto fed = lines_.feed(std::string_view(output_.data(), static_cast<std::size_t>(count)), [this](std::string_view line) { return take(line); });
    if (!fed) cut_off(fed.error().message);
    const std::lock_guard lock(mutex_);
    return !cut_off_;
  }

  /// `rest`: only what is there already.
  bool read_errors(bool rest = false) {
    char buffer[4096];
    const ssize_t count = ::read(child_->errors(), buffer, sizeof buffer);
    if (count < 0) return !rest && (errno == EINTR || errno == EAGAIN);
    if (count == 0) return false;
    for (const char c : std::string_view(buffer, static_cast<std::size_t>(count))) {
      if (c != '\n') {
        if (error_line_.size() < kErrorLineBytesMax) error_line_ += c;
        continue;
      }
      if (!error_line_.empty()) peer_->noted("stderr: " + error_line_), last_error_ = error_line_;
      error_line_.clear();
    }
    return true;
  }

  bool take(std::string_view line) {
    auto message = parse_message(line);
    if (!message) return noise("not a message (" + message.error().message + "): " + std::string(line.substr(0, 200)));
    switch (message->kind) {
      case Message::Kind::result:
      case Message::Kind::error: return take_answer(std::move(*message));
      case Message::Kind::request: return take_question(std::move(*message));
      case Message::Kind::notification: return take_notification(std::move(*message));
    }
    return true;
  }

  bool take_answer(Message message) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = message.id.is_number_integer() ? pending_.find(message.id.get<std::int64_t>()) : pending_.end();
      if (found != pending_.end() && !found->second->done) {
        found->second->answer = std::move(message);
        found->second->done = true;
        found->second->changed.notify_all();
        unasked_ = 0;
        return true;
      }
      if (subscription_ > 0 && message.id == Json(subscription_)) {
        subscription_ = 0;
        peer_->noted("the subscription has ended" + (message.kind == Message::Kind::error ? ": " + message.error.message.substr(0, 200) : std::string()));
      }
      // Late answers to what was given up are in order.
      if (message.id.is_number_integer() && message.id.get<std::int64_t>() > 0 && message.id.get<std::int64_t>() < next_id_) return count_unasked();
    }
    return noise("an answer to a request that was never sent");
  }

  bool take_question(Message message) {
    if (!count_unasked()) return false;
    const std::lock_guard lock(mutex_);
    if (questions_.size() >= limits_.queued_requests) {
      cut_off_locked("it sent more than " + std::to_string(limits_.queued_requests) + " requests at once");
      return false;
    }
    questions_.push_back({std::move(message.id), std::move(message.method), std::move(message.body)});
    asked_changed_.notify_all();
    return true;
  }

  bool take_notification(Message message) {
    if (!count_unasked()) return false;
    if (message.method != "notifications/progress") {
      peer_->notified(message.method, message.body);
      return true;
    }
    const auto token = message.body.find("progressToken");
    if (token == message.body.end() || !token->is_number_integer()) return true;
    constexpr std::size_t kReportsMax = 256;
    const std::lock_guard lock(mutex_);
    const auto found = pending_.find(token->get<std::int64_t>());
    if (found == pending_.end() || !found->second->progress || found->second->reports.size() >= kReportsMax) return true;
    found->second->reports.push_back(std::move(message.body));
    found->second->changed.notify_all();
    return true;
  }

  bool noise(const std::string& line) {
    if (++noise_ <= 20) peer_->noted(line);
    if (noise_ <= limits_.noise_lines) return true;
    cut_off("it writes what are no messages: " + line.substr(0, 120));
    return false;
  }

  bool count_unasked() {
    if (++unasked_ <= limits_.unasked_messages) return true;
    cut_off("it floods us with messages");
    return false;
  }

  void finish() {
    bool cut = false;
    {
      const std::lock_guard lock(mutex_);
      cut = cut_off_ || leaving_;
    }
    int status = 0;
    // It has closed its output: nothing can come of it any more.
    if (!child_->wait(cut ? 0 : 200, status)) child_->signal(SIGKILL);
    const bool ended = child_->wait(1000, status);
    child_->signal(SIGKILL);
    const std::lock_guard lock(mutex_);
    std::string why = cut_off_ ? why_cut_off_ : ended ? describe_end(status) : "it closed its output";
    if (!cut_off_ && !last_error_.empty()) why += "; its last words: " + last_error_.substr(0, 300);
    why_dead_ = "the server " + setup_.command.front() + " is gone: " + why;
    dead_ = true;
    for (auto& [id, pending] : pending_) {
      pending->done = true;
      pending->changed.notify_all();
    }
    asked_changed_.notify_all();
  }

  // ---- requests of the server

  void answer_requests() {
    for (;;) {
      Question question;
      {
        std::unique_lock lock(mutex_);
        asked_changed_.wait(lock, [this] { return dead_ || leaving_ || !questions_.empty(); });
        if (dead_ || leaving_) return;
        question = std::move(questions_.front());
        questions_.pop_front();
      }
      const Reply reply = peer_->asked(question.method, question.params);
      const auto* result = std::get_if<Json>(&reply);
      write(result ? write_result(question.id, *result) : write_error(question.id, std::get<RpcError>(reply)), SteadyClock::now() + milliseconds(5000), {});
    }
  }

  // ---- ends

  void cut_off(const std::string& why) {
    const std::lock_guard lock(mutex_);
    cut_off_locked(why);
  }

  void cut_off_locked(const std::string& why) {
    if (cut_off_) return;
    cut_off_ = true;
    why_cut_off_ = why + ", so it was stopped";
    wake();
  }

  void wake() const {
    const std::uint64_t one = 1;
    if (wake_ >= 0 && ::write(wake_, &one, sizeof one) < 0) return;
  }

  /// As the protocol wants it: close its input, wait, ask, force.
  void leave() {
    {
      const WriteTurn turn(*this, SteadyClock::time_point::max(), {});
      child_->close_input();
    }
    for (const int number : {0, SIGTERM, SIGKILL}) {
      if (number != 0) child_->signal(number);
      const auto deadline = SteadyClock::now() + milliseconds(limits_.leave_ms);
      while (SteadyClock::now() < deadline) {
        if (!alive()) return;
        std::this_thread::sleep_for(milliseconds(2));
      }
    }
  }

  const ChildSetup setup_;
  const StdioLimits limits_;
  Peer* peer_ = nullptr;
  std::optional<Child> child_;
  int wake_ = -1, events_ = -1;

  std::mutex write_mutex_;
  std::condition_variable_any write_ended_;
  bool writing_ = false;

  mutable std::mutex mutex_;
  std::map<std::int64_t, Pending*> pending_;
  std::int64_t next_id_ = 1, subscription_ = 0;
  std::deque<Question> questions_;
  std::condition_variable asked_changed_;
  bool dead_ = false, leaving_ = false, cut_off_ = false;
  std::string why_dead_, why_cut_off_;

  std::mutex reading_;
  // Of whoever has it: the reader's thread, or who waits for an answer.
  LineReader lines_;
  std::string output_ = std::string(kReadBytes, '\0');
  int noise_ = 0, unasked_ = 0;
  BriefWait brief_{kWindowNs};

  // Of the reader's thread.
  std::string error_line_, last_error_;

  std::thread reader_, answerer_;
};

}  // namespace

std::unique_ptr<Transport> make_stdio_transport(ChildSetup setup, const StdioLimits& limits) {
  return std::make_unique<StdioTransport>(std::move(setup), limits);
}

}  // namespace kontor::tools::mcp
