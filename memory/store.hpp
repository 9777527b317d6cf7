#pragma once
// Facts that outlive a run: text, labels and embeddings in one SQLite file (WAL), with full-text search (FTS5) and
// exact vector search. Hybrid search fuses both rankings by reciprocal rank.

#include "base/clock.hpp"
#include "base/json.hpp"
#include "memory/embedder.hpp"
#include "memory/vector_device.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kontor::memory {

struct Record {
  std::int64_t id = 0;
  std::string space;        ///< Namespace; searches see one namespace only.
  std::string text;
  std::string source;       ///< Run and step, or who added it.
  bool trusted = true;
  std::int64_t created_ms = 0;
  bool secret = false;      ///< Made from what a tool with a secret gave.
};

struct Hit {
  Record record;
  double score = 0;         ///< Fused score; higher is nearer.
  double similarity = 0;    ///< Cosine, when an embedding was compared.
};

/// Where vectors may be searched beside the processor. Results do not depend on it.
struct SearchOptions {
  VectorDeviceSource device = open_vector_device;  ///< Opened when it is first worth it; empty: never.
  std::size_t rows_least = 1 << 15;                ///< Namespaces with fewer vectors are searched by the processor.
};

/// Thread-safe. Every write is durable before it returns.
class Store {
 public:
  /// Opens or creates the file and its folder. Errors: io, malformed (not a Kontor memory file), unsupported (newer).
  /// A file that is not ours, or damaged, is never changed.
  static Result<std::unique_ptr<Store>> open(const std::string& path, const Clock& clock = system_clock(), const SearchOptions& search = {});
  virtual ~Store() = default;

  /// Adds a fact; the same text in the same namespace is stored once (the id of the existing one is returned).
  /// `embedder` may be null: then only full-text search finds it. `created_ms` of 0 is now. A fact that is there from
  /// an untrusted source becomes trusted when a trusted source adds it, never the reverse; one that is secret stays so.
  /// Errors: usage (empty or over 64 KiB text, a namespace of more than 200 bytes), malformed (not UTF-8), io.
  virtual Result<std::int64_t> add(const Record& record, Embedder* embedder) = 0;
  /// The best `limit` facts: full text (BM25, any word) and exact cosine similarity, fused by reciprocal rank. Any text is
  /// a valid query.
  virtual Result<std::vector<Hit>> search(const std::string& space, const std::string& query, std::size_t limit, Embedder* embedder) = 0;
  /// Newest first.
  virtual Result<std::vector<Record>> list(const std::string& space, std::size_t limit) = 0;
  virtual Result<std::vector<std::string>> spaces() = 0;
  /// Number of facts removed.
  virtual Result<std::int64_t> forget(const std::string& space, std::int64_t id) = 0;

  /// Removes every fact of the namespace; the number of them.
  virtual Result<std::int64_t> forget_all(const std::string& space) = 0;
  /// Facts of the namespace that have no vector of the embedder yet get one; the number of vectors made.
  virtual Result<std::int64_t> embed_missing(const std::string& space, Embedder& embedder) = 0;
  /// Full check: pages, indices, and that full text and vectors belong to facts. Errors: malformed, saying what is wrong.
  virtual Result<void> verify() = 0;
};

}  // namespace kontor::memory
