#pragma once
// A disk in memory that fails as disks do, as a file layer for SQLite: a power cut loses any part of what was not synced
// (writes in any order, cut at sector boundaries), writes fail with ENOSPC or EIO, syncs fail. Everything is chosen by a
// seed. One connection at a time.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace kontor::test {

enum class Fault { none, power_cut, no_space, write_error, sync_error };

class FaultyDisk {
 public:
  /// Registers itself with SQLite under `name()`.
  explicit FaultyDisk(std::uint64_t seed);
  ~FaultyDisk();
  FaultyDisk(const FaultyDisk&) = delete;
  FaultyDisk& operator=(const FaultyDisk&) = delete;
  const char* name() const { return name_.c_str(); }

  /// Lets the `operation`-th write or sync from now fail.
  void plan(Fault fault, std::int64_t operation);
  /// The power is cut: what was not synced is there in part or not at all. Nothing may be open.
  void cut_power();
  bool has_failed() const { return failed_; }
  std::int64_t syncs() const { return syncs_; }
  std::int64_t operations() const { return operations_; }
  /// Bytes of all files now, and the most there ever were.
  std::size_t bytes() const;
  std::size_t most_bytes() const { return most_bytes_; }

  struct Change {
    std::int64_t offset = 0;
    std::vector<std::uint8_t> bytes;
    bool truncates = false;
  };
  struct File {
    std::vector<std::uint8_t> now, synced;
    std::vector<Change> pending;   ///< Since the last sync.
    std::vector<std::unique_ptr<std::uint8_t[]>> shared;
  };
  // For the file layer.
  std::shared_ptr<File> open(const std::string& path, bool create);
  bool exists(const std::string& path) const { return files_.count(path) != 0; }
  void remove(const std::string& path) { files_.erase(path); }
  int write(File& file, const void* bytes, int count, std::int64_t offset);
  int truncate(File& file, std::int64_t size);
  int sync(File& file);
  bool is_off() const { return off_; }

 private:
  static void apply(std::vector<std::uint8_t>& content, const Change& change);
  /// What becomes of a change when the power is cut.
  void survive(std::vector<std::uint8_t>& content, const Change& change);
  Fault due();

  std::string name_;
  std::mt19937_64 random_;
  std::map<std::string, std::shared_ptr<File>> files_;
  Fault fault_ = Fault::none;
  std::int64_t due_in_ = 0;
  std::int64_t operations_ = 0, syncs_ = 0;
  std::size_t most_bytes_ = 0;
  bool failed_ = false, off_ = false;
  struct Layer;
  std::unique_ptr<Layer> layer_;
};

}  // namespace kontor::test
