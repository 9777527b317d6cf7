#pragma once
// KV pages of token timelines in a file, so that a run that was parked goes on without computing its prompt again.
//
// Layout, integers little-endian: "KONTORKV", u32 version, u32 length and text of the arithmetic, 64 characters SHA-256 of
// the model file, u64 bytes of a page, u64 tokens in the vocabulary, u64 nodes; then for each node i64 parent (index
// of an earlier node, -1: the root), u32 tokens (64, or fewer where nothing follows), their i32 ids, the page; at the end
// 64 characters: SHA-256 chained over header and nodes.

#include "base/error.hpp"
#include "inference/prefix_cache.hpp"

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

namespace kontor::inference {

/// What a snapshot belongs to. Pages of another model or of other arithmetic would give wrong tokens without a sign.
struct SnapshotKey {
  std::string model_sha256;
  std::string arithmetic;  ///< Backend::arithmetic()
  std::uint64_t page_bytes = 0;
  std::int64_t vocabulary = 0;
};

/// Errors: io.
Result<void> write_snapshot(std::ostream& out, const SnapshotKey& key, std::span<const PrefixCache::Entry> entries);

/// Reads what write_snapshot wrote; nothing is returned unless all of it is intact. `size`: bytes that `in` holds;
/// `most_bytes`: of pages, more are refused before memory is taken; `make_page`: as Backend::load_page. Errors:
/// malformed (bad_snapshot), unsupported (snapshot_version), conflict (other_model, other_arithmetic), limit
/// (snapshot_size), memory.
Result<std::vector<PrefixCache::Entry>> read_snapshot(std::istream& in, std::uint64_t size, const SnapshotKey& key, std::uint64_t most_bytes,
                                                      const std::function<Result<KvPageRef>(std::span<const std::byte>)>& make_page);

/// A file written beside its name first, readable by its owner only, and durable. Errors: io.
Result<void> save_snapshot(const std::string& path, const SnapshotKey& key, std::span<const PrefixCache::Entry> entries);
/// `key` is asked for only where the file exists. Errors: not_found, io, and those of read_snapshot.
Result<std::vector<PrefixCache::Entry>> load_snapshot(const std::string& path, const std::function<SnapshotKey()>& key, std::uint64_t most_bytes,
                                                      const std::function<Result<KvPageRef>(std::span<const std::byte>)>& make_page);

}  // namespace kontor::inference
