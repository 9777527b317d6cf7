#pragma once
// The first pass over a schema's documents: every subschema, its base URI, what dialect it is written in, the names it
// declares, and where references lead. Internal to schema*.cpp.

#include "tools/schema.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

/// Which keywords mean something.
struct SchemaDialect {
  bool legacy = false;        ///< draft-07 and older: $ref hides its siblings.
  bool prefix_items = true;   ///< Since 2020-12.
  bool applies = true, leaves_over = true, validates = true;  ///< The vocabularies applicator, unevaluated, validation.
  bool formats = false;       ///< The vocabulary format-assertion: checked whatever the options say.
};

/// Where a subschema stands.
struct SchemaPlace {
  std::string pointer;        ///< In other documents: behind their URI and '#'.
  std::string base;           ///< Absolute URI of its resource, no fragment.
  std::int32_t resource = 0;
  SchemaDialect dialect;
};

/// A key as a step of a JSON pointer, with the slash.
std::string pointer_token(std::string_view key);
/// Null where the object has no such member.
const Json* member(const Json& object, const char* key);

/// Used by one thread. After the first failure nothing is added.
class SchemaSurvey {
 public:
  /// `options` must outlive it, and so must every document.
  explicit SchemaSurvey(const SchemaOptions& options) : options_(options) {}

  /// Finds all subschemas of a document and the names they declare.
  void add(const Json& root, SchemaPlace top);

  /// Null for what no keyword says is a schema.
  const SchemaPlace* place_of(const Json& schema) const;

  struct Target {
    const Json* schema = nullptr;
    SchemaPlace place;
  };
  /// Where a reference leads; documents that it is the first to name are added. `anchor`, if not null, receives the name of
  /// the anchor that it leads through. Fails where it leads nowhere.
  std::optional<Target> resolve(const std::string& reference, const SchemaPlace& place, std::string_view keyword, std::string* anchor);

  struct DynamicAnchor {
    std::string name;
    const Json* schema;
    std::int32_t resource;
  };
  /// In the order in which they were found.
  const std::vector<DynamicAnchor>& dynamic_anchors() const { return dynamic_anchors_; }
  /// Documents and embedded documents so far.
  std::size_t resources() const { return resource_count_; }

  void stop(Errc code, std::string message, std::string kind, std::string where);
  void malformed(const SchemaPlace& place, std::string_view keyword, const std::string& message);
  bool failed() const { return failed_; }
  const Error& error() const { return error_; }

 private:
  struct Resource {
    const Json* root;
    std::string pointer;
  };

  bool load(const std::string& uri, const SchemaDialect& dialect);
  SchemaDialect dialect_of(const std::string& uri, const SchemaPlace& place);
  void declare(const Json& schema, SchemaPlace& place);
  std::int32_t begin_resource(const std::string& uri, const Json& root, const std::string& pointer);

  const SchemaOptions& options_;
  std::map<const Json*, SchemaPlace> places_;
  std::map<std::string, Resource> resources_;              ///< By absolute URI.
  std::size_t resource_count_ = 0;
  std::map<std::string, const Json*> anchors_;             ///< URI#name
  std::vector<DynamicAnchor> dynamic_anchors_;
  std::size_t pointer_bytes_ = 0;
  bool failed_ = false;
  Error error_;
};

}  // namespace kontor::tools
