#pragma once
// What builtin.memory needs from a store of facts. The layers do not know each other: agent/memory_bridge implements
// this over memory::Store.

#include "base/error.hpp"
#include "tools/labels.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kontor::tools {

struct MemoryFact {
  std::int64_t id = 0;
  std::string text;
  std::string source;
  bool trusted = true;
  bool secret = false;
  std::int64_t created_ms = 0;
  double score = 0;          ///< Higher is nearer; only from recall.
};

/// Thread-safe. Namespaces are texts of letters, digits and any of "_-./:@ ", at most 200 bytes.
class MemoryAccess {
 public:
  virtual ~MemoryAccess() = default;
  /// The id of the fact; the same text in the same namespace is one fact, and once it is secret it stays so.
  virtual Result<std::int64_t> remember(const std::string& space, const std::string& text, const std::string& source, const Labels& labels) = 0;
  virtual Result<std::vector<MemoryFact>> recall(const std::string& space, const std::string& query, std::size_t limit) = 0;
  virtual Result<std::vector<MemoryFact>> list(const std::string& space, std::size_t limit) = 0;
  /// Whether there was such a fact.
  virtual Result<bool> forget(const std::string& space, std::int64_t id) = 0;
};

}  // namespace kontor::tools
