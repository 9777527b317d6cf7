#pragma once
// The client's side of OAuth 2.1 as MCP uses it: finding the authorization server (RFC 9728, RFC 8414, OpenID Connect
// Discovery), becoming its client (given id, client id metadata document, RFC 7591), authorization code with PKCE
// (RFC 7636) over a loopback redirect (RFC 8252), `iss` (RFC 9207), `resource` (RFC 8707), refresh.

#include "tools/mcp/http_client.hpp"
#include "tools/mcp/message.hpp"
#include "tools/mcp/transport.hpp"

#include <functional>
#include <mutex>
#include <string>
#include <vector>

namespace kontor::tools::mcp {

struct OAuthSetup {
  std::string client_id, client_secret;  ///< Of a client that was registered by hand.
  std::string metadata_url;              ///< A client id metadata document of ours.
  std::string scope;                     ///< Asked for in place of what the server names.
  std::string token_file;                ///< Keeps tokens and registrations, by server and issuer; "" forgets them.
  /// Shows a person the page to allow the access on. Empty: nobody is there, and what needs a person fails.
  std::function<void(const std::string& url)> open_page;
  std::int64_t person_timeout_ms = 300'000;
};

// ---- discovery

/// Parameters of the Bearer challenge of WWW-Authenticate headers; empty texts where absent.
struct Challenge {
  std::string resource_metadata, scope, error;
};
Challenge read_challenge(const std::vector<std::string>& headers);

struct Discovered {
  std::string resource;                  ///< What tokens are asked for.
  std::string issuer;
  std::vector<std::string> resource_scopes;
  bool has_resource_metadata = false;
  Json server = Json::object();          ///< Metadata of the authorization server.
};
/// Errors: denied (kind oauth) when what the server says does not fit together; not_found; those of HTTP.
Result<Discovered> discover_authorization(const Url& server, const Challenge& challenge, const HttpLimits& limits);

// ---- redirect

/// Listens on 127.0.0.1 for the one visit of the browser that brings the code.
class RedirectListener {
 public:
  /// `port`: 0 takes a free one. Errors: io.
  static Result<RedirectListener> open(std::uint16_t port);
  RedirectListener(RedirectListener&& other) noexcept;
  ~RedirectListener();
  std::string uri() const;
  std::uint16_t port() const { return port_; }
  /// The parameters that came back. Errors: timeout, cancelled.
  Result<std::vector<std::pair<std::string, std::string>>> wait(const HttpLimits& limits);

 private:
  RedirectListener(int socket, std::uint16_t port) : socket_(socket), port_(port) {}
  int socket_ = -1;
  std::uint16_t port_ = 0;
};

// ---- flow

/// Tokens for one server. Thread-safe; one authorization at a time.
class OAuth {
 public:
  OAuth(Url server, OAuthSetup setup);
  /// The access token at hand, or "".
  std::string token();
  /// After an answer 401, or 403 for a lack of scope: gets another token, without a person where a refresh token
  /// serves. `used`: the token that was refused; when another thread has a newer one by now, that is it.
  /// Errors: denied (kind unauthorized) with what to do; those of discovery and HTTP.
  Result<void> authorize(const HttpHead& refusal, const std::string& used, const HttpLimits& limits);

 private:
  struct Registered {
    std::string id, secret, method, redirect_uri;
  };
  Result<Registered> client_for(const Discovered& found, const std::string& redirect_uri, const HttpLimits& limits);
  Result<Json> ask_token(const Discovered& found, const Registered& client, std::vector<std::pair<std::string, std::string>> fields, const HttpLimits& limits);
  Result<void> refresh(const Discovered& found, const HttpLimits& limits);
  Result<void> ask_person(const Discovered& found, const std::string& scope, const HttpLimits& limits);
  std::string wanted_scope(const Discovered& found, const Challenge& challenge) const;
  void keep(const Discovered& found, const Json& answer, const std::string& scope);
  void load();
  void save() const;

  const Url server_;
  const OAuthSetup setup_;
  std::mutex flow_mutex_;                ///< One flow at a time.
  std::mutex mutex_;
  Json state_ = Json::object();          ///< {"token", "refresh", "issuer", "scope", "clients": {ISSUER: {...}}}
};

}  // namespace kontor::tools::mcp
