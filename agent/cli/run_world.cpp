#include "agent/cli/run_world.hpp"

#include "agent/cli/mcp_group.hpp"
#include "agent/cli/terminal.hpp"
#include "agent/endpoint/endpoint.hpp"
#include "agent/memory_bridge.hpp"
#include "agent/spec/yaml_json.hpp"
#include "agent/tape_model.hpp"
#include "inference/local_model.hpp"
#include "plugins/host/loader.hpp"
#include "tools/builtin/builtin.hpp"
#include "tools/builtin/confined.hpp"
#include "tools/builtin/openapi.hpp"

#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>

namespace kontor::agent::cli {
namespace {

constexpr int kWake = SIGUSR2;  // Ends the watcher; never leaves this process.

using ToolList = std::vector<std::shared_ptr<tools::Tool>>;

/// A library that is not beside the agent file may be one that comes with Kontor: those lie beside the program (build
/// tree) or in ../lib/kontor/plugins (installed). Only the file's name is looked up there.
std::string find_library(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code code;
  if (fs::exists(path, code)) return path;
  const fs::path program = fs::read_symlink("/proc/self/exe", code).parent_path();
  for (const fs::path& folder : {program / "plugins", program / ".." / "plugins", program / ".." / "lib" / "kontor" / "plugins"}) {
    const fs::path candidate = folder / fs::path(path).filename();
    if (fs::is_regular_file(candidate, code)) return candidate.lexically_normal().string();
  }
  return path;
}

Result<ToolList> make_builtin_group(const ToolRequest& request) {
  tools::BuiltinContext context;
  context.folder = request.base_folder;
  context.read_roots = request.read_roots;
  context.egress = request.egress;
  for (const auto& secret : request.spec->secrets) {
    if (secret.from.rfind("file:", 0) == 0) context.hidden.push_back(request.spec->folder + "/" + secret.from.substr(5));
  }
  context.clock = request.clock;
  context.read_yaml = [](const std::string& text) { return yaml_as_json(text, kDataLimits); };
  if (request.entry->use == "builtin.memory") {
    auto store = request.memory();
    if (!store) return store.error();
    MemoryBridge::Source embedder;
    if (const auto name = request.settings.find("embedder"); name != request.settings.end()) {
      if (!request.embedder) return fail(Errc::unsupported, "tools." + request.entry->name + ".embedder: no model is loaded here; leave it out, or use the tools in a run", "embedder");
      embedder = [source = request.embedder, model = name->get<std::string>()] { return source(model); };
    }
    context.memory = std::make_shared<MemoryBridge>(**store, std::move(embedder));
  }
  if (request.entry->use == "openapi") return tools::make_openapi(request.entry->name, request.settings, context);
  return tools::make_builtin(request.entry->use, request.entry->name, request.settings, context);
}

Result<ToolList> make_plugin(const ToolRequest& request) {
  auto plugin = load_plugin_of(request);
  if (!plugin) return plugin.error();
  return std::move(plugin->tools);
}

}  // namespace

Result<plugins::LoadedPlugin> load_plugin_of(const ToolRequest& request) {
  auto options = plugins::plugin_options(request.entry->name, request.settings);
  if (!options) return options.error();
  options->path = find_library(options->path);
  options->effects = request.entry->effects;
  options->base_dir = request.base_folder;
  options->data_dir = request.data_folder;
  options->egress = request.egress;
  return plugins::load_plugin(*options);
}

Result<ToolList> make_tools(const ToolRequest& request) {
  const std::string& use = request.entry->use;
  if (use == "plugin") return make_plugin(request);
  if (use == "mcp") return tools::mcp::make_server_tools(mcp_config(request));
  if (use == "openapi" || use.rfind("builtin.", 0) == 0) return make_builtin_group(request);
  return fail(Errc::unsupported, "'use: " + use + "' cannot be run by this version", "use");
}

namespace {

Result<std::unique_ptr<inference::TextModel>> open_model(const ModelSpec& spec, const RunOptions& options, const std::vector<std::string>& played, inference::EnginePool& pool) {
  if (!spec.replay.empty()) {
    auto tape = TapeModel::open(spec.replay);
    if (!tape) return tape.error();
    for (const auto& text : played) (*tape)->skip(text);
    return std::unique_ptr<inference::TextModel>(std::move(*tape));
  }
  if (!spec.endpoint.empty()) return open_endpoint_model(spec);
  inference::LocalModelOptions local;
  local.device = options.device != "auto" || spec.device.empty() ? options.device : spec.device;
  local.threads = options.threads;
  local.context = spec.context;
  local.kv = inference::kv_type_named(spec.kv).value_or(inference::KvType::f16);  // The specification allows no other word.
  return inference::open_local_model(spec.path, local, &pool);
}

}  // namespace

ModelOpener make_model_opener() {
  return [pool = std::make_shared<inference::EnginePool>()](const ModelSpec& spec, const RunOptions& options, const std::vector<std::string>& played) {
    return open_model(spec, options, played, *pool);
  };
}

Interrupts::Interrupts(std::string hint) : hint_(std::move(hint)) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, kWake);
  // Blocked here, so that all later threads inherit it and only the watcher sees them.
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  watcher_ = std::jthread([this, signals](std::stop_token over) {
    while (!over.stop_requested()) {
      if (const int signal = sigwaitinfo(&signals, nullptr); signal < 0 || signal == kWake) continue;
      if (stop_.stop_requested()) _exit(130);
      stop_.request_stop();
      std::fprintf(stderr, "\nstopping after the current step%s; once more ends at once\n", hint_.c_str());
    }
  });
}

