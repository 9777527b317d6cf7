#pragma once
// The bytes of a YAML file: encoding rules, and where a byte stands in lines and columns.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

struct Place {
  int line = 1;
  int column = 1;  ///< In code points.
};

struct EncodingProblem {
  std::size_t offset = 0;
  std::string message;
};

/// Owns a copy of a file's bytes without byte order mark. Offsets count bytes of `text()`.
class SourceText {
 public:
  explicit SourceText(std::string bytes);
  SourceText(const SourceText&) = delete;
  SourceText& operator=(const SourceText&) = delete;

  std::string_view text() const { return text_; }
  /// The first byte that is not UTF-8, or that YAML 1.2 does not allow (c-printable, and no DEL).
  std::optional<EncodingProblem> check_encoding() const;
  /// CR, LF and CR LF end lines. Costs the length of one line, once the lines were found, and less for places in order.
  Place place(std::size_t offset) const;

 private:
  std::string bytes_;
  std::string_view text_;
  mutable std::vector<std::uint32_t> lines_;  // where each line begins; found on first use
  mutable std::size_t last_offset_ = 0;       // the place asked for last: a long line may hold many
  mutable std::size_t last_column_ = 0;
};

}  // namespace kontor::agent
