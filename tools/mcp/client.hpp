#pragma once
// The client's side of the protocol: finds out which revision a server speaks, lists and calls its tools, and answers
// what the server asks in between.

#include "tools/mcp/transport.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

namespace kontor::tools::mcp {

struct ClientHooks {
  /// Answers elicitation/create, sampling/createMessage and roots/list. Without it all of them are refused. May block.
  std::function<Reply(const std::string& method, const Json& params)> answer;
  /// Which of them are offered to servers: {"elicitation": {"form": {}}, "sampling": {}, "roots": {}}.
  Json capabilities = Json::object();
  /// One line for the log of this server. Thread-safe.
  std::function<void(const std::string& line)> note;
};

struct ClientOptions {
  std::string revision;                  ///< "" finds out; else only this one is tried.
  std::int64_t start_timeout_ms = 20'000;
  std::int64_t probe_timeout_ms = 5'000; ///< Old servers may leave the first question of the new revision unanswered.
  std::string version = "0";             ///< Of Kontor, for the server's information.
  std::stop_token stop;                  ///< Gives `connect` up.
};

inline constexpr int kToolPagesMax = 100;
inline constexpr std::size_t kToolsMax = 1'000;
inline constexpr int kInputRoundsMax = 8;  ///< How often one call may come back with a question.

/// Thread-safe after `connect`.
class Client final : private Peer {
 public:
  /// Errors: those of the transport, cancelled; unsupported (kind revision) when there is no common revision; malformed.
  static Result<std::unique_ptr<Client>> connect(std::unique_ptr<Transport> transport, ClientHooks hooks, const ClientOptions& options);
  ~Client() override;

  /// Every page of tools/list, as the server wrote it. Errors: limit (kToolPagesMax, kToolsMax), malformed.
  Result<std::vector<Json>> list_tools(const Patience& patience);
  /// The result of tools/call, after all questions that the server had. `definition`: the tool as listed (its schema
  /// says which arguments are headers); may be null. Errors: those of the transport; denied (kind input_refused);
  /// io (kind rpc) for an error answer, its code in `where`.
  Result<Json> call_tool(const std::string& name, const Json& arguments, const Json& definition, const Patience& patience);
  /// Any other request.
  Result<Json> request(const std::string& method, const Json& params, const Patience& patience);

  bool alive() const { return transport_->alive(); }
  const std::string& revision() const { return revision_; }
  const Json& server_info() const { return server_info_; }
  const Json& capabilities() const { return server_capabilities_; }
  /// The server has said since the last list_tools that its tools changed, or may have said it while its stream was broken.
  bool tools_changed() const { return tools_changed_; }

 private:
  Client(std::unique_ptr<Transport> transport, ClientHooks hooks, const ClientOptions& options);
  Result<void> agree();
  /// True when the server speaks the stateless revision, false when it may be an older one.
  Result<bool> discover();
  Result<void> initialize();
  /// Asks to be told when the tools change.
  void subscribe();
  void add_meta(Json& params) const;
  Result<Message> send(const std::string& method, Json params, const Headers& headers, const Patience& patience);
  Result<Json> answers_to(const Json& requests);

  void notified(const std::string& method, const Json& params) override;
  Reply asked(const std::string& method, const Json& params) override;
  void interrupted() override { tools_changed_ = true; }
  void noted(const std::string& line) override;

  const ClientOptions options_;
  const ClientHooks hooks_;
  std::string revision_;
  Json server_info_ = Json::object(), server_capabilities_ = Json::object();
  std::atomic<bool> tools_changed_{false};
  std::unique_ptr<Transport> transport_;  // Last: it calls the others until it is gone.
};

/// The tools/list entry is one that can be offered at all: a name, an object as its schema. Else why not.
std::string problem_of_definition(const Json& tool);

/// Headers that arguments are repeated in ("x-mcp-header" of the schema). Errors: malformed when the schema breaks a
/// rule of the protocol about them: such a tool is not to be used over HTTP.
Result<Headers> argument_headers(const Json& input_schema, const Json& arguments);

}  // namespace kontor::tools::mcp
