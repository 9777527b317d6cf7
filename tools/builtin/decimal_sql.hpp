#pragma once
// Exact decimal numbers inside SQLite. Internal to builtin.table.
//
//   dec_sum(x), dec_avg(x [, places])      aggregates and window functions
//   dec_add(a, b) dec_sub(a, b) dec_mul(a, b) dec_div(a, b, places) dec_round(x, places) dec_cmp(a, b)
//   sum, avg, total                        replaced: reckoned exactly, delivered as numbers
//   round                                  replaced: doubles to the nearest decimal
//   collation `decimal`                    texts that are numbers in order of value, before other texts

#include "base/error.hpp"

#include <string>
#include <string_view>

struct sqlite3;

namespace kontor::tools {

/// Adds the functions and the collation to a connection. Errors: internal.
Result<void> add_decimal_sql(sqlite3* database);

/// Gives calls of the dec_* functions the affinity and collation of a decimal column, so that `dec_sum(x) > 5000`
/// compares by value: each becomes (CAST(dec_sum(x) AS TEXT) COLLATE decimal).
std::string with_decimal_affinity(std::string_view sql);

/// Takes the rewriting back, for column names that SQLite makes from the text of an expression.
std::string without_decimal_affinity(std::string name);

}  // namespace kontor::tools
