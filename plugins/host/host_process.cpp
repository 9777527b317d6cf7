#include "plugins/host/host_process.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

namespace kontor::plugins {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::int64_t kTimeoutMsMax = 24LL * 3600 * 1000;
constexpr auto kEndingTime = milliseconds(200);  // From the end of the socket to that of the process.
constexpr auto kKilledTime = milliseconds(500);  // From killing it; longer where the kernel itself is stuck.
constexpr auto kSendPatience = milliseconds(10'000);  // A process that reads nothing any more is of no use.

std::string describe_end(int status) {
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    return "it was ended by signal " + std::to_string(number) + " (" + ::strsignal(number) + ")";
  }
  return "it exited with status " + std::to_string(WEXITSTATUS(status));
}

Answer gave_up(const CallRequest& request, std::int64_t timeout_ms, const std::string& where) {
  if (request.stop.stop_requested()) return Answer::error("cancelled", "the call was cancelled while " + where);
  return Answer::error("timeout", "no answer within " + std::to_string(timeout_ms) + " ms while " + where);
}

}  // namespace

HostProcess::HostProcess(pid_t pid, int socket, int wake, std::string name, const ProcessOptions& options)
    : pid_(pid), socket_(socket), wake_(wake), name_(std::move(name)), options_(options), frames_(socket), watcher_([this] { watch(); }) {}

HostProcess::~HostProcess() {
  {
    Lock lock(mutex_);
    if (!dead_) send_frame(lock, {FrameKind::quit, 0, {}}, {}, milliseconds(options_.grace_ms));
    if (!changed_.wait_for(lock, milliseconds(options_.grace_ms), [this] { return dead_; })) kill_group();
  }
  watcher_.join();
  ::close(socket_);
  ::close(wake_);
}

bool HostProcess::dead() const {
  const std::lock_guard lock(mutex_);
  return dead_;
}

Result<std::string> HostProcess::load(std::vector<std::string> fields, const std::stop_token& stop) {
  Pending pending;
  Lock lock(mutex_);
  if (dead_) return fail(Errc::io, why_dead_, "crashed");
  pending_.emplace(0, &pending);
  const auto deadline = SteadyClock::now() + milliseconds(options_.start_timeout_ms);
  if (!send_frame(lock, {FrameKind::load, 0, std::move(fields)}, stop, milliseconds(options_.start_timeout_ms))) kill_group();
  const bool done = await(lock, pending, stop, deadline);
  pending_.erase(0);
  if (!done) {
    kill_group();
    if (stop.stop_requested()) return fail(Errc::cancelled, "the call was cancelled while plugin " + name_ + " was being started", "cancelled");
    return fail(Errc::timeout, "plugin " + name_ + " was not ready after " + std::to_string(options_.start_timeout_ms) + " ms", "timeout");
  }
  if (pending.refusal) return *pending.refusal;
  if (pending.answer.kind == Answer::Kind::error) return fail(Errc::io, pending.answer.text, pending.answer.error_kind);
  return std::move(pending.answer.text);
}

