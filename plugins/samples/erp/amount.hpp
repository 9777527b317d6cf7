#pragma once
// Amounts as invoices print them, as exact cents.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace erp {

/// Reads an amount as printed: 4800.00, 4,800.00, 4.800,00, 4 800,00, 4'800.00, 4800,00, 4800, 4800.-, with a sign and
/// with a currency before or behind it (a symbol or two to four letters). Empty when it is not an amount or not a whole
/// number of cents.
///
/// Which mark is the decimal one:
///   - blanks and apostrophes only ever group digits;
///   - where '.' and ',' both occur, the last one is the decimal mark;
///   - a mark that occurs more than once groups digits;
///   - a single mark before exactly three digits ("1.234") groups digits, because invoices print two decimals; unless
///     what stands before it cannot be the first group ("0.125", "4800.000", or other groups before it).
/// Groups behind the first have three digits, everything else is refused.
std::optional<std::int64_t> parse_amount(std::string_view text);

/// "4800.00"
std::string print_amount(std::int64_t cents);

/// Without blanks (also no-break and thin ones), ASCII letters in upper case: how VAT ids, IBANs and numbers compare.
std::string compact(std::string_view text);

/// Without blanks at both ends.
std::string trimmed(std::string_view text);

}  // namespace erp
