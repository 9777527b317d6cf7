#include "plugins/host/instance.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <mutex>
#include <optional>
#include <string_view>

namespace kontor::plugins {
namespace {

using SteadyClock = std::chrono::steady_clock;

std::string_view view(kontor_text text) { return text.size == 0 || text.data == nullptr ? std::string_view() : std::string_view(text.data, text.size); }
kontor_text text(const std::string& value) { return {value.data(), value.size()}; }

/// At most `limit` bytes, cut between characters.
std::string cut(std::string_view value, std::size_t limit) {
  if (value.size() <= limit) return std::string(value);
  std::size_t end = limit;
  while (end > 0 && (static_cast<unsigned char>(value[end]) & 0xC0) == 0x80) --end;
  return std::string(value.substr(0, end));
}

/// The host's side of one call: what the callbacks of kontor_call write to.
struct CallState {
  const CallRequest& request;
  SteadyClock::time_point deadline;
  std::mutex mutex;
  std::optional<Answer> answer;
  bool twice = false;

  void put(Answer given) {
    const std::lock_guard lock(mutex);
    if (answer) twice = true;
    else answer = std::move(given);
  }
};

CallState& state_of(const kontor_call* call) { return *static_cast<CallState*>(call->host_data); }

void on_result(const kontor_call* call, kontor_text json) {
  if (json.size > kResultBytesMax) return state_of(call).put(Answer::error("bad_result", "the tool's result is longer than 16 MiB"));
  state_of(call).put({Answer::Kind::result, {}, std::string(view(json)), KONTOR_PROBE_UNKNOWN});
}

void on_fail(const kontor_call* call, kontor_text kind, kontor_text message) {
  state_of(call).put(Answer::error(cut(view(kind), 64), cut(view(message), kNoteBytesMax)));
}

void on_probed(const kontor_call* call, uint32_t state, kontor_text json) {
  if (json.size > kResultBytesMax) return state_of(call).put(Answer::error("bad_result", "the probe's result is longer than 16 MiB"));
  state_of(call).put({Answer::Kind::probed, {}, std::string(view(json)), state});
}

bool on_cancelled(const kontor_call* call) {
  const CallState& state = state_of(call);
  return state.request.stop.stop_requested() || SteadyClock::now() >= state.deadline;
}

void on_progress(const kontor_call* call, double fraction, kontor_text note) {
  const CallState& state = state_of(call);
  if (state.request.progress) state.request.progress(fraction, cut(view(note), kNoteBytesMax));
}

void on_message(const kontor_call* call, kontor_text level, kontor_text json) {
  const CallState& state = state_of(call);
  if (state.request.message && json.size <= kNoteBytesMax) state.request.message(cut(view(level), 32), std::string(view(json)));
}

bool on_ask(const kontor_call* call, kontor_text questions, void (*take)(void*, kontor_text), void* context) {
  const CallState& state = state_of(call);
  std::string answers = "\"there is nobody to ask\"";
  const bool asked = state.request.ask && questions.size <= kResultBytesMax && state.request.ask(std::string(view(questions)), answers);
  if (take != nullptr) take(context, text(answers));
  return asked;
}

void on_content(const kontor_call* call, kontor_text json) {
  const CallState& state = state_of(call);
  if (state.request.content && json.size <= kResultBytesMax) state.request.content(std::string(view(json)));
}

void on_partial(const kontor_call* call, kontor_text json) {
  const CallState& state = state_of(call);
  if (state.request.partial && json.size <= kPartialBytesMax) state.request.partial(std::string(view(json)));
}

const kontor_partial kPartial = {KONTOR_HEAD(kontor_partial), on_partial};
const kontor_talk kTalk = {KONTOR_HEAD(kontor_talk), on_message, on_ask, on_content};

/// The plugin's feature of an id, when it has it and it is large enough. Runs code of the plugin.
const kontor_requests* requests_of(const kontor_plugin& plugin) {
  if (plugin.extension == nullptr) return nullptr;
  const auto* found = static_cast<const kontor_requests*>(plugin.extension(kontor_text KONTOR_TEXT(KONTOR_REQUESTS)));
  const bool usable = found != nullptr && found->abi_major == KONTOR_ABI_MAJOR && found->struct_size >= sizeof(kontor_requests) && found->request != nullptr;
  return usable ? found : nullptr;
}

class LocalInstance final : public Instance {
 public:
  LocalInstance(const kontor_plugin& plugin, Declaration declaration, int log)
      : plugin_(plugin), declaration_(std::move(declaration)), log_(log) {
    host_ = {KONTOR_HEAD(kontor_host), this, &LocalInstance::on_log, &LocalInstance::on_refuse,
             &LocalInstance::on_extension};
  }
  ~LocalInstance() override {
    if (instance_ != nullptr) plugin_.destroy(instance_);
    if (log_ >= 0) ::close(log_);
  }

