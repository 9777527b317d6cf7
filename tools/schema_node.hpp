#pragma once
// The compiled form of a JSON Schema: one node per subschema, referring to others by index. Internal to schema*.cpp.

#include "tools/schema.hpp"
#include "tools/schema_format.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace re2 {
class RE2;
}

namespace kontor::tools {

using NodeIndex = std::int32_t;
inline constexpr NodeIndex kNoNode = -1;
inline constexpr std::uint64_t kNoBound = ~std::uint64_t{0};

enum TypeBit : std::uint8_t {
  kNull = 1, kBoolean = 2, kInteger = 4, kNumber = 8, kString = 16, kArray = 32, kObject = 64,
  kAnyType = 127,
};

struct Pattern {
  std::string text;
  std::shared_ptr<const re2::RE2> compiled;
};

/// What `properties` and `required` say about one name.
struct PropertyRule {
  NodeIndex node = kNoNode;
  std::int32_t required = -1;  ///< Place in Node::required.
};

struct SchemaNode {
  enum class Kind : std::uint8_t { normal, always, never } kind = Kind::normal;
  std::uint8_t types = kAnyType;
  bool unique_items = false;
  bool annotates = false;              ///< Has unevaluatedItems or unevaluatedProperties.
  Format format = Format::none;
  std::int32_t resource = 0;

  std::optional<std::vector<Json>> values;  ///< enum
  std::optional<Json> constant;
  std::optional<Json> minimum, maximum, above, below, multiple_of;
  std::uint64_t min_length = 0, max_length = kNoBound;
  std::uint64_t min_items = 0, max_items = kNoBound;
  std::uint64_t min_properties = 0, max_properties = kNoBound;
  std::uint64_t min_contains = 1, max_contains = kNoBound;
  std::optional<Pattern> pattern;

  std::unordered_map<std::string, PropertyRule> names;
  std::vector<std::string> required;
  std::vector<std::pair<Pattern, NodeIndex>> pattern_properties;
  std::vector<std::pair<std::string, std::vector<std::string>>> dependent_required;
  std::vector<std::pair<std::string, NodeIndex>> dependent_schemas;
  std::vector<NodeIndex> prefix_items, all_of, any_of, one_of;
  NodeIndex additional_properties = kNoNode, property_names = kNoNode, items = kNoNode, contains = kNoNode;
  NodeIndex unevaluated_items = kNoNode, unevaluated_properties = kNoNode;
  NodeIndex negated = kNoNode, condition = kNoNode, then_node = kNoNode, else_node = kNoNode;
  NodeIndex ref = kNoNode, dynamic_ref = kNoNode;
  std::string dynamic_name;            ///< Anchor that dynamic_ref looks for in the dynamic scope.
};

/// One document or embedded document (`$id`).
struct SchemaResource {
  std::unordered_map<std::string, NodeIndex> dynamic_anchors;
};

struct Schema::Compiled {
  std::vector<SchemaNode> nodes;       ///< The first is the root.
  std::vector<SchemaResource> resources;
  bool dynamic = false;                ///< Some $dynamicRef has to look at the dynamic scope.
};

}  // namespace kontor::tools
