#include "tools/builtin/table_bounds.hpp"

#include <sqlite3.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <string>
#include <unordered_set>

namespace kontor::tools {
namespace {

std::string_view bytes_of(sqlite3_value* value) {
  const void* bytes = sqlite3_value_type(value) == SQLITE_BLOB ? sqlite3_value_blob(value) : static_cast<const void*>(sqlite3_value_text(value));
  if (bytes == nullptr) return {};
  return {static_cast<const char*>(bytes), static_cast<std::size_t>(sqlite3_value_bytes(value))};
}

bool any_null(int count, sqlite3_value** values) {
  return std::any_of(values, values + count, [](sqlite3_value* value) { return sqlite3_value_type(value) == SQLITE_NULL; });
}

bool is_later_byte(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

/// memmem is linear where std::string_view::find is not.
std::size_t find_part(std::string_view text, std::string_view part, std::size_t from) {
  const auto* found = static_cast<const char*>(memmem(text.data() + from, text.size() - from, part.data(), part.size()));
  return found == nullptr ? std::string_view::npos : static_cast<std::size_t>(found - text.data());
}

/// instr(text, part): characters of texts, bytes of two blobs, from 1; 0 when there is none.
void position(sqlite3_context* context, int count, sqlite3_value** values) {
  if (any_null(count, values)) return;
  const bool blobs = sqlite3_value_type(values[0]) == SQLITE_BLOB && sqlite3_value_type(values[1]) == SQLITE_BLOB;
  const auto text = bytes_of(values[0]), part = bytes_of(values[1]);
  const std::size_t at = part.empty() ? 0 : text.empty() ? std::string_view::npos : find_part(text, part, 0);
  if (at == std::string_view::npos) return sqlite3_result_int64(context, 0);
  const auto later = blobs ? 0 : std::count_if(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), is_later_byte);
  sqlite3_result_int64(context, static_cast<sqlite3_int64>(at) - later + 1);
}

void replace_all(sqlite3_context* context, int count, sqlite3_value** values) {
  if (any_null(2, values)) return;
  const auto as_text = [](sqlite3_value* value) {
    const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(value));
    return text == nullptr ? std::string_view{} : std::string_view(text, static_cast<std::size_t>(sqlite3_value_bytes(value)));
  };
  const auto text = as_text(values[0]), part = as_text(values[1]);
  if (part.empty() || part[0] == '\0') return sqlite3_result_value(context, values[0]);  // as SQLite has it, before NULL
  if (any_null(count, values)) return;
  const auto other = as_text(values[2]);
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t next = find_part(text, part, at);
    out.append(text.substr(at, next == std::string_view::npos ? next : next - at));
    if (next != std::string_view::npos) out.append(other);
    at = next == std::string_view::npos ? text.size() : next + part.size();
    if (out.size() > static_cast<std::size_t>(kSqlTextMax)) return sqlite3_result_error_toobig(context);
  }
  sqlite3_result_text(context, out.data(), static_cast<int>(out.size()), SQLITE_TRANSIENT);
}

/// Which ends a trim function cuts.
struct Ends {
  bool left, right;
};
constexpr Ends kBoth{true, true}, kLeft{true, false}, kRight{false, true};

std::size_t character_size(std::string_view text, std::size_t at) {
  std::size_t end = at + 1;
  while (end < text.size() && is_later_byte(text[end])) ++end;
  return end - at;
}

/// trim(text), trim(text, characters) and the same of one end.
void trim(sqlite3_context* context, int count, sqlite3_value** values) {
  if (any_null(count, values)) return;
  const auto& ends = *static_cast<const Ends*>(sqlite3_user_data(context));
  if (!std::all_of(values, values + count, [](sqlite3_value* value) { return sqlite3_value_text(value) != nullptr; })) return sqlite3_result_error_nomem(context);
  std::string_view text(reinterpret_cast<const char*>(sqlite3_value_text(values[0])), static_cast<std::size_t>(sqlite3_value_bytes(values[0])));
  std::unordered_set<std::string_view> cut;
  if (count == 1) cut.insert(" ");
  if (count == 2) {
    const std::string_view characters(reinterpret_cast<const char*>(sqlite3_value_text(values[1])));  // a NUL ends them, as SQLite has it
    for (std::size_t at = 0; at < characters.size();) {
      const std::size_t size = character_size(characters, at);
      cut.insert(characters.substr(at, size));
      at += size;
    }
  }
  while (ends.left && !text.empty()) {
    const std::size_t size = character_size(text, 0);
    if (!cut.contains(text.substr(0, size))) break;
    text.remove_prefix(size);
  }
  while (ends.right && !text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && is_later_byte(text[begin])) --begin;
    if (!cut.contains(text.substr(begin))) break;
    text.remove_suffix(text.size() - begin);
  }
  sqlite3_result_text(context, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
}

}  // namespace

bool is_query_function(std::string_view name) {
  // Not among them: json_patch, whose time is a product of two lengths; zeroblob and randomblob; everything about this SQLite.
  static const std::unordered_set<std::string_view> kKnown{
      "abs", "char", "coalesce", "concat", "concat_ws", "format", "glob", "hex", "if", "ifnull", "iif", "instr", "length", "like", "likelihood", "likely", "lower", "ltrim", "max", "min", "nullif",
      "octet_length", "printf", "quote", "random", "replace", "round", "rtrim", "sign", "soundex", "substr", "substring", "trim", "typeof", "unhex", "unicode", "unlikely", "upper",
      "date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff", "current_date", "current_time", "current_timestamp",
      "avg", "count", "group_concat", "string_agg", "sum", "total", "median", "percentile", "percentile_cont", "percentile_disc",
      "row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "first_value", "last_value", "nth_value",
      "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "ceiling", "cos", "cosh", "degrees", "exp", "floor", "ln", "log", "log10", "log2", "mod", "pi", "pow", "power", "radians", "sin",
      "sinh", "sqrt", "tan", "tanh", "trunc",
      "json", "json_array", "json_array_length", "json_error_position", "json_extract", "json_insert", "json_object", "json_pretty", "json_quote", "json_remove", "json_replace", "json_set", "json_type",
      "json_valid", "json_group_array", "json_group_object", "->", "->>",
      "dec_sum", "dec_avg", "dec_add", "dec_sub", "dec_mul", "dec_div", "dec_round", "dec_cmp", "regexp", "regexp_extract", "regexp_replace", "fixed"};
  std::string lower(name.substr(0, 40));
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return kKnown.contains(lower);
}

Result<void> add_linear_sql(sqlite3* database) {
  constexpr int kFlags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
  const auto add = [&](const char* name, int arguments, const Ends* ends, void (*function)(sqlite3_context*, int, sqlite3_value**)) {
    return sqlite3_create_function_v2(database, name, arguments, kFlags, const_cast<Ends*>(ends), function, nullptr, nullptr, nullptr);
  };
  int failed = add("instr", 2, nullptr, position);
  failed |= add("replace", 3, nullptr, replace_all);
  for (const int arguments : {1, 2}) {
    failed |= add("trim", arguments, &kBoth, trim);
    failed |= add("ltrim", arguments, &kLeft, trim);
    failed |= add("rtrim", arguments, &kRight, trim);
  }
  if (failed != SQLITE_OK) return fail(Errc::internal, std::string("SQLite: ") + sqlite3_errmsg(database), "sqlite");
  return {};
}

}  // namespace kontor::tools
