#include "tools/mcp/http_client.hpp"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <netdb.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace kontor::tools::mcp {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kHeadBytesMax = 64u << 10;
constexpr std::size_t kReadBytes = 64u << 10;

Error too_late(const Url& url) { return fail(Errc::timeout, url.origin() + " did not answer in time", "timeout"); }
Error stopped() { return fail(Errc::cancelled, "the request was cancelled", "cancelled"); }

/// When the present step has to be over.
SteadyClock::time_point end_of_step(const HttpLimits& limits) {
  return limits.idle.count() > 0 ? std::min(limits.deadline, SteadyClock::now() + limits.idle) : limits.deadline;
}

/// getaddrinfo cannot be interrupted, so it runs on a thread that may be left behind.
struct Lookup {
  std::mutex mutex;
  std::condition_variable_any changed;
  bool done = false;
  int status = 0;
  std::vector<tcp::endpoint> endpoints;
};

Result<std::vector<tcp::endpoint>> resolve(const Url& url, const HttpLimits& limits) {
  if (auto permitted = limits.egress.permit_name(url.origin(), url.host, url.port); !permitted) return permitted.error();
  error_code code;
  if (const auto address = asio::ip::make_address(url.host, code); !code) return std::vector<tcp::endpoint>{{address, url.port}};
  auto lookup = std::make_shared<Lookup>();
  std::thread([lookup, host = url.host, port = url.port] {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int status = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
    const std::lock_guard lock(lookup->mutex);
    for (const addrinfo* one = found; status == 0 && one; one = one->ai_next) {
      if (one->ai_family == AF_INET) {
        const auto* address = reinterpret_cast<const sockaddr_in*>(one->ai_addr);
        lookup->endpoints.emplace_back(asio::ip::address_v4(ntohl(address->sin_addr.s_addr)), port);
      } else if (one->ai_family == AF_INET6) {
        const auto* address = reinterpret_cast<const sockaddr_in6*>(one->ai_addr);
        asio::ip::address_v6::bytes_type bytes;
        std::copy(std::begin(address->sin6_addr.s6_addr), std::end(address->sin6_addr.s6_addr), bytes.begin());
        lookup->endpoints.emplace_back(asio::ip::address_v6(bytes, address->sin6_scope_id), port);
      }
    }
    if (found) ::freeaddrinfo(found);
    lookup->status = status;
    lookup->done = true;
    lookup->changed.notify_all();
  }).detach();
  std::unique_lock lock(lookup->mutex);
  if (!lookup->changed.wait_until(lock, limits.stop, end_of_step(limits), [&] { return lookup->done; })) {
    return limits.stop.stop_requested() ? stopped() : too_late(url);
  }
  if (lookup->endpoints.empty()) return fail(Errc::not_found, "no address for host " + url.host + ": " + ::gai_strerror(lookup->status), "host");
  return lookup->endpoints;
}

/// One connection, driven on the caller's thread: each step is an asynchronous operation that is run to its end, to
/// the deadline or to the stop.
class Connection {
 public:
  Connection(const Url& url, const HttpLimits& limits)
      : url_(url), limits_(limits), on_stop_(limits.stop, [this] { asio::post(context_, [] {}); }) {}

  Result<void> open() {
    auto endpoints = resolve(url_, limits_);
    if (!endpoints) return endpoints.error();
    Error last = fail(Errc::io, "no address could be reached", "refused");
    for (const auto& endpoint : *endpoints) {
      if (auto permitted = limits_.egress.permit_address(url_.origin(), url_.host, endpoint.address().to_string(), url_.port); !permitted) return permitted.error();
      error_code ignored;
      socket_.close(ignored);
      const auto connected = step([&](auto done) { socket_.async_connect(endpoint, done); });
      if (connected) {
        socket_.set_option(tcp::no_delay(true), ignored);
        return url_.tls ? secure() : Result<void>();
      }
      last = connected.error();
      if (last.code == Errc::timeout || last.code == Errc::cancelled) return last;
      last.kind = "refused";
      last.message = "connect to " + url_.origin() + ": " + last.message;
    }
    return last;
  }

  Result<void> write(const http::request<http::string_body>& request) {
    http::serializer<true, http::string_body> serializer(request);
    auto written = tls_ ? step([&](auto done) { http::async_write(*tls_, serializer, done); })
                        : step([&](auto done) { http::async_write(socket_, serializer, done); });
    return described(written, "send to ");
  }

  Result<void> read_head(http::response_parser<http::buffer_body>& parser) {
    auto read = tls_ ? step([&](auto done) { http::async_read_header(*tls_, buffer_, parser, done); })
                     : step([&](auto done) { http::async_read_header(socket_, buffer_, parser, done); });
    return described(read, "read from ");
  }

