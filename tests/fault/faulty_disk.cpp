#include "tests/fault/faulty_disk.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace kontor::test {
namespace {

constexpr std::size_t kSector = 512;

struct OpenFile {
  sqlite3_file base;
  FaultyDisk* disk;
  std::shared_ptr<FaultyDisk::File>* file;
  std::string* delete_on_close;
};

OpenFile& of(sqlite3_file* file) { return *reinterpret_cast<OpenFile*>(file); }
FaultyDisk::File& content(sqlite3_file* file) { return **of(file).file; }

int close_file(sqlite3_file* file) {
  auto& self = of(file);
  if (self.delete_on_close) self.disk->remove(*self.delete_on_close);
  delete self.delete_on_close;
  delete self.file;
  self.delete_on_close = nullptr;
  self.file = nullptr;
  return SQLITE_OK;
}
int read_file(sqlite3_file* file, void* out, int count, sqlite3_int64 offset) {
  if (of(file).disk->is_off()) return SQLITE_IOERR_READ;
  const auto& bytes = content(file).now;
  const auto size = static_cast<sqlite3_int64>(bytes.size());
  const auto have = std::clamp<sqlite3_int64>(size - offset, 0, count);
  if (have > 0) std::memcpy(out, bytes.data() + offset, static_cast<std::size_t>(have));
  if (have == count) return SQLITE_OK;
  std::memset(static_cast<char*>(out) + have, 0, static_cast<std::size_t>(count - have));
  return SQLITE_IOERR_SHORT_READ;
}
int write_file(sqlite3_file* file, const void* bytes, int count, sqlite3_int64 offset) { return of(file).disk->write(content(file), bytes, count, offset); }
int truncate_file(sqlite3_file* file, sqlite3_int64 size) { return of(file).disk->truncate(content(file), size); }
int sync_file(sqlite3_file* file, int) { return of(file).disk->sync(content(file)); }
int file_size(sqlite3_file* file, sqlite3_int64* size) {
  *size = static_cast<sqlite3_int64>(content(file).now.size());
  return SQLITE_OK;
}
int lock_file(sqlite3_file*, int) { return SQLITE_OK; }
int check_lock(sqlite3_file*, int* held) {
  *held = 0;
  return SQLITE_OK;
}
int control(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int sector_size(sqlite3_file*) { return static_cast<int>(kSector); }
int characteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }  // As the unix layer says: nothing beside a write is changed by it.
int map_shared(sqlite3_file* file, int region, int size, int, void volatile** out) {
  auto& regions = content(file).shared;
  while (static_cast<int>(regions.size()) <= region) regions.push_back(std::make_unique<std::uint8_t[]>(static_cast<std::size_t>(size)));
  *out = regions[static_cast<std::size_t>(region)].get();
  return SQLITE_OK;
}
int lock_shared(sqlite3_file*, int, int, int) { return SQLITE_OK; }
void barrier(sqlite3_file*) {}
int unmap_shared(sqlite3_file* file, int) {
  content(file).shared.clear();
  return SQLITE_OK;
}

const sqlite3_io_methods kMethods = {2, close_file, read_file, write_file, truncate_file, sync_file, file_size, lock_file, lock_file, check_lock,
                                     control, sector_size, characteristics, map_shared, lock_shared, barrier, unmap_shared, nullptr, nullptr};

}  // namespace

struct FaultyDisk::Layer {
  sqlite3_vfs vfs{};
  sqlite3_vfs* real = nullptr;

  static FaultyDisk& disk(sqlite3_vfs* vfs) { return *static_cast<FaultyDisk*>(vfs->pAppData); }
  static sqlite3_vfs* system() { return sqlite3_vfs_find("unix"); }
  static int open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags) {
    auto& self = *reinterpret_cast<OpenFile*>(file);
    self.base.pMethods = nullptr;
    const std::string name = path ? path : "temporary";
    auto found = disk(vfs).open(name, (flags & SQLITE_OPEN_CREATE) != 0);
    if (!found) return SQLITE_CANTOPEN;
    self.disk = &disk(vfs);
    self.file = new std::shared_ptr<File>(std::move(found));
    self.delete_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0 ? new std::string(name) : nullptr;
    self.base.pMethods = &kMethods;
    if (out_flags) *out_flags = flags;
    return SQLITE_OK;
  }
  static int remove(sqlite3_vfs* vfs, const char* path, int) {
    if (disk(vfs).is_off()) return SQLITE_IOERR_DELETE;
    disk(vfs).remove(path);
    return SQLITE_OK;
  }
  static int access(sqlite3_vfs* vfs, const char* path, int, int* result) {
    *result = disk(vfs).exists(path) ? 1 : 0;
    return SQLITE_OK;
  }
  static int full_path(sqlite3_vfs*, const char* path, int size, char* out) {
    sqlite3_snprintf(size, out, "%s", path);
    return SQLITE_OK;
  }
  static int randomness(sqlite3_vfs*, int size, char* out) { return system()->xRandomness(system(), size, out); }
  static int sleep(sqlite3_vfs*, int us) { return us; }
  static int time(sqlite3_vfs*, double* now) { return system()->xCurrentTime(system(), now); }
  static int last_error(sqlite3_vfs*, int, char*) { return 0; }
};

