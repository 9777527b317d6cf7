#pragma once
// JSON Schema (2020-12 subset used by tools and outputs): compile once, validate many. Bounded and iterative.

#include "base/error.hpp"
#include "base/json.hpp"

#include <memory>
#include <string>
#include <vector>

namespace kontor::tools {

struct SchemaViolation {
  std::string pointer;   ///< JSON pointer of the value at fault ("" is the whole).
  std::string message;   ///< "expected a string, got a number", "missing property 'iban'", ...
};

class Schema {
 public:
  /// Keywords it does not know that would restrict values are errors (unsupported) with the keyword's JSON pointer in
  /// `where`; annotations are ignored. No remote references. Errors: malformed, unsupported, limit.
  static Result<Schema> compile(const Json& schema);

  /// Empty when the value is valid. At most `limit` violations are reported.
  std::vector<SchemaViolation> validate(const Json& value, std::size_t limit = 8) const;

 private:
  struct Compiled;
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace kontor::tools