Interrupts::~Interrupts() {
  watcher_.request_stop();
  pthread_kill(watcher_.native_handle(), kWake);
}

Result<ApproveFlags> parse_approve(const std::vector<std::string>& words) {
  ApproveFlags flags;
  for (const auto& word : words) {
    if (word == "ask") continue;
    if (word == "park") {
      flags.park = true;
    } else if (word.size() > 4 && word.ends_with("=yes")) {
      flags.yes.push_back(word.substr(0, word.size() - 4));
    } else {
      return fail(Errc::usage, "--approve takes ask, park or TOOL=yes, not '" + word + "'");
    }
  }
  return flags;
}

std::string person() {
  for (const char* name : {"USER", "LOGNAME"}) {
    if (const char* value = std::getenv(name); value && *value) return value;
  }
  if (const passwd* user = ::getpwuid(::getuid()); user && *user->pw_name) return user->pw_name;
  return "uid " + std::to_string(::getuid());
}

namespace {

/// A line from the terminal, cut after `most` bytes; nothing at its end or when the run is stopped.
std::optional<std::string> read_typed_line(const std::stop_token& stop, std::size_t most) {
  std::string line;
  for (;;) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (stop.stop_requested()) return std::nullopt;
    if (::poll(&input, 1, 100) <= 0) continue;
    char c = 0;
    if (::read(STDIN_FILENO, &c, 1) != 1) return std::nullopt;
    if (c == '\n') return line;
    if (line.size() < most) line += c;
  }
}

/// A question of a tool, or a step with choices of its own.
ApprovalAnswer ask_question(const PendingItem& item, const std::stop_token& stop) {
  std::fprintf(stderr, "A question (%s):\n  %s\n", printable(item.is_question ? item.tool : item.call, 80).c_str(), printable(item.reason, 4000).c_str());
  if (!item.is_question && !item.arguments.empty()) std::fprintf(stderr, "  %s\n", printable(spaced_json(item.arguments), 600).c_str());
  for (std::size_t i = 0; i < item.choices.size(); ++i) std::fprintf(stderr, "  %zu  %s\n", i + 1, printable(item.choices[i], 200).c_str());
  for (;;) {
    std::fputs(item.choices.empty() ? "answer [nothing = later]: " : "answer [number or word, nothing = later]: ", stderr);
    auto typed = read_typed_line(stop, 4000);
    if (!typed || typed->empty()) return {};
    if (tools::invalid_utf8(*typed)) continue;
    if (item.choices.empty()) return {ApprovalAnswer::Kind::approved, person(), *typed};
    for (std::size_t i = 0; i < item.choices.size(); ++i) {
      if (*typed == item.choices[i] || *typed == std::to_string(i + 1)) return {ApprovalAnswer::Kind::approved, person(), item.choices[i]};
    }
  }
}

}  // namespace

std::function<ApprovalAnswer(const PendingItem&)> make_approver(ApproveFlags flags, std::stop_token stop, std::function<void()> before_prompt) {
  const bool can_ask = !flags.park && ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1;
  return [flags = std::move(flags), stop, can_ask, before_prompt = std::move(before_prompt)](const PendingItem& item) -> ApprovalAnswer {
    for (const auto& glob : flags.yes) {
      if (!item.is_question && !item.tool.empty() && tools::glob_match(glob, item.tool)) return {ApprovalAnswer::Kind::approved, person() + " (--approve)", {}};
    }
    if (!can_ask) return {};
    if (before_prompt) before_prompt();
    if (item.is_question || item.needs_choice()) return ask_question(item, stop);
    std::fprintf(stderr, "%s\n  %s %s\n  %s\napprove? [y/N, l = later] ", item.tool.empty() ? "A step asks for a decision:" : "A call asks for a decision:",
                 printable(item.tool.empty() ? item.call : item.tool, 80).c_str(), printable(spaced_json(item.arguments), 600).c_str(), printable(item.reason, 300).c_str());
    const auto typed = read_typed_line(stop, 100);
    if (!typed) return {};
    const std::string& line = *typed;
    if (line == "y" || line == "Y" || line == "yes") return {ApprovalAnswer::Kind::approved, person(), {}};
    if (line == "l" || line == "later") return {};
    return {ApprovalAnswer::Kind::rejected, person(), {}};
  };
}

}  // namespace kontor::agent::cli