std::optional<Answer> HostProcess::call(const CallRequest& request, bool serial) {
  const auto timeout = std::clamp<std::int64_t>(request.timeout_ms, 1, kTimeoutMsMax);
  const auto deadline = SteadyClock::now() + milliseconds(timeout);
  const std::size_t parallel_max = serial ? 1 : kParallelCallsMax;
  // Before others have to wait for it.
  const std::uint64_t id = next_call_++;
  const bool asks = !request.method.empty();
  const std::string what = asks ? request.method : std::to_string(request.tool), limit = std::to_string(timeout);
  const std::string_view fields[] = {what, request.arguments, request.run_id, request.call_id, request.idempotency_key, limit};
  const auto bytes = encode(asks ? FrameKind::request : request.probe ? FrameKind::probe : FrameKind::call, id, fields);
  if (!bytes) return Answer::error("invalid_arguments", bytes.error().message);
  Lock lock(mutex_);
  const auto my_turn = [&] { return dead_ || pending_.size() < parallel_max; };
  if (!my_turn() && !changed_.wait_until(lock, request.stop, deadline, my_turn)) {
    return gave_up(request, timeout, "waiting for earlier calls of the plugin");
  }
  if (dead_) return std::nullopt;
  Pending pending;
  pending_.emplace(id, &pending);
  const auto patience = std::min(deadline, SteadyClock::now() + kSendPatience);
  const std::size_t sent = send(lock, *bytes, request.stop, patience);
  if (sent < bytes->size()) {
    pending_.erase(id);
    changed_.notify_all();
    const auto now = SteadyClock::now();
    const bool over = !dead_ && (request.stop.stop_requested() || now >= deadline);
    if (over && sent == 0) return gave_up(request, timeout, "waiting for the plugin to read it");
    if (over || now >= patience) kill_reason_ = "it was stopped because it did not read a call";
    const bool ended = wait_for_end(lock);
    if (over) return gave_up(request, timeout, "being handed over; its process was stopped");
    if (!ended) return Answer::error("crashed", "plugin " + name_ + " does not read, and does not end");
    return std::nullopt;
  }
  const bool done = wait(lock, pending, request, deadline);
  if (!done) stop_call(lock, id, pending);
  pending_.erase(id);
  changed_.notify_all();
  if (!pending.done) return gave_up(request, timeout, "running; its process was stopped");
  // Told to stop, it stopped: what counts is why. A result is a result though, since its effect has happened.
  if (!done && pending.answer.kind == Answer::Kind::error && pending.answer.error_kind != "crashed") {
    return gave_up(request, timeout, "running");
  }
  return std::move(pending.answer);
}

/// True when the answer is there; false at the deadline or when asked to stop.
bool HostProcess::wait(Lock& lock, Pending& pending, const CallRequest& request, Time deadline) {
  for (;;) {
    const bool woken = await(lock, pending, request.stop, deadline);
    while (!pending.talk.empty()) {
      const Frame frame = std::move(pending.talk.front());
      pending.talk.pop_front();
      const auto begin = SteadyClock::now();
      lock.unlock();
      const auto answer = hand_on(frame, request);
      lock.lock();
      if (answer) send_frame(lock, *answer, request.stop, kSendPatience);
      deadline += SteadyClock::now() - begin;  // People take their time.
    }
    if (pending.done) return true;
    if (!woken) return false;
    if (const auto partial = std::exchange(pending.partial, std::nullopt); partial && request.partial) {
      lock.unlock();
      request.partial(*partial);
      lock.lock();
      continue;
    }
    if (!pending.progress) continue;
    const auto progress = *std::exchange(pending.progress, std::nullopt);
    if (!request.progress) continue;
    lock.unlock();
    request.progress(progress.first, progress.second);
    lock.lock();
  }
}

/// Until something has come for the call; false at the deadline or when asked to stop. Reads when nobody else does.
bool HostProcess::await(Lock& lock, const Pending& pending, const std::stop_token& stop, Time deadline) {
  const std::stop_callback on_stop(stop, [this] { wake(); });
  const auto may_read = [this] { return reader_ == nullptr && !leaving_ && !closed_; };
  while (!pending.stirred() && !stop.stop_requested() && SteadyClock::now() < deadline) {
    if (may_read()) read_some(lock, pending, deadline);
    else changed_.wait_until(lock, stop, deadline, [&] { return pending.stirred() || may_read(); });
  }
  if (pending_.size() > 1) changed_.notify_all();  // Somebody else has to read now.
  return pending.stirred();
}

