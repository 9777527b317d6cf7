#pragma once
// What the cells of a workbook mean: numbers as exact decimals, dates, references such as C7. Internal to builtin.table.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kontor::tools {

/// What a number format shows.
enum class NumberKind { number, date, time, date_time, duration };

/// By the id of a built-in format; custom ones have a code.
NumberKind kind_of_format(int id);
/// "yyyy-mm-dd" is a date, "h:mm" a time, "[h]:mm" a duration, "#,##0.00" a number.
NumberKind kind_of_format(std::string_view code);

/// A stored number in plain decimal notation. Spreadsheets reckon in binary and show 15 digits, so fractions and numbers
/// with an exponent are rounded to those: 0.30000000000000004 is 0.3. Whole numbers keep all their digits. What is no
/// number, or has more than 38 digits, stays as it is.
std::string plain_number(std::string_view stored);

/// A stored number of days as 2026-11-24, 2026-11-24T09:30:00, 09:30:00 or, of a duration, 37:30:00; with milliseconds where
/// there are some. `from_1904`: days count from 1904-01-01, not from 1900. Nothing for days that no calendar has.
std::optional<std::string> date_text(std::string_view stored, NumberKind kind, bool from_1904);

/// Replaces _xHHHH_, which stands for a character in texts of workbooks.
std::string unescaped_text(std::string_view text);

struct CellPlace {
  std::uint32_t row = 0, column = 0;  ///< From 1; 0 when it was not given.
};

inline constexpr std::uint32_t kSheetRowsMax = 1'048'576, kSheetColumnsMax = 16'384;

/// "C7", "C" or "7" (with the other part 0), in letters of either case. Nothing when it is none of these or too large.
std::optional<CellPlace> parse_cell_place(std::string_view text);
/// 3 -> "C".
std::string column_letters(std::uint32_t column);

}  // namespace kontor::tools
