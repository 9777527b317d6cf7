#pragma once
// Text functions inside SQLite: regular expressions (RE2: linear time, no backtracking) and the writing of doubles. Internal to
// builtin.table.
//
//   text REGEXP pattern                          does the pattern occur?
//   regexp_extract(text, pattern [, group])      the first match, or its group; NULL when there is none
//   regexp_replace(text, pattern, replacement)   all matches; \1 stands for a group
//   fixed(x, places)                             a double with 0 to 15 places, ties to even, the same on every machine

#include "base/error.hpp"

struct sqlite3;

namespace kontor::tools {

/// Adds the functions to a connection. Errors: internal.
Result<void> add_text_sql(sqlite3* database);

}  // namespace kontor::tools
