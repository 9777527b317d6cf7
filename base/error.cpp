#include "base/error.hpp"

#include <cerrno>
#include <cstring>
#include <ostream>

namespace kontor {

std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::none: return "none";
    case Errc::usage: return "usage";
    case Errc::not_found: return "not_found";
    case Errc::io: return "io";
    case Errc::malformed: return "malformed";
    case Errc::limit: return "limit";
    case Errc::unsupported: return "unsupported";
    case Errc::denied: return "denied";
    case Errc::cancelled: return "cancelled";
    case Errc::timeout: return "timeout";
    case Errc::budget: return "budget";
    case Errc::memory: return "memory";
    case Errc::conflict: return "conflict";
    case Errc::internal: return "internal";
  }
  return "unknown";
}

std::string Error::describe() const { return where.empty() ? message : where + ": " + message; }

std::ostream& operator<<(std::ostream& out, const Error& error) { return out << error.describe(); }

Error fail_errno(std::string_view action, std::string_view path) {
  const int code = errno;
  std::string message(action);
  message.append(" ").append(path).append(": ").append(std::strerror(code));
  return Error{code == ENOENT ? Errc::not_found : Errc::io, std::move(message), "system", {}};
}

}  // namespace kontor
