#pragma once
// One XML part of a workbook (a zip container), unpacked and parsed as a stream of events. Bounded: unpacked bytes, depth,
// length of one token, number of parts; document types are refused, so there are no entities to expand.
// Internal to builtin.table.

#include "base/error.hpp"

#include <string>
#include <string_view>

namespace kontor::tools {

struct PartLimits {
  std::size_t unpacked_bytes = 256u << 20;
  std::size_t parts = 10'000;
  std::size_t depth = 64;
  std::size_t token_bytes = 1u << 20;
};

/// Attributes of one element, named without their namespace; valid during the event.
class PartAttributes {
 public:
  explicit PartAttributes(const char** pairs) : pairs_(pairs) {}
  /// "" when there is none.
  std::string_view get(std::string_view name) const;

 private:
  const char** pairs_;
};

/// Hears the events of a part. Names come without their namespace. The first error ends the reading and is its result.
class PartReader {
 public:
  virtual ~PartReader() = default;
  virtual Result<void> start(std::string_view name, const PartAttributes& attributes) = 0;
  virtual Result<void> end(std::string_view name) = 0;
  /// May come in pieces.
  virtual Result<void> text(std::string_view piece) = 0;
};

/// Reads the part `name` ("xl/workbook.xml") of `container`. Errors: not_found when there is no such part; malformed, limit,
/// unsupported (libraries that are not installed); those of `reader`.
Result<void> read_part(std::string_view container, const std::string& name, PartReader& reader, const PartLimits& limits = {});

}  // namespace kontor::tools
