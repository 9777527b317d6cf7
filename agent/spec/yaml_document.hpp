#pragma once
// A YAML 1.2 file as a tree with exact positions. Aliases are kept as references and never expanded; what they would
// expand to is counted while reading, before anything walks it.

#include "agent/spec/source_text.hpp"

#include <deque>
#include <memory>

namespace kontor::agent {

struct YamlLimits {
  std::size_t bytes = 1u << 20;
  std::size_t depth = 100;
  std::size_t aliases = 5'000;       ///< Uses of aliases in one file.
  std::size_t nodes = 150'000;       ///< Nodes after expansion of all aliases.
};

struct YamlNode {
  enum class Kind : std::uint8_t { empty, scalar, sequence, mapping, alias } kind = Kind::empty;
  enum class Style : std::uint8_t { plain, single_quoted, double_quoted, literal, folded, flow, block } style = Style::plain;
  bool in_flow = false;
  bool open = false;                 ///< Still being read: an alias to it would contain itself.
  std::uint32_t offset = 0;          ///< First byte of the value (an opening quote, '*', a first key).
  std::int32_t indent = -1;          ///< Column of the block it belongs to; needed to read the scalar again.
  std::uint32_t first_child = 0;     ///< 0: none. Mappings hold key, value, key, value, ...
  std::uint32_t next = 0;
  std::uint32_t target = 0;          ///< alias: the anchored node
  std::uint32_t count = 0;           ///< children
  std::uint32_t expanded = 1;        ///< nodes of the subtree with aliases replaced
  std::string_view value;            ///< scalar: the text it stands for
};

struct YamlProblem {
  std::size_t offset = 0;
  std::string kind;
  std::string message;
};

/// Owns text and nodes. Immutable once read.
struct YamlDocument {
  std::unique_ptr<SourceText> source;
  std::deque<YamlNode> nodes;        ///< nodes[0] is unused
  std::string pool;                  ///< decoded scalars; reserved once, so views into it stay valid
  std::uint32_t root = 0;
  std::vector<YamlProblem> features; ///< well-formed, but not read by Kontor: tags, second document, odd keys
  mutable const YamlNode* traced = nullptr;   ///< The scalar that source_offset() was last asked about,
  mutable std::vector<std::uint32_t> trace;   ///< and where its bytes come from: one text may hold many mistakes.
};

/// Reads one document. The result always has a source; when `problem` is set, the tree is not to be used.
std::unique_ptr<YamlDocument> read_yaml(std::string bytes, const YamlLimits& limits, std::optional<YamlProblem>& problem);

/// Byte of the file from which byte `value_offset` of a scalar's value was read.
std::size_t source_offset(const YamlDocument& document, const YamlNode& scalar, std::size_t value_offset);

/// A place in a document: the node as used there (perhaps an alias) and what it stands for. Cheap to copy.
class Yaml {
 public:
  Yaml() = default;
  Yaml(const YamlDocument& document, std::uint32_t use);

  explicit operator bool() const { return document_ != nullptr; }
  const YamlDocument& document() const { return *document_; }
  const YamlNode& node() const { return *node_; }
  std::size_t offset() const { return use_->offset; }        ///< Where it is used.
  bool is_alias() const { return use_ != node_; }
  std::uint32_t id() const { return use_id_; }

  bool is_mapping() const { return node_->kind == YamlNode::Kind::mapping; }
  bool is_sequence() const { return node_->kind == YamlNode::Kind::sequence; }
  bool is_scalar() const { return node_->kind == YamlNode::Kind::scalar; }
  bool is_plain() const { return is_scalar() && node_->style == YamlNode::Style::plain; }
  /// Nothing, or a plain null, ~ and so on.
  bool is_null() const;
  /// Nothing was written.
  bool is_empty() const { return node_->kind == YamlNode::Kind::empty; }
  std::string_view text() const { return node_->value; }
  std::size_t size() const { return node_->count; }

  /// What a plain scalar is in the YAML 1.2 core schema; quoted and block scalars are strings.
  enum class Type { null, boolean, integer, real, string, sequence, mapping };
  Type type() const;

  struct Entry;
  std::vector<Entry> entries() const;                         ///< mapping
  std::vector<Yaml> items() const;                            ///< sequence
  /// The value of a key, or an empty Yaml.
  Yaml operator[](std::string_view key) const;

 private:
  const YamlDocument* document_ = nullptr;
  const YamlNode* use_ = nullptr;
  const YamlNode* node_ = nullptr;
  std::uint32_t use_id_ = 0;
};

struct Yaml::Entry {
  Yaml key;
  Yaml value;
};

const char* to_words(Yaml::Type type);  ///< "a number", "a list", ...

}  // namespace kontor::agent