  Result<void> create(const InstanceSetup& setup) {
    connect_ = setup.connect;
    const kontor_setup given{KONTOR_HEAD(kontor_setup), text(setup.config), text(setup.data_dir), text(setup.base_dir)};
    try {
      instance_ = plugin_.create(&host_, &given);
    } catch (...) {
      instance_ = nullptr;
      refusal_ = "it threw a C++ exception across the plugin boundary";
    }
    if (instance_ != nullptr) return read_requests();
    return fail(Errc::usage, "plugin " + declaration_.name + " did not start: " + (refusal_.empty() ? "its create function returned nothing and gave no reason (host->refuse says one)" : refusal_), "refused");
  }

  const Declaration& declaration() const override { return declaration_; }

  Answer call(const CallRequest& request) override {
    if (!request.method.empty()) return ask_plugin(request);
    if (request.tool >= plugin_.tool_count) return Answer::error("unknown_tool", "the plugin has no such tool");
    const kontor_tool& tool = *plugin_.tools[request.tool];
    const auto function = request.probe ? tool.probe : tool.call;
    if (function == nullptr) return {Answer::Kind::probed, {}, {}, KONTOR_PROBE_UNKNOWN};
    return run(request, [&](const kontor_call& call) { function(instance_, &call, text(request.arguments)); });
  }

 private:
  /// Which requests it answers is only known once its code may run.
  Result<void> read_requests() {
    const auto* requests = requests_of(plugin_);
    if (requests == nullptr) return {};
    constexpr std::size_t kMethodsMax = 32;
    if (requests->method_count > kMethodsMax || (requests->method_count > 0 && requests->methods == nullptr)) {
      return fail(Errc::malformed, "plugin " + declaration_.name + " declares more than 32 requests", "declaration");
    }
    for (std::size_t i = 0; i < requests->method_count; ++i) declaration_.requests.push_back(cut(view(requests->methods[i]), 64));
    return {};
  }

  Answer ask_plugin(const CallRequest& request) {
    const auto* requests = requests_of(plugin_);
    if (requests == nullptr) return Answer::error("unknown_method", "the plugin answers no requests");
    return run(request, [&](const kontor_call& call) { requests->request(instance_, &call, text(request.method), text(request.arguments)); });
  }

  template <class Function>
  Answer run(const CallRequest& request, Function function) {
    std::unique_lock serial(serial_, std::defer_lock);
    if (declaration_.serial) serial.lock();
    if (request.stop.stop_requested()) return Answer::error("cancelled", "the call was cancelled before it began");
    CallState state{request, SteadyClock::now() + std::chrono::milliseconds(request.timeout_ms), {}, {}, false};
    const kontor_call call{KONTOR_HEAD(kontor_call), &state, text(request.run_id), text(request.call_id), text(request.idempotency_key),
                           request.timeout_ms, on_result, on_fail, on_probed, on_cancelled, on_progress};
    try {
      function(call);
    } catch (...) {
      return Answer::error("crashed", "the tool threw a C++ exception across the plugin boundary");
    }
    return explain(finish(state, request), request, state.deadline);
  }

