// builtin.table: one SELECT over files. Each call loads the files it names into a SQLite database in memory; nothing is
// kept, nothing can be written, and time, memory and results are bounded.

#include "tools/builtin/confined.hpp"
#include "tools/builtin/decimal_sql.hpp"
#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/groups.hpp"
#include "tools/builtin/table_bounds.hpp"
#include "tools/builtin/table_load.hpp"
#include "tools/builtin/table_text_sql.hpp"
#include "tools/builtin/table_tokens.hpp"
#include "tools/nearest.hpp"

#include <sqlite3.h>

#include <array>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

namespace kontor::tools {
namespace {

constexpr std::size_t kFileMax = 64u << 20;
constexpr std::size_t kFilesMax = 16;
constexpr std::size_t kResultBytesMax = 16u << 20;
/// Instructions between two looks at the clock and at the memory. Some copy texts of 16 MiB.
constexpr int kProgressSteps = 100;
constexpr std::size_t kFilledRows = 1000;  ///< Between two such looks while a table is filled.
constexpr std::size_t kExpansionsMax = 10'000;
constexpr std::size_t kCellsLeast = 100'000;

struct Settings {
  std::vector<Root> read;
  std::vector<std::string> hidden;
  std::int64_t max_rows = 10'000;
  std::int64_t timeout_ms = 10'000;
  std::int64_t memory_bytes = std::int64_t{512} << 20;
  YamlReader read_yaml;
};

ToolSpec query_spec(const std::string& group) {
  ToolSpec spec;
  spec.name = group + ".query";
  spec.description = "Runs one SQL SELECT (SQLite) over CSV, TSV, JSON, JSONL, YAML, XLSX or text files, read-only. A JSON or YAML mapping has the "
                     "columns key and value (JSON), a text file line and text. REGEXP, regexp_extract(text, pattern, group) and "
                     "regexp_replace work, fixed(x, places) writes a double. Columns with decimal numbers compare by value; dec_sum, dec_avg, dec_add, dec_sub, dec_mul, dec_div(a, b, places) and dec_round(x, places) are exact.";
  spec.parameters = schema(R"({"type":"object","properties":{
    "sql":{"type":"string","minLength":1,"maxLength":100000,"description":"One SELECT; tables are the names given in files"},
    "files":{"type":"object","additionalProperties":{"type":"string"},"minProperties":1,"maxProperties":16,
      "description":"Table name to file, for example {\"orders\": \"orders.csv\"}; of a workbook to a sheet: book.xlsx#Sheet1, or its cells: book.xlsx#Sheet1!A3:F"},
    "params":{"type":"array","items":{},"maxItems":100,
      "description":"Values for the ? in sql, in order; lists and objects as JSON text, for json_each"}},
    "required":["sql","files"],"additionalProperties":false})");
  spec.result = schema(R"({"type":"object","properties":{"columns":{"type":"array","items":{"type":"string"}},
    "rows":{"type":"array","items":{"type":"object"}}},"required":["columns","rows"]})");
  spec.untrusted_output = true;
  return spec;
}

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;
using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

/// What a running query is measured against.
struct Watch {
  std::chrono::steady_clock::time_point end;
  std::stop_token stop;
  std::int64_t memory_start = 0, memory_most = 0;
  const char* reason = nullptr;

  static int check(void* self) {
    auto& watch = *static_cast<Watch*>(self);
    if (watch.stop.stop_requested()) watch.reason = "cancelled";
    else if (std::chrono::steady_clock::now() > watch.end) watch.reason = "timeout";
    else if (sqlite3_memory_used() - watch.memory_start > watch.memory_most) watch.reason = "memory";
    return watch.reason != nullptr ? 1 : 0;
  }
};

/// Reading the loaded tables and computing: nothing else. `refused`: a std::string for the name of a function.
int authorize(void* refused, int action, const char*, const char* name, const char*, const char*) {
  if (action == SQLITE_SELECT || action == SQLITE_READ || action == SQLITE_RECURSIVE) return SQLITE_OK;
  if (action != SQLITE_FUNCTION || name == nullptr) return SQLITE_DENY;
  if (is_query_function(name)) return SQLITE_OK;
  *static_cast<std::string*>(refused) = name;
  return SQLITE_DENY;
}

