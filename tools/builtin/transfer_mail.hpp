#pragma once
// One message to a mail server (SMTP) through libcurl.

#include "base/error.hpp"

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

namespace kontor::tools {

enum class MailTls {
  starttls,  ///< TLS is begun inside the connection, and demanded.
  implicit,  ///< TLS from the first byte (port 465).
  none,
};

struct MailTransfer {
  std::string host;
  std::uint16_t port = 587;
  MailTls tls = MailTls::starttls;
  std::string greeting;                 ///< Domain that the server is greeted with.
  std::string from;                     ///< Addresses without names.
  std::vector<std::string> recipients;
  std::string message;                  ///< RFC 5322, lines end with CRLF.
  std::string user, password;           ///< "": no login.
  std::string ca_file;                  ///< Replaces the system's certificates. Empty: the system's.
  std::int64_t timeout_ms = 60'000;
  std::function<Result<void>(const std::string& address)> permit;  ///< Numeric address; an error refuses it.
};

/// Hands the message over for all recipients or for none. The value is the server's last word.
/// Errors: timeout (kind timeout) when the server has the whole message and did not say whether it took it; every other
/// one means that it was not sent: denied, io (kinds tls, login, refused, io), cancelled.
Result<std::string> send_mail(const MailTransfer& mail, std::stop_token stop);

}  // namespace kontor::tools
