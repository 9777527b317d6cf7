#pragma once
// Comma-separated values as RFC 4180 has them: quoted cells may hold commas, quotes ("" for one) and line breaks.

#include "base/error.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

struct CsvLimits {
  std::size_t bytes = 64u << 20;
  std::size_t rows = 1'000'000;
  std::size_t columns = 1'000;
  std::size_t cells = 20'000'000;
};

struct CsvTable {
  std::vector<std::string> columns;             ///< The header: not empty, no name twice.
  std::vector<std::vector<std::string>> rows;   ///< Each as long as `columns`.
};

/// What separates the cells of a .csv file: a semicolon where the first line has one and no comma (as spreadsheets write
/// it where the comma belongs to numbers), both outside of quotes; otherwise a comma.
char csv_separator(std::string_view text);

/// Reads a table with a header. Lines end with LF or CRLF; a byte order mark is skipped, blank lines of tables with
/// more than one column too. Errors: malformed and limit, with "line:column" of the text in `where`.
Result<CsvTable> parse_csv(std::string_view text, char separator = ',', const CsvLimits& limits = {});

/// Appends one record and LF. Cells with separators, quotes or line breaks are quoted; a record of one empty cell is
/// written as "" so that it is not a blank line.
void append_csv_record(std::string& out, const std::vector<std::string>& cells, char separator = ',');

}  // namespace kontor::tools
