#include "plugins/host/program/serve.hpp"

#include "plugins/host/frame.hpp"
#include "plugins/host/instance.hpp"
#include "plugins/host/library.hpp"
#include "plugins/host/network.hpp"
#include "plugins/host/process.hpp"
#include "plugins/host/program/sandbox.hpp"
#include "tools/brief_wait.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KONTOR_SANITIZED 1
#endif

namespace kontor::plugins {
namespace {

constexpr rlim_t kOpenFilesMax = 256;
constexpr rlim_t kFileBytesMax = rlim_t{4} << 30;

template <class Number>
Number number_in(const std::string& text) {
  Number value{};
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

bool limit(int resource, rlim_t value) {
  rlimit now{};
  if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &now) != 0) return false;
  if (now.rlim_max != RLIM_INFINITY && now.rlim_max < value) value = now.rlim_max;
  const rlimit wanted{value, value};
  return ::setrlimit(static_cast<__rlimit_resource_t>(resource), &wanted) == 0;
}

bool limit_resources(std::uint64_t memory_bytes) {
  bool ok = limit(RLIMIT_CORE, 0);
  ok = limit(RLIMIT_NOFILE, kOpenFilesMax) && ok;
  ok = limit(RLIMIT_FSIZE, kFileBytesMax) && ok;
#ifndef KONTOR_SANITIZED
  // Sanitizers reserve terabytes of address space for their shadow.
  if (memory_bytes > 0) ok = limit(RLIMIT_AS, memory_bytes) && ok;
#else
  (void)memory_bytes;
#endif
  return ok;
}

/// Calls at work. Whichever thread the kernel wakes takes the next message and does what it says.
class Server {
 public:
  Server(FrameReader reader, std::unique_ptr<Instance> instance) : reader_(std::move(reader)), instance_(std::move(instance)) {}

  /// Errors: io when the system gives no events to wait for.
  Result<void> run() {
    events_ = ::epoll_create1(EPOLL_CLOEXEC);
    again_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    // Edges: what arrives wakes one thread, and what arrives while that one is at work wakes another.
    if (events_ < 0 || again_ < 0 || !listen_to(kSocketDescriptor, kSocketEvents) || !listen_to(again_, EPOLLIN)) {
      return fail_errno("wait for", "calls");
    }
    // One thread more than calls, so that somebody always reads `cancel` and notices the end of the connection.
    std::vector<std::thread> threads;
    for (int i = 0; i < kParallelCallsMax + 1; ++i) threads.emplace_back([this] { work(); });
    for (auto& thread : threads) thread.join();
    instance_.reset();
    return {};
  }

 private:
  static constexpr std::uint32_t kSocketEvents = EPOLLIN | EPOLLRDHUP;

  bool listen_to(int descriptor, std::uint32_t what, int operation = EPOLL_CTL_ADD) const {
    epoll_event event{what | EPOLLET, {}};
    return ::epoll_ctl(events_, operation, descriptor, &event) == 0;
  }

  void wake_for_socket(bool wanted) const {
    if (!listen_to(kSocketDescriptor, wanted ? kSocketEvents : 0, EPOLL_CTL_MOD)) std::_Exit(1);
  }

  void wake_another() const {
    const std::uint64_t one = 1;
    (void)!::write(again_, &one, sizeof one);
  }

  void work() {
    for (;;) {
      epoll_event event{};
      if (::epoll_wait(events_, &event, 1, -1) < 0 && errno != EINTR) std::_Exit(1);
      for (auto frame = next(true); frame; frame = soon()) {
        if (frame->kind == FrameKind::cancel) cancel(frame->call);
        else if (frame->kind == FrameKind::answered && frame->fields.size() == 2) answered(*frame);
        else if (is_call(frame->kind)) answer(*frame);
      }
      const std::lock_guard turn(reading_);
      if (quit_) return wake_another();
    }
  }

