#include "agent/cli/http_connection.hpp"

#include <boost/asio/connect.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

#include <chrono>
#include <limits>
#include <optional>

namespace kontor::agent::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = asio::ssl;

constexpr std::chrono::seconds kStepLimit{30};  ///< For connecting, handshake, head, and each piece of the body.

Error network_error(const std::string& action, const beast::error_code& code) {
  if (code == beast::error::timeout) return fail(Errc::timeout, action + ": nothing came for 30 seconds", "timeout");
  return fail(Errc::io, action + ": " + code.message());
}

}  // namespace

struct HttpConnection::State {
  asio::io_context io{1};
  ssl::context tls{ssl::context::tls_client};
  std::optional<beast::tcp_stream> plain;
  std::optional<beast::ssl_stream<beast::tcp_stream>> secure;
  beast::flat_buffer buffer;
  std::optional<http::response_parser<http::buffer_body>> parser;

  beast::tcp_stream& tcp() { return secure ? secure->next_layer() : *plain; }

  /// Runs one asynchronous operation to its end or its time limit.
  template <class Start>
  beast::error_code wait(const Start& start) {
    beast::error_code result;
    if (plain || secure) tcp().expires_after(kStepLimit);
    start([&result](const beast::error_code& code, auto&&...) { result = code; });
    io.restart();
    io.run();
    return result;
  }

  template <class Use>
  beast::error_code with_stream(const Use& use) {
    return wait([&](auto handler) {
      if (secure) use(*secure, handler);
      else use(*plain, handler);
    });
  }
};

HttpConnection::HttpConnection() : state_(std::make_unique<State>()) {}
HttpConnection::~HttpConnection() = default;

Result<void> HttpConnection::open(const HttpUrl& url, bool loopback_only) {
  State& s = *state_;
  std::vector<asio::ip::tcp::endpoint> endpoints;
  const auto port = static_cast<unsigned short>(std::stoi(url.port));
  beast::error_code code;
  const auto address = asio::ip::make_address(url.host, code);
  if (!code) {
    endpoints.emplace_back(address, port);
  } else if (url.host == "localhost") {
    endpoints = {{asio::ip::address_v4::loopback(), port}, {asio::ip::address_v6::loopback(), port}};
  } else if (!loopback_only) {
    asio::ip::tcp::resolver resolver(s.io);
    const auto found = resolver.resolve(url.host, url.port, code);
    if (code) return network_error("look up " + url.host, code);
    for (const auto& entry : found) endpoints.push_back(entry.endpoint());
  }
  if (loopback_only)
    for (const auto& endpoint : endpoints)
      if (!endpoint.address().is_loopback()) endpoints.clear();
  if (endpoints.empty()) return fail(Errc::denied, "--airgap refuses to contact " + url.host, "airgap");

  if (url.secure) {
    s.tls.set_default_verify_paths(code);
    s.tls.set_verify_mode(ssl::verify_peer);
    s.secure.emplace(s.io, s.tls);
    s.secure->set_verify_callback(ssl::host_name_verification(url.host));
    // Not for addresses: RFC 6066 allows names only.
    asio::ip::make_address(url.host, code);
    if (code) SSL_set_tlsext_host_name(s.secure->native_handle(), url.host.c_str());
  } else {
    s.plain.emplace(s.io);
  }
  const auto connected = s.wait([&](auto handler) { s.tcp().async_connect(endpoints, handler); });
  if (connected) return network_error("connect to " + url.host, connected);
  if (url.secure) {
    const auto shaken = s.wait([&](auto handler) { s.secure->async_handshake(ssl::stream_base::client, handler); });
    if (shaken) return network_error("TLS with " + url.host, shaken);
  }
  return {};
}

Result<void> HttpConnection::get(const HttpUrl& url, const std::vector<std::pair<std::string, std::string>>& headers) {
  State& s = *state_;
  http::request<http::empty_body> request{http::verb::get, url.target, 11};
  request.set(http::field::host, host_header(url));
  request.set(http::field::user_agent, "kontor/" KONTOR_VERSION);
  request.set(http::field::accept, "*/*");
  request.set(http::field::accept_encoding, "identity");
  for (const auto& [name, value] : headers) request.set(name, value);
  const auto sent = s.with_stream([&](auto& stream, auto handler) { http::async_write(stream, request, handler); });
  if (sent) return network_error("send the request to " + url.host, sent);
  s.parser.emplace();
  s.parser->body_limit(std::numeric_limits<std::uint64_t>::max());
  const auto got = s.with_stream([&](auto& stream, auto handler) { http::async_read_header(stream, s.buffer, *s.parser, handler); });
  if (got) return network_error("read the answer of " + url.host, got);
  return {};
}

int HttpConnection::status() const { return static_cast<int>(state_->parser->get().result_int()); }

std::string HttpConnection::header(const std::string& name) const {
  const auto value = state_->parser->get()[name];
  return std::string(value.data(), value.size());
}

Result<std::size_t> HttpConnection::read(std::span<char> into) {
  State& s = *state_;
  if (s.parser->is_done()) return std::size_t{0};
  auto& body = s.parser->get().body();
  body.data = into.data();
  body.size = into.size();
  const auto code = s.with_stream([&](auto& stream, auto handler) { http::async_read_some(stream, s.buffer, *s.parser, handler); });
  const std::size_t count = into.size() - body.size;
  if (code && code != http::error::need_buffer) {
    if (count > 0) return count;  // What came before the break counts; the next call reports it.
    return network_error("read the file", code);
  }
  // The parser can consume framing alone.
  return count == 0 && !s.parser->is_done() ? read(into) : count;
}

}  // namespace kontor::agent::cli