  /// The next bytes of the body; none at its end.
  Result<std::string_view> read_body(http::response_parser<http::buffer_body>& parser) {
    while (!parser.is_done()) {
      auto& body = parser.get().body();
      body.data = piece_.data();
      body.size = piece_.size();
      auto read = tls_ ? step([&](auto done) { http::async_read_some(*tls_, buffer_, parser, done); })
                       : step([&](auto done) { http::async_read_some(socket_, buffer_, parser, done); });
      const std::size_t count = piece_.size() - body.size;
      if (!read && last_ != http::error::need_buffer) return described(read, "read from ").error();
      if (count > 0) return std::string_view(piece_.data(), count);
    }
    return std::string_view();
  }

 private:
  Result<void> secure() {
    static asio::ssl::context* const context = [] {
      auto* made = new asio::ssl::context(asio::ssl::context::tls_client);
      made->set_default_verify_paths();
      SSL_CTX_set_min_proto_version(made->native_handle(), TLS1_2_VERSION);
      return made;
    }();
    tls_.emplace(socket_, *context);
    tls_->set_verify_mode(asio::ssl::verify_peer);
    tls_->set_verify_callback(asio::ssl::host_name_verification(url_.host));
    SSL_set_tlsext_host_name(tls_->native_handle(), url_.host.c_str());
    auto shaken = step([&](auto done) { tls_->async_handshake(asio::ssl::stream_base::client, done); });
    if (!shaken && shaken.error().kind != "timeout" && shaken.error().kind != "cancelled") {
      return fail(Errc::io, "TLS with " + url_.origin() + ": " + shaken.error().message, "refused");
    }
    return shaken;
  }

  Result<void> described(const Result<void>& result, const std::string& action) {
    if (result) return {};
    Error error = result.error();
    if (error.code == Errc::timeout || error.code == Errc::cancelled) return error;
    if (last_ == http::error::header_limit || last_ == http::error::body_limit) return fail(Errc::limit, "the answer of " + url_.origin() + " is too long", "http");
    error.message = action + url_.origin() + ": " + error.message;
    return error;
  }

  template <class Start>
  Result<void> step(Start start) {
    bool finished = false;
    last_ = {};
    start([&](error_code code, auto&&...) {
      last_ = code;
      finished = true;
    });
    context_.restart();
    const auto end = end_of_step(limits_);
    while (!finished) {
      const bool stop = limits_.stop.stop_requested();
      if (stop || SteadyClock::now() >= end) {
        error_code ignored;
        socket_.close(ignored);
        while (!finished && context_.run_one() > 0) {}
        return stop ? stopped() : too_late(url_);
      }
      context_.run_one_until(end);
    }
    if (last_) return fail(Errc::io, last_.message(), "closed");
    return {};
  }

  const Url& url_;
  const HttpLimits& limits_;
  asio::io_context context_{1};
  tcp::socket socket_{context_};
  std::optional<asio::ssl::stream<tcp::socket&>> tls_;
  beast::flat_buffer buffer_{kHeadBytesMax + kReadBytes};
  std::array<char, kReadBytes> piece_;
  error_code last_;
  std::stop_callback<std::function<void()>> on_stop_;
};

}  // namespace

Result<HttpHead> http_stream(const HttpRequest& request, const HttpLimits& limits, const std::function<bool(const HttpHead&)>& head,
                             const std::function<bool(std::string_view)>& body) {
  http::request<http::string_body> message;
  message.version(11);
  message.method_string(request.method);
  message.target(request.url.target);
  const std::string origin = request.url.origin();
  message.set(http::field::host, origin.substr(origin.find("://") + 3));
  message.set(http::field::user_agent, "kontor");
  message.set(http::field::connection, "close");
  for (const auto& [name, value] : request.headers) {
    if (name.find_first_of("\r\n: ") != std::string::npos || name.empty() || value.find_first_of("\r\n") != std::string::npos) {
      return fail(Errc::usage, "a header '" + name + "' with a line break or a strange name cannot be sent", "header");
    }
    message.set(name, value);
  }
  message.body() = request.body;
  if (!request.body.empty() || request.method == "POST") message.prepare_payload();

  auto connection = std::make_unique<Connection>(request.url, limits);
  if (auto opened = connection->open(); !opened) return opened.error();
  if (auto written = connection->write(message); !written) return written.error();
  http::response_parser<http::buffer_body> parser;
  parser.header_limit(kHeadBytesMax);
  parser.body_limit(limits.body_bytes);
  if (auto read = connection->read_head(parser); !read) return read.error();
  HttpHead answer;
  answer.status = static_cast<int>(parser.get().result_int());
  for (const auto& field : parser.get()) answer.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  if (!head(answer)) return answer;
  for (;;) {
    auto piece = connection->read_body(parser);
    if (!piece) return piece.error();
    if (piece->empty() || !body(*piece)) return answer;
  }
}

Result<HttpAnswer> http_fetch(const HttpRequest& request, const HttpLimits& limits) {
  HttpAnswer answer;
  auto head = http_stream(request, limits, [](const HttpHead&) { return true; }, [&](std::string_view piece) {
    answer.body += piece;
    return true;
  });
  if (!head) return head.error();
  answer.head = std::move(*head);
  return answer;
}

}  // namespace kontor::tools::mcp