  /// An error of a call that was told to stop is about the stopping. A result stays one: its effect has happened.
  static Answer explain(Answer answer, const CallRequest& request, SteadyClock::time_point deadline) {
    if (answer.kind != Answer::Kind::error) return answer;
    if (request.stop.stop_requested()) return Answer::error("cancelled", "the call was cancelled: " + answer.text);
    if (SteadyClock::now() < deadline) return answer;
    return Answer::error("timeout", "no result within " + std::to_string(request.timeout_ms) + " ms: " + answer.text);
  }

  static Answer finish(CallState& state, const CallRequest& request) {
    const std::lock_guard lock(state.mutex);
    if (!state.answer) return Answer::error("bad_result", "the tool returned without an answer");
    if (state.twice) return Answer::error("bad_result", "the tool answered twice");
    const bool wrong = state.answer->kind == (request.probe ? Answer::Kind::result : Answer::Kind::probed);
    if (wrong) return Answer::error("bad_result", request.probe ? "the probe answered like a call" : "the tool answered like a probe");
    return std::move(*state.answer);
  }

  static void on_log(const kontor_host* host, uint32_t level, kontor_text message) {
    static constexpr std::string_view kLevels[] = {"debug", "info", "warning", "error"};
    const auto& self = *static_cast<LocalInstance*>(host->host_data);
    if (self.log_ < 0) return;
    std::string line(kLevels[std::min<std::uint32_t>(level, KONTOR_LOG_ERROR)]);
    line += ": " + cut(view(message), kNoteBytesMax);
    for (char& c : line) {
      if (static_cast<unsigned char>(c) < 0x20) c = ' ';  // One message is one line, without terminal controls.
    }
    line += '\n';
    if (::write(self.log_, line.data(), line.size()) < 0) return;  // A log that cannot be written fails no call.
  }

  static const void* on_extension(const kontor_host* host, kontor_text id) {
    static const kontor_network kNetwork = {KONTOR_HEAD(kontor_network), &LocalInstance::on_connect};
    if (view(id) == KONTOR_TALK) return &kTalk;
    if (view(id) == KONTOR_PARTIAL) return &kPartial;
    if (view(id) == KONTOR_NETWORK && static_cast<LocalInstance*>(host->host_data)->connect_) return &kNetwork;
    return nullptr;
  }

  static int on_connect(const kontor_host* host, kontor_text name, uint16_t port, int64_t timeout_ms) {
    auto& self = *static_cast<LocalInstance*>(host->host_data);
    return self.connect_ ? self.connect_(std::string(view(name)), port, timeout_ms) : -EACCES;
  }

  static void on_refuse(const kontor_host* host, kontor_text message) {
    static_cast<LocalInstance*>(host->host_data)->refusal_ = cut(view(message), kNoteBytesMax);
  }

  const kontor_plugin& plugin_;
  Declaration declaration_;
  kontor_host host_{};
  void* instance_ = nullptr;
  int log_ = -1;
  std::string refusal_;
  std::function<int(const std::string&, std::uint16_t, std::int64_t)> connect_;
  std::mutex serial_;
};

}  // namespace

Result<std::unique_ptr<Instance>> create_instance(const kontor_plugin& plugin, const InstanceSetup& setup) {
  auto declaration = read_declaration(plugin);
  if (!declaration) return declaration.error();
  int log = -1;
  if (!setup.log_path.empty()) {
    log = ::open(setup.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (log < 0) return fail_errno("open the plugin's log", setup.log_path);
  }
  auto instance = std::make_unique<LocalInstance>(plugin, std::move(*declaration), log);
  if (auto created = instance->create(setup); !created) return created.error();
  return std::unique_ptr<Instance>(std::move(instance));
}

}  // namespace kontor::plugins
