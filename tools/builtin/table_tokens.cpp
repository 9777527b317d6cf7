#include "tools/builtin/table_tokens.hpp"

#include <algorithm>
#include <map>
#include <vector>

namespace kontor::tools {
namespace {

constexpr std::size_t kNamesMax = 200;

/// Names in small letters without their quotes.
std::vector<std::string> tokens_of(std::string_view sql) {
  std::vector<std::string> list;
  for (std::size_t at = skip_sql_space(sql, 0); at < sql.size(); at = skip_sql_space(sql, at)) {
    const std::size_t end = sql_token_end(sql, at);
    std::string token(sql.substr(at, end - at));
    if (token.size() >= 2 && std::string_view("'\"`[").find(token[0]) != std::string_view::npos) token = token.substr(1, token.size() - 2);
    for (char& c : token) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    list.push_back(std::move(token));
    at = end;
  }
  return list;
}

/// The common table expressions of a query and how much each becomes.
class Expansions {
 public:
  Expansions(const std::vector<std::string>& tokens, std::size_t most) : tokens_(tokens), most_(most), closing_(tokens.size(), tokens.size()) {
    std::vector<std::size_t> open;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] == "(") open.push_back(i);
      if (tokens[i] != ")" || open.empty()) continue;
      closing_[open.back()] = i;
      open.pop_back();
    }
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (const auto body = body_of(i)) bodies_[tokens[i]].emplace_back(body, closing_[body - 1]);
    }
  }

  bool too_many_names() const { return bodies_.size() > kNamesMax; }

  std::size_t of_range(std::size_t begin, std::size_t end) {
    std::size_t sum = 1;
    for (std::size_t i = begin; i < end && sum < most_; ++i) {
      const bool qualifies = i + 1 < tokens_.size() && tokens_[i + 1] == ".";  // "a" in a.x is no second reading of a
      if (!qualifies && bodies_.contains(tokens_[i])) sum += of_name(tokens_[i]);
    }
    return std::min(sum, most_);
  }

 private:
  /// The token behind NAME [(...)] AS [[NOT] MATERIALIZED] (, or 0.
  std::size_t body_of(std::size_t name) const {
    std::size_t at = name + 1;
    if (at < tokens_.size() && tokens_[at] == "(") at = closing_[at] + 1;
    if (at >= tokens_.size() || tokens_[at] != "as") return 0;
    ++at;
    if (at < tokens_.size() && tokens_[at] == "not") ++at;
    if (at < tokens_.size() && tokens_[at] == "materialized") ++at;
    return at < tokens_.size() && tokens_[at] == "(" ? at + 1 : 0;
  }
  std::size_t of_name(const std::string& name) {
    const auto [known, fresh] = sizes_.emplace(name, 1);  // 1 while it is reckoned: a name in its own body is a recursion
    if (!fresh) return known->second;
    std::size_t sum = 0;
    for (const auto& [begin, end] : bodies_[name]) {
      if (sum < most_) sum = std::min(sum + of_range(begin, end), most_);
    }
    return sizes_[name] = sum;
  }

  const std::vector<std::string>& tokens_;
  const std::size_t most_;
  std::vector<std::size_t> closing_;  // of each opening parenthesis
  std::map<std::string, std::vector<std::pair<std::size_t, std::size_t>>> bodies_;
  std::map<std::string, std::size_t> sizes_;
};

}  // namespace

bool is_sql_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || static_cast<unsigned char>(c) >= 0x80; }

std::size_t sql_token_end(std::string_view sql, std::size_t at) {
  const char c = sql[at];
  if (c == '\'' || c == '"' || c == '`') {
    for (std::size_t i = at + 1; i < sql.size(); ++i) {
      if (sql[i] != c) continue;
      if (i + 1 < sql.size() && sql[i + 1] == c) ++i;
      else return i + 1;
    }
    return sql.size();
  }
  if (c == '[') return std::min(sql.find(']', at), sql.size() - 1) + 1;
  if (sql.substr(at).starts_with("--")) return std::min(sql.find('\n', at), sql.size());
  if (sql.substr(at).starts_with("/*")) {
    const auto end = sql.find("*/", at + 2);
    return end == std::string_view::npos ? sql.size() : end + 2;
  }
  std::size_t end = at;
  while (end < sql.size() && is_sql_word(sql[end])) ++end;
  return end == at ? at + 1 : end;
}

bool same_sql_word(std::string_view a, std::string_view lower) {
  if (a.size() != lower.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if ((a[i] >= 'A' && a[i] <= 'Z' ? a[i] + 32 : a[i]) != lower[i]) return false;
  }
  return true;
}

std::size_t skip_sql_space(std::string_view sql, std::size_t at) {
  while (at < sql.size()) {
    const bool comment = sql.substr(at).starts_with("--") || sql.substr(at).starts_with("/*");
    if (comment) at = sql_token_end(sql, at);
    else if (sql[at] == ' ' || sql[at] == '\t' || sql[at] == '\n' || sql[at] == '\r') ++at;
    else break;
  }
  return at;
}

std::size_t count_sql_expansions(std::string_view sql, std::size_t most) {
  const auto tokens = tokens_of(sql);
  Expansions expansions(tokens, most);
  return expansions.too_many_names() ? most : expansions.of_range(0, tokens.size());
}

}  // namespace kontor::tools
