#pragma once
// Tokens of SQL text, as far as rewriting and bounding it needs them. Internal to builtin.table.

#include <cstddef>
#include <string>
#include <string_view>

namespace kontor::tools {

/// Letters, digits, '_' and everything beyond ASCII.
bool is_sql_word(char c);

/// Where the token that begins at `at` ends: a text, a quoted name, a comment, a word, or one character.
std::size_t sql_token_end(std::string_view sql, std::size_t at);

/// The first place from `at` on that is neither blank nor comment.
std::size_t skip_sql_space(std::string_view sql, std::size_t at);

/// `a` in letters of any case is `lower`.
bool same_sql_word(std::string_view a, std::string_view lower);

/// How many SELECTs the query becomes when SQLite puts the text of each common table expression where its name stands: chains
/// of them double with each step, before any of SQLite's own bounds looks. Counted from above; stops at `most`.
std::size_t count_sql_expansions(std::string_view sql, std::size_t most);

}  // namespace kontor::tools
