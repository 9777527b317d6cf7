#include "plugins/host/process.hpp"

#include "plugins/host/host_process.hpp"
#include "plugins/host/network.hpp"
#include "plugins/host/spawn.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <stop_token>
#include <utility>

namespace kontor::plugins {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// A host process and who connects it to its hosts; shared by the calls.
struct Served {
  std::unique_ptr<NetworkProxy> proxy;
  std::unique_ptr<HostProcess> process;  // Ends first.
};

struct Started {
  std::shared_ptr<HostProcess> process;
  Declaration declaration;
};

/// A host process that waits for its first message. `name` is for messages.
Result<std::shared_ptr<HostProcess>> launch(int library_file, const std::string& name, const InstanceSetup& setup, const SandboxRules& rules, const ProcessOptions& options) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return fail_errno("make a socket for plugin", name);
  Descriptor ours(pair[0]), theirs(pair[1]);
  Descriptor library(::fcntl(library_file, F_DUPFD_CLOEXEC, 0));
  if (ours.number < 0 || theirs.number < 0 || library.number < 0) return fail_errno("prepare descriptors for plugin", name);
  Descriptor log(setup.log_path.empty() ? -1 : ::open(setup.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600));
  if (!setup.log_path.empty() && log.number < 0) return fail_errno("open the plugin's log", setup.log_path);
  int network_pair[2] = {-1, -1};
  if (!rules.hosts.empty() && ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, network_pair) != 0) return fail_errno("make a socket for plugin", name);
  Descriptor our_network(network_pair[0]), their_network(network_pair[1]);
  Descriptor wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (wake.number < 0) return fail_errno("make an event for plugin", name);
  const auto pid = spawn_host(options.program, {theirs.number, library.number, their_network.number, log.number}, rules.environment);
  if (!pid) return pid.error();
  auto served = std::make_shared<Served>();
  served->process = std::make_unique<HostProcess>(*pid, ours.release(), wake.release(), name, options);
  if (our_network.number >= 0) served->proxy = std::make_unique<NetworkProxy>(our_network.release(), rules.hosts, setup.egress);
  ::close(theirs.release());
  HostProcess* const process = served->process.get();
  return std::shared_ptr<HostProcess>(std::move(served), process);
}

Result<Started> start_one(const LibraryImage& image, const InstanceSetup& setup, const SandboxRules& rules, const ProcessOptions& options, const std::stop_token& stop = {}) {
  auto process = launch(image.descriptor(), image.path(), setup, rules, options);
  if (!process) return process.error();
  const auto answer = (*process)->load({setup.config, setup.data_dir, setup.base_dir, setup.log_path, std::to_string(options.memory_bytes), image.path(),
                                        setup.declare_only ? "declare" : "create", write_rules(rules)}, stop);
  if (!answer) return answer.error();
  auto declaration = parse_declaration(*answer);
  if (!declaration) return declaration.error();
  return Started{std::move(*process), std::move(*declaration)};
}

/// The rules for a plugin, with the folders it may write to in place.
Result<SandboxRules> prepare(const Declaration& declaration, const InstanceSetup& setup, const SandboxRules& before) {
  auto rules = resolve_permissions(declaration.permissions, setup.config, setup.base_dir, setup.data_dir);
  if (!rules) return rules.error();
  rules->mode = before.mode;
  rules->namespaces = before.namespaces;
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
      const auto process = living(request);
      if (!process) return Answer::error(process.error().code == Errc::cancelled ? "cancelled" : "crashed", process.error().message);
      if (auto answer = (*process)->call(request, declaration_.serial)) return std::move(*answer);
    }
    return Answer::error("crashed", "plugin " + image_.path() + " ends as soon as it is started");
  }

 private:
  /// The process, after a new start where that is due; one call starts it for all.
  Result<std::shared_ptr<HostProcess>> living(const CallRequest& request) {
    std::unique_lock lock(mutex_);
    if (!started_.wait(lock, request.stop, [this] { return !starting_; })) {
      return fail(Errc::cancelled, "the call was cancelled while plugin " + image_.path() + " was being started", "cancelled");
    }
    if (process_ && !process_->dead()) return process_;
    const auto now = SteadyClock::now();
    while (!restarts_.empty() && now - restarts_.front() > milliseconds(options_.restart_window_ms)) restarts_.pop_front();
    if (restarts_.size() >= static_cast<std::size_t>(std::max(options_.restarts_max, 0))) {
      return fail(Errc::io, "plugin " + image_.path() + " crashed " + std::to_string(restarts_.size()) + " times within " +
                  std::to_string(options_.restart_window_ms / 1000) + " s and is not started again for now", "crashed");
    }
    restarts_.push_back(now);
    process_.reset();
    starting_ = true;
    lock.unlock();
    auto started = start_one(image_, setup_, rules_, options_, request.stop);
    lock.lock();
    starting_ = false;
    started_.notify_all();
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
  std::condition_variable_any started_;
  bool starting_ = false;
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

Result<SandboxOffer> sandbox_offer(const ProcessOptions& given) {
  static std::mutex mutex;
  static std::map<std::string, SandboxOffer> known;  // By program; a machine does not change while we run.
  ProcessOptions options = given;
  if (options.program.empty()) {
    auto program = find_host_program();
    if (!program) return program.error();
    options.program = std::move(*program);
  }
  const std::lock_guard lock(mutex);
  if (const auto found = known.find(options.program); found != known.end()) return found->second;
  const Descriptor nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const auto process = launch(nothing.number, "(what the machine offers)", {}, {}, options);
  if (!process) return process.error();
  const auto answer = (*process)->load({"{}", "", "", "", "0", "", "probe", ""}, {});
  if (!answer) return answer.error();
  auto offer = parse_offer(*answer);
  if (offer) known.emplace(options.program, *offer);
  return offer;
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
  if (rules.mode != SandboxMode::off) {
    const auto offer = sandbox_offer(options);
    if (!offer) return offer.error();
    rules.namespaces = offer->namespaces;
  }
  InstanceSetup reading = setup;
  reading.declare_only = true;
  auto started = start_one(image, reading, rules, options);
  if (!started) return started.error();
  if (!setup.declare_only) {
    auto resolved = prepare(started->declaration, setup, rules);
    if (!resolved) return resolved.error();
    rules = std::move(*resolved);
    started = start_one(image, setup, rules, options);
    if (!started) return started.error();
  }
  return std::unique_ptr<Instance>(std::make_unique<ProcessInstance>(std::move(image), setup, std::move(rules), std::move(options), std::move(*started)));
}

}  // namespace kontor::plugins
