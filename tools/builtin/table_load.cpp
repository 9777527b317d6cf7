#include "tools/builtin/table_load.hpp"

#include "tools/builtin/confined.hpp"
#include "tools/builtin/workbook.hpp"
#include "tools/csv.hpp"

#include <nlohmann/json.hpp>

#include "base/decimal.hpp"

#include <unordered_map>

namespace kontor::tools {
namespace {

/// [-](0|[1-9]digits)[.digits]: what a person would call a number. "007", "1e5", "+1" and "1,5" are texts.
ColumnType type_of(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  std::size_t whole = 0;
  while (whole < text.size() && text[whole] >= '0' && text[whole] <= '9') ++whole;
  if (whole == 0 || (whole > 1 && text[0] == '0')) return ColumnType::text;
  if (whole == text.size()) return whole <= 18 ? ColumnType::integer : whole <= 38 ? ColumnType::decimal : ColumnType::text;
  if (text[whole] != '.' || whole + 1 == text.size() || text.size() > 39) return ColumnType::text;
  for (const char c : text.substr(whole + 1)) {
    if (c < '0' || c > '9') return ColumnType::text;
  }
  return ColumnType::decimal;
}

/// The narrowest type that all values of the column have.
void settle_types(LoadedTable& table) {
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    bool any = false, text = false, decimal = false;
    for (const auto& row : table.rows) {
      if (!row[c] || row[c]->empty()) continue;
      any = true;
      const auto type = type_of(*row[c]);
      decimal = decimal || type == ColumnType::decimal;
      if (type == ColumnType::text) {
        text = true;
        break;
      }
    }
    auto& column = table.columns[c];
    column.type = text || !any ? ColumnType::text : decimal ? ColumnType::decimal : ColumnType::integer;
    if (column.type == ColumnType::text) continue;
    for (auto& row : table.rows) {
      if (row[c] && row[c]->empty()) row[c].reset();
    }
  }
}

Result<LoadedTable> from_csv(std::string_view content, char separator, std::size_t cells_max) {
  CsvLimits limits;
  limits.cells = cells_max;
  auto parsed = parse_csv(content, separator, limits);
  if (!parsed) return parsed.error();
  LoadedTable table;
  for (auto& name : parsed->columns) table.columns.push_back({std::move(name), ColumnType::text});
  table.rows.reserve(parsed->rows.size());
  for (auto& cells : parsed->rows) {
    auto& row = table.rows.emplace_back();
    row.reserve(cells.size());
    for (auto& cell : cells) row.emplace_back(std::move(cell));
    std::vector<std::string>().swap(cells);
  }
  return table;
}

LoadedCell cell_of(const Json& value) {
  if (value.is_null()) return std::nullopt;
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_number_float()) {
    if (const auto exact = Decimal::from_double(value.get<double>())) return exact->to_string();
  }
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// Collects objects; columns come up as they appear.
class Records {
 public:
  explicit Records(std::size_t cells_max) : cells_max_(cells_max) {}

  Result<void> add(const Json& record, const std::string& where) {
    if (!record.is_object()) return fail(Errc::malformed, "a record is an object", "table_record", where);
    if (table.rows.size() >= kTableRowsMax) return fail(Errc::limit, "more than " + std::to_string(kTableRowsMax) + " rows", "table_size", where);
    std::vector<LoadedCell> row(table.columns.size());
    for (const auto& member : record.items()) {
      const auto [found, fresh] = index_.emplace(member.key(), table.columns.size());
      if (fresh) {
        if (table.columns.size() >= kTableColumnsMax) return fail(Errc::limit, "more than " + std::to_string(kTableColumnsMax) + " columns", "table_size", where);
        table.columns.push_back({member.key(), ColumnType::text});
        row.emplace_back();
      }
      row[found->second] = cell_of(member.value());
    }
    cells_ += table.columns.size();
    if (cells_ > cells_max_) return fail(Errc::limit, "more than " + std::to_string(cells_max_) + " cells", "table_size", where);
    table.rows.push_back(std::move(row));
    return {};
  }
  LoadedTable finish() {
    for (auto& row : table.rows) row.resize(table.columns.size());
    return std::move(table);
  }

  LoadedTable table;