  /// The next message that is there; nothing when there is none. After an edge the socket has to be read until it is empty.
  std::optional<Frame> next(bool after_edge) {
    const std::lock_guard turn(reading_);
    for (bool more = after_edge;;) {
      if (quit_) return std::nullopt;
      auto frame = reader_.buffered();
      // Kontor is gone. Calls still at work have nobody to answer to, and must not outlive it.
      if (!frame) std::_Exit(0);
      if (*frame) {
        if ((*frame)->kind == FrameKind::quit) quit_ = true;
        if (is_call((*frame)->kind)) begin((*frame)->call);
        if (more || !reader_.empty()) wake_another();  // No edge will tell of what is here already.
        return std::move(*frame);
      }
      if (!more) return std::nullopt;
      const auto received = reader_.receive();
      if (!received) std::_Exit(0);
      more = *received;
    }
  }

  /// The next message that is there or about to come: who calls one tool often calls another. One thread looks for it, and
  /// until it has found one no other is woken for it.
  std::optional<Frame> soon() {
    if (auto frame = next(false)) return frame;
    if (looking_.exchange(true)) return std::nullopt;
    std::optional<Frame> frame;
    if (brief_.looks()) {
      wake_for_socket(false);
      if (brief_.look_at(kSocketDescriptor)) frame = next(true);
      wake_for_socket(true);  // Also for what has come meanwhile.
    }
    looking_ = false;
    return frame;
  }

  static bool is_call(FrameKind kind) { return kind == FrameKind::call || kind == FrameKind::probe || kind == FrameKind::request; }

  void answered(Frame& frame) {
    const std::lock_guard lock(mutex_);
    const auto found = questions_.find(frame.call);
    if (found == questions_.end()) return;
    found->second.emplace(frame.fields[0] == "1", std::move(frame.fields[1]));
    answered_.notify_all();
  }

  bool ask(std::uint64_t call, const std::string& questions, std::string& answers) {
    std::unique_lock lock(mutex_);
    const std::stop_token stop = stops_.at(call).get_token();
    auto& answer = questions_[call];
    lock.unlock();
    send({FrameKind::ask, call, {questions}});
    lock.lock();
    const bool woken = answered_.wait(lock, stop, [&] { return answer.has_value(); });
    const bool good = woken && answer->first;
    answers = woken ? std::move(answer->second) : "\"the call was cancelled\"";
    questions_.erase(call);
    return good;
  }

  void begin(std::uint64_t call) {
    const std::lock_guard lock(mutex_);
    stops_.emplace(call, std::stop_source());
  }

  void cancel(std::uint64_t call) {
    const std::lock_guard lock(mutex_);
    if (const auto found = stops_.find(call); found != stops_.end()) found->second.request_stop();
  }

  void answer(Frame& frame) {
    if (frame.fields.size() != 6) return send({FrameKind::error, frame.call, {"internal", "a call without its fields"}});
    CallRequest request;
    if (frame.kind == FrameKind::request) request.method = std::move(frame.fields[0]);
    else request.tool = number_in<std::size_t>(frame.fields[0]);
    request.probe = frame.kind == FrameKind::probe;
    request.arguments = std::move(frame.fields[1]);
    request.run_id = std::move(frame.fields[2]);
    request.call_id = std::move(frame.fields[3]);
    request.idempotency_key = std::move(frame.fields[4]);
    request.timeout_ms = number_in<std::int64_t>(frame.fields[5]);
    {
      const std::lock_guard lock(mutex_);
      request.stop = stops_.at(frame.call).get_token();
    }
    request.progress = [this, call = frame.call](double fraction, const std::string& note) {
      send({FrameKind::progress, call, {std::to_string(fraction), note}});
    };
    request.partial = [this, call = frame.call](const std::string& json) { send({FrameKind::partial, call, {json}}); };
    request.message = [this, call = frame.call](const std::string& level, const std::string& json) { send({FrameKind::message, call, {level, json}}); };
    request.ask = [this, call = frame.call](const std::string& questions, std::string& answers) { return ask(call, questions, answers); };
    request.content = [this, call = frame.call](std::string json) { send({FrameKind::content, call, {std::move(json)}}); };
    Answer answer = instance_->call(request);
    {
      const std::lock_guard lock(mutex_);
      stops_.erase(frame.call);
    }
    switch (answer.kind) {
      case Answer::Kind::result: return send({FrameKind::result, frame.call, {std::move(answer.text)}});
      case Answer::Kind::error: return send({FrameKind::error, frame.call, {std::move(answer.error_kind), std::move(answer.text)}});
      case Answer::Kind::probed:
        return send({FrameKind::probed, frame.call, {std::to_string(answer.probe_state), std::move(answer.text)}});
    }
  }

