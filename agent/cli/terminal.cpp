#include "agent/cli/terminal.hpp"

#include "agent/cli/command.hpp"
#include "agent/cli/terminal_live.hpp"

#include <algorithm>
#include <cstdio>

namespace kontor::agent::cli {
namespace {

/// Characters a terminal would obey or hide.
bool is_unsafe(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x200B || c == 0x200C || c == 0x200D || c == 0x200E || c == 0x200F || (c >= 0x202A && c <= 0x202E) ||
         (c >= 0x2060 && c <= 0x2069) || c == 0xFEFF || (c >= 0xE0000 && c <= 0xE007F) || c == 0x2028 || c == 0x2029 || c == 0x061C;
}

/// Length of the valid UTF-8 character at `at` and its code point; 0 when there is none.
std::size_t decode(const std::string& text, std::size_t at, char32_t& c) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  const std::size_t length = first < 0x80 ? 1 : first >= 0xC2 && first < 0xE0 ? 2 : first >= 0xE0 && first < 0xF0 ? 3 : first >= 0xF0 && first < 0xF5 ? 4 : 0;
  if (length == 0 || at + length > text.size()) return 0;
  c = length == 1 ? first : first & (0xFF >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
    c = (c << 6) | (byte(at + i) & 0x3F);
  }
  return length;
}

class JsonView final : public RunView {
 public:
  void on_event(const RunEvent& event) override {
    Json line{{"event", event.type}};
    if (!event.step.empty()) line["step"] = event.step;
    for (const auto& [key, value] : event.data.items()) line[key] = value;
    print_json(line.dump(-1, ' ', false, Json::error_handler_t::replace));
    std::fflush(stdout);
  }
  void on_report(const RunReport& report, int exit_code, const std::string&) override {
    print_json(report_json(report, exit_code).dump(-1, ' ', false, Json::error_handler_t::replace));
  }
};

}  // namespace

std::string printable(const std::string& text, std::size_t width) {
  std::string out;
  std::size_t shown = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (shown >= width) return out + "…";
    char32_t c = 0;
    const std::size_t length = decode(text, at, c);
    if (length == 0) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", static_cast<unsigned char>(text[at]));
      out += escaped;
      at += 1;
    } else if (c == '\n' || c == '\t' || c == '\r') {
      if (out.empty() || out.back() != ' ') out += ' ';
      at += 1;
    } else if (is_unsafe(c)) {
      char escaped[16];
      std::snprintf(escaped, sizeof escaped, c < 0x100 ? "\\x%02x" : "\\u{%x}", static_cast<unsigned>(c));
      out += escaped;
      at += length;
    } else {
      out.append(text, at, length);
      at += length;
    }
    ++shown;
  }
  return out;
}

std::string text_table(const std::vector<std::vector<std::string>>& rows, std::size_t cell_width) {
  const auto width_of = [](const std::string& cell) {
    return static_cast<std::size_t>(std::count_if(cell.begin(), cell.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
  };
  std::vector<std::vector<std::string>> cells;
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    cells.emplace_back();
    for (std::size_t i = 0; i < row.size(); ++i) {
      cells.back().push_back(printable(row[i], cell_width));
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], width_of(cells.back().back()));
    }
  }
  std::string out;
  for (const auto& row : cells) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += (i ? "  " : "") + row[i];
      if (i + 1 < row.size()) line += std::string(widths[i] - width_of(row[i]), ' ');
    }
    out += line + "\n";
  }
  return out;
}

std::string decision_words(const Json& decision) {
  const auto text = [&](const char* key) { return decision.contains(key) && decision.at(key).is_string() ? decision.at(key).get<std::string>() : std::string(); };
  const bool question = decision.value("question", Json(false)) == Json(true), approved = text("decision") == "approve";
  const std::string chosen = text("choice").empty() ? text("decision") : text("choice");  // Of an approval step: one of its choices.
  const std::string word = question ? (approved ? "answered" : "declined") : chosen;
  const std::string more = question && approved ? text("choice") : text("reason");
  return word + " by " + text("by") + (more.empty() ? "" : ": " + more);
}

Json ledger_json(const Ledger& ledger) {
  Json value = to_json(ledger);
  if (const auto prices = load_prices()) {
    Json hosted = Json::array();
    for (const auto& price : prices->hosted) {
      hosted.push_back(Json{{"name", price.name}, {"amount", hosted_cost(ledger, price).to_string()}, {"currency", price.currency}, {"as_of", price.as_of}});
    }
    value["money"] = Json{{"electricity", electricity_cost(ledger, *prices).to_string()}, {"currency", prices->currency}, {"hosted", std::move(hosted)}};
  }
  return value;
}

Json report_json(const RunReport& report, int exit_code) {
  Json pending = Json::array();
  for (const auto& item : report.pending) {
    pending.push_back(Json{{"call", item.call}, {"tool", item.tool}, {"arguments", item.arguments}, {"reason", item.reason}, {"binding", item.binding},
                           {"who", item.who}, {"choices", item.choices}, {"question", item.is_question}, {"unknown", item.is_unknown}});
  }
  Json value{{"event", "result"}, {"id", report.id}, {"name", report.name}, {"status", report.status}, {"exit_code", exit_code}};
  if (!report.note.empty()) value["note"] = report.note;
  if (!report.where.empty()) value["where"] = report.where;
  value["result"] = report.result;
  if (report.failed_items > 0) value["failed_items"] = report.failed_items;
  for (const auto& failure : report.failures) value["failures"].push_back(Json{{"step", failure.step}, {"kind", failure.kind}, {"error", failure.error}, {"item", failure.item}});
  value["pending"] = std::move(pending);
  value["ledger"] = ledger_json(report.ledger);
  return value;
}

int exit_code_of(const RunReport& report) {
  if (report.status == "done" || report.status == "end_of_log") return kDone;
  if (report.status == "parked" || report.status == "unknown") return kParked;
  if (report.status == "budget") return kBudget;
  if (report.status == "interrupted") return kInterrupted;
  if (report.status == "error") return report.kind == kModelFailed ? kModel : kFailed;
  return kFailed;
}

std::unique_ptr<RunView> make_view(bool json) {
  if (json) return std::make_unique<JsonView>();
  return make_live_view();
}

}  // namespace kontor::agent::cli
