#include "memory/store.hpp"

#include "memory/search.hpp"
#include "memory/vector_index.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>

namespace kontor::memory {
namespace {

static_assert(std::endian::native == std::endian::little, "vectors are stored in little-endian order");

constexpr std::int32_t kApplicationId = 0x4b6f4d65;  // "KoMe"
constexpr std::int64_t kVersion = 2;  ///< 2: facts.secret
constexpr std::size_t kTextMax = 64u << 10;
constexpr std::size_t kSpaceMax = 200;
constexpr std::size_t kWidthMax = 65'536;
constexpr std::size_t kCandidates = 100;  ///< Depth of each ranking before fusion, at least.

constexpr const char* kSchema = R"sql(
CREATE TABLE facts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  space TEXT NOT NULL, text TEXT NOT NULL, source TEXT NOT NULL,
  trusted INTEGER NOT NULL, created_ms INTEGER NOT NULL, secret INTEGER NOT NULL DEFAULT 0,
  UNIQUE (space, text));
CREATE TABLE vectors (
  fact INTEGER NOT NULL REFERENCES facts(id) ON DELETE CASCADE,
  embedder TEXT NOT NULL, vector BLOB NOT NULL,
  PRIMARY KEY (embedder, fact)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(text, content='facts', content_rowid='id', tokenize="unicode61 remove_diacritics 2");
)sql";

/// One prepared statement, bound and stepped through; finalised with the object.
class Query {
 public:
  Query(sqlite3* database, const char* sql) : database_(database) {
    failed_ = sqlite3_prepare_v2(database, sql, -1, &statement_, nullptr) != SQLITE_OK;
  }
  Query(const Query&) = delete;
  ~Query() { sqlite3_finalize(statement_); }

  Query& bind(const std::string& text) {
    if (!failed_) sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
    return *this;
  }
  Query& bind(std::int64_t number) {
    if (!failed_) sqlite3_bind_int64(statement_, ++bound_, number);
    return *this;
  }
  Query& bind(const std::vector<float>& vector) {
    if (!failed_) sqlite3_bind_blob64(statement_, ++bound_, vector.data(), vector.size() * sizeof(float), SQLITE_TRANSIENT);
    return *this;
  }
  /// True while there are rows.
  bool next() {
    if (failed_) return false;
    const int result = sqlite3_step(statement_);
    failed_ = result != SQLITE_ROW && result != SQLITE_DONE;
    return result == SQLITE_ROW;
  }
  /// Runs to the end; error or nothing.
  std::optional<Error> finish() {
    while (next()) {}
    return error();
  }
  std::optional<Error> error() const;

  std::int64_t number(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string text(int column) const {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return bytes == nullptr ? std::string{} : std::string(bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
  }
  std::span<const std::byte> blob(int column) const {
    return {static_cast<const std::byte*>(sqlite3_column_blob(statement_, column)), static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
  }
  Record record() const { return {number(0), text(1), text(2), text(3), number(4) != 0, number(5), number(6) != 0}; }

 private:
  sqlite3* database_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
  bool failed_ = false;
};

Error store_error(sqlite3* database) {
  const int code = sqlite3_extended_errcode(database) & 0xff;
  const std::string message = std::string("memory store: ") + sqlite3_errmsg(database);
  switch (code) {
    case SQLITE_CORRUPT: case SQLITE_NOTADB: return fail(Errc::malformed, message + "; the file is damaged and was left as it is", "memory_damaged");
    case SQLITE_FULL: return fail(Errc::io, message + "; the disk is full", "memory_io");
    case SQLITE_BUSY: case SQLITE_LOCKED: return fail(Errc::conflict, message + "; another process holds it", "memory_busy");
    case SQLITE_NOMEM: return fail(Errc::memory, message, "memory_io");
    default: return fail(Errc::io, message, "memory_io");
  }
}

std::optional<Error> Query::error() const {
  if (!failed_) return std::nullopt;
  return store_error(database_);
}

bool valid_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead >= 0xc2 && lead < 0xe0 ? 2 : (lead & 0xf0) == 0xe0 ? 3 : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
    if (length == 0 || i + length > text.size() || text[i] == '\0') return false;
    for (std::size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    }
    if (length > 2) {
      const auto second = static_cast<unsigned char>(text[i + 1]);
      if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) || (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return false;
    }
    i += length;
  }
  return true;
}

std::optional<Error> check_space(const std::string& space) {
  if (space.empty() || space.size() > kSpaceMax) return fail(Errc::usage, "a namespace has 1 to " + std::to_string(kSpaceMax) + " bytes", "namespace");
  if (!valid_utf8(space)) return fail(Errc::malformed, "the namespace is not UTF-8 text", "namespace");
  return std::nullopt;
}

class SqliteStore final : public Store {
 public:
  SqliteStore(sqlite3* database, const Clock& clock, const SearchOptions& search) : database_(database), clock_(clock), search_(search) {}
  ~SqliteStore() override { sqlite3_close_v2(database_); }

