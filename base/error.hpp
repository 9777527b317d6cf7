#pragma once
// Errors are values: functions that can fail for reasons outside the program return Result<T>.
// Exceptions stay inside the file that calls a throwing library.

#include <boost/system/result.hpp>

#include <iosfwd>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace kontor {

/// The classes of failure that callers tell apart. Finer names go into Error::kind.
enum class Errc {
  none,         ///< Only in a default-constructed Error.
  usage,        ///< Wrong command line, configuration or argument.
  not_found,    ///< A file, name or id that does not exist.
  io,           ///< The operating system refused: the message has its reason.
  malformed,    ///< Input from outside is not well-formed.
  limit,        ///< Input is larger or deeper than its bound.
  unsupported,  ///< Well-formed, but not something this build can do.
  denied,       ///< Policy, sandbox or a person said no.
  cancelled,    ///< Stopped on request.
  timeout,      ///< Took longer than allowed.
  budget,       ///< A token, time, energy or money limit is reached.
  memory,       ///< Not enough host or device memory.
  conflict,     ///< The state changed meanwhile, or two settings exclude each other.
  internal,     ///< A broken promise inside Kontor.
};

std::string_view to_string(Errc code);

/// What went wrong (`message`, a sentence for people), where (`file:line:column`, a JSON pointer, or empty), and a
/// stable word for machines (`kind`, e.g. "bad_magic").
struct Error {
  Errc code = Errc::none;
  std::string message;
  std::string kind;
  std::string where;

  /// "where: message", or the message alone.
  std::string describe() const;
};

/// Prints describe(); results in failed test assertions become readable through it.
std::ostream& operator<<(std::ostream& out, const Error& error);

template <class T = void>
using Result = boost::system::result<T, Error>;

/// The one maker of errors: `return fail(Errc::malformed, "...");`
inline Error fail(Errc code, std::string message, std::string kind = {}, std::string where = {}) {
  return Error{code, std::move(message), std::move(kind), std::move(where)};
}

/// Error for a failed system call: "open /a/b: No such file or directory". Reads errno; not_found for ENOENT.
Error fail_errno(std::string_view action, std::string_view path);

/// Called by Result::value() without a value: a programming mistake.
[[noreturn]] inline void throw_exception_from_error(const Error& error, const boost::source_location&) {
  throw std::logic_error("unchecked error: " + error.message);
}

}  // namespace kontor
