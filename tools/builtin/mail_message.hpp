#pragma once
// Mail messages (RFC 5322, MIME): addresses from strangers are checked, texts are encoded, so that nothing that stands in
// one field can begin another.

#include "base/error.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

/// "Name <person@example.com>" or "person@example.com".
struct Mailbox {
  std::string name;     ///< UTF-8; may be empty.
  std::string address;  ///< ASCII.

  /// Errors: usage, with what is wrong.
  static Result<Mailbox> parse(std::string_view text);
  /// Lower case.
  std::string domain() const;
};

struct MailAttachment {
  std::string name;   ///< File name without folders, UTF-8.
  std::string bytes;
};

struct MailMessage {
  Mailbox from;
  std::vector<Mailbox> to, cc;
  std::vector<Mailbox> reply_to;  ///< At most one.
  std::string subject;            ///< UTF-8, one line.
  std::string text, html;         ///< UTF-8; html may be empty.
  std::vector<MailAttachment> attachments;
  std::string message_id;         ///< Without angle brackets.
  std::int64_t unix_ms = 0;       ///< Date.

  /// ASCII with CRLF at line ends, no line longer than 998 bytes. Errors: usage (subject with line breaks or control characters).
  Result<std::string> encoded() const;
};

}  // namespace kontor::tools
