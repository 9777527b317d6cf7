#pragma once
// Sheets of workbooks (.xlsx, .xlsm: Office Open XML) as tables. Internal to builtin.table.

#include "base/error.hpp"

#include "tools/builtin/table_load.hpp"

#include <string_view>

namespace kontor::tools {

/// Reads one sheet. `which` is its name, "NAME!A3", "NAME!A3:F" or "NAME!A3:F20", or the same without a name when there is
/// only one visible sheet. The first row that is not empty names the columns; columns without a name are called by their
/// letters. Numbers are decimals as the spreadsheet shows them, dates ISO 8601, booleans "true" and "false"; formulas count
/// with their last value. Types are not settled. Errors: not_found (with the sheets there are), usage, malformed with the
/// cell in `where`, limit, unsupported (libraries that are not installed; encrypted and old binary workbooks).
Result<LoadedTable> load_sheet(std::string_view content, std::string_view which, std::size_t cells_max = kTableCellsMax);

}  // namespace kontor::tools