bool table_name(const std::string& name) {
  if (name.empty() || name.size() > 64 || (name[0] >= '0' && name[0] <= '9') || sqlite3_strnicmp(name.c_str(), "sqlite_", 7) == 0) return false;
  return name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == std::string::npos;
}

std::string quoted_name(const std::string& name) {
  std::string out = "\"";
  for (const char c : name) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

Error sqlite_error(sqlite3* database) { return fail(Errc::malformed, std::string("SQL: ") + sqlite3_errmsg(database), "sql"); }

Result<Database> open_database() {
  sqlite3* raw = nullptr;
  const int opened = sqlite3_open_v2(":memory:", &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, nullptr);
  Database database(raw);
  if (opened != SQLITE_OK) return fail(Errc::memory, "SQLite cannot open a database in memory", "sqlite");
  sqlite3_db_config(raw, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DQS_DML, 0, nullptr);  // "text" is a name, never silently a text.
  sqlite3_exec(raw, "PRAGMA temp_store=MEMORY; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF", nullptr, nullptr, nullptr);
  constexpr std::array<std::pair<int, int>, 9> kLimits{{{SQLITE_LIMIT_LENGTH, kSqlTextMax}, {SQLITE_LIMIT_SQL_LENGTH, 1 << 20},
      {SQLITE_LIMIT_COLUMN, 2000}, {SQLITE_LIMIT_EXPR_DEPTH, 200}, {SQLITE_LIMIT_COMPOUND_SELECT, 100}, {SQLITE_LIMIT_ATTACHED, 0},
      {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 250}, {SQLITE_LIMIT_TRIGGER_DEPTH, 1}, {SQLITE_LIMIT_WORKER_THREADS, 0}}};
  for (const auto& [limit, value] : kLimits) sqlite3_limit(raw, limit, value);
  if (auto added = add_decimal_sql(raw); !added) return added.error();
  if (auto added = add_text_sql(raw); !added) return added.error();
  if (auto added = add_linear_sql(raw); !added) return added.error();
  // json_each and json_tree declare themselves at their first use, which the authorizer would refuse later.
  sqlite3_exec(raw, "SELECT 1 FROM json_each('[]'), json_tree('[]')", nullptr, nullptr, nullptr);
  return database;
}

/// An error when it is stopped, for the reason that is in `watch`.
Result<void> fill(sqlite3* database, const std::string& name, const LoadedTable& table, Watch& watch) {
  std::string create = "CREATE TABLE " + quoted_name(name) + " (", insert = "INSERT INTO " + quoted_name(name) + " VALUES (";
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    const auto& column = table.columns[i];
    const char* type = column.type == ColumnType::integer ? " INTEGER" : column.type == ColumnType::decimal ? " TEXT COLLATE decimal" : " TEXT";
    create += (i == 0 ? "" : ", ") + quoted_name(column.name) + type;
    insert += i == 0 ? "?" : ", ?";
  }
  if (sqlite3_exec(database, (create + ")").c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) return sqlite_error(database);
  sqlite3_stmt* raw = nullptr;
  if (sqlite3_prepare_v2(database, (insert + ")").c_str(), -1, &raw, nullptr) != SQLITE_OK) return sqlite_error(database);
  const Statement statement(raw);
  sqlite3_exec(database, "BEGIN", nullptr, nullptr, nullptr);
  std::size_t rows = 0;
  for (const auto& row : table.rows) {
    if (++rows % kFilledRows == 0 && Watch::check(&watch) != 0) return fail(Errc::cancelled, "stopped", "stopped");
    sqlite3_reset(raw);
    for (std::size_t i = 0; i < row.size(); ++i) {
      const int at = static_cast<int>(i) + 1;
      if (!row[i]) sqlite3_bind_null(raw, at);
      else if (table.columns[i].type == ColumnType::integer) sqlite3_bind_int64(raw, at, std::strtoll(row[i]->c_str(), nullptr, 10));
      else sqlite3_bind_text(raw, at, row[i]->data(), static_cast<int>(row[i]->size()), SQLITE_STATIC);
    }
    if (sqlite3_step(raw) != SQLITE_DONE) return sqlite_error(database);
  }
  sqlite3_exec(database, "COMMIT", nullptr, nullptr, nullptr);
  return {};
}

/// A REAL as the decimal of 15 digits that it stands for: 0.1 + 0.2 is 0.3.
Json real_json(double value) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%.15g", value);
  if (std::string_view(buffer).find_first_not_of("-0123456789") == std::string_view::npos) return Json(static_cast<std::int64_t>(std::strtoll(buffer, nullptr, 10)));
  const double rounded = std::strtod(buffer, nullptr);
  return std::isfinite(rounded) ? Json(rounded) : Json(nullptr);
}