  Result<void> prepare();
  Result<std::int64_t> add(const Record& record, Embedder* embedder) override;
  Result<std::vector<Hit>> search(const std::string& space, const std::string& query, std::size_t limit, Embedder* embedder) override;
  Result<std::vector<Record>> list(const std::string& space, std::size_t limit) override;
  Result<std::vector<std::string>> spaces() override;
  Result<std::int64_t> forget(const std::string& space, std::int64_t id) override;
  Result<std::int64_t> forget_all(const std::string& space) override;
  Result<std::int64_t> embed_missing(const std::string& space, Embedder& embedder) override;
  Result<void> verify() override;

 private:
  /// The vectors of one namespace and embedder, side by side for the scan; read again when something changed.
  struct Block {
    std::int64_t seen_changes = -1, seen_version = -1;
    std::size_t width = 0;
    std::vector<std::int64_t> facts;
    std::vector<float> vectors;
    std::int64_t searches = 0;           ///< Since it was read.
    std::unique_ptr<VectorIndex> index;  ///< The same on a device.
  };

  std::optional<Error> run(const char* sql) {
    if (sqlite3_exec(database_, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return std::nullopt;
    return store_error(database_);
  }
  /// All of it or nothing of it.
  template <class Work>
  Result<std::int64_t> in_transaction(const Work& work) {
    if (auto error = run("BEGIN IMMEDIATE")) return *error;
    const Result<std::int64_t> result = work();
    const auto ended = run(result ? "COMMIT" : "ROLLBACK");
    if (result && ended) {
      run("ROLLBACK");
      return *ended;
    }
    return result;
  }
  Result<std::int64_t> remove(const std::string& space, std::int64_t id);
  static Result<std::vector<float>> usable(const Embedder& embedder, Result<std::vector<float>> vector);
  Result<std::int64_t> insert(const Record& record, const std::vector<float>& vector, const std::string& embedder);
  Result<Block*> block(const std::string& space, const std::string& embedder, std::size_t width);
  std::vector<std::pair<std::size_t, float>> nearest(Block& block, const std::vector<float>& query, std::size_t limit);
  Result<std::int64_t> scalar(const char* sql);

  sqlite3* database_;
  const Clock& clock_;
  SearchOptions search_;
  std::mutex mutex_;
  std::shared_ptr<VectorDevice> device_;
  std::map<std::pair<std::string, std::string>, Block> blocks_;
};

Result<std::int64_t> SqliteStore::scalar(const char* sql) {
  Query query(database_, sql);
  const bool row = query.next();
  if (auto error = query.error()) return *error;
  return row ? query.number(0) : 0;
}

Result<void> SqliteStore::prepare() {
  sqlite3_busy_timeout(database_, 10'000);
  sqlite3_db_config(database_, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, nullptr);
  sqlite3_db_config(database_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(database_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  // Only look before it is known that the file is ours.
  const auto id = scalar("PRAGMA application_id");
  if (!id) return id.error();
  const auto objects = scalar("SELECT count(*) FROM sqlite_schema");
  if (!objects) return objects.error();
  if (*id != kApplicationId && *objects > 0) return fail(Errc::malformed, "the file is a database, but not a Kontor memory", "not_a_memory");
  const auto version = scalar("PRAGMA user_version");
  if (!version) return version.error();
  if (*version > kVersion) {
    return fail(Errc::unsupported, "the memory has format " + std::to_string(*version) + "; this Kontor reads up to " + std::to_string(kVersion), "newer_format");
  }
  if (auto error = run("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON")) return *error;
  if (*objects > 0 && *version == kVersion) return {};
  if (auto error = run("BEGIN IMMEDIATE")) return *error;
  const auto again = scalar("PRAGMA user_version");  // Another process may have been first.
  if (again && *again < kVersion) {
    const std::string made = *again == 0 ? std::string(kSchema) + "PRAGMA application_id=" + std::to_string(kApplicationId) + ";" : "ALTER TABLE facts ADD COLUMN secret INTEGER NOT NULL DEFAULT 0;";
    const std::string make = made + "PRAGMA user_version=" + std::to_string(kVersion);
    if (auto error = run(make.c_str())) {
      run("ROLLBACK");
      return *error;
    }
  }
  if (auto error = run("COMMIT")) return *error;
  return {};
}

Result<std::vector<float>> SqliteStore::usable(const Embedder& embedder, Result<std::vector<float>> vector) {
  if (!vector) return vector.error();
  if (vector->size() != embedder.width() || vector->empty() || vector->size() > kWidthMax || !make_unit(*vector)) {
    return fail(Errc::internal, "the embedder " + embedder.name() + " gave no usable vector", "embedding");
  }
  return vector;
}

Result<std::int64_t> SqliteStore::insert(const Record& record, const std::vector<float>& vector, const std::string& embedder) {
  std::int64_t id = 0;
  {
    Query query(database_, "SELECT id FROM facts WHERE space = ? AND text = ?");
    query.bind(record.space).bind(record.text);
    if (query.next()) id = query.number(0);
    if (auto error = query.error()) return *error;
  }
  if (id != 0) {
    Query query(database_, "UPDATE facts SET trusted = max(trusted, ?), secret = max(secret, ?) WHERE id = ?");
    query.bind(std::int64_t{record.trusted}).bind(std::int64_t{record.secret}).bind(id);
    if (auto error = query.finish()) return *error;
  } else {
    Query query(database_, "INSERT INTO facts(space, text, source, trusted, created_ms, secret) VALUES (?, ?, ?, ?, ?, ?)");
    query.bind(record.space).bind(record.text).bind(record.source).bind(std::int64_t{record.trusted}).bind(record.created_ms != 0 ? record.created_ms : clock_.unix_ms()).bind(std::int64_t{record.secret});
    if (auto error = query.finish()) return *error;
    id = sqlite3_last_insert_rowid(database_);
    Query words(database_, "INSERT INTO words(rowid, text) VALUES (?, ?)");
    words.bind(id).bind(record.text);
    if (auto error = words.finish()) return *error;
  }
  if (!vector.empty()) {
    Query query(database_, "INSERT OR REPLACE INTO vectors(fact, embedder, vector) VALUES (?, ?, ?)");
    query.bind(id).bind(embedder).bind(vector);
    if (auto error = query.finish()) return *error;
  }
  return id;
}

Result<std::int64_t> SqliteStore::add(const Record& record, Embedder* embedder) {
  if (auto error = check_space(record.space)) return *error;
  if (record.text.empty() || record.text.size() > kTextMax) return fail(Errc::usage, "a fact has 1 to " + std::to_string(kTextMax) + " bytes of text", "fact_size");
  if (!valid_utf8(record.text) || !valid_utf8(record.source)) return fail(Errc::malformed, "the fact is not UTF-8 text", "fact_text");
  std::vector<float> vector;
  if (embedder != nullptr) {  // Before the lock: this may take a while.
    auto made = usable(*embedder, embedder->embed(record.text));
    if (!made) return made.error();
    vector = std::move(*made);
  }
  const std::lock_guard lock(mutex_);
  return in_transaction([&] { return insert(record, vector, embedder != nullptr ? embedder->name() : ""); });
}

Result<SqliteStore::Block*> SqliteStore::block(const std::string& space, const std::string& embedder, std::size_t width) {
  const auto version = scalar("PRAGMA data_version");  // Changes of other connections; ours are counted by total_changes.
  if (!version) return version.error();
  const std::int64_t changes = sqlite3_total_changes64(database_);
  Block& block = blocks_[{space, embedder}];
  if (block.seen_changes == changes && block.seen_version == *version && block.width == width) return &block;
  block.facts.clear();
  block.vectors.clear();
  block.index.reset();
  block.searches = 0;
  Query query(database_, "SELECT v.fact, v.vector FROM vectors v JOIN facts f ON f.id = v.fact WHERE v.embedder = ? AND f.space = ? ORDER BY v.fact");
  query.bind(embedder).bind(space);
  while (query.next()) {
    const auto bytes = query.blob(1);
    if (bytes.size() != width * sizeof(float)) {
      blocks_.erase({space, embedder});
      return fail(Errc::malformed, "memory store: the vector of fact " + std::to_string(query.number(0)) + " has another width than " + embedder + " makes", "memory_damaged");
    }
    block.facts.push_back(query.number(0));
    const std::size_t at = block.vectors.size();
    block.vectors.resize(at + width);
    std::memcpy(block.vectors.data() + at, bytes.data(), bytes.size());
  }
  if (auto error = query.error()) {
    blocks_.erase({space, embedder});
    return *error;
  }
  block.width = width;
  block.seen_changes = changes;
  block.seen_version = *version;
  return &block;
}

/// What is searched once between two changes is not worth the way to a device.
std::vector<std::pair<std::size_t, float>> SqliteStore::nearest(Block& block, const std::vector<float>& query, std::size_t limit) {
  if (++block.searches == 2 && block.facts.size() >= search_.rows_least && search_.device) {
    if (!device_) {
      if (auto opened = search_.device()) device_ = std::move(*opened);
      else search_.device = nullptr;  // Asked once.
    }
    // In half precision, in bytes where only these fit, else not at all.
    for (const Precision precision : {Precision::half, Precision::byte})
      if (device_ && !block.index)
        if (auto made = VectorIndex::create(device_, block.vectors, block.width, precision)) block.index = std::move(*made);
  }
  if (block.index) {
    if (auto found = block.index->nearest(block.vectors, query, limit)) return std::move(*found);
    // The device is broken: the processor has all it needs.
    for (auto& [key, other] : blocks_) other.index.reset();
    device_.reset();
    search_.device = nullptr;
  }
  return nearest_rows(block.vectors, query, limit);
}

Result<std::vector<Hit>> SqliteStore::search(const std::string& space, const std::string& query, std::size_t limit, Embedder* embedder) {
  if (auto error = check_space(space)) return *error;
  std::vector<float> vector;
  if (embedder != nullptr && !query.empty()) {
    auto made = usable(*embedder, embedder->embed_query(query.substr(0, kTextMax)));
    if (!made) return made.error();
    vector = std::move(*made);
  }
  const std::lock_guard lock(mutex_);
  const std::size_t depth = std::max(limit * 4, kCandidates);
  std::vector<std::vector<std::int64_t>> rankings;
  if (const std::string words = full_text_query(query); !words.empty()) {
    Query found(database_, "SELECT f.id FROM words JOIN facts f ON f.id = words.rowid WHERE words MATCH ? AND f.space = ? ORDER BY rank, f.id LIMIT ?");
    found.bind(words).bind(space).bind(static_cast<std::int64_t>(depth));
    auto& ranking = rankings.emplace_back();
    while (found.next()) ranking.push_back(found.number(0));
    if (auto error = found.error()) return *error;
  }
  std::unordered_map<std::int64_t, double> similarities;
  if (!vector.empty()) {
    const auto held = block(space, embedder->name(), vector.size());
    if (!held) return held.error();
    auto& ranking = rankings.emplace_back();
    for (const auto& [row, similarity] : nearest(**held, vector, depth)) {
      ranking.push_back((*held)->facts[row]);
      similarities[(*held)->facts[row]] = similarity;
    }
  }
  std::vector<Hit> hits;
  for (const auto& [id, score] : fuse(rankings)) {
    if (hits.size() >= limit) break;
    Query fact(database_, "SELECT id, space, text, source, trusted, created_ms, secret FROM facts WHERE id = ?");
    fact.bind(id);
    if (fact.next()) hits.push_back({fact.record(), score, similarities.contains(id) ? similarities[id] : 0});
    if (auto error = fact.error()) return *error;
  }
  return hits;
}

Result<std::vector<Record>> SqliteStore::list(const std::string& space, std::size_t limit) {
  const std::lock_guard lock(mutex_);
  Query query(database_, "SELECT id, space, text, source, trusted, created_ms, secret FROM facts WHERE space = ? ORDER BY id DESC LIMIT ?");
  query.bind(space).bind(static_cast<std::int64_t>(std::min<std::size_t>(limit, INT64_MAX)));
  std::vector<Record> records;
  while (query.next()) records.push_back(query.record());
  if (auto error = query.error()) return *error;
  return records;
}

Result<std::vector<std::string>> SqliteStore::spaces() {
  const std::lock_guard lock(mutex_);
  Query query(database_, "SELECT DISTINCT space FROM facts ORDER BY space");
  std::vector<std::string> names;
  while (query.next()) names.push_back(query.text(0));
  if (auto error = query.error()) return *error;
  return names;
}

/// One fact, or with id 0 all of the namespace: out of the full-text index first, which needs the old text.
Result<std::int64_t> SqliteStore::remove(const std::string& space, std::int64_t id) {
  for (const char* sql : {"INSERT INTO words(words, rowid, text) SELECT 'delete', id, text FROM facts WHERE space = ?1 AND (?2 = 0 OR id = ?2)",
                          "DELETE FROM facts WHERE space = ?1 AND (?2 = 0 OR id = ?2)"}) {
    Query query(database_, sql);
    query.bind(space).bind(id);
    if (auto error = query.finish()) return *error;
  }
  return sqlite3_changes64(database_);
}

Result<std::int64_t> SqliteStore::forget(const std::string& space, std::int64_t id) {
  if (id <= 0) return 0;
  const std::lock_guard lock(mutex_);
  return in_transaction([&] { return remove(space, id); });
}

Result<std::int64_t> SqliteStore::forget_all(const std::string& space) {
  const std::lock_guard lock(mutex_);
  return in_transaction([&] { return remove(space, 0); });
}

Result<std::int64_t> SqliteStore::embed_missing(const std::string& space, Embedder& embedder) {
  std::vector<std::pair<std::int64_t, std::string>> missing;
  {
    const std::lock_guard lock(mutex_);
    Query query(database_, "SELECT id, text FROM facts WHERE space = ? AND id NOT IN (SELECT fact FROM vectors WHERE embedder = ?) ORDER BY id");
    query.bind(space).bind(embedder.name());
    while (query.next()) missing.emplace_back(query.number(0), query.text(1));
    if (auto error = query.error()) return *error;
  }
  std::int64_t made = 0;
  for (const auto& [id, text] : missing) {
    const auto vector = usable(embedder, embedder.embed(text));
    if (!vector) return vector.error();
    const std::lock_guard lock(mutex_);
    // A fact forgotten meanwhile gets no vector.
    Query query(database_, "INSERT OR IGNORE INTO vectors(fact, embedder, vector) SELECT id, ?, ? FROM facts WHERE id = ?");
    query.bind(embedder.name()).bind(*vector).bind(id);
    if (auto error = query.finish()) return *error;
    ++made;
  }
  return made;
}

Result<void> SqliteStore::verify() {
  const std::lock_guard lock(mutex_);
  for (const char* check : {"PRAGMA integrity_check(1)", "PRAGMA foreign_key_check"}) {
    Query query(database_, check);
    if (query.next() && query.text(0) != "ok") return fail(Errc::malformed, "memory store: " + query.text(0), "memory_damaged");
    if (auto error = query.error()) return *error;
  }
  // FTS5 compares its index with the facts; rank 1 reads the external content too.
  if (auto error = run("INSERT INTO words(words, rank) VALUES ('integrity-check', 1)")) return *error;
  return {};
}

}  // namespace

Result<std::unique_ptr<Store>> Store::open(const std::string& path, const Clock& clock, const SearchOptions& search) {
  const auto folder = std::filesystem::path(path).parent_path();
  std::error_code failed;
  if (!folder.empty()) std::filesystem::create_directories(folder, failed);
  if (failed) return fail(Errc::io, "create folder " + folder.string() + ": " + failed.message(), "system");
  sqlite3* database = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, nullptr);
  auto store = std::make_unique<SqliteStore>(database, clock, search);
  Error error;
  if (opened != SQLITE_OK) {
    error = store_error(database);
  } else if (auto prepared = store->prepare(); !prepared) {
    error = prepared.error();
  } else {
    return Result<std::unique_ptr<Store>>(std::move(store));
  }
  error.where = path;
  return error;
}

}  // namespace kontor::memory
