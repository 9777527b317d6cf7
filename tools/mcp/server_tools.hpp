#pragma once
// The tools of an MCP server as tools of Kontor.
//
// A server is a stranger: its results are untrusted text, what it says about effects counts only where a person has
// reviewed it (the pin file of the agent file), definitions that changed since they were pinned are refused, and its
// questions are answered only when the caller has someone to ask.

#include "tools/egress.hpp"
#include "tools/mcp/client.hpp"
#include "tools/mcp/pins.hpp"
#include "tools/tool.hpp"

#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

namespace kontor::tools::mcp {

/// ServerConfig::network.
inline constexpr const char* kNoNetwork = "none";
inline constexpr const char* kUncheckedNetwork = "unchecked";

struct ServerConfig {
  std::string group;                               ///< Tools are GROUP.NAME.
  std::vector<std::string> command;                ///< A child process...
  std::string url;                                 ///< ...or a server on the network.
  std::map<std::string, std::string> settings;     ///< Environment of the process, or headers of the requests.
  std::string folder;                              ///< Where the process starts; programs like ./x are in it.
  std::string pin_path;                            ///< Reviewed definitions; "" for none.
  std::string state_folder;                        ///< Keeps what is pinned on first use, the log, OAuth tokens.
  std::vector<std::string> only;                   ///< Globs of names that are let through; empty: all.
  Egress egress;                                   ///< For servers at an address. Programs have sockets of their own: where this restricts anything, they get none...
  std::string network;                             ///< ...but with "unchecked", unless it is --airgap. "none": never any.
  std::function<void(const std::string& url)> open_page;  ///< Shows a person a page to allow access on; empty: nobody.
  ClientHooks hooks;                               ///< Who answers questions of the server; nobody by default.
  std::string revision;                            ///< "" finds out.
  std::int64_t timeout_ms = 60'000;                ///< Of one call.
  int restarts_max = 5;                            ///< Within a minute; after that calls fail at once.
  std::string version = "0";                       ///< Of Kontor.
};

/// A live server. Thread-safe.
class Server : public std::enable_shared_from_this<Server> {
 public:
  /// Connects and lists the tools. Errors: usage, and those of Client::connect and list_tools.
  static Result<std::shared_ptr<Server>> open(const ServerConfig& config);

  /// All definitions that passed the checks of form and `only`, in the server's order.
  const Definitions& definitions() const { return definitions_; }
  /// What was left out, with the reason: "NAME: why".
  const std::vector<std::string>& left_out() const { return left_out_; }
  const ServerConfig& config() const { return config_; }
  const Json& server_info() const { return server_info_; }
  const std::string& revision() const { return revision_; }

  /// A call on the connection; a new one when the old one broke. Of a server that is a program, ends within three seconds of
  /// being asked to stop.
  ToolResult call(const Json& definition, const Json& arguments, const CallContext& context, std::int64_t timeout_ms);

 private:
  explicit Server(ServerConfig config) : config_(std::move(config)) {}
  Result<std::shared_ptr<Client>> connect(const std::stop_token& stop);
  Result<std::shared_ptr<Client>> living(const std::stop_token& stop);
  Result<void> renew(std::shared_ptr<Client>& client, const std::stop_token& stop);
  Result<void> list(Client& client, const std::stop_token& stop);
  Result<Json> call_once(const Json& definition, const Json& arguments, const Patience& patience);
  void note(const std::string& line);

  ServerConfig config_;
  Definitions definitions_;
  std::vector<std::string> left_out_;
  Json server_info_ = Json::object();
  std::string revision_;
  struct State;
  std::shared_ptr<State> state_;
};

/// Opens a server and makes its tools, with its pins checked: `pin_path` where given, else what was pinned at the first
/// use (kept in state_folder). Errors: those of Server::open; denied (kind pin_mismatch) when a definition changed or a
/// reviewed tool is gone.
Result<std::vector<std::shared_ptr<Tool>>> make_server_tools(const ServerConfig& config);

/// Where the definitions of the first use are kept.
std::string first_use_pins(const ServerConfig& config);

}  // namespace kontor::tools::mcp
