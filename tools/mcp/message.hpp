#pragma once
// JSON-RPC 2.0 messages of the Model Context Protocol (modelcontextprotocol.io), revisions 2025-11-25 and 2026-07-28.

#include "base/error.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>

namespace kontor::tools::mcp {

/// The stateless revision: every request says its version and its sender's capabilities in `_meta`.
inline constexpr std::string_view kStateless = "2026-07-28";
/// The last revision that begins with an `initialize` handshake.
inline constexpr std::string_view kHandshake = "2025-11-25";
/// Is it a revision with a handshake that we can speak (2024-11-05 to 2025-11-25)?
bool is_handshake_revision(std::string_view revision);

inline constexpr std::size_t kMessageBytesMax = 16u << 20;
inline constexpr std::size_t kMessageDepthMax = 64;

/// Names of `_meta` members.
inline constexpr const char* kMetaVersion = "io.modelcontextprotocol/protocolVersion";
inline constexpr const char* kMetaClientInfo = "io.modelcontextprotocol/clientInfo";
inline constexpr const char* kMetaCapabilities = "io.modelcontextprotocol/clientCapabilities";
inline constexpr const char* kMetaServerInfo = "io.modelcontextprotocol/serverInfo";
inline constexpr const char* kMetaLogLevel = "io.modelcontextprotocol/logLevel";
inline constexpr const char* kMetaSubscription = "io.modelcontextprotocol/subscriptionId";

/// Codes of error answers.
enum RpcCode : int {
  kParseError = -32700,
  kInvalidRequest = -32600,
  kMethodNotFound = -32601,
  kInvalidParams = -32602,
  kInternalError = -32603,
  kResourceNotFound = -32002,      ///< Up to 2025-11-25; kInvalidParams since.
  kHeaderMismatch = -32020,
  kMissingCapability = -32021,
  kUnsupportedVersion = -32022,
};

struct RpcError {
  int code = 0;
  std::string message;
  Json data = nullptr;
};
/// What a request ends with.
using Reply = std::variant<Json, RpcError>;

struct Message {
  enum class Kind { request, notification, result, error } kind = Kind::notification;
  Json id = nullptr;             ///< A string or a whole number; null for notifications and for errors without one.
  std::string method;            ///< Of requests and notifications.
  Json body = Json::object();    ///< `params` or `result`: always an object.
  RpcError error;
};

/// One message; batches are refused, as both revisions do. Errors: those of parse_json within the bounds above,
/// malformed (kind not_a_message).
Result<Message> parse_message(std::string_view text);

std::string write_request(const Json& id, const std::string& method, const Json& params);
std::string write_notification(const std::string& method, const Json& params);
std::string write_result(const Json& id, const Json& result);
/// A null id is left out, as for what could not be read.
std::string write_error(const Json& id, const RpcError& error);

/// The text of a member, or "".
std::string text_at(const Json& object, const char* key);
/// The member when it is an object, else an empty one.
const Json& object_at(const Json& object, const char* key);

}  // namespace kontor::tools::mcp
