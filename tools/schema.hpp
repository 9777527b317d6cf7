#pragma once
// JSON Schema 2020-12 (and draft-07 where `$schema` says so): compile once, validate many.
//
// All keywords of the core, applicator, unevaluated, validation and format vocabularies. `$ref` and `$dynamicRef` reach
// anything inside the document (pointers, anchors, embedded `$id`), the documents handed in beside it, and the
// meta-schemas of both dialects; nothing is ever fetched. Patterns are ECMA-262 turned into RE2: linear time, but no
// look-around and no back-references. Numbers are compared by exact decimal value.

#include "base/error.hpp"
#include "base/json.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kontor::tools {

struct SchemaViolation {
  std::string pointer;   ///< JSON pointer of the value at fault ("" is the whole).
  std::string message;   ///< "expected a string, got a number", "missing property 'iban'", ...
  std::string keyword;   ///< The keyword that said no: "type", "required", ...; "limit" when checking was given up.
};

/// Documents that references may lead to, by absolute URI without fragment. A `$schema` that is one of them is read for
/// its `$vocabulary`: keywords of a vocabulary that it leaves out are annotations then.
using SchemaDocuments = std::map<std::string, Json, std::less<>>;

struct SchemaOptions {
  bool formats = true;   ///< `format` is checked for the formats of 2020-12; unknown ones are annotations.
  const SchemaDocuments* documents = nullptr;  ///< Only read by compile().
};

/// Bounds, so that neither a hostile schema nor a hostile value can hold the program up.
inline constexpr std::size_t kSchemaNodesMax = 50'000;      ///< Subschemas of one schema and what it refers to.
inline constexpr std::size_t kSchemaDepthMax = 512;         ///< Nested applications while checking.
inline constexpr std::size_t kSchemaStepsMax = 20'000'000;  ///< Work of one validate call.

class Schema {
 public:
  /// Keywords it does not know that would restrict values are errors (unsupported) with the keyword's JSON pointer in
  /// `where`, behind "URI#" where it stands in another document; annotations are ignored. A reference to a document that
  /// is not at hand is an error (unsupported, kind remote_reference). Errors: malformed, unsupported, limit.
  /// A schema that applies itself to the same value without end is malformed (kind schema_cycle).
  static Result<Schema> compile(const Json& schema, const SchemaOptions& options = {});

  /// Empty when the value is valid. At most `limit` violations are reported. Values nested or repeated beyond the
  /// bounds above are violations (keyword "limit"), never accepted unchecked. Thread-safe.
  std::vector<SchemaViolation> validate(const Json& value, std::size_t limit = 8) const;


  struct Compiled;  ///< Internal: tools/schema_node.hpp.

 private:
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace kontor::tools