  void send(const Frame& frame) {
    const auto bytes = encode(frame);
    if (!bytes) return;
    const std::lock_guard lock(sending_);
    if (send_bytes(kSocketDescriptor, *bytes) < bytes->size()) std::_Exit(0);
  }

  int events_ = -1, again_ = -1;  ///< Open until the process ends.
  std::atomic<bool> looking_{false};
  tools::BriefWait brief_;        ///< Of the thread that has set `looking_`.
  std::mutex reading_;
  bool quit_ = false;
  FrameReader reader_;
  std::unique_ptr<Instance> instance_;
  std::mutex mutex_;
  std::map<std::uint64_t, std::stop_source> stops_;
  std::map<std::uint64_t, std::optional<std::pair<bool, std::string>>> questions_;  ///< Open ones, one a call.
  std::condition_variable_any answered_;
  std::mutex sending_;
};

bool send_frame(const Frame& frame) {
  const auto bytes = encode(frame);
  return bytes && send_bytes(kSocketDescriptor, *bytes) == bytes->size();
}

int refuse(const Error& error) {
  send_frame({FrameKind::refused, 0, {std::to_string(static_cast<int>(error.code)), error.kind, error.message}});
  return 1;
}

}  // namespace

int serve_plugin() {
  // A program that the plugin starts must not hold the connection open, nor see it.
  ::fcntl(kSocketDescriptor, F_SETFD, FD_CLOEXEC);
  ::fcntl(kLibraryDescriptor, F_SETFD, FD_CLOEXEC);
  FrameReader reader(kSocketDescriptor);
  auto load = reader.next();
  if (!load || load->kind != FrameKind::load || load->fields.size() != 8) return 2;
  auto& fields = load->fields;
  // Before any code of the plugin runs: opening the library already runs its constructors.
  if (!limit_resources(number_in<std::uint64_t>(fields[4]))) {
    return refuse(fail(Errc::denied, "the resources of the plugin's process could not be limited", "sandbox"));
  }
  if (fields[6] == "probe") return send_frame({FrameKind::ready, 0, {write_offer(offered_here())}}) ? 0 : 1;
  const auto rules = parse_rules(fields[7]);
  if (!rules) return refuse(rules.error());
  if (const auto entered = enter_sandbox(*rules); !entered) return refuse(entered.error());
  const auto entry = open_entry(kLibraryDescriptor, fields[5]);
  if (!entry) return refuse(entry.error());
  if (fields[6] == "declare") {
    const auto declaration = read_declaration(**entry);
    if (!declaration) return refuse(declaration.error());
    return send_frame({FrameKind::ready, 0, {write_declaration(*declaration)}}) ? 0 : 1;
  }
  InstanceSetup setup{std::move(fields[0]), std::move(fields[1]), std::move(fields[2]), std::move(fields[3]), {}, false};
  if (!rules->hosts.empty()) {
    ::fcntl(kNetworkDescriptor, F_SETFD, FD_CLOEXEC);
    setup.connect = [asking = std::make_shared<std::mutex>()](const std::string& name, std::uint16_t port, std::int64_t timeout_ms) {
      const std::lock_guard lock(*asking);
      return ask_for_connection(kNetworkDescriptor, name, port, timeout_ms);
    };
  }
  auto instance = create_instance(**entry, setup);
  if (!instance) return refuse(instance.error());
  if (!send_frame({FrameKind::ready, 0, {write_declaration((*instance)->declaration())}})) return 1;
  return Server(std::move(reader), std::move(*instance)).run() ? 0 : 1;
}

}  // namespace kontor::plugins
