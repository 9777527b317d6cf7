#include "tools/builtin/table_text_sql.hpp"

#include "tools/builtin/table_bounds.hpp"

#include <re2/re2.h>
#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {
namespace {

constexpr std::int64_t kPatternMemory = 1 << 20;
constexpr int kGroupsMax = 16;
constexpr int kPlacesMax = 15;

std::string_view text_of(sqlite3_value* value) {
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_value_text(value));
  return bytes == nullptr ? std::string_view() : std::string_view(bytes, static_cast<std::size_t>(sqlite3_value_bytes(value)));
}

/// The compiled pattern; kept by SQLite while it is the same in every row. nullptr: the error is reported.
std::shared_ptr<const re2::RE2> pattern_at(sqlite3_context* context, sqlite3_value* value, int index) {
  using Kept = std::shared_ptr<const re2::RE2>;
  if (auto* kept = static_cast<Kept*>(sqlite3_get_auxdata(context, index))) return *kept;
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kPatternMemory);
  const auto words = text_of(value);
  auto made = std::make_shared<const re2::RE2>(re2::StringPiece(words.data(), words.size()), options);
  if (!made->ok()) {
    sqlite3_result_error(context, ("not a regular expression: " + made->error()).c_str(), -1);
    return nullptr;
  }
  sqlite3_set_auxdata(context, index, new Kept(made), [](void* kept) { delete static_cast<Kept*>(kept); });
  return made;
}

bool any_null(int count, sqlite3_value** values) {
  for (int i = 0; i < count; ++i) {
    if (sqlite3_value_type(values[i]) == SQLITE_NULL) return true;
  }
  return false;
}

void give(sqlite3_context* context, std::string_view text) { sqlite3_result_text(context, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT); }

/// regexp(pattern, text), which SQLite calls for `text REGEXP pattern`.
void matches(sqlite3_context* context, int count, sqlite3_value** values) {
  if (any_null(count, values)) return;
  const auto pattern = pattern_at(context, values[0], 0);
  if (!pattern) return;
  const auto text = text_of(values[1]);
  sqlite3_result_int(context, re2::RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), *pattern) ? 1 : 0);
}

void extract(sqlite3_context* context, int count, sqlite3_value** values) {
  if (any_null(count, values)) return;
  const auto pattern = pattern_at(context, values[1], 1);
  if (!pattern) return;
  const int group = count > 2 ? sqlite3_value_int(values[2]) : 0;
  if (group < 0 || group > pattern->NumberOfCapturingGroups() || group >= kGroupsMax) {
    sqlite3_result_error(context, "regexp_extract: the pattern has no such group", -1);
    return;
  }
  const auto text = text_of(values[0]);
  std::vector<re2::StringPiece> groups(static_cast<std::size_t>(group) + 1);
  const re2::StringPiece subject(text.data(), text.size());
  if (!pattern->Match(subject, 0, subject.size(), re2::RE2::UNANCHORED, groups.data(), group + 1)) return;
  const auto& found = groups.back();
  if (found.data() != nullptr) give(context, {found.data(), found.size()});
}

void replace_matches(sqlite3_context* context, int count, sqlite3_value** values) {
  if (any_null(count, values)) return;
  const auto pattern = pattern_at(context, values[1], 1);
  if (!pattern) return;
  const auto replacement = text_of(values[2]);
  const re2::StringPiece rewrite(replacement.data(), replacement.size());
  std::string problem;
  if (!pattern->CheckRewriteString(rewrite, &problem)) {
    sqlite3_result_error(context, ("regexp_replace: " + problem).c_str(), -1);
    return;
  }
  const int groups = re2::RE2::MaxSubmatch(rewrite) + 1;
  std::vector<re2::StringPiece> found(static_cast<std::size_t>(groups));
  const auto text = text_of(values[0]);
  const re2::StringPiece subject(text.data(), text.size());
  std::size_t references = 0;  // \0 to \9: each puts in a match or less
  for (std::size_t i = 0; i + 1 < replacement.size(); ++i) {
    if (replacement[i] == '\\') references += replacement[++i] != '\\' ? 1 : 0;
  }
  // As RE2's own GlobalReplace, which knows no bound.
  const auto most = static_cast<std::size_t>(kSqlTextMax);
  std::string out;
  std::size_t at = 0, copied = 0;
  while (at <= text.size() && pattern->Match(subject, at, text.size(), re2::RE2::UNANCHORED, found.data(), groups)) {
    const auto begin = static_cast<std::size_t>(found[0].data() - text.data()), end = begin + found[0].size();
    const bool behind_last = begin == end && begin == copied && at != 0;  // nothing, right behind a match, is none
    if (!behind_last) {
      out.append(text.substr(copied, begin - copied));
      if (out.size() + replacement.size() + references * found[0].size() > most) return sqlite3_result_error_toobig(context);
      pattern->Rewrite(&out, rewrite, found.data(), groups);
      copied = end;
    }
    at = end;
    if (begin == end) {
      do ++at;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80);
    }
  }
  out.append(text.substr(std::min(copied, text.size())));
  if (out.size() > most) return sqlite3_result_error_toobig(context);
  give(context, out);
}

/// fixed(x, places): a double written as C's "%.*f" writes it, rounded to the nearest, ties to even, the same on every machine.
/// SQLite's printf and round use long double, so 76.55 depends on the processor and 100.25 becomes 100.3.
void fixed(sqlite3_context* context, int count, sqlite3_value** values) {
  if (any_null(count, values)) return;
  const int places = sqlite3_value_int(values[1]);
  if (sqlite3_value_numeric_type(values[0]) == SQLITE_TEXT) return sqlite3_result_error(context, "fixed: the first argument is not a number", -1);
  if (places < 0 || places > kPlacesMax) return sqlite3_result_error(context, "fixed: places go from 0 to 15", -1);
  std::array<char, 400> buffer;  // the largest double has 309 digits before the point
  const double number = sqlite3_value_double(values[0]);
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, std::chars_format::fixed, places);
  give(context, {buffer.data(), static_cast<std::size_t>(end.ptr - buffer.data())});
}

}  // namespace

Result<void> add_text_sql(sqlite3* database) {
  constexpr int kFlags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
  int failed = sqlite3_create_function_v2(database, "regexp", 2, kFlags, nullptr, matches, nullptr, nullptr, nullptr);
  failed |= sqlite3_create_function_v2(database, "regexp_extract", 2, kFlags, nullptr, extract, nullptr, nullptr, nullptr);
  failed |= sqlite3_create_function_v2(database, "regexp_extract", 3, kFlags, nullptr, extract, nullptr, nullptr, nullptr);
  failed |= sqlite3_create_function_v2(database, "regexp_replace", 3, kFlags, nullptr, replace_matches, nullptr, nullptr, nullptr);
  failed |= sqlite3_create_function_v2(database, "fixed", 2, kFlags, nullptr, fixed, nullptr, nullptr, nullptr);
  if (failed != SQLITE_OK) return fail(Errc::internal, std::string("SQLite: ") + sqlite3_errmsg(database), "sqlite");
  return {};
}

}  // namespace kontor::tools
