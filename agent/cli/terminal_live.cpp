#include "agent/cli/terminal_live.hpp"

#include "agent/cli/command.hpp"
#include "agent/event_data.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>

namespace kontor::agent::cli {
namespace {

constexpr std::size_t kMaxTableColumns = 8;
constexpr std::size_t kMaxTableRows = 40;

std::string grouped(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

std::string fixed(double value, int digits) {
  char text[48];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string counted(std::int64_t number, const std::string& what) { return grouped(number) + " " + what + (number == 1 ? "" : "s"); }

/// Amounts have six places; what is less than the last of them is not nothing.
std::string electricity_words(const Ledger& ledger, const Prices& prices) {
  const std::string amount = electricity_cost(ledger, prices).to_string();
  const bool is_zero = amount.find_first_not_of("0.") == std::string::npos;
  return (is_zero && ledger.joules > 0 ? "less than 0.000001" : amount) + " " + prices.currency;
}

double number_of(const Json& data, const char* key) { return data.contains(key) && data.at(key).is_number() ? data.at(key).get<double>() : 0; }

std::string cell_of(const Json& value) { return value.is_string() ? value.get<std::string>() : value.is_null() ? "" : spaced_json(value); }

class LiveView final : public RunView {
 public:
  LiveView() : is_terminal_(::isatty(STDOUT_FILENO) == 1) {
    const char* no_color = std::getenv("NO_COLOR");
    const char* term = std::getenv("TERM");
    color_ = is_terminal_ && !(no_color && *no_color) && !(term && std::string(term) == "dumb");
    winsize size{};
    if (is_terminal_ && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20) width_ = size.ws_col;
  }
  ~LiveView() override { clear_live(); }

  void on_event(const RunEvent& event) override {
    const Json& data = event.data;
    const bool replayed = data.contains("replayed") && data.at("replayed") == Json(true);
    if (event.type == "run_started") {
      const char* how = replayed ? "  (replay)" : data.contains("resumed") ? "  (resumed)" : "";
      line(bold(printable(text_of(data, "name"), 60)) + "  run " + text_of(data, "id") + how);
    } else if (event.type == "model_loaded") {
      on_model(data);
    } else if (event.type == "item") {
      item_ = static_cast<std::size_t>(number_of(data, "index")) + 1;
      total_ = static_cast<std::size_t>(number_of(data, "total"));
      const Json item = data.contains("item") ? data.at("item") : Json();
      line(cyan("[" + std::to_string(item_) + "/" + std::to_string(total_) + "]") + " " + bold(printable(title_of(item), 70)));
    } else if (event.type == "turn_started") {
      tokens_ = 0;
      thought_.clear();
      began_ = Time::now();
      live("thinking");
    } else if (event.type == "reasoning" || event.type == "content") {
      if (event.type == "reasoning" && thought_.size() < 4000) thought_ += text_of(data, "text");
      ++tokens_;
      live(event.type == "reasoning" ? "thinking" : "writing");
    } else if (event.type == "call_started") {
      live("calling " + printable(text_of(data, "tool"), 40));
    } else if (event.type == "turn") {
      on_turn(data, replayed);
    } else if (event.type == "notice") {
      line(yellow("  " + printable(text_of(data, "text"), 300)));
    } else if (event.type == "vote") {
      line(dim("    " + fixed(number_of(data, "agree"), 0) + " of " + fixed(number_of(data, "branches"), 0) + " branches agree"));
    } else if (event.type == "call") {
      on_call(data);
    } else if (event.type == "call_result") {
      const bool is_error = data.contains("is_error") && data.at("is_error") == Json(true);
      const std::string text = "    " + std::string(is_error ? "✗ " : "← ") + printable(text_of(data, "text"), room(8));
      line((is_error ? red(text) : dim(text)) + (replayed ? dim("  (journal)") : ""));
    } else if (event.type == "repair") {
      line(yellow("    ↻ sent back: " + printable(text_of(data, "reason"), room(20))));
    } else if (event.type == "approval_requested") {
      const std::string tool = text_of(data, "tool");
      line(yellow("    ⏸ " + printable(tool.empty() ? event.step : tool, 60) + " waits for a person: " + printable(text_of(data, "rule"), room(40))));
    } else if (event.type == "approval_decided") {
      line(yellow("    " + printable(decision_words(data), room(8))));
    } else if (event.type == "call_unknown") {
      line(red("    ? " + printable(text_of(data, "reason"), room(8))));
    } else if (event.type == "step_finished") {
      on_step(event);
    } else if (event.type == "step_failed") {
      line(red("  ✗ " + event.step + ": " + printable(text_of(data, "error"), room(20))));
    }
  }

  void clear_live() override {
    if (live_shown_) std::fputs("\r\x1b[K", stdout);
    live_shown_ = false;
    std::fflush(stdout);
  }

  void on_report(const RunReport& report, int, const std::string& hint) override {
    clear_live();
    if (table_.size() > 1) {
      std::printf("\n%s", text_table(table_).c_str());
      if (hidden_rows_ > 0) std::printf("… and %zu more rows\n", hidden_rows_);
    } else if (report.status == "done" && !report.result.is_null()) {
      std::printf("\n%s\n", report.result.is_string() ? multiline(report.result.get<std::string>()).c_str() : printable(spaced_json(report.result), 4000).c_str());
    }
    print_ledger(report.ledger);
    const std::string status = report.status == "done" ? green("done") : report.status == "end_of_log" ? yellow("the journal ends here") : report.status == "failed" || report.status == "error" ? red(report.status) : yellow(report.status);
    std::printf("\n%s  run %s%s%s\n", status.c_str(), report.id.c_str(), report.note.empty() ? "" : "  ", printable(report.note, 600).c_str());
    if (report.failed_items > 0) std::printf("\n%s\n", yellow(std::to_string(report.failed_items) + (report.failed_items == 1 ? " step failed; its error was collected" : " steps failed; their errors were collected")).c_str());
    for (const auto& failure : report.failures) {
      const std::string item = failure.item.is_null() ? "" : "  " + bold(printable(title_of(failure.item), 70));
      std::printf("  %s%s  %s\n", printable(failure.step, 100).c_str(), item.c_str(), printable(failure.error, 300).c_str());
    }
    if (report.failed_items > report.failures.size()) std::printf("  … and %zu more\n", report.failed_items - report.failures.size());
    for (const auto& item : report.pending) {
      const std::string arguments = item.arguments.empty() ? "" : printable(spaced_json(item.arguments), 400);
      std::printf("\n  %s%s%s\n    %s\n", bold(item.call).c_str(), item.tool.empty() ? "" : ("  " + printable(item.tool, 60)).c_str(), arguments.empty() ? "" : (" " + arguments).c_str(), printable(item.reason, 300).c_str());
      if (!item.who.empty()) std::printf("    asked: %s\n", printable(names_of(item.who), 200).c_str());
      const std::string name = report.id + " " + item.call;
      for (const auto& command : answers_to(item, name)) std::printf("    %s runs %s%s\n", program_name().c_str(), command.c_str(), hint.c_str());
    }
    // What was spent stays spent, and a run keeps the file it was started with.
    if (report.status == "budget") std::printf("its limits stay what they were when it started: raise 'budgets' in the file and run it again\n");
    if (report.status == "interrupted" || report.status == "error") std::printf("continue with: %s runs resume %s%s\n", program_name().c_str(), report.id.c_str(), hint.c_str());
    std::fflush(stdout);
  }

 private:
  using Time = std::chrono::steady_clock;

  void on_model(const Json& data) {
    const std::string architecture = text_of(data, "architecture"), name = printable(text_of(data, "name"), 60);
    if (architecture == "tape") return line(dim("  recorded turns of " + name + " in place of a model"));
    const std::string quantization = text_of(data, "quantization");
    const std::string kind = architecture + (quantization.empty() ? "" : " " + quantization);
    // A server could be expected to be held to the schemas.
    const bool unchecked = architecture == "endpoint";
    line(dim("  model " + name + "  " + kind + " on " + printable(text_of(data, "device"), 60) + ", loaded in " + fixed(number_of(data, "seconds") * 1000, 0) + " ms" +
             (unchecked ? "; its output is checked, not constrained" : "")));
    if (const std::string description = text_of(data, "description"); !description.empty()) line(dim("  its file says: " + printable(description, 200)));
  }

  void on_turn(const Json& data, bool replayed) {
    const std::string thought = text_of(data, "reasoning");
    if (!thought.empty()) line(dim("    · " + printable(thought, std::min<std::size_t>(2 * width_ - 12, 220))));
    if (replayed || !data.contains("spent")) return;
    const Ledger spent = ledger_from_json(data.at("spent"));
    turn_note_ = grouped(spent.generated) + " tokens, " + (spent.decode_seconds > 0 ? fixed(spent.tokens_per_second(), 0) + "/s, " : "") + grouped(spent.prefilled) + " new + " + grouped(spent.reused) + " reused in the prompt";
  }

  void on_call(const Json& data) {
    line("    → " + cyan(printable(text_of(data, "tool"), 60)) + " " + printable(data.contains("arguments") ? spaced_json(data.at("arguments")) : "", room(10 + text_of(data, "tool").size())));
    if (!turn_note_.empty()) turn_note_.clear();
    // Rows that are written to a table are what the run was for: shown at its end.
    if (!data.contains("arguments") || !data.at("arguments").is_object()) return;
    const Json& arguments = data.at("arguments");
    if (!arguments.contains("rows") || !arguments.at("rows").is_array() || arguments.at("rows").empty()) return;
    std::vector<std::string> columns;
    if (arguments.contains("columns") && arguments.at("columns").is_array()) {
      for (const auto& column : arguments.at("columns")) columns.push_back(cell_of(column));
    } else if (arguments.at("rows").front().is_object()) {
      for (const auto& [key, value] : arguments.at("rows").front().items()) columns.push_back(key);
    }
    if (columns.empty() || columns.size() > kMaxTableColumns) return;
    table_ = {columns};
    hidden_rows_ = 0;
    for (const auto& row : arguments.at("rows")) {
      if (table_.size() > kMaxTableRows) {
        ++hidden_rows_;
        continue;
      }
      table_.emplace_back();
      for (const auto& column : columns) table_.back().push_back(row.is_object() && row.contains(column) ? cell_of(row.at(column)) : "");
    }
  }

  void on_step(const RunEvent& event) {
    const std::string kind = text_of(event.data, "kind");
    if (kind != "tool" && kind != "agent") return;
    const double seconds = number_of(event.data, "seconds");
    std::string note = "  " + (seconds < 1 ? fixed(seconds * 1000, 0) + " ms" : fixed(seconds, 1) + " s");
    if (kind == "agent" && !turn_note_.empty()) note += "  " + turn_note_;
    turn_note_.clear();
    std::string text = "  " + green("✓") + " " + event.step;
    if (kind == "agent" && event.data.contains("result")) text += "  " + printable(cell_of(event.data.at("result")), room(event.step.size() + note.size() + 7));
    line(text + dim(note));
  }

  void print_ledger(const Ledger& ledger) {
    std::printf("\n");
    if (ledger.turns > 0) {
      const auto prompt = ledger.prefilled + ledger.reused;
      std::printf("tokens  %s prefilled, %s reused (%s %% of the prompts), %s generated, %s forced\n", grouped(ledger.prefilled).c_str(), grouped(ledger.reused).c_str(),
                  fixed(prompt > 0 ? 100.0 * static_cast<double>(ledger.reused) / static_cast<double>(prompt) : 0, 0).c_str(), grouped(ledger.generated).c_str(), grouped(ledger.forced).c_str());
    }
    std::printf("time    %s s", fixed(ledger.seconds, 2).c_str());
    if (ledger.decode_seconds > 0) std::printf(" (%s s prefill, %s s decode at %s tokens/s)", fixed(ledger.prefill_seconds, 2).c_str(), fixed(ledger.decode_seconds, 2).c_str(), fixed(ledger.tokens_per_second(), 0).c_str());
    const std::string broken = ledger.broken > 0 ? " (" + grouped(ledger.broken) + " broken off: tokens counted as they came)" : "";
    std::printf(", %s%s, %s\n", counted(ledger.turns, "model turn").c_str(), broken.c_str(), counted(ledger.tool_calls, "tool call").c_str());
    if (ledger.embedded > 0) std::printf("memory  %s tokens embedded\n", grouped(ledger.embedded).c_str());
    const auto prices = load_prices();
    std::printf("energy  %s J%s", fixed(ledger.joules, ledger.joules < 10 ? 2 : 0).c_str(), energy_note(ledger).c_str());
    if (!prices) {
      std::printf("\n%s\n", prices.error().describe().c_str());
      return;
    }
    std::printf(", %s of electricity\n", electricity_words(ledger, *prices).c_str());
    if (ledger.turns == 0) return;
    for (const auto& price : prices->hosted) {
      std::printf("%s\n", dim("        the same tokens at " + printable(price.name, 60) + ", prices of " + printable(price.as_of, 20) + ": " + hosted_cost(ledger, price).to_string() + " " + printable(price.currency, 8)).c_str());
    }
  }

  static std::string energy_note(const Ledger& ledger) {
    if (ledger.joules_gpu <= 0) return ledger.joules_estimated ? " (estimate from processor time)" : "";
    const std::string busy = ledger.seconds > 0 ? ", " + fixed(100 * ledger.gpu_busy_seconds / ledger.seconds, 0) + " % busy" : "";
    return " (GPUs " + fixed(ledger.joules_gpu, ledger.joules_gpu < 10 ? 2 : 0) + " J" + busy + (ledger.joules_estimated ? "; a part is an estimate" : "") + ")";
  }

  static std::string names_of(const std::vector<std::string>& people) {
    std::string names;
    for (const auto& person : people) names += (names.empty() ? "" : ", ") + person;
    return names;
  }

  /// The commands behind `kontor runs` that answer the item; `name`: run and call.
  static std::vector<std::string> answers_to(const PendingItem& item, const std::string& name) {
    if (item.is_unknown) return {"resolve " + name + " happened|not-happened"};
    if (item.is_question) return {"answer " + name + " TEXT"};
    std::vector<std::string> commands;
    for (const auto& word : item.needs_choice() ? item.choices : std::vector<std::string>{""}) {
      commands.push_back("approve " + name + (word.empty() ? "" : " --choice " + shell_word(printable(word, 200))));
    }
    commands.push_back("reject " + name);
    return commands;
  }

  /// What to call a loop item.
  static std::string title_of(const Json& item) {
    if (!item.is_object()) return cell_of(item);
    for (const char* key : {"name", "title", "file", "id", "path"}) {
      if (item.contains(key)) return cell_of(item.at(key));
    }
    for (const auto& [key, value] : item.items()) {
      if (value.is_string() && !value.get_ref<const std::string&>().empty()) return value.get<std::string>();
    }
    return spaced_json(item);
  }

  static std::string multiline(const std::string& text) {
    std::string out;
    std::size_t begin = 0;
    while (begin <= text.size()) {
      const auto end = std::min(text.find('\n', begin), text.size());
      out += printable(text.substr(begin, end - begin), 2000) + "\n";
      begin = end + 1;
    }
    if (!out.empty()) out.pop_back();
    return out;
  }

  void line(const std::string& text) {
    clear_live();
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
  }

  /// The line at the bottom: what happens now, how fast, how far. At most ten times a second.
  void live(const std::string& what) {
    if (!is_terminal_ || !color_) return;
    const auto now = Time::now();
    if (live_shown_ && now - drawn_ < std::chrono::milliseconds(100)) return;
    drawn_ = now;
    const double seconds = std::chrono::duration<double>(now - began_).count();
    std::string text = what;
    if (tokens_ > 1 && seconds > 0.05) text += "  " + fixed(static_cast<double>(tokens_) / seconds, 0) + " pieces/s";
    if (total_ > 1) {
      constexpr std::size_t kBar = 20;
      const std::size_t full = kBar * (item_ - 1) / total_;
      std::string bar;
      for (std::size_t i = 0; i < kBar; ++i) bar += i < full ? "█" : "░";
      text = bar + " " + std::to_string(item_) + "/" + std::to_string(total_) + "  " + text;
    }
    if (!thought_.empty()) text += "  " + printable(thought_.size() > 200 ? thought_.substr(thought_.size() - 200) : thought_, room(60));
    std::printf("\r\x1b[K%s", dim(printable(text, width_ - 1)).c_str());
    std::fflush(stdout);
    live_shown_ = true;
  }

  std::size_t room(std::size_t used) const { return width_ > used + 20 ? width_ - used : 20; }
  std::string style(const char* code, const std::string& text) const { return color_ ? std::string("\x1b[") + code + "m" + text + "\x1b[0m" : text; }
  std::string dim(const std::string& text) const { return style("2", text); }
  std::string bold(const std::string& text) const { return style("1", text); }
  std::string red(const std::string& text) const { return style("31", text); }
  std::string green(const std::string& text) const { return style("32", text); }
  std::string yellow(const std::string& text) const { return style("33", text); }
  std::string cyan(const std::string& text) const { return style("36", text); }

  bool is_terminal_ = false, color_ = false, live_shown_ = false;
  std::size_t width_ = 120;
  std::size_t item_ = 0, total_ = 0;
  std::int64_t tokens_ = 0;
  std::string thought_, turn_note_;
  Time::time_point began_ = Time::now(), drawn_;
  std::vector<std::vector<std::string>> table_;
  std::size_t hidden_rows_ = 0;
};

}  // namespace

std::unique_ptr<RunView> make_live_view() { return std::make_unique<LiveView>(); }

}  // namespace kontor::agent::cli
