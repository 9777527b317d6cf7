#pragma once
// What keeps one query small: SQLite looks at its progress handler between instructions, so no single instruction may take
// long. Functions that would are replaced or refused. Internal to builtin.table.

#include "base/error.hpp"

#include <string_view>

struct sqlite3;

namespace kontor::tools {

/// Longest text or blob of a query.
inline constexpr int kSqlTextMax = 16 << 20;

/// May a query call it? Functions that only compute, in time that grows with their arguments; nothing that reads, writes,
/// loads or tells about the machine.
bool is_query_function(std::string_view name);

/// Replaces instr, replace, trim, ltrim and rtrim, whose time is a product of two lengths, by functions that give the same
/// in the time of one. Errors: internal.
Result<void> add_linear_sql(sqlite3* database);

}  // namespace kontor::tools
