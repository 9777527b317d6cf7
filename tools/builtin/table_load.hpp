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

struct LoadedTable {
  std::vector<LoadedColumn> columns;
  std::vector<std::vector<LoadedCell>> rows;
};

/// Reads the content of a file by the ending of its name: .csv, .tsv, .json and .yaml (a list of objects, or an object:
/// columns key and value, lists and objects as JSON text), .jsonl / .ndjson, .txt / .md (columns line, from 1, and text).
/// Empty cells of numeric columns are NULL, of text columns empty text. Errors: malformed with the place, limit,
/// unsupported for other endings.
Result<LoadedTable> load_table(std::string_view name, std::string_view content, const YamlReader& read_yaml = {});

}  // namespace kontor::tools
