#include "plugins/host/process.hpp"

#include "plugins/host/frame.hpp"
#include "plugins/host/network.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace kontor::plugins {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kFirstFreeDescriptor = 16;  // Above the numbers that the child's descriptors are moved to.
constexpr std::int64_t kTimeoutMsMax = 24LL * 3600 * 1000;
constexpr int kSendTimeoutSeconds = 10;

/// A descriptor above the ones the child uses, so that moving one does not overwrite another.
struct Descriptor {
  int number = -1;
  explicit Descriptor(int from) {
    if (from < 0) return;
    number = ::fcntl(from, F_DUPFD_CLOEXEC, kFirstFreeDescriptor);
    ::close(from);
  }
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  int release() { return std::exchange(number, -1); }
};

/// Only what a program needs to find its libraries and speak its language: no tokens, no keys.
std::vector<std::string> clean_environment(const std::vector<std::string>& permitted) {
  std::vector<std::string> kept;
  for (const char* name : {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"}) {
    if (const char* value = std::getenv(name)) kept.push_back(std::string(name) + "=" + value);
  }
  for (const auto& name : permitted) {
    if (const char* value = std::getenv(name.c_str())) kept.push_back(name + "=" + value);
  }
  return kept;
}

struct SpawnSettings {
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
};

/// Errors: io with the reason of the system.
Result<pid_t> spawn(const std::string& program, int socket, int library, int network, int log, std::vector<std::string> environment) {
  SpawnSettings settings;
  auto* actions = &settings.actions;
  int status = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
  // Whatever the plugin prints goes to its log, never to Kontor's own output.
  for (const int output : {1, 2}) {
    status |= log >= 0 ? posix_spawn_file_actions_adddup2(actions, log, output)
                       : posix_spawn_file_actions_addopen(actions, output, "/dev/null", O_WRONLY, 0);
  }
  status |= posix_spawn_file_actions_adddup2(actions, socket, kSocketDescriptor);
  status |= posix_spawn_file_actions_adddup2(actions, library, kLibraryDescriptor);
  if (network >= 0) status |= posix_spawn_file_actions_adddup2(actions, network, kNetworkDescriptor);
  status |= posix_spawn_file_actions_addclosefrom_np(actions, network >= 0 ? kNetworkDescriptor + 1 : kNetworkDescriptor);
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  status |= posix_spawnattr_setsigdefault(&settings.attributes, &all);
  status |= posix_spawnattr_setsigmask(&settings.attributes, &none);
  // A group of its own: Ctrl-C is for Kontor to handle, and the group can be ended with everything it started.
  status |= posix_spawnattr_setpgroup(&settings.attributes, 0);
  status |= posix_spawnattr_setflags(&settings.attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  if (status != 0) return fail(Errc::memory, "not enough memory to start " + program);
  std::vector<char*> environment_pointers;
  for (auto& entry : environment) environment_pointers.push_back(entry.data());
  environment_pointers.push_back(nullptr);
  std::string name = "kontor-plugin-host";
  char* arguments[] = {name.data(), nullptr};
  pid_t pid = 0;
  errno = ::posix_spawn(&pid, program.c_str(), actions, &settings.attributes, arguments, environment_pointers.data());
  if (errno != 0) return fail_errno("start", program);
  return pid;
}

std::string describe_end(int status) {
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    return "it was ended by signal " + std::to_string(number) + " (" + ::strsignal(number) + ")";
  }
  return "it exited with status " + std::to_string(WEXITSTATUS(status));
}

/// One process from its start to its end. A reader thread takes its messages and hands them to the waiting callers.
class HostProcess {
 public:
  HostProcess(pid_t pid, int socket, std::string name, const ProcessOptions& options)
      : pid_(pid), socket_(socket), name_(std::move(name)), options_(options), reader_([this] { read(); }) {}

  ~HostProcess() {
    {
      std::unique_lock lock(mutex_);
      if (!dead_) send_frame({FrameKind::quit, 0, {}});
      if (!changed_.wait_for(lock, milliseconds(options_.grace_ms), [this] { return dead_; })) kill_group();
    }
    reader_.join();
    ::close(socket_);
  }

  bool dead() const {
    const std::lock_guard lock(mutex_);
    return dead_;
  }

  /// The first message of a process and the answer to it. Errors as create_instance; timeout, io.
  Result<Declaration> load(std::vector<std::string> fields) {
    Pending pending;
    std::unique_lock lock(mutex_);
    pending_.emplace(0, &pending);
    if (!send_frame({FrameKind::load, 0, std::move(fields)})) kill_group();
    const bool done = changed_.wait_for(lock, milliseconds(options_.start_timeout_ms), [&] { return pending.done; });
    pending_.erase(0);
    if (!done) {
      kill_group();
      return fail(Errc::timeout, "plugin " + name_ + " was not ready after " + std::to_string(options_.start_timeout_ms) + " ms", "timeout");
    }
    if (pending.refusal) return *pending.refusal;
    if (pending.answer.kind == Answer::Kind::error) return fail(Errc::io, pending.answer.text, pending.answer.error_kind);
    return parse_declaration(pending.answer.text);
  }

  /// Empty when the process was already gone, so that nothing of the call can have happened.
  std::optional<Answer> call(const CallRequest& request, bool serial) {
    const auto timeout = std::clamp<std::int64_t>(request.timeout_ms, 1, kTimeoutMsMax);
    const auto deadline = SteadyClock::now() + milliseconds(timeout);
    const std::size_t parallel_max = serial ? 1 : kParallelCallsMax;
    std::unique_lock lock(mutex_);
    const bool turn = changed_.wait_until(lock, request.stop, deadline, [&] { return dead_ || pending_.size() < parallel_max; });
    if (!turn) return gave_up(request, timeout, "waiting for earlier calls of the plugin");
    if (dead_) return std::nullopt;
    const std::uint64_t id = next_call_++;
    Pending pending;
    pending_.emplace(id, &pending);
    const bool asks = !request.method.empty();
    const bool sent = send_frame({asks ? FrameKind::request : request.probe ? FrameKind::probe : FrameKind::call, id,
                                  {asks ? request.method : std::to_string(request.tool), request.arguments, request.run_id, request.call_id,
                                   request.idempotency_key, std::to_string(timeout)}});
    if (!sent) {
      pending_.erase(id);
      kill_group();
      changed_.wait(lock, [this] { return dead_; });
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

 private:
  struct Pending {
    bool done = false;
    Answer answer;
    std::optional<Error> refusal;
    std::optional<std::pair<double, std::string>> progress;  ///< The latest that was not yet handed on.
    std::optional<std::string> partial;                      ///< The longest that was not yet handed on.
    std::deque<Frame> talk;                                  ///< Messages, questions, contents not yet handed on.
  };

  static Answer gave_up(const CallRequest& request, std::int64_t timeout_ms, const std::string& where) {
    if (request.stop.stop_requested()) return Answer::error("cancelled", "the call was cancelled while " + where);
    return Answer::error("timeout", "no answer within " + std::to_string(timeout_ms) + " ms while " + where);
  }

  /// True when the answer is there; false at the deadline or when asked to stop.
  bool wait(std::unique_lock<std::mutex>& lock, Pending& pending, const CallRequest& request, SteadyClock::time_point deadline) {
    for (;;) {
      const bool woken = changed_.wait_until(lock, request.stop, deadline, [&] { return pending.done || pending.progress || pending.partial || !pending.talk.empty(); });
      while (!pending.talk.empty()) {
        const Frame frame = std::move(pending.talk.front());
        pending.talk.pop_front();
        const auto begin = SteadyClock::now();
        lock.unlock();
        const auto answer = hand_on(frame, request);
        lock.lock();
        if (answer) send_frame(*answer);
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

  /// Without the lock. What is to be sent back, for a question.
  static std::optional<Frame> hand_on(const Frame& frame, const CallRequest& request) {
    if (frame.kind == FrameKind::message && request.message) request.message(frame.fields[0], frame.fields[1]);
    if (frame.kind == FrameKind::content && request.content) request.content(frame.fields[0]);
    if (frame.kind != FrameKind::ask) return std::nullopt;
    std::string answers = "\"there is nobody to ask\"";
    const bool asked = request.ask && request.ask(frame.fields[0], answers);
    return Frame{FrameKind::answered, frame.call, {asked ? "1" : "0", std::move(answers)}};
  }

  /// Asks politely, then ends the process. Other calls in it end as crashed.
  void stop_call(std::unique_lock<std::mutex>& lock, std::uint64_t id, Pending& pending) {
    if (send_frame({FrameKind::cancel, id, {}}) &&
        changed_.wait_for(lock, milliseconds(options_.grace_ms), [&] { return pending.done; })) {
      return;
    }
    kill_reason_ = "it was stopped because a call did not end";
    kill_group();
    changed_.wait(lock, [this] { return dead_; });
    // The answer that the reader made up for it says "crashed"; the caller knows better.
    if (pending.answer.error_kind == "crashed") pending.done = false;
  }

  /// With the lock held: one writer at a time.
  bool send_frame(const Frame& frame) {
    const auto bytes = encode(frame);
    return bytes && send_bytes(socket_, *bytes);
  }

  /// With the lock held. The number is ours until the reader has reaped it.
  void kill_group() {
    if (!reaped_) ::kill(-pid_, SIGKILL), ::kill(pid_, SIGKILL);
  }

  void read() {
    FrameReader frames(socket_);
    Error end;
    for (;;) {
      auto frame = frames.next();
      if (!frame) {
        end = frame.error();
        break;
      }
      const std::lock_guard lock(mutex_);
      if (!take(*frame)) {
        end = fail(Errc::malformed, "it sent a message that makes no sense here", "frame");
        break;
      }
      changed_.notify_all();
    }
    finish(end);
  }

  /// With the lock held.
  bool take(Frame& frame) {
    const auto found = pending_.find(frame.call);
    if (found == pending_.end()) return true;  // The answer to a call that nobody waits for any more.
    Pending& pending = *found->second;
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

  static Error refusal(std::vector<std::string>& fields) {
    int code = 0;
    std::from_chars(fields[0].data(), fields[0].data() + fields[0].size(), code);
    const bool known = code > 0 && code <= static_cast<int>(Errc::internal);
    return fail(known ? static_cast<Errc>(code) : Errc::internal, std::move(fields[2]), std::move(fields[1]));
  }

  void finish(const Error& end) {
    {
      const std::lock_guard lock(mutex_);
      kill_group();
    }
    int status = 0;
    pid_t waited = 0;
    do waited = ::waitpid(pid_, &status, 0);
    while (waited < 0 && errno == EINTR);
    const std::lock_guard lock(mutex_);
    reaped_ = dead_ = true;
    std::string why = kill_reason_;
    if (why.empty()) why = end.kind == "closed" ? (waited == pid_ ? describe_end(status) : "its process is gone") : end.message;
    for (auto& [id, pending] : pending_) {
      if (pending->done) continue;
      pending->answer = Answer::error("crashed", "plugin " + name_ + " crashed: " + why);
      pending->done = true;
    }
    changed_.notify_all();
  }

  const pid_t pid_;
  const int socket_;
  const std::string name_;
  const ProcessOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::uint64_t, Pending*> pending_;
  std::uint64_t next_call_ = 1;
  bool dead_ = false, reaped_ = false;
  std::string kill_reason_;
  std::thread reader_;
};

/// A host process and who connects it to its hosts; shared by the calls.
struct Served {
  std::unique_ptr<NetworkProxy> proxy;
  std::unique_ptr<HostProcess> process;  // Ends first.
};

struct Started {
  std::shared_ptr<HostProcess> process;
  Declaration declaration;
};

Result<Started> start_one(const LibraryImage& image, const InstanceSetup& setup, const SandboxRules& rules, const ProcessOptions& options) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return fail_errno("make a socket for plugin", image.path());
  Descriptor ours(pair[0]), theirs(pair[1]);
  Descriptor library(::fcntl(image.descriptor(), F_DUPFD_CLOEXEC, 0));
  if (ours.number < 0 || theirs.number < 0 || library.number < 0) return fail_errno("prepare descriptors for plugin", image.path());
  Descriptor log(setup.log_path.empty() ? -1 : ::open(setup.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600));
  if (!setup.log_path.empty() && log.number < 0) return fail_errno("open the plugin's log", setup.log_path);
  // A process that reads nothing any more must not hold up its callers for ever.
  const timeval patience{kSendTimeoutSeconds, 0};
  ::setsockopt(ours.number, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  int network_pair[2] = {-1, -1};
  if (!rules.hosts.empty() && ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, network_pair) != 0) return fail_errno("make a socket for plugin", image.path());
  Descriptor our_network(network_pair[0]), their_network(network_pair[1]);
  const auto pid = spawn(options.program, theirs.number, library.number, their_network.number, log.number, clean_environment(rules.environment));
  if (!pid) return pid.error();
  auto served = std::make_shared<Served>();
  served->process = std::make_unique<HostProcess>(*pid, ours.release(), image.path(), options);
  if (our_network.number >= 0) served->proxy = std::make_unique<NetworkProxy>(our_network.release(), rules.hosts);
  const std::shared_ptr<HostProcess> process(served, served->process.get());
  ::close(theirs.release());
  auto declaration = process->load({setup.config, setup.data_dir, setup.base_dir, setup.log_path, std::to_string(options.memory_bytes), image.path(),
                                    setup.declare_only ? "declare" : "create", write_rules(rules)});
  if (!declaration) return declaration.error();
  return Started{std::move(process), std::move(*declaration)};
}

/// The rules for a plugin, with the folders it may write to in place.
Result<SandboxRules> prepare(const Declaration& declaration, const InstanceSetup& setup, SandboxMode mode) {
  auto rules = resolve_permissions(declaration.permissions, setup.config, setup.base_dir, setup.data_dir);
  if (!rules) return rules.error();
  rules->mode = mode;
  for (const auto& folder : rules->write) {
    std::error_code status;
    std::filesystem::create_directories(folder, status);
    if (status) return fail(Errc::io, "make folder " + folder + ": " + status.message(), "system");
  }
  if (!setup.log_path.empty()) rules->append = setup.log_path;
  return rules;
}

class ProcessInstance final : public Instance {
 public:
  ProcessInstance(LibraryImage image, InstanceSetup setup, SandboxRules rules, ProcessOptions options, Started started)
      : image_(std::move(image)), setup_(std::move(setup)), rules_(std::move(rules)), options_(std::move(options)),
        declaration_(std::move(started.declaration)), process_(std::move(started.process)) {}

  const Declaration& declaration() const override { return declaration_; }

  Answer call(const CallRequest& request) override {
    // A process found dead before the call was handed over costs one more turn, not the call.
    for (int attempt = 0; attempt < 2; ++attempt) {
      const auto process = living();
      if (!process) return Answer::error("crashed", process.error().message);
      if (auto answer = (*process)->call(request, declaration_.serial)) return std::move(*answer);
    }
    return Answer::error("crashed", "plugin " + image_.path() + " ends as soon as it is started");
  }

 private:
  Result<std::shared_ptr<HostProcess>> living() {
    const std::lock_guard lock(mutex_);
    if (process_ && !process_->dead()) return process_;
    const auto now = SteadyClock::now();
    while (!restarts_.empty() && now - restarts_.front() > milliseconds(options_.restart_window_ms)) restarts_.pop_front();
    if (restarts_.size() >= static_cast<std::size_t>(std::max(options_.restarts_max, 0))) {
      return fail(Errc::io, "plugin " + image_.path() + " crashed " + std::to_string(restarts_.size()) + " times within " +
                  std::to_string(options_.restart_window_ms / 1000) + " s and is not started again for now", "crashed");
    }
    restarts_.push_back(now);
    process_.reset();
    auto started = start_one(image_, setup_, rules_, options_);
    if (!started) return fail(started.error().code, "plugin could not be started again: " + started.error().message, started.error().kind);
    if (write_declaration(started->declaration) != write_declaration(declaration_)) {
      return fail(Errc::conflict, "plugin " + image_.path() + " declares other tools than before", "declaration");
    }
    process_ = std::move(started->process);
    return process_;
  }

  const LibraryImage image_;
  const InstanceSetup setup_;
  const SandboxRules rules_;
  const ProcessOptions options_;
  const Declaration declaration_;
  std::mutex mutex_;
  std::shared_ptr<HostProcess> process_;
  std::deque<SteadyClock::time_point> restarts_;
};

}  // namespace

Result<std::string> find_host_program() {
  std::error_code ignored;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const auto folder = self.parent_path();
  for (const auto& place : {folder, folder.parent_path(), folder.parent_path() / "libexec" / "kontor"}) {
    const auto program = place / "kontor-plugin-host";
    if (::access(program.c_str(), X_OK) == 0) return program.string();
  }
  return fail(Errc::not_found, "kontor-plugin-host is not beside " + self.string() + " nor in ../libexec/kontor; install it there, or "
              "use isolation: in_process with a sha256 pin", "no_host_program");
}

Result<std::unique_ptr<Instance>> start_process(LibraryImage image, const InstanceSetup& setup, const ProcessOptions& given) {
  ProcessOptions options = given;
  if (options.program.empty()) {
    auto program = find_host_program();
    if (!program) return program.error();
    options.program = std::move(*program);
  }
  SandboxRules rules;
  rules.mode = options.sandbox;
  if (rules.mode == SandboxMode::required) {
    const auto mode = sandbox_mode_of_environment();
    if (!mode) return mode.error();
    rules.mode = *mode;
  }
  InstanceSetup reading = setup;
  reading.declare_only = true;
  auto started = start_one(image, reading, rules, options);
  if (!started) return started.error();
  if (!setup.declare_only) {
    auto resolved = prepare(started->declaration, setup, rules.mode);
    if (!resolved) return resolved.error();
    rules = std::move(*resolved);
    started = start_one(image, setup, rules, options);
    if (!started) return started.error();
  }
  return std::unique_ptr<Instance>(std::make_unique<ProcessInstance>(std::move(image), setup, std::move(rules), std::move(options), std::move(*started)));
}

}  // namespace kontor::plugins
