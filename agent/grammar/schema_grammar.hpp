#pragma once
// JSON Schemas as parts of a grammar. What the grammar lets through is a subset of what the schema accepts, never more;
// a keyword that cannot be honoured is an error with its JSON pointer.
//
// One spelling for each value (so that most of an object can be written without asking the model): members in the order
// of `properties`, optional ones may be left out, then those that only `required` names, then additional ones; ": " and
// ", " between, no other white space; strings in their canonical spelling (inference/string_steps.hpp); numbers as in
// agent/grammar/numbers.hpp. Members that no schema mentions are only written where `additionalProperties` says so or the
// schema lists no members at all. `"x-verbatim": true` beside `type: string`: the value stands verbatim in a text of the
// conversation.

#include "agent/grammar/schema_shape.hpp"
#include "base/error.hpp"
#include "base/json.hpp"
#include "inference/grammar.hpp"

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace kontor::agent {

/// How arguments are written where each member is an element of its own (DSML).
struct ElementNotation {
  /// Adds what reads a part of a tag behind `from`; returns the node behind it.
  std::function<inference::NodeId(inference::NodeId from, std::string_view tag)> tag;
  inference::NodeId text = inference::kNoNode;  ///< Called, it reads text as it stands up to and with the tag that closes a member.
};

/// Adds schemas to one grammar; what several need in the same way is there once.
class SchemaGrammar {
 public:
  explicit SchemaGrammar(inference::Grammar& grammar, ShapeOptions options = {}) : grammar_(grammar), options_(options) {}

  /// A node that, called, reads a value of the schema. The schema must outlive the builder. Errors: unsupported,
  /// malformed, limit (kind grammar_schema); `where` is the pointer of the keyword.
  /// `object`: nothing but objects, whatever the schema says (arguments of a call).
  Result<inference::NodeId> add(const Json& schema, bool object = false);
  /// The same for the arguments of a call, an element for each member: strings as they stand where that is possible, other
  /// values as JSON. Members that the schema does not list are not written. Errors: as add(); unsupported for names that
  /// no attribute can hold, for arguments that only have members without names, and for `enum` of whole arguments.
  Result<inference::NodeId> add_elements(const Json& schema, const ElementNotation& notation);

 private:
  friend class SchemaWriter;
  inference::Grammar& grammar_;
  ShapeOptions options_;
  std::map<std::string, inference::NodeId> numbers_, strings_;
};

/// How the values of a schema are written.
enum class ValueNotation { json, object, elements };

/// Whether a schema can be enforced: compiles it alone. Errors: as add() and add_elements(), and malformed (unsatisfiable).
Result<void> check_schema_grammar(const Json& schema, ValueNotation notation = ValueNotation::json);

}  // namespace kontor::agent
