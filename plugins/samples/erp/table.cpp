#include "plugins/samples/erp/table.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace erp {
namespace {

constexpr std::size_t kTableBytesMax = 64u << 20;

[[noreturn]] void refuse(const std::string& name, std::size_t line, const std::string& message) {
  throw std::runtime_error(name + ":" + std::to_string(line) + ": " + message);
}

/// One record at a time from the front of the text.
class Records {
 public:
  Records(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  std::size_t line() const { return line_; }

  /// False at the end of the text. Empty lines are skipped.
  bool next(std::vector<std::string>& fields) {
    while (at_ < text_.size() && (text_[at_] == '\n' || text_[at_] == '\r')) line_ += text_[at_++] == '\n';
    if (at_ >= text_.size()) return false;
    first_line_ = line_;
    fields.clear();
    for (;;) {
      fields.push_back(field());
      if (at_ >= text_.size()) return true;
      const char c = text_[at_++];
      if (c == ',') continue;
      if (c == '\r' && at_ < text_.size() && text_[at_] == '\n') ++at_;
      ++line_;
      return true;
    }
  }
  std::size_t first_line() const { return first_line_; }

 private:
  std::string field() {
    std::string out;
    if (at_ >= text_.size() || text_[at_] != '"') {
      const std::size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
      out = text_.substr(at_, end - at_);
      at_ = end;
      return out;
    }
    const std::size_t opened = line_;
    ++at_;
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '\n') ++line_;
      if (c != '"') {
        out += c;
      } else if (at_ < text_.size() && text_[at_] == '"') {
        out += '"';
        ++at_;
      } else {
        if (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '\r' && text_[at_] != '\n') {
          refuse(name_, line_, "text behind a closing quote");
        }
        return out;
      }
    }
    refuse(name_, opened, "a quote is opened and never closed");
  }

  std::string_view text_;
  const std::string& name_;
  std::size_t at_ = 0, line_ = 1, first_line_ = 1;
};

}  // namespace

Table parse_table(std::string_view text, const std::string& name, const std::vector<std::string>& required) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  Records records(text, name);
  Table table;
  if (!records.next(table.columns)) refuse(name, 1, "the file has no header line");
  for (const auto& column : required) {
    if (std::find(table.columns.begin(), table.columns.end(), column) == table.columns.end()) {
      refuse(name, 1, "the column \"" + column + "\" is missing");
    }
  }
  std::vector<std::string> fields;
  while (records.next(fields)) {
    if (fields.size() != table.columns.size()) {
      refuse(name, records.first_line(), std::to_string(fields.size()) + " fields, the header has " + std::to_string(table.columns.size()));
    }
    auto& row = table.rows.emplace_back();
    for (std::size_t i = 0; i < fields.size(); ++i) row[table.columns[i]] = std::move(fields[i]);
  }
  return table;
}

Table read_table(const std::string& path, const std::vector<std::string>& required) {
  std::error_code status;
  const auto size = std::filesystem::file_size(path, status);
  if (status) throw std::runtime_error("cannot read " + path + ": " + status.message());
  if (size > kTableBytesMax) throw std::runtime_error(path + " is larger than 64 MiB");
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw std::runtime_error("cannot read " + path + ": " + std::strerror(errno));
  return parse_table(text, path, required);
}

}  // namespace erp
