#include "tools/builtin/file_writer.hpp"

#include "base/decimal.hpp"
#include "base/hash.hpp"
#include "tools/builtin/function_tool.hpp"
#include "tools/csv.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <unordered_set>

namespace kontor::tools {
namespace {

constexpr std::size_t kFileMax = 256u << 20;
constexpr std::size_t kColumnsMax = 1'000;
constexpr std::size_t kKeysKept = 1'000;

enum class Shape { text, csv, tsv, json, jsonl };

Shape shape_of(const std::string& name) {
  const auto ends = [&](std::string_view ending) { return name.size() > ending.size() && name.ends_with(ending); };
  return ends(".csv") ? Shape::csv : ends(".tsv") ? Shape::tsv : ends(".json") ? Shape::json : ends(".jsonl") || ends(".ndjson") ? Shape::jsonl : Shape::text;
}

std::string cell_text(const Json& value) {
  if (value.is_null()) return {};
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) {
    if (const auto exact = Decimal::from_double(value.get<double>())) return exact->normalised().to_string();
  }
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<std::vector<std::string>> columns_of(const Json& rows) {
  std::vector<std::string> columns;
  std::unordered_set<std::string> known;
  for (const auto& row : rows) {
    for (const auto& member : row.items()) {
      if (!known.insert(member.key()).second) continue;
      columns.push_back(member.key());
      if (columns.size() > kColumnsMax) return fail(Errc::limit, "rows with more than " + std::to_string(kColumnsMax) + " columns", "columns");
    }
  }
  return columns;
}

/// The bytes that rows become. `before` is what the file holds already (empty when it is replaced).
Result<std::string> rows_text(Shape shape, const Json& rows, const Json& arguments, const std::string& before) {
  if (shape == Shape::text) {
    return fail(Errc::usage, "rows are written to .csv, .tsv, .json or .jsonl; this name has another ending", "file_ending");
  }
  std::string out;
  if (shape == Shape::jsonl) {
    for (const auto& row : rows) out += row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    return out;
  }
  if (shape == Shape::json) {
    if (!before.empty()) return fail(Errc::usage, "a .json file cannot be appended to; use .jsonl", "append_json");
    return rows.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  const char separator = shape == Shape::tsv ? '\t' : csv_separator(before);
  std::vector<std::string> columns;
  if (!before.empty()) {
    const auto there = parse_csv(before, separator);
    if (!there) return fail(Errc::malformed, "the file that rows would be added to is not a table: " + there.error().describe(), "append_csv");
    columns = there->columns;
    const auto have = columns_of(rows);
    if (!have) return have.error();
    for (const auto& name : *have) {
      if (std::find(columns.begin(), columns.end(), name) == columns.end()) {
        return fail(Errc::usage, "the file has no column '" + name.substr(0, 80) + "'", "append_columns");
      }
    }
  } else {
    if (arguments.contains("columns")) {
      for (const auto& name : arguments["columns"]) columns.push_back(name.get<std::string>());
    } else {
      auto found = columns_of(rows);
      if (!found) return found.error();
      columns = std::move(*found);
    }
    if (!columns.empty()) append_csv_record(out, columns, separator);
  }
  if (columns.empty() && !rows.empty()) return fail(Errc::usage, "rows without any member have no columns", "columns");
  for (const auto& row : rows) append_csv_record(out, row_cells(row, columns), separator);
  return out;
}

Result<void> write_whole(int fd, std::string_view text, const std::string& name) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return fail_errno("write", name);
    text.remove_prefix(static_cast<std::size_t>(wrote));
  }
  if (fsync(fd) != 0) return fail_errno("sync", name);
  return {};
}

/// Puts the text in place: a new file beside it, synced, renamed over it, and the folder synced.
Result<void> replace(int folder, const std::string& name, std::string_view text) {
  static std::atomic<unsigned> counter{0};
  const std::string temporary = ".kontor-" + std::to_string(getpid()) + "-" + std::to_string(counter.fetch_add(1)) + ".tmp";
  OpenFile file(openat(folder, temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (file.fd() < 0 && errno == EEXIST) {  // Left by a process that died and had our number.
    unlinkat(folder, temporary.c_str(), 0);
    file = OpenFile(openat(folder, temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  }
  if (file.fd() < 0) return fail_errno("create", name);
  auto done = write_whole(file.fd(), text, name);
  if (done && renameat(folder, temporary.c_str(), folder, name.c_str()) != 0) done = fail_errno("rename", name);
  if (!done) {
    unlinkat(folder, temporary.c_str(), 0);
    return done;
  }
  if (fsync(folder) != 0) return fail_errno("sync the folder of", name);
  return {};
}

Result<std::string> read_existing(int folder, const std::string& name) {
  const OpenFile file(openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (file.fd() < 0) {
    if (errno == ENOENT) return std::string{};
    return fail_errno("open", name);
  }
  return read_all(file.fd(), name, kFileMax);
}

ToolResult written(const std::string& path, const std::string& text, const Json& arguments) {
  Json result = Json::object();
  result["path"] = path;
  result["bytes"] = text.size();
  result["rows"] = arguments.contains("rows") ? arguments["rows"].size() : 0;
  result["sha256"] = sha256_hex(text);
  return ToolResult::ok(std::move(result));
}

}  // namespace

std::vector<std::string> row_cells(const Json& row, const std::vector<std::string>& columns) {
  std::vector<std::string> cells;
  cells.reserve(columns.size());
  for (const auto& column : columns) {
    const auto found = row.find(column);
    cells.push_back(found == row.end() ? std::string{} : cell_text(*found));
  }
  return cells;
}

/// The folder that a file goes into, made where it is missing.
Result<OpenFile> FileWriter::open_folder(const std::string& relative) const {
  std::error_code failed;
  std::filesystem::create_directories(root_.path, failed);
  if (failed) return fail(Errc::io, "create folder " + root_.path + ": " + failed.message(), "system");
  OpenFile folder(open(root_.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.fd() < 0) return fail_errno("open", root_.path);
  std::size_t begin = 0;
  while (begin < relative.size()) {
    const auto end = std::min(relative.find('/', begin), relative.size());
    const std::string part = relative.substr(begin, end - begin);
    begin = end + 1;
    if (mkdirat(folder.fd(), part.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno("create folder", part);
    // No link is followed on the way to a write, not even one that stays inside.
    OpenFile next(openat(folder.fd(), part.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (next.fd() < 0) {
      if (errno == ELOOP || errno == ENOTDIR) return fail(Errc::denied, "'" + part + "' on the way to the file is not a folder (links are not followed)", "path_escape");
      return fail_errno("open", part);
    }
    folder = std::move(next);
  }
  return folder;
}

ToolResult FileWriter::write(const Json& arguments, const CallContext& context) {
  const std::string path = arguments["path"].get<std::string>();
  const bool has_rows = arguments.contains("rows"), has_text = arguments.contains("text"), has_value = arguments.contains("value");
  if (has_rows + has_text + has_value != 1) {
    const bool none = !has_rows && !has_text && !has_value;
    return ToolResult::error("invalid_arguments", none ? "missing property 'text', 'rows' or 'value'" : "give one of text, rows and value, not several");
  }
  const std::vector<Root> roots{root_};
  const auto places = places_of(roots, path);
  if (!places) return error_result(places.error());
  const std::string relative = places->front().relative;
  const auto slash = relative.rfind('/');
  const std::string name = slash == std::string::npos ? relative : relative.substr(slash + 1);
  if (relative == "." || path.ends_with('/')) return ToolResult::error("usage", "'" + path + "' names a folder, not a file");
  if (name.starts_with(".kontor-") || name.ends_with(".kontor-appends")) return ToolResult::error("denied", "names of this kind are Kontor's own");

  const std::lock_guard lock(mutex_);
  auto folder = open_folder(slash == std::string::npos ? "" : relative.substr(0, slash));
  if (!folder) return error_result(folder.error());
  struct stat info{};
  if (fstatat(folder->fd(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(info.st_mode)) {
    return ToolResult::error("denied", "'" + path + "' exists and is not a regular file");
  }
  if (has_value && shape_of(name) != Shape::json) return ToolResult::error("file_ending", "a value is written to a .json file; this name has another ending");
  if (arguments.contains("append") && arguments["append"].get<bool>()) {
    if (has_value) return ToolResult::error("append_json", "a .json file cannot be appended to; use .jsonl with rows");
    flock(folder->fd(), LOCK_EX);  // Other processes append, too; released with the folder.
    return append(folder->fd(), path, name, arguments, context);
  }
  auto text = has_text    ? Result<std::string>(arguments["text"].get<std::string>())
              : has_value ? Result<std::string>(arguments["value"].dump(1, ' ', false, Json::error_handler_t::replace) + "\n")
                          : rows_text(shape_of(name), arguments["rows"], arguments, "");
  if (!text) return error_result(text.error());
  if (auto done = replace(folder->fd(), name, *text); !done) return error_result(done.error());
  return written(path, *text, arguments);
}

/// Old content and new, as a new file. The journal of keys names, for each key, how long the file was afterwards and
/// the digest of that much of it; it is written first, so a key whose content is there has happened.
ToolResult FileWriter::append(int folder, const std::string& path, const std::string& name, const Json& arguments, const CallContext& context) {
  auto before = read_existing(folder, name);
  if (!before) return error_result(before.error());
  const std::string journal_name = "." + name + ".kontor-appends";
  Json journal = Json::array();
  if (!context.idempotency_key.empty()) {
    const auto journal_text = read_existing(folder, journal_name);
    if (!journal_text) return error_result(journal_text.error());
    if (!journal_text->empty()) {
      auto parsed = parse_json(*journal_text);
      if (!parsed || !parsed->is_array()) return ToolResult::error("malformed", "'" + journal_name + "' is damaged; without it, nothing can be appended only once");
      journal = std::move(*parsed);
    }
    for (const auto& entry : journal) {
      if (!entry.is_object() || !entry.contains("key") || entry["key"] != context.idempotency_key || !entry.contains("bytes") || !entry["bytes"].is_number_unsigned()) continue;
      const auto bytes = entry["bytes"].get<std::size_t>();
      if (bytes <= before->size() && entry.contains("sha256") && entry["sha256"] == sha256_hex(std::string_view(*before).substr(0, bytes))) {
        return written(path, *before, arguments);
      }
    }
  }
  auto added = arguments.contains("text") ? Result<std::string>(arguments["text"].get<std::string>())
                                          : rows_text(shape_of(name), arguments["rows"], arguments, *before);
  if (!added) return error_result(added.error());
  std::string text = std::move(*before);
  if (!text.empty() && !text.ends_with('\n') && arguments.contains("rows")) text += '\n';
  text += *added;
  if (text.size() > kFileMax) return ToolResult::error("limit", "the file would be longer than " + std::to_string(kFileMax) + " bytes");
  if (!context.idempotency_key.empty()) {
    journal.push_back({{"key", context.idempotency_key}, {"bytes", text.size()}, {"sha256", sha256_hex(text)}});
    while (journal.size() > kKeysKept) journal.erase(journal.begin());
    if (auto done = replace(folder, journal_name, journal.dump()); !done) return error_result(done.error());
  }
  if (auto done = replace(folder, name, text); !done) return error_result(done.error());
  return written(path, text, arguments);
}

}  // namespace kontor::tools
