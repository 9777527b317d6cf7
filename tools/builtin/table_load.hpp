#pragma once
// Tables from files, with a type for each column. Internal to builtin.table.

#include "base/error.hpp"
#include "base/json.hpp"

#include "tools/builtin/builtin.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace kontor::tools {

enum class ColumnType {
  integer,  ///< Every value is a whole number of at most 18 digits without leading zeros.
  decimal,  ///< Every value is a plain decimal number; kept as its text, compared by value.
  text,
};

struct LoadedColumn {
  std::string name;
  ColumnType type = ColumnType::text;
};

/// No value: NULL.
using LoadedCell = std::optional<std::string>;

inline constexpr std::size_t kTableRowsMax = 1'000'000, kTableColumnsMax = 1'000, kTableCellsMax = 20'000'000;

struct LoadedTable {
  std::vector<LoadedColumn> columns;
  std::vector<std::vector<LoadedCell>> rows;
};

/// A file, and of a workbook the part that is meant ("Orders!B4:F", see load_sheet).
struct TableSource {
  std::string path;
  std::string sheet;
};

/// "book.xlsx#Orders" -> {"book.xlsx", "Orders"}; names of other files keep their '#'.
TableSource table_source(std::string_view text);

/// Reads the content of a file by the ending of its name: .csv, .tsv, .json and .yaml (a list of objects, or an object:
/// columns key and value, lists and objects as JSON text), .jsonl / .ndjson, .txt / .md (columns line, from 1, and text), .xlsx
/// and .xlsm. Empty cells of numeric columns are NULL, of text columns empty text. Errors: malformed with the place (kind
/// "encoding" for text that is not UTF-8), limit, unsupported for other endings.
Result<LoadedTable> load_table(const TableSource& source, std::string_view content, const YamlReader& read_yaml = {}, std::size_t cells_max = kTableCellsMax);

}  // namespace kontor::tools