 private:
  std::unordered_map<std::string, std::size_t> index_;
  const std::size_t cells_max_;
  std::size_t cells_ = 0;
};

Result<LoadedTable> from_tree(const Json& tree, std::size_t cells_max) {
  Records records(cells_max);
  if (tree.is_object()) {
    for (const auto& member : tree.items()) {
      if (auto added = records.add(Json{{"key", member.key()}, {"value", member.value()}}, "/" + member.key()); !added) return added.error();
    }
    return records.finish();
  }
  if (!tree.is_array()) return fail(Errc::malformed, "a table in JSON is a list of objects, or an object", "table_record", "1:1");
  std::size_t i = 0;
  for (const auto& record : tree) {
    if (auto added = records.add(record, "/" + std::to_string(i++)); !added) return added.error();
  }
  return records.finish();
}

Result<LoadedTable> from_json(std::string_view content, std::size_t cells_max) {
  auto parsed = parse_json(content);
  if (!parsed) return parsed.error();
  return from_tree(*parsed, cells_max);
}

Result<LoadedTable> from_yaml(std::string_view content, const YamlReader& read_yaml, std::size_t cells_max) {
  if (!read_yaml) return fail(Errc::unsupported, "YAML files cannot be read here", "table_kind");
  auto parsed = read_yaml(std::string(content));
  if (!parsed) return parsed.error();
  return from_tree(*parsed, cells_max);
}

/// Every line of a text with its number.
Result<LoadedTable> from_text(std::string_view content) {
  LoadedTable table;
  table.columns = {{"line", ColumnType::integer}, {"text", ColumnType::text}};
  if (content.starts_with("\xef\xbb\xbf")) content.remove_prefix(3);
  while (!content.empty()) {
    const auto end = std::min(content.find('\n'), content.size());
    auto text = content.substr(0, end);
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (table.rows.size() >= kTableRowsMax) return fail(Errc::limit, "more than " + std::to_string(kTableRowsMax) + " lines", "table_size");
    table.rows.push_back({std::to_string(table.rows.size() + 1), std::string(text)});
    content.remove_prefix(std::min(end + 1, content.size()));
  }
  return table;
}

Result<LoadedTable> from_lines(std::string_view content, std::size_t cells_max) {
  Records records(cells_max);
  std::size_t line = 1, begin = 0;
  if (content.starts_with("\xef\xbb\xbf")) begin = 3;
  for (; begin < content.size(); ++line) {
    const auto end = std::min(content.find('\n', begin), content.size());
    const auto text = content.substr(begin, end - begin);
    begin = end + 1;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto parsed = parse_json(text);
    if (!parsed) {
      Error error = parsed.error();
      const auto colon = error.where.find(':');
      error.where = std::to_string(line) + ":" + (colon == std::string::npos ? "1" : error.where.substr(colon + 1));
      return error;
    }
    if (auto added = records.add(*parsed, std::to_string(line) + ":1"); !added) return added.error();
  }
  return records.finish();
}

/// The ending of a name in small letters: ".csv".
std::string ending_of(std::string_view path) {
  const auto dot = path.rfind('.');
  std::string ending(dot == std::string_view::npos ? "" : path.substr(dot));
  for (char& c : ending) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return ending;
}

bool is_workbook(std::string_view path) {
  const auto ending = ending_of(path);
  return ending == ".xlsx" || ending == ".xlsm";
}

Result<LoadedTable> from_file(const TableSource& source, std::string_view content, const YamlReader& read_yaml, std::size_t cells_max) {
  const std::string ending = ending_of(source.path);
  if (ending == ".csv") return from_csv(content, csv_separator(content), cells_max);
  if (ending == ".tsv") return from_csv(content, '\t', cells_max);
  if (ending == ".json") return from_json(content, cells_max);
  if (ending == ".jsonl" || ending == ".ndjson") return from_lines(content, cells_max);
  if (ending == ".yaml" || ending == ".yml") return from_yaml(content, read_yaml, cells_max);
  if (is_workbook(source.path)) return load_sheet(content, source.sheet, cells_max);
  return fail(Errc::unsupported, "tables are read from .csv, .tsv, .json, .jsonl, .ndjson, .yaml, .txt, .md, .xlsx and .xlsm files", "table_kind");
}

}  // namespace

TableSource table_source(std::string_view text) {
  for (auto at = text.find('#'); at != std::string_view::npos; at = text.find('#', at + 1)) {
    if (is_workbook(text.substr(0, at))) return {std::string(text.substr(0, at)), std::string(text.substr(at + 1))};
  }
  return {std::string(text), ""};
}

Result<LoadedTable> load_table(const TableSource& source, std::string_view content, const YamlReader& read_yaml, std::size_t cells_max) {
  if (!is_workbook(source.path)) {
    if (const auto bad = invalid_utf8(content)) return fail(Errc::malformed, "this is not UTF-8 text: byte " + std::to_string(*bad) + " (counted from 0) does not fit", "encoding");
  }
  const std::string ending = ending_of(source.path);
  if (ending == ".txt" || ending == ".md") return from_text(content);
  auto table = from_file(source, content, read_yaml, cells_max);
  if (!table) return table;
  if (table->columns.empty()) return fail(Errc::malformed, "a table without columns", "table_record", "1:1");
  settle_types(*table);
  return table;
}

}  // namespace kontor::tools