FaultyDisk::FaultyDisk(std::uint64_t seed) : random_(seed), layer_(std::make_unique<Layer>()) {
  static std::uint64_t number = 0;
  name_ = "faulty-" + std::to_string(++number);
  auto& vfs = layer_->vfs;
  vfs.iVersion = 1;
  vfs.szOsFile = sizeof(OpenFile);
  vfs.mxPathname = 512;
  vfs.zName = name_.c_str();
  vfs.pAppData = this;
  vfs.xOpen = Layer::open, vfs.xDelete = Layer::remove, vfs.xAccess = Layer::access, vfs.xFullPathname = Layer::full_path;
  vfs.xRandomness = Layer::randomness, vfs.xSleep = Layer::sleep, vfs.xCurrentTime = Layer::time, vfs.xGetLastError = Layer::last_error;
  sqlite3_initialize();
  sqlite3_vfs_register(&vfs, 0);
}

FaultyDisk::~FaultyDisk() { sqlite3_vfs_unregister(&layer_->vfs); }

void FaultyDisk::plan(Fault fault, std::int64_t operation) {
  fault_ = fault;
  due_in_ = operation;
}

Fault FaultyDisk::due() {
  ++operations_;
  if (fault_ == Fault::none || --due_in_ > 0) return Fault::none;
  return fault_;
}

std::shared_ptr<FaultyDisk::File> FaultyDisk::open(const std::string& path, bool create) {
  if (off_) return nullptr;
  const auto found = files_.find(path);
  if (found != files_.end()) return found->second;
  if (!create) return nullptr;
  return files_[path] = std::make_shared<File>();
}

void FaultyDisk::apply(std::vector<std::uint8_t>& content, const Change& change) {
  const auto offset = static_cast<std::size_t>(change.offset);
  if (change.truncates) {
    content.resize(offset);
    return;
  }
  if (content.size() < offset + change.bytes.size()) content.resize(offset + change.bytes.size());
  std::copy(change.bytes.begin(), change.bytes.end(), content.begin() + change.offset);
}

int FaultyDisk::write(File& file, const void* bytes, int count, std::int64_t offset) {
  if (off_) return SQLITE_IOERR_WRITE;
  const auto* begin = static_cast<const std::uint8_t*>(bytes);
  Change change{offset, std::vector<std::uint8_t>(begin, begin + count), false};
  switch (due()) {
    case Fault::no_space:
    case Fault::write_error: {
      // Part of it may have been written.
      failed_ = true;
      const bool full = fault_ == Fault::no_space;
      fault_ = Fault::none;
      change.bytes.resize(random_() % static_cast<std::size_t>(count + 1));
      apply(file.now, change);
      file.pending.push_back(std::move(change));
      return full ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    }
    case Fault::power_cut:
      failed_ = off_ = true;
      file.pending.push_back(std::move(change));
      return SQLITE_IOERR_WRITE;
    default: break;
  }
  apply(file.now, change);
  file.pending.push_back(std::move(change));
  most_bytes_ = std::max(most_bytes_, this->bytes());
  return SQLITE_OK;
}

int FaultyDisk::truncate(File& file, std::int64_t size) {
  if (off_) return SQLITE_IOERR_TRUNCATE;
  Change change{size, {}, true};
  apply(file.now, change);
  file.pending.push_back(std::move(change));
  return SQLITE_OK;
}

int FaultyDisk::sync(File& file) {
  if (off_) return SQLITE_IOERR_FSYNC;
  ++syncs_;
  const Fault fault = due();
  if (fault == Fault::power_cut) {
    failed_ = off_ = true;
    return SQLITE_IOERR_FSYNC;
  }
  if (fault == Fault::sync_error) {
    failed_ = true;
    fault_ = Fault::none;
    // The kernel takes the pages for written: each is there in part or not at all, and no later sync brings it back.
    for (const auto& change : file.pending) survive(file.synced, change);
    file.pending.clear();
    return SQLITE_IOERR_FSYNC;
  }
  for (const auto& change : file.pending) apply(file.synced, change);
  file.pending.clear();
  return SQLITE_OK;
}

void FaultyDisk::survive(std::vector<std::uint8_t>& content, const Change& change) {
  const auto chance = random_() % 4;
  if (chance == 0) return;
  if (change.truncates || chance == 1) return apply(content, change);
  // Any sectors of it, in any order.
  for (std::size_t begin = 0; begin < change.bytes.size();) {
    const std::size_t end = std::min(change.bytes.size(), (static_cast<std::size_t>(change.offset) + begin) / kSector * kSector + kSector - static_cast<std::size_t>(change.offset));
    if (random_() % 2 == 0) apply(content, {change.offset + static_cast<std::int64_t>(begin), {change.bytes.begin() + static_cast<std::ptrdiff_t>(begin), change.bytes.begin() + static_cast<std::ptrdiff_t>(end)}, false});
    begin = end;
  }
}

void FaultyDisk::cut_power() {
  for (auto& [path, file] : files_) {
    for (const auto& change : file->pending) survive(file->synced, change);
    file->pending.clear();
    file->shared.clear();
    file->now = file->synced;
  }
  fault_ = Fault::none;
  off_ = false;
}

std::size_t FaultyDisk::bytes() const {
  std::size_t sum = 0;
  for (const auto& [path, file] : files_) sum += file->now.size();
  return sum;
}

}  // namespace kontor::test
