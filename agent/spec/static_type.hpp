#pragma once
// What the checker knows about a value before it exists.

#include "base/json.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kontor::agent {

struct StaticType;
using TypePtr = std::shared_ptr<const StaticType>;

struct StaticType {
  enum class Kind { dynamic, null, boolean, number, string, list, object } kind = Kind::dynamic;
  TypePtr element;                          ///< list; null is dynamic
  std::map<std::string, TypePtr> fields;    ///< object
  bool open = false;                        ///< object: may have fields that are not listed
  std::vector<std::string> words;           ///< string: the only values, when not empty

  bool is(Kind other) const { return kind == other; }
};

TypePtr dynamic_type();
TypePtr simple_type(StaticType::Kind kind);
TypePtr list_type(TypePtr element);
TypePtr object_type(std::map<std::string, TypePtr> fields, bool open = false);

/// The type that a JSON Schema promises.
TypePtr type_of_schema(const Json& schema);
/// "a number", "a list", ...
const char* to_words(StaticType::Kind kind);

}  // namespace kontor::agent
