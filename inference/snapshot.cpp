#include "inference/snapshot.hpp"

#include "base/hash.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <istream>
#include <ostream>

namespace kontor::inference {
namespace {

constexpr std::string_view kMagic = "KONTORKV";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kDigest = 64, kArithmeticMost = 200;

template <class Integer>
void put(std::string& out, Integer value) {
  for (std::size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i) & 0xff);
}

Error broken(const std::string& what) { return fail(Errc::malformed, "the KV snapshot is damaged: " + what, "bad_snapshot"); }

/// Reads records and keeps the digest over all of them.
class Reader {
 public:
  Reader(std::istream& in, std::uint64_t size) : in_(in), left_(size) {}

  /// The next bytes become part of the current record. False where the file ends.
  bool take(std::size_t bytes) {
    if (bytes > left_) return false;
    const std::size_t at = record_.size();
    record_.resize(at + bytes);
    in_.read(record_.data() + at, static_cast<std::streamsize>(bytes));
    if (in_.gcount() != static_cast<std::streamsize>(bytes)) return false;
    left_ -= bytes;
    return true;
  }
  template <class Integer>
  bool read(Integer& value) {
    if (!take(sizeof value)) return false;
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < sizeof value; ++i)
      bits |= std::uint64_t{static_cast<unsigned char>(record_[record_.size() - sizeof value + i])} << (8 * i);
    value = static_cast<Integer>(bits);
    return true;
  }
  std::string_view last(std::size_t bytes) const { return std::string_view(record_).substr(record_.size() - bytes); }
  void end_record() {
    digest_ = sha256_hex(digest_ + record_);
    record_.clear();
  }
  const std::string& digest() const { return digest_; }
  std::uint64_t left() const { return left_; }

 private:
  std::istream& in_;
  std::uint64_t left_;
  std::string record_, digest_;
};

std::string header_of(const SnapshotKey& key, std::uint64_t nodes) {
  std::string header(kMagic);
  put(header, kVersion);
  put(header, static_cast<std::uint32_t>(key.arithmetic.size()));
  header += key.arithmetic + key.model_sha256;
  put(header, key.page_bytes);
  put(header, static_cast<std::uint64_t>(key.vocabulary));
  put(header, nodes);
  return header;
}

Result<std::uint64_t> read_header(Reader& reader, const SnapshotKey& key) {
  std::uint32_t version = 0, length = 0;
  if (!reader.take(kMagic.size()) || reader.last(kMagic.size()) != kMagic) return broken("it does not begin like one");
  if (!reader.read(version)) return broken("it ends early");
  if (version != kVersion) return fail(Errc::unsupported, "the KV snapshot has version " + std::to_string(version), "snapshot_version");
  if (!reader.read(length) || length > kArithmeticMost || !reader.take(length)) return broken("it ends early");
  if (reader.last(length) != key.arithmetic) return fail(Errc::conflict, "the KV snapshot was computed with other arithmetic", "other_arithmetic");
  if (!reader.take(kDigest)) return broken("it ends early");
  if (reader.last(kDigest) != key.model_sha256) return fail(Errc::conflict, "the KV snapshot belongs to another model file", "other_model");
  std::uint64_t page_bytes = 0, vocabulary = 0, nodes = 0;
  if (!reader.read(page_bytes) || !reader.read(vocabulary) || !reader.read(nodes)) return broken("it ends early");
  if (page_bytes != key.page_bytes || vocabulary != static_cast<std::uint64_t>(key.vocabulary)) return broken("its sizes are not those of the model");
  reader.end_record();
  return nodes;
}

}  // namespace

Result<void> write_snapshot(std::ostream& out, const SnapshotKey& key, std::span<const PrefixCache::Entry> entries) {
  std::string record = header_of(key, entries.size()), digest = sha256_hex(record);
  out << record;
  for (const PrefixCache::Entry& entry : entries) {
    record.clear();
    put(record, entry.parent);
    put(record, static_cast<std::uint32_t>(entry.tokens.size()));
    for (const TokenId token : entry.tokens) put(record, token);
    const std::size_t at = record.size();
    record.resize(at + key.page_bytes);
    entry.page->copy_to(std::as_writable_bytes(std::span(record).subspan(at)));
    digest = sha256_hex(digest + record);
    out << record;
  }
  out << digest;
  if (!out.flush()) return fail(Errc::io, "cannot write the KV snapshot", "snapshot_write");
  return {};
}

