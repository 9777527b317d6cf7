#include "tools/csv.hpp"

#include <unordered_set>

namespace kontor::tools {
namespace {

class Reader {
 public:
  Reader(std::string_view text, char separator, const CsvLimits& limits) : text_(text), separator_(separator), limits_(limits) {}

  bool at_end() const { return at_ >= text_.size(); }

  /// One record. False after an error.
  bool record(std::vector<std::string>& cells) {
    cells.clear();
    record_line_ = line_;
    while (true) {
      if (cells.size() >= limits_.columns) return stop(Errc::limit, "more than " + std::to_string(limits_.columns) + " columns");
      if (++cells_ > limits_.cells) return stop(Errc::limit, "more than " + std::to_string(limits_.cells) + " cells");
      cells.emplace_back();
      if (!cell(cells.back())) return false;
      if (at_end()) return true;
      if (text_[at_] == separator_) {
        ++at_;
        continue;
      }
      if (text_[at_] == '\r') ++at_;
      ++at_;  // The line feed; cell() stops nowhere else.
      ++line_;
      line_start_ = at_;
      return true;
    }
  }

  bool stop(Errc code, const std::string& message) {
    std::size_t column = 1;
    for (std::size_t i = line_start_; i < at_ && i < text_.size(); ++i) column += (static_cast<unsigned char>(text_[i]) & 0xc0) != 0x80;
    error = fail(code, message, "csv", std::to_string(line_) + ":" + std::to_string(column));
    return false;
  }
  /// Error about the record just read, at its first line.
  bool stop_record(Errc code, const std::string& message) {
    error = fail(code, message, "csv", std::to_string(record_line_) + ":1");
    return false;
  }

  Error error;

 private:
  bool line_end() const { return text_[at_] == '\n' || (text_[at_] == '\r' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n'); }

  bool cell(std::string& out) {
    if (!at_end() && text_[at_] == '"') return quoted(out);
    const std::size_t begin = at_;
    while (!at_end() && text_[at_] != separator_ && !line_end()) {
      if (text_[at_] == '"') return stop(Errc::malformed, "a quote inside a cell that does not begin with one");
      if (text_[at_] == '\r') return stop(Errc::malformed, "a carriage return without line feed");
      if (text_[at_] == '\0') return stop(Errc::malformed, "a NUL byte");
      ++at_;
    }
    out = text_.substr(begin, at_ - begin);
    return true;
  }

  bool quoted(std::string& out) {
    const std::size_t open = at_, open_line = line_, open_start = line_start_;
    ++at_;
    while (!at_end()) {
      const char c = text_[at_++];
      if (c == '"') {
        if (!at_end() && text_[at_] == '"') {
          out += '"';
          ++at_;
          continue;
        }
        if (!at_end() && text_[at_] != separator_ && !line_end()) return stop(Errc::malformed, "text after a closing quote");
        return true;
      }
      if (c == '\0') return stop(Errc::malformed, "a NUL byte");
      if (c == '\n') {
        ++line_;
        line_start_ = at_;
      }
      out += c;
    }
    at_ = open;
    line_ = open_line;
    line_start_ = open_start;
    return stop(Errc::malformed, "this quote is never closed");
  }

  std::string_view text_;
  char separator_;
  const CsvLimits& limits_;
  std::size_t at_ = 0, line_ = 1, line_start_ = 0, record_line_ = 1, cells_ = 0;
};

}  // namespace

char csv_separator(std::string_view text) {
  bool is_quoted = false, has_semicolon = false;
  for (const char c : text) {
    if (c == '"') is_quoted = !is_quoted;
    if (is_quoted) continue;
    if (c == ',') return ',';
    if (c == '\n') break;
    has_semicolon = has_semicolon || c == ';';
  }
  return has_semicolon ? ';' : ',';
}

Result<CsvTable> parse_csv(std::string_view text, char separator, const CsvLimits& limits) {
  if (text.size() > limits.bytes) return fail(Errc::limit, "more than " + std::to_string(limits.bytes) + " bytes", "csv");
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  CsvTable table;
  Reader reader(text, separator, limits);
  if (reader.at_end()) return fail(Errc::malformed, "the file is empty; its first line names the columns", "csv", "1:1");
  if (!reader.record(table.columns)) return reader.error;
  std::unordered_set<std::string_view> names;
  for (const auto& name : table.columns) {
    if (name.empty()) {
      reader.stop_record(Errc::malformed, "a column without a name");
      return reader.error;
    }
    if (!names.insert(name).second) {
      reader.stop_record(Errc::malformed, "two columns are named '" + name.substr(0, 80) + "'");
      return reader.error;
    }
  }
  std::vector<std::string> cells;
  while (!reader.at_end()) {
    if (!reader.record(cells)) return reader.error;
    if (cells.size() == 1 && cells[0].empty() && table.columns.size() > 1) continue;
    if (cells.size() != table.columns.size()) {
      reader.stop_record(Errc::malformed, "expected " + std::to_string(table.columns.size()) + " cells, got " + std::to_string(cells.size()));
      return reader.error;
    }
    if (table.rows.size() >= limits.rows) {
      reader.stop_record(Errc::limit, "more than " + std::to_string(limits.rows) + " rows");
      return reader.error;
    }
    table.rows.push_back(cells);
  }
  return table;
}

void append_csv_record(std::string& out, const std::vector<std::string>& cells, char separator) {
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) out += separator;
    const auto& cell = cells[i];
    const bool quote = cell.find_first_of("\"\r\n") != std::string::npos || cell.find(separator) != std::string::npos ||
                       (cells.size() == 1 && cell.empty());
    if (!quote) {
      out += cell;
      continue;
    }
    out += '"';
    for (const char c : cell) {
      if (c == '"') out += '"';
      out += c;
    }
    out += '"';
  }
  out += '\n';
}

}  // namespace kontor::tools