Json cell_json(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER: return Json(static_cast<std::int64_t>(sqlite3_column_int64(statement, column)));
    case SQLITE_FLOAT: return real_json(sqlite3_column_double(statement, column));
    case SQLITE_NULL: return Json(nullptr);
    default: {
      const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
      return Json(text == nullptr ? std::string{} : std::string(text, static_cast<std::size_t>(sqlite3_column_bytes(statement, column))));
    }
  }
}

void bind(sqlite3_stmt* statement, const Json& values) {
  int at = 1;
  for (const auto& value : values) {
    if (value.is_null()) sqlite3_bind_null(statement, at);
    else if (value.is_boolean()) sqlite3_bind_text(statement, at, value.get<bool>() ? "true" : "false", -1, SQLITE_STATIC);
    else if (value.is_number_integer()) sqlite3_bind_int64(statement, at, value.get<std::int64_t>());
    else if (value.is_number()) sqlite3_bind_double(statement, at, value.get<double>());
    else {
      const std::string text = value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
      sqlite3_bind_text(statement, at, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
    }
    ++at;
  }
}

/// Adds the near name to "no such table: x" and "no such column: x".
std::string with_suggestion(std::string message, const std::vector<std::string>& tables, const std::vector<std::string>& columns) {
  for (const auto& [what, names] : {std::pair{std::string("no such table: "), &tables}, std::pair{std::string("no such column: "), &columns}}) {
    const auto at = message.find(what);
    if (at == std::string::npos) continue;
    std::string word = message.substr(at + what.size());
    word = word.substr(word.rfind('.') == std::string::npos ? 0 : word.rfind('.') + 1);
    if (const auto near = nearest(word, *names); !near.empty()) return message + " (did you mean '" + near + "'?)";
    message += "; there are: ";
    for (std::size_t i = 0; i < names->size() && i < 30; ++i) message += (i == 0 ? "" : ", ") + (*names)[i];
    if (names == &columns && names->size() == 1 && names->front().find_first_of(";\t|") != std::string::npos) message += " (one column: cells are separated by commas or semicolons in .csv and by tabs in .tsv)";
    return message;
  }
  return message;
}

ToolResult stopped(const Watch& watch, const Settings& settings) {
  const std::string_view reason = watch.reason;
  if (reason == "timeout") return ToolResult::error("timeout", "the query took longer than " + std::to_string(settings.timeout_ms) + " ms");
  if (reason == "memory") return ToolResult::error("limit", "the query needs more than " + std::to_string(settings.memory_bytes >> 20) + " MiB of memory");
  return ToolResult::error("cancelled", "the query was stopped");
}

ToolResult collect(sqlite3* database, sqlite3_stmt* statement, const Settings& settings, const Watch& watch) {
  Json columns = Json::array();
  std::vector<std::string> names;
  for (int i = 0; i < sqlite3_column_count(statement); ++i) {
    const char* name = sqlite3_column_name(statement, i);
    names.push_back(without_decimal_affinity(name == nullptr ? "" : name));
    for (std::size_t other = 0; other + 1 < names.size(); ++other) {
      if (names[other] == names.back()) return ToolResult::error("malformed", "two columns of the result are named '" + names.back().substr(0, 80) + "'; name one with AS");
    }
    columns.push_back(names.back());
  }
  Json rows = Json::array();
  std::size_t bytes = 0;
  while (true) {
    const int stepped = sqlite3_step(statement);
    if (stepped == SQLITE_DONE) break;
    if (stepped == SQLITE_INTERRUPT && watch.reason != nullptr) return stopped(watch, settings);
    if (stepped != SQLITE_ROW) return error_result(sqlite_error(database));
    if (static_cast<std::int64_t>(rows.size()) >= settings.max_rows) {
      return ToolResult::error("limit", "more than " + std::to_string(settings.max_rows) + " rows; narrow the query with WHERE, GROUP BY or LIMIT");
    }
    Json row = Json::object();
    for (std::size_t i = 0; i < names.size(); ++i) {
      bytes += names[i].size() + static_cast<std::size_t>(sqlite3_column_bytes(statement, static_cast<int>(i))) + 8;
      if (sqlite3_column_type(statement, static_cast<int>(i)) == SQLITE_FLOAT && !std::isfinite(sqlite3_column_double(statement, static_cast<int>(i))))
        return ToolResult::error("malformed", "the column '" + names[i].substr(0, 80) + "' of row " + std::to_string(rows.size() + 1) + " is too large for a number; reckon with dec_add, dec_mul and the like");
      row[names[i]] = cell_json(statement, static_cast<int>(i));
    }
    if (bytes > kResultBytesMax) return ToolResult::error("limit", "the result is larger than " + std::to_string(kResultBytesMax >> 20) + " MiB; select fewer columns or rows");
    rows.push_back(std::move(row));
  }
  Json result = Json::object();
  result["columns"] = std::move(columns);
  result["rows"] = std::move(rows);
  return ToolResult::ok(std::move(result));
}

/// SQLite counts its memory for the whole process. One query at a time, or each would be measured with the others.
std::timed_mutex one_query;
constexpr std::chrono::milliseconds kTurnPoll(20);

/// A table lies in memory before SQLite has it; its cells get the same bound.
std::size_t cells_max(const Settings& settings) {
  return std::clamp<std::size_t>(static_cast<std::size_t>(settings.memory_bytes) / sizeof(LoadedCell), kCellsLeast, kTableCellsMax);
}

ToolResult query(const Settings& settings, const Json& arguments, const CallContext& context) {
  const Json& files = arguments["files"];
  if (files.size() > kFilesMax) return ToolResult::error("limit", "more than " + std::to_string(kFilesMax) + " files");
  std::unique_lock alone(one_query, std::defer_lock);
  while (!alone.try_lock_for(kTurnPoll)) {
    if (context.stop.stop_requested()) return ToolResult::error("cancelled", "the query was stopped before it began");
  }
  Watch watch;
  watch.end = std::chrono::steady_clock::now() + std::chrono::milliseconds(settings.timeout_ms);
  watch.stop = context.stop;
  watch.memory_start = sqlite3_memory_used();
  watch.memory_most = settings.memory_bytes;
  const auto database = open_database();
  if (!database) return error_result(database.error());
  sqlite3* const raw = database->get();
  std::vector<std::string> tables, columns;
  for (const auto& entry : files.items()) {
    const TableSource source = table_source(entry.value().get<std::string>());
    const std::string& path = source.path;
    if (!table_name(entry.key())) {
      return ToolResult::error("invalid_arguments", "argument 'files': '" + entry.key().substr(0, 80) + "' is not a table name (letters, digits, _)");
    }
    auto file = open_for_reading(settings.read, settings.hidden, path);
    if (!file) return error_result(file.error());
    const auto text = read_all(file->fd(), path, kFileMax);
    if (!text) return error_result(text.error());
    const auto table = load_table(source, *text, settings.read_yaml, cells_max(settings));
    if (!table) {
      Error error = table.error();
      error.where = path + (error.where.empty() ? "" : ":" + error.where);
      return error.kind == "encoding" ? ToolResult::error("encoding", error.describe()) : error_result(error);
    }
    const auto filled = fill(raw, entry.key(), *table, watch);
    if (Watch::check(&watch) != 0) return stopped(watch, settings);
    if (!filled) return error_result(filled.error());
    tables.push_back(entry.key());
    for (const auto& column : table->columns) columns.push_back(column.name);
  }
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DQS_DDL, 0, nullptr);
  std::string function;
  sqlite3_set_authorizer(raw, authorize, &function);
  sqlite3_progress_handler(raw, kProgressSteps, Watch::check, &watch);

  const std::string sql = with_decimal_affinity(arguments["sql"].get<std::string>());
  if (sql.find('\0') != std::string::npos) return ToolResult::error("malformed", "SQL: a NUL character");
  if (count_sql_expansions(sql, kExpansionsMax) >= kExpansionsMax) return ToolResult::error("limit", "the common table expressions of the query become more than " + std::to_string(kExpansionsMax) + " SELECTs; name each of them less often");
  sqlite3_stmt* prepared = nullptr;
  const char* tail = nullptr;
  const int result = sqlite3_prepare_v2(raw, sql.c_str(), static_cast<int>(sql.size()), &prepared, &tail);
  const Statement statement(prepared);
  const bool refused = result == SQLITE_AUTH || (result != SQLITE_OK && std::string_view(sqlite3_errmsg(raw)).starts_with("not authorized"));
  if (refused && !function.empty()) return ToolResult::error("denied", "the function '" + function.substr(0, 40) + "' is not available in queries");
  if (refused) return ToolResult::error("denied", "only SELECT over the given files is possible here");
  if (result == SQLITE_INTERRUPT && watch.reason != nullptr) return stopped(watch, settings);
  if (result != SQLITE_OK) {
    Error error = sqlite_error(raw);
    error.message = with_suggestion(without_decimal_affinity(error.message), tables, columns);
    return error_result(error);
  }
  if (prepared == nullptr) return ToolResult::error("malformed", "SQL: there is no statement");
  for (const char* rest = tail; rest != nullptr && *rest != '\0'; ++rest) {
    if (*rest != ' ' && *rest != '\n' && *rest != '\r' && *rest != '\t' && *rest != ';') return ToolResult::error("denied", "one statement at a time");
  }
  if (sqlite3_stmt_readonly(prepared) == 0 || sqlite3_column_count(prepared) == 0) return ToolResult::error("denied", "only SELECT over the given files is possible here");
  const Json none = Json::array();
  const Json& params = arguments.contains("params") ? arguments["params"] : none;
  if (static_cast<int>(params.size()) != sqlite3_bind_parameter_count(prepared)) {
    return ToolResult::error("invalid_arguments", "argument 'params': sql has " + std::to_string(sqlite3_bind_parameter_count(prepared)) + " parameters, got " + std::to_string(params.size()));
  }
  bind(prepared, params);
  return collect(raw, prepared, settings, watch);
}

}  // namespace