/// One look at the socket, for all who wait.
void HostProcess::read_some(Lock& lock, const Pending& reader, Time deadline) {
  reader_ = &reader;
  lock.unlock();
  bool readable = brief_.look_at(socket_);
  if (!readable) {
    pollfd from[2] = {{socket_, POLLIN, 0}, {wake_, POLLIN, 0}};
    const auto left = std::max<std::int64_t>(std::chrono::nanoseconds(deadline - SteadyClock::now()).count(), 0);
    const timespec patience{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
    ::ppoll(from, 2, &patience, nullptr);
    if (std::uint64_t woken = 0; from[1].revents != 0) (void)!::read(wake_, &woken, sizeof woken);
    readable = from[0].revents != 0;
  }
  Result<bool> received = false;
  if (readable) received = frames_.receive();
  lock.lock();
  take_all();
  if (!received && !closed_) {
    closed_ = true;
    // It is ending; how it does is to be heard before it is helped to.
    if (!changed_.wait_for(lock, kEndingTime, [this] { return leaving_; })) kill_group();
  }
  reader_ = nullptr;
  if (leaving_ || closed_) changed_.notify_all();
}

/// Hands out the messages that were received.
void HostProcess::take_all() {
  for (;;) {
    auto frame = frames_.buffered();
    if (!frame) return give_up_reading(frame.error().message);
    if (!*frame) return;
    if (!take(**frame)) return give_up_reading("it sent a message that makes no sense here");
  }
}

/// The process is of no use any more; the watcher says so once it has ended.
void HostProcess::give_up_reading(std::string why) {
  if (std::exchange(closed_, true)) return;
  if (kill_reason_.empty()) kill_reason_ = std::move(why);
  kill_group();
}

/// Without the lock. What is to be sent back, for a question.
std::optional<Frame> HostProcess::hand_on(const Frame& frame, const CallRequest& request) {
  if (frame.kind == FrameKind::message && request.message) request.message(frame.fields[0], frame.fields[1]);
  if (frame.kind == FrameKind::content && request.content) request.content(frame.fields[0]);
  if (frame.kind != FrameKind::ask) return std::nullopt;
  std::string answers = "\"there is nobody to ask\"";
  const bool asked = request.ask && request.ask(frame.fields[0], answers);
  return Frame{FrameKind::answered, frame.call, {asked ? "1" : "0", std::move(answers)}};
}

/// Asks politely, then ends the process. Other calls in it end as crashed.
void HostProcess::stop_call(Lock& lock, std::uint64_t id, Pending& pending) {
  if (send_frame(lock, {FrameKind::cancel, id, {}}, {}, milliseconds(options_.grace_ms))) {
    const auto deadline = SteadyClock::now() + milliseconds(options_.grace_ms);
    while (await(lock, pending, {}, deadline) && !pending.done) pending.talk.clear(), pending.progress.reset(), pending.partial.reset();
    if (pending.done) return;
  }
  kill_reason_ = "it was stopped because a call did not end";
  wait_for_end(lock);
  // The answer that was made up for it says "crashed"; the caller knows better.
  if (pending.answer.error_kind == "crashed") pending.done = false;
}

/// One writer at a time. Returns how many bytes were taken: fewer than all when the process is gone or does not read.
std::size_t HostProcess::send(Lock& lock, std::string_view bytes, const std::stop_token& stop, Time deadline) {
  if (sending_) changed_.wait_until(lock, stop, deadline, [this] { return dead_ || !sending_; });
  if (sending_ || dead_) return 0;
  sending_ = true;
  lock.unlock();
  const std::size_t sent = send_bytes(socket_, bytes, [&] { return stop.stop_requested() || SteadyClock::now() >= deadline; });
  lock.lock();
  sending_ = false;
  if (pending_.size() > 1) changed_.notify_all();
  return sent;
}

bool HostProcess::send_frame(Lock& lock, const Frame& frame, const std::stop_token& stop, milliseconds patience) {
  const auto bytes = encode(frame);
  return bytes && send(lock, *bytes, stop, SteadyClock::now() + patience) == bytes->size();
}

/// Kills it. False when it is still there, which only the kernel can be the cause of.
bool HostProcess::wait_for_end(Lock& lock) {
  kill_group();
  return changed_.wait_for(lock, kKilledTime, [this] { return dead_; });
}

/// The number is ours until the watcher has reaped it.
void HostProcess::kill_group() {
  if (!reaped_) ::kill(-pid_, SIGKILL), ::kill(pid_, SIGKILL);
}

bool HostProcess::take(Frame& frame) {
  const auto found = pending_.find(frame.call);
  if (found == pending_.end()) return true;  // The answer to a call that nobody waits for any more.
  Pending& pending = *found->second;
  if (&pending != reader_) changed_.notify_all();
  auto& fields = frame.fields;
  const bool one = fields.size() == 1, two = fields.size() == 2;
  if (frame.call == 0) {
    if (frame.kind == FrameKind::ready && one) pending.answer = {Answer::Kind::result, {}, std::move(fields[0]), 0};
    else if (frame.kind == FrameKind::refused && fields.size() == 3) pending.refusal = refusal(fields);
    else return false;
  } else if (frame.kind == FrameKind::progress && two) {
    pending.progress.emplace(std::strtod(fields[0].c_str(), nullptr), std::move(fields[1]));
    return true;
  } else if (frame.kind == FrameKind::partial && one) {
    if (fields[0].size() <= kPartialBytesMax) pending.partial = std::move(fields[0]);
    return true;
  } else if ((frame.kind == FrameKind::message && two) || ((frame.kind == FrameKind::ask || frame.kind == FrameKind::content) && one)) {
    constexpr std::size_t kTalkMax = 1'000;
    if (pending.talk.size() >= kTalkMax) return frame.kind == FrameKind::message;  // Messages too many are dropped.
    pending.talk.push_back(std::move(frame));
    return true;
  } else if (frame.kind == FrameKind::result && one) {
    pending.answer = {Answer::Kind::result, {}, std::move(fields[0]), 0};
  } else if (frame.kind == FrameKind::error && two) {
    pending.answer = Answer::error(std::move(fields[0]), std::move(fields[1]));
  } else if (frame.kind == FrameKind::probed && two) {
    std::uint32_t state = KONTOR_PROBE_UNKNOWN;
    std::from_chars(fields[0].data(), fields[0].data() + fields[0].size(), state);
    pending.answer = {Answer::Kind::probed, {}, std::move(fields[1]), state};
  } else {
    return false;
  }
  pending.done = true;
  return true;
}

Error HostProcess::refusal(std::vector<std::string>& fields) {
  int code = 0;
  std::from_chars(fields[0].data(), fields[0].data() + fields[0].size(), code);
  const bool known = code > 0 && code <= static_cast<int>(Errc::internal);
  return fail(known ? static_cast<Errc>(code) : Errc::internal, std::move(fields[2]), std::move(fields[1]));
}

void HostProcess::wake() const {
  const std::uint64_t one = 1;
  (void)!::write(wake_, &one, sizeof one);
}

/// The watcher's thread: waits for the end of the process, then says it to all who wait.
void HostProcess::watch() {
  siginfo_t info{};
  int waited = 0;
  do waited = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
  while (waited < 0 && errno == EINTR);
  Lock lock(mutex_);
  kill_group();  // What it left behind.
  leaving_ = true;
  wake();
  changed_.notify_all();
  changed_.wait(lock, [this] { return reader_ == nullptr; });
  // What it said before it ended counts.
  while (!closed_) {
    const auto received = frames_.receive();
    take_all();
    if (!received || !*received) closed_ = true;
  }
  int status = 0;
  pid_t reaped = 0;
  do reaped = ::waitpid(pid_, &status, 0);
  while (reaped < 0 && errno == EINTR);
  reaped_ = dead_ = true;
  why_dead_ = "plugin " + name_ + " crashed: " + (!kill_reason_.empty() ? kill_reason_ : reaped == pid_ ? describe_end(status) : "its process is gone");
  for (auto& [id, pending] : pending_) {
    if (pending->done) continue;
    pending->answer = Answer::error("crashed", why_dead_);
    pending->done = true;
  }
  changed_.notify_all();
}

}  // namespace kontor::plugins
