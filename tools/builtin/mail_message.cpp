#include "tools/builtin/mail_message.hpp"

#include "base/hash.hpp"
#include "tools/base64.hpp"
#include "tools/builtin/confined.hpp"

#include <algorithm>
#include <array>
#include <ctime>

namespace kontor::tools {
namespace {

constexpr std::size_t kLine = 76;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
/// Characters of an atom (RFC 5322, 3.2.3).
bool is_atom(char c) { return is_letter(c) || is_digit(c) || std::string_view("!#$%&'*+/=?^_`{|}~-").find(c) != std::string_view::npos; }
bool is_printable(std::string_view text) { return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= 0x20 && c < 0x7f; }); }
bool has_controls(std::string_view text) { return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }); }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

bool is_local_part(std::string_view text) {
  if (text.empty() || text.size() > 64 || text.front() == '.' || text.back() == '.' || text.find("..") != std::string_view::npos) return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return is_atom(c) || c == '.'; });
}

bool is_domain(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('.', begin), text.size());
    const std::string_view label = text.substr(begin, end - begin);
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
    if (!std::all_of(label.begin(), label.end(), [](char c) { return is_letter(c) || is_digit(c) || c == '-'; })) return false;
    begin = end + 1;
  }
  return true;
}

/// The length of the code point at `at`; the text is UTF-8.
std::size_t code_point(std::string_view text, std::size_t at) {
  const auto c = static_cast<unsigned char>(text[at]);
  return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/// RFC 2047: words of at most 75 bytes, none of which cuts a code point, one to a line.
std::string encoded_words(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && end + code_point(text, end) - at <= 42) end += code_point(text, end);
    out += (out.empty() ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?") + base64(text.substr(at, end - at)) + "?=";
    at = end;
  }
  return out;
}

/// The value of a header of free text, folded between words.
std::string unstructured(std::string_view text, std::size_t used) {
  if (!is_printable(text) || text.find("=?") != std::string_view::npos || text != trimmed(text)) return encoded_words(text);
  std::string out;
  std::size_t column = used;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = text.find(' ', text.find_first_not_of(' ', at));
    if (end == std::string_view::npos) end = text.size();
    if (end - at > kLine) return encoded_words(text);
    if (column + (end - at) > kLine && at > 0) {
      out += "\r\n";  // the blank that the word begins with makes it a continuation
      column = 0;
    }
    out += text.substr(at, end - at);
    column += end - at;
    at = end;
  }
  return out;
}

std::string phrase(std::string_view name) {
  if (!is_printable(name) || name.find("=?") != std::string_view::npos || name.size() > 60) return encoded_words(name);
  if (std::all_of(name.begin(), name.end(), [](char c) { return is_atom(c) || c == ' '; })) return std::string(name);
  std::string quoted = "\"";
  for (const char c : name) quoted += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return quoted + "\"";
}

/// "Header: a, b" with one address to a line.
std::string addresses(const std::string& header, const std::vector<Mailbox>& list) {
  std::string out = header + ": ";
  for (const auto& box : list) {
    if (&box != &list.front()) out += ",\r\n ";
    out += box.name.empty() ? box.address : phrase(box.name) + (box.name.size() > 30 ? "\r\n <" : " <") + box.address + ">";
  }
  return out + "\r\n";
}

/// Quoted-printable (RFC 2045, 6.7): lines end with CRLF, none is longer than 76 bytes.
std::string quoted_printable(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  std::size_t column = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool end_of_line = i + 1 == text.size() || text[i + 1] == '\n' || (text[i + 1] == '\r' && i + 2 < text.size() && text[i + 2] == '\n');
    if (c == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    if (c == '\n') {
      out += "\r\n";
      column = 0;
      continue;
    }
    // Blanks at the end of a line are lost on the way; a dot at its beginning is what ends a message.
    const bool plain = (c > 0x20 && c < 0x7f && c != '=' && !(c == '.' && column == 0)) || ((c == ' ' || c == '\t') && !end_of_line);
    const std::size_t width = plain ? 1 : 3;
    if (column + width > kLine - 1) {
      out += "=\r\n";
      column = 0;
      --i;
      continue;
    }
    if (plain) out += static_cast<char>(c);
    else out += std::string("=") + kHex[c >> 4] + kHex[c & 15];
    column += width;
  }
  if (column > 0) out += "\r\n";
  return out;
}

std::string base64_lines(std::string_view bytes) {
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += 57) out += base64(bytes.substr(at, 57)) + "\r\n";
  return out;
}

std::string text_part(const std::string& type, const std::string& text) {
  return "Content-Type: " + type + "; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted_printable(text);
}