std::vector<ToolSpec> describe_table(const std::string& group) { return {query_spec(group)}; }

Result<Tools> make_table(const std::string& group, const Json& settings, const BuiltinContext& context) {
  if (auto checked = check_settings(settings, group, {"root", "max_rows", "timeout_ms", "memory_mb"}); !checked) return checked.error();
  const auto root = text_setting(settings, group, "root", ".");
  const auto rows = number_setting(settings, group, "max_rows", 10'000, 1'000'000);
  const auto timeout = number_setting(settings, group, "timeout_ms", 10'000, 600'000);
  const auto memory = number_setting(settings, group, "memory_mb", 512, 65'536);
  if (!root) return root.error();
  for (const auto* number : {&rows, &timeout, &memory}) {
    if (!*number) return number->error();
  }
  auto shared = std::make_shared<Settings>();
  shared->read.push_back(make_root(context.folder, *root));
  for (const auto& extra : context.read_roots) shared->read.push_back(make_root(context.folder, extra));
  shared->hidden = context.hidden;
  shared->read_yaml = context.read_yaml;
  shared->max_rows = *rows;
  shared->timeout_ms = *timeout;
  shared->memory_bytes = *memory << 20;
  ToolSpec spec = query_spec(group);
  spec.timeout_ms = shared->timeout_ms + 20'000;  // Loading comes first.
  Tools tools;
  tools.push_back(std::make_shared<FunctionTool>(std::move(spec), [shared](const Json& arguments, const CallContext& call) {
    return query(*shared, arguments, call);
  }));
  return tools;
}

}  // namespace kontor::tools
