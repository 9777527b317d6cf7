#pragma once
// A JSON Schema as a list of alternatives without references: what allOf, anyOf, oneOf and $ref say about one value,
// worked into plain constraints for each type. Internal to agent/grammar.

#include "base/error.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kontor::agent {

/// Schemas that all have to hold for one value, sorted by address: a key for what was compiled before.
using SchemaSet = std::vector<const Json*>;

enum ShapeType : std::uint8_t { kShapeNull = 1, kShapeBoolean = 2, kShapeInteger = 4, kShapeNumber = 8, kShapeString = 16, kShapeArray = 32, kShapeObject = 64 };
inline constexpr std::uint8_t kShapeAll = 127;

/// One alternative. kShapeNumber stands for numbers that need not be whole; kShapeInteger is set along with it.
struct Shape {
  std::uint8_t types = kShapeAll;
  std::optional<std::vector<Json>> values;       ///< enum and const.
  SchemaSet checks;                              ///< Schemas that the values still have to satisfy.

  struct Bound {
    const Json* value;
    bool exclusive;
  };
  std::vector<Bound> lower, upper;
  std::vector<const Json*> multiples;

  std::uint64_t least_length = 0, most_length = ~std::uint64_t{0};
  std::vector<const Json*> patterns, formats;
  bool verbatim = false;

  std::uint64_t least_items = 0, most_items = ~std::uint64_t{0};
  struct ArrayPart {
    SchemaSet prefix;
    const Json* items = nullptr;                 ///< Null: anything.
  };
  std::vector<ArrayPart> arrays;

  struct ObjectPart {
    const Json* properties = nullptr;
    const Json* additional = nullptr;            ///< Null: not said.
  };
  std::vector<ObjectPart> objects;
  std::vector<std::string> required;
  std::uint64_t least_properties = 0, most_properties = ~std::uint64_t{0};
};

struct ShapeOptions {
  bool open_objects = false;   ///< Objects may have members that no schema mentions, as JSON Schema has it.
};

/// Bounds against hostile schemas.
inline constexpr std::size_t kShapesMax = 512;            ///< Alternatives of one value.
inline constexpr std::size_t kInPlaceDepthMax = 64;       ///< References and combinations applied to one value.

/// Works out shapes. The document must outlive it.
class ShapeReader {
 public:
  explicit ShapeReader(const Json& root, ShapeOptions options = {});

  /// Alternatives for a value that satisfies all of the schemas. Errors: unsupported, malformed, limit; `where` is the
  /// JSON pointer of the keyword.
  Result<std::vector<Shape>> shapes(const SchemaSet& all);

  /// JSON pointer of something in the document.
  std::string pointer(const Json* at, const std::string& keyword = {}) const;
  /// Schemas for the member `name`, and whether it may be there at all.
  SchemaSet member(const Shape& shape, const std::string& name) const;
  /// Names that `properties` and `required` mention, in order.
  std::vector<std::string> names(const Shape& shape) const;
  /// Schemas of members that are not mentioned; nullopt: there are none.
  std::optional<SchemaSet> additional(const Shape& shape) const;
  SchemaSet item(const Shape& shape, std::size_t index) const;
  std::size_t prefix_length(const Shape& shape) const;
  /// The values of a shape that satisfy its checks.
  Result<std::vector<Json>> checked_values(const Shape& shape);
  const Json& root() const { return root_; }

  /// Whether no text generated for `a` is valid for `b`.
  bool disjoint(const Shape& a, const Shape& b, int depth = 0);

 private:
  Result<std::vector<Shape>> read(const Json& schema, std::size_t depth);
  Result<std::vector<Shape>> combine(const std::vector<Shape>& a, const std::vector<Shape>& b, const Json& schema, const char* keyword);
  Result<Shape> plain(const Json& schema);
  Result<const Json*> resolve(const Json& schema, const std::string& reference, const char* keyword);
  Result<std::vector<Shape>> exclusive(const std::vector<Shape>& base, const Json& schema, std::size_t depth);
  bool satisfies(const Json& value, const SchemaSet& checks);
  bool allows(const Shape& shape, const Json& value);
  Error refuse(const Json& schema, const std::string& keyword, const std::string& why, Errc code = Errc::unsupported) const;
  void index(const Json& root);

  const Json& root_;
  ShapeOptions options_;
  bool draft7_ = false;
  bool item_lists_ = false;                         ///< `items` may be a list, and prefixItems means nothing.
  std::map<const Json*, std::string> pointers_;     ///< Of subschemas and what may hold them.
  std::map<std::string, const Json*> anchors_;
  const Json* embedded_ = nullptr;                  ///< A subschema with an $id of its own.
  struct Checker;
  std::map<const Json*, std::shared_ptr<Checker>> checkers_;
  std::vector<const Json*> in_place_;               ///< References being followed for one value.
};

}  // namespace kontor::agent
