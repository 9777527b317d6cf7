#include "tools/mcp/server_tools.hpp"

#include "tools/mcp/content.hpp"
#include "tools/mcp/http_transport.hpp"
#include "tools/mcp/stdio_transport.hpp"
#include "tools/registry.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>
#include <stop_token>
#include <utility>

namespace kontor::tools::mcp {
namespace {

namespace fs = std::filesystem;
using SteadyClock = std::chrono::steady_clock;

constexpr std::int64_t kListTimeoutMs = 20'000;
constexpr std::size_t kLogBytesMax = 1u << 20;
constexpr std::size_t kLeftOutMax = 100;

/// What may be the last part of a tool's name here.
bool is_function_name(std::string_view name) {
  if (name.empty() || name.front() == '.' || name.back() == '.' || name.find("..") != std::string_view::npos) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
}

/// "" when the definition can be offered.
std::string problem_of(const Json& tool, bool with_headers) {
  if (auto problem = problem_of_definition(tool); !problem.empty()) return problem;
  if (!is_function_name(text_at(tool, "name"))) return "its name is not made of letters, digits, '_', '-' and single dots";
  const Json& schema = tool.at("inputSchema");
  if (text_at(schema, "type") != "object") return "its inputSchema does not say \"type\": \"object\"";
  if (const auto compiled = Schema::compile(schema); !compiled) return "its inputSchema cannot be used: " + compiled.error().describe();
  if (with_headers) {
    if (const auto headers = argument_headers(schema, Json::object()); !headers) return headers.error().message;
  }
  return {};
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

ToolResult error_result(const Error& error) {
  const std::string kind = error.code == Errc::timeout ? "timeout" : error.code == Errc::cancelled ? "cancelled" : error.kind == "closed" ? "crashed"
                         : error.code == Errc::denied ? "denied" : error.where == "-32602" ? "invalid_arguments" : error.kind == "rpc" ? "tool_error" : "failed";
  return ToolResult::error(kind, error.message);
}

}  // namespace

struct Server::State {
  std::mutex mutex;
  std::condition_variable_any changed;
  bool renewing = false;                 ///< By one call for all, without the lock.
  std::shared_ptr<Client> client;
  std::deque<SteadyClock::time_point> starts;
  std::mutex log_mutex;
  std::size_t logged = 0;
};

void Server::note(const std::string& line) {
  if (config_.state_folder.empty()) return;
  const std::lock_guard lock(state_->log_mutex);
  if (state_->logged > kLogBytesMax) return;
  std::string text;
  for (const char c : line.substr(0, 4096)) text += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  text += '\n';
  state_->logged += text.size();
  if (state_->logged > kLogBytesMax) text = "(further lines are left out)\n";
  const int file = ::open((config_.state_folder + "/server.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return;
  if (::write(file, text.data(), text.size()) < 0) state_->logged = kLogBytesMax + 1;
  ::close(file);
}

Result<std::shared_ptr<Client>> Server::connect(const std::stop_token& stop) {
  std::unique_ptr<Transport> transport;
  if (!config_.url.empty()) {
    HttpSetup setup;
    setup.url = config_.url;
    setup.egress = config_.egress;
    setup.open_page = config_.open_page;
    setup.token_file = config_.state_folder.empty() ? std::string() : config_.state_folder + "/tokens.json";
    for (const auto& [name, value] : config_.settings) setup.headers.emplace_back(name, value);
    auto made = make_http_transport(std::move(setup));
    if (!made) return made.error();
    transport = std::move(*made);
  } else {
    ChildSetup setup{config_.command, config_.settings, config_.folder};
    // Nobody sees what a program connects to, so it is everything or nothing.
    const bool unchecked = config_.network == kUncheckedNetwork && !config_.egress.is_airgap();
    setup.network = config_.network != kNoNetwork && (unchecked || !config_.egress.restricted());
    transport = make_stdio_transport(std::move(setup));
  }
  ClientOptions options;
  options.revision = config_.revision;
  options.version = config_.version;
  options.stop = stop;
  ClientHooks hooks = config_.hooks;
  if (!hooks.note) {
    // The client is part of this server and ends before it.
    hooks.note = [this](const std::string& line) { note(line); };
  }
  auto client = Client::connect(std::move(transport), std::move(hooks), options);
  if (!client) return client.error();
  return std::shared_ptr<Client>(std::move(*client));
}

Result<void> Server::list(Client& client, const std::stop_token& stop) {
  auto tools = client.list_tools(Patience::of_ms(kListTimeoutMs, stop));
  if (!tools) return tools.error();
  definitions_.clear();
  left_out_.clear();
  std::vector<std::string> names;
  for (auto& tool : *tools) {
    const std::string name = text_at(tool, "name");
    const bool wanted = config_.only.empty() || std::any_of(config_.only.begin(), config_.only.end(), [&](const auto& glob) { return glob_match(glob, name); });
    if (!wanted) continue;
    std::string problem = problem_of(tool, !config_.url.empty());
    if (problem.empty() && std::find(names.begin(), names.end(), name) != names.end()) problem = "its name is listed twice";
    if (problem.empty()) {
      names.push_back(name);
      definitions_.push_back(std::move(tool));
    } else if (left_out_.size() < kLeftOutMax) {
      left_out_.push_back(name.substr(0, 128) + ": " + problem);
      note("tool left out: " + left_out_.back());
    }
  }
  return {};
}

Result<std::shared_ptr<Server>> Server::open(const ServerConfig& config) {
  if (config.command.empty() == config.url.empty()) return fail(Errc::usage, "a server has either a command or a url");
  std::shared_ptr<Server> server(new Server(config));
  server->state_ = std::make_shared<State>();
  if (!config.state_folder.empty()) {
    std::error_code code;
    fs::create_directories(config.state_folder, code);
    if (code) return fail(Errc::io, "make folder " + config.state_folder + ": " + code.message());
  }
  auto client = server->connect({});
  if (!client) return client.error();
  if (auto listed = server->list(**client, {}); !listed) return listed.error();
  server->server_info_ = (*client)->server_info();
  server->revision_ = (*client)->revision();
  server->state_->client = std::move(*client);
  return server;
}

Result<std::shared_ptr<Client>> Server::living(const std::stop_token& stop) {
  std::unique_lock lock(state_->mutex);
  if (!state_->changed.wait(lock, stop, [this] { return !state_->renewing; })) {
    return fail(Errc::cancelled, "the call was cancelled while the server of " + config_.group + " was being started", "cancelled");
  }
  if (state_->client && state_->client->alive() && !state_->client->tools_changed()) return state_->client;
  std::shared_ptr<Client> client = std::exchange(state_->client, nullptr);
  state_->renewing = true;
  lock.unlock();
  const auto renewed = renew(client, stop);
  lock.lock();
  state_->renewing = false;
  state_->client = client;
  state_->changed.notify_all();
  if (!renewed) return renewed.error();
  return client;
}

/// A connection where there is none, and a look at its tools. By one thread at a time.
Result<void> Server::renew(std::shared_ptr<Client>& client, const std::stop_token& stop) {
  if (!client || !client->alive()) {
    const auto now = SteadyClock::now();
    auto& starts = state_->starts;
    while (!starts.empty() && now - starts.front() > std::chrono::minutes(1)) starts.pop_front();
    if (starts.size() >= static_cast<std::size_t>(std::max(config_.restarts_max, 0))) {
      return fail(Errc::io, "the server of " + config_.group + " ended " + std::to_string(starts.size() + 1) + " times within a minute and is not started again for now", "closed");
    }
    starts.push_back(now);
    client.reset();
    auto again = connect(stop);
    if (!again) return fail(again.error().code, "the server of " + config_.group + " could not be started again: " + again.error().message, again.error().kind);
    client = std::move(*again);
  }
  // Whoever comes back, or says that something changed, has to be what it was.
  const Definitions before = definitions_;
  auto listed = list(*client, stop);
  const auto check = compare_pins(before, definitions_);
  definitions_ = before;
  if (!listed) {
    client.reset();  // What was not looked at is not used.
    return listed.error();
  }
  if (!check.changed.empty() || !check.gone.empty()) {
    client.reset();
    return fail(Errc::denied, "the server of " + config_.group + " changed its tools while it was in use: " + joined(check.changed.empty() ? check.gone : check.changed), "pin_mismatch");
  }
  return {};
}

Result<Json> Server::call_once(const Json& definition, const Json& arguments, const Patience& patience) {
  for (int attempt = 0;; ++attempt) {
    auto client = living(patience.stop);
    if (!client) return client.error();
    const std::shared_ptr<Client> held = *client;
    auto result = held->call_tool(text_at(definition, "name"), arguments, definition, patience);
    // The request did not reach it: another process may take it.
    if (!result && result.error().kind == "refused" && attempt == 0) continue;
    return result;
  }
}

ToolResult Server::call(const Json& definition, const Json& arguments, const CallContext& context, std::int64_t timeout_ms) {
  Patience patience = Patience::of_ms(timeout_ms, context.stop);
  if (context.progress) {
    patience.progress = [&context](const Json& params) {
      const auto number = [&](const char* key) { return params.contains(key) && params.at(key).is_number() ? params.at(key).get<double>() : -1.0; };
      const double done = number("progress"), total = number("total");
      context.progress(total > 0 && done >= 0 ? std::min(done / total, 1.0) : -1.0, text_at(params, "message").substr(0, 1000));
    };
  }
  auto answer = call_once(definition, arguments, patience);
  if (!answer) return error_result(answer.error());
  ToolResult result = result_of(*answer);
  if (!result.is_error && definition.contains("outputSchema") && answer->contains("structuredContent")) {
    const auto schema = Schema::compile(definition.at("outputSchema"));
    if (schema) {
      if (const auto wrong = schema->validate(result.value, 1); !wrong.empty()) {
        return ToolResult::error("bad_result", "the server's result is not what it declares: " + wrong.front().pointer + " " + wrong.front().message);
      }
    }
  }
  return result;
}

namespace {

class ServerTool final : public Tool {
 public:
  ServerTool(std::shared_ptr<Server> server, Json definition, ToolSpec spec) : server_(std::move(server)), definition_(std::move(definition)), spec_(std::move(spec)) {}
  const ToolSpec& spec() const override { return spec_; }
  ToolResult call(const Json& arguments, const CallContext& context) override { return server_->call(definition_, arguments, context, spec_.timeout_ms); }

 private:
  const std::shared_ptr<Server> server_;
  const Json definition_;
  const ToolSpec spec_;
};

ToolSpec spec_of(const Json& definition, const ServerConfig& config, bool reviewed) {
  ToolSpec spec;
  spec.name = config.group + "." + text_at(definition, "name");
  spec.description = text_at(definition, "description");
  if (spec.description.empty()) spec.description = text_at(definition, "title");
  spec.parameters = definition.at("inputSchema");
  if (const Json& result = object_at(definition, "outputSchema"); !result.empty() && Schema::compile(result)) spec.result = result;
  // A server's own word about what it does counts where a person has read it, and nowhere else.
  spec.effect = Effect::once;
  const Json& hints = object_at(definition, "annotations");
  const auto says = [&](const char* hint) { return hints.contains(hint) && hints.at(hint) == Json(true); };
  if (reviewed && says("readOnlyHint")) spec.effect = Effect::none;
  else if (reviewed && says("idempotentHint")) spec.effect = Effect::idempotent;
  spec.untrusted_output = true;
  // An address is asked by others' rules, and so is a person.
  spec.ends_on_stop = config.url.empty() && !config.hooks.answer;
  spec.timeout_ms = config.timeout_ms;
  return spec;
}

/// Errors: denied. `pinned` comes back without what `only` does not let through.
Result<void> check(const ServerConfig& config, const Definitions& pinned, const Definitions& live, bool reviewed) {
  Definitions wanted;
  for (const auto& definition : pinned) {
    const std::string name = text_at(definition, "name");
    if (config.only.empty() || std::any_of(config.only.begin(), config.only.end(), [&](const auto& glob) { return glob_match(glob, name); })) wanted.push_back(definition);
  }
  const auto found = compare_pins(wanted, live);
  const std::string file = reviewed ? config.pin_path : first_use_pins(config);
  const std::string remedy = "; look at them (kontor tools list), then write the pin again with: kontor tools pin FILE " + config.group;
  if (!found.changed.empty()) {
    return fail(Errc::denied, "the server says something else about " + joined(found.changed) + " than what is pinned in " + file + remedy, "pin_mismatch");
  }
  if (!found.gone.empty() && reviewed) {
    return fail(Errc::denied, "the server no longer has " + joined(found.gone) + ", which is pinned in " + file + remedy, "pin_mismatch");
  }
  return {};
}

}  // namespace

std::string first_use_pins(const ServerConfig& config) { return config.state_folder.empty() ? std::string() : config.state_folder + "/pin.json"; }

Result<std::vector<std::shared_ptr<Tool>>> make_server_tools(const ServerConfig& config) {
  const bool reviewed = !config.pin_path.empty();
  const std::string path = reviewed ? config.pin_path : first_use_pins(config);
  Definitions pinned;
  bool first_use = false;
  if (!path.empty()) {
    auto read = read_pins(path);
    if (!read && (reviewed || read.error().code != Errc::not_found)) return read.error();
    first_use = !read;
    if (read) pinned = std::move(*read);
  }
  auto server = Server::open(config);
  if (!server) return server.error();
  const Definitions& live = (*server)->definitions();
  if (first_use) {
    if (auto written = write_pins(path, live); !written) return written.error();
    pinned = live;
  } else if (!path.empty()) {
    if (auto same = check(config, pinned, live, reviewed); !same) return same.error();
  }
  std::vector<std::shared_ptr<Tool>> made;
  for (const auto& definition : live) {
    // New tools were not pinned and are not offered.
    const bool known = path.empty() || std::any_of(pinned.begin(), pinned.end(), [&](const Json& pin) { return text_at(pin, "name") == text_at(definition, "name"); });
    if (known) made.push_back(std::make_shared<ServerTool>(*server, definition, spec_of(definition, config, reviewed)));
  }
  return made;
}

}  // namespace kontor::tools::mcp
