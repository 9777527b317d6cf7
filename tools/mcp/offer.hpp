#pragma once
// What a server has to offer, without the protocol around it.

#include "tools/mcp/message.hpp"

#include <stop_token>
#include <string>

namespace kontor::tools::mcp {

/// One request at work, as the offer sees it. Thread-safe.
class Conversation {
 public:
  virtual ~Conversation() = default;
  /// fraction is 0..1, or below 0 when it is not known.
  virtual void progress(double fraction, const std::string& note) = 0;
  virtual void log(const std::string& level, const Json& data) = 0;
  /// Asks the client, {"KEY": {"method", "params"}}, and blocks for the answers by key. Questions that the client cannot
  /// be asked are left out when others remain. Errors: unsupported (kind missing_capability), cancelled, timeout.
  virtual Result<Json> ask(const Json& questions) = 0;
  virtual std::stop_token stop() const = 0;
};

/// Thread-safe: several requests at once.
class Offer {
 public:
  virtual ~Offer() = default;
  virtual Json info() const = 0;                             ///< {"name", "version"}
  virtual std::string instructions() const { return {}; }
  /// Beside "tools": {"resources": {}, "prompts": {}, "completions": {}, "logging": {}}
  virtual Json more_capabilities() const { return Json::object(); }
  virtual Json tools() const = 0;                            ///< Definitions as in tools/list, in a stable order.
  /// The result of tools/call without what depends on the revision. Errors: kInvalidParams for unknown tools.
  virtual Reply call(const std::string& name, const Json& arguments, Conversation& conversation) = 0;
  /// resources/*, prompts/*, completion/complete.
  virtual Reply other(const std::string& method, const Json& /*params*/, Conversation& /*conversation*/) {
    return RpcError{kMethodNotFound, "method '" + method + "' is not offered"};
  }
};

}  // namespace kontor::tools::mcp