const char* type_of(std::string_view name) {
  struct Type {
    std::string_view ending;
    const char* type;
  };
  static constexpr std::array kTypes{Type{".pdf", "application/pdf"}, Type{".csv", "text/csv"}, Type{".txt", "text/plain"}, Type{".json", "application/json"}, Type{".png", "image/png"},
                                     Type{".jpg", "image/jpeg"}, Type{".jpeg", "image/jpeg"}, Type{".xml", "application/xml"}, Type{".zip", "application/zip"},
                                     Type{".xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}};
  for (const auto& known : kTypes) {
    if (name.ends_with(known.ending)) return known.type;
  }
  return "application/octet-stream";
}

/// The name of a file as RFC 2231 writes it.
std::string attachment_part(const MailAttachment& attachment) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string name;
  for (const char c : attachment.name) {
    const auto byte = static_cast<unsigned char>(c);
    if (is_letter(c) || is_digit(c) || c == '.' || c == '-' || c == '_') name += c;
    else name += std::string("%") + kHex[byte >> 4] + kHex[byte & 15];
  }
  return std::string("Content-Type: ") + type_of(attachment.name) + "\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n filename*=UTF-8''" + name + "\r\n\r\n" + base64_lines(attachment.bytes);
}

/// Parts between boundaries that occur in none of them.
std::string multipart(const std::string& kind, const std::vector<std::string>& parts) {
  std::string all;
  for (const auto& part : parts) all += part;
  const std::string boundary = "kontor-" + sha256_hex(kind + all).substr(0, 32);
  std::string out = "Content-Type: multipart/" + kind + ";\r\n boundary=\"" + boundary + "\"\r\n\r\n";
  for (const auto& part : parts) out += "--" + boundary + "\r\n" + part + "\r\n";
  return out + "--" + boundary + "--\r\n";
}

/// What of a bad address an error repeats.
std::string shown(std::string_view text) {
  std::string out(text.substr(0, 80));
  std::replace_if(out.begin(), out.end(), [](unsigned char c) { return c < 0x20 || c > 0x7e; }, '?');
  return out;
}

std::string date_text(std::int64_t unix_ms) {
  static constexpr std::array kDays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[64];
  std::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d +0000", kDays[static_cast<std::size_t>(parts.tm_wday)], parts.tm_mday, kMonths[static_cast<std::size_t>(parts.tm_mon)],
                parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
  return text;
}

}  // namespace

Result<Mailbox> Mailbox::parse(std::string_view text) {
  const auto wrong = [&](const std::string& why) { return fail(Errc::usage, "'" + shown(text) + "' is no mail address: " + why, "mail_address"); };
  if (invalid_utf8(text) || has_controls(text)) return wrong("line breaks and control characters are not allowed");
  if (text.size() > 500) return wrong("it is too long");
  Mailbox box;
  std::string_view address = trimmed(text);
  if (address.ends_with('>')) {
    const auto open = address.rfind('<');
    if (open == std::string_view::npos) return wrong("a '<' is missing");
    std::string_view name = trimmed(address.substr(0, open));
    if (name.size() > 1 && name.front() == '"' && name.back() == '"') name = name.substr(1, name.size() - 2);
    if (name.find_first_of("<>") != std::string_view::npos) return wrong("one address is expected");
    box.name = name;
    address = address.substr(open + 1, address.size() - open - 2);
  }
  const auto at = address.rfind('@');
  if (at == std::string_view::npos) return wrong("an '@' is missing");
  if (!is_local_part(address.substr(0, at))) return wrong("the part before the '@' has characters that are not carried (letters, digits and !#$%&'*+/=?^_`{|}~-. are)");
  if (!is_domain(address.substr(at + 1))) return wrong("the part behind the '@' is no domain of letters, digits, '-' and '.'");
  box.address = address;
  return box;
}

std::string Mailbox::domain() const {
  std::string name = address.substr(address.rfind('@') + 1);
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return name;
}

Result<std::string> MailMessage::encoded() const {
  if (has_controls(subject) || invalid_utf8(subject)) return fail(Errc::usage, "argument 'subject': it is one line of UTF-8 text without control characters", "mail_subject");
  std::string out = "Date: " + date_text(unix_ms) + "\r\n" + addresses("From", {from}) + addresses("To", to);
  if (!cc.empty()) out += addresses("Cc", cc);
  if (!reply_to.empty()) out += addresses("Reply-To", reply_to);
  out += "Subject: " + unstructured(subject, 9) + "\r\nMessage-ID: <" + message_id + ">\r\nMIME-Version: 1.0\r\n";
  std::string body = text_part("text/plain", text);
  if (!html.empty()) body = multipart("alternative", {body, text_part("text/html", html)});
  if (attachments.empty()) return out + body;
  std::vector<std::string> parts{body};
  for (const auto& attachment : attachments) parts.push_back(attachment_part(attachment));
  return out + multipart("mixed", parts);
}

}  // namespace kontor::tools