Result<std::vector<PrefixCache::Entry>> read_snapshot(std::istream& in, std::uint64_t size, const SnapshotKey& key, std::uint64_t most_bytes,
                                                      const std::function<Result<KvPageRef>(std::span<const std::byte>)>& make_page) {
  Reader reader(in, size);
  const auto nodes = read_header(reader, key);
  if (!nodes) return nodes.error();
  if (*nodes > reader.left() / (key.page_bytes + 1)) return broken("it holds fewer pages than it says");
  if (*nodes > most_bytes / std::max<std::uint64_t>(1, key.page_bytes))
    return fail(Errc::limit, "the KV snapshot holds more than the prefix cache may", "snapshot_size");
  std::vector<PrefixCache::Entry> entries;
  for (std::uint64_t i = 0; i < *nodes; ++i) {
    PrefixCache::Entry entry;
    std::uint32_t count = 0;
    if (!reader.read(entry.parent) || !reader.read(count)) return broken("it ends early");
    if (entry.parent < -1 || entry.parent >= static_cast<std::int64_t>(i)) return broken("a page follows one that comes later");
    if (count == 0 || count > kPagePositions) return broken("a page of " + std::to_string(count) + " tokens");
    if (entry.parent >= 0 && entries[static_cast<std::size_t>(entry.parent)].tokens.size() != kPagePositions)
      return broken("a page follows one that is not full");
    for (std::uint32_t t = 0; t < count; ++t) {
      TokenId token = 0;
      if (!reader.read(token)) return broken("it ends early");
      if (token < 0 || token >= key.vocabulary) return broken("a token outside the vocabulary");
      entry.tokens.push_back(token);
    }
    if (!reader.take(static_cast<std::size_t>(key.page_bytes))) return broken("it ends early");
    auto page = make_page(std::as_bytes(std::span(reader.last(static_cast<std::size_t>(key.page_bytes)))));
    if (!page) return page.error();
    entry.page = std::move(*page);
    reader.end_record();
    entries.push_back(std::move(entry));
  }
  const std::string digest = reader.digest();
  if (reader.left() != kDigest || !reader.take(kDigest) || reader.last(kDigest) != digest) return broken("its checksum is wrong");
  return entries;
}

Result<void> save_snapshot(const std::string& path, const SnapshotKey& key, std::span<const PrefixCache::Entry> entries) {
  const std::string beside = path + ".new";
  // Created by us with the right mode before anything is in it; never through a link that somebody left there.
  ::unlink(beside.c_str());
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return fail_errno("create", beside);
  std::ofstream out(beside, std::ios::binary);
  auto done = write_snapshot(out, key, entries);
  out.close();
  if (done && ::fsync(fd) != 0) done = fail_errno("sync", beside);
  ::close(fd);
  if (done && ::rename(beside.c_str(), path.c_str()) != 0) done = fail_errno("rename", beside);
  if (!done) ::unlink(beside.c_str());
  return done;
}

Result<std::vector<PrefixCache::Entry>> load_snapshot(const std::string& path, const std::function<SnapshotKey()>& key, std::uint64_t most_bytes,
                                                      const std::function<Result<KvPageRef>(std::span<const std::byte>)>& make_page) {
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code)) return fail(Errc::not_found, "there is no KV snapshot at " + path, "no_snapshot");
  const auto size = std::filesystem::file_size(path, code);
  std::ifstream in(path, std::ios::binary);
  if (code || !in) return fail(Errc::io, "cannot read " + path, "snapshot_read");
  return read_snapshot(in, size, key(), most_bytes, make_page);
}

}  // namespace kontor::inference
