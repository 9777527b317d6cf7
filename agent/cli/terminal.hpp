#pragma once
// What people and programs see of a run: live lines on a terminal, plain lines in a file, or JSON lines.

#include "agent/events.hpp"
#include "agent/run.hpp"

#include <memory>
#include <string>

namespace kontor::agent::cli {

/// Text from models, tools and files for a terminal: control, invisible and direction characters are shown escaped, line
/// breaks as blanks, at most `width` characters.
std::string printable(const std::string& text, std::size_t width);

/// Draws events. Not thread-safe.
class RunView {
 public:
  virtual ~RunView() = default;
  virtual void on_event(const RunEvent& event) = 0;
  /// Removes what is only there while something runs (a progress line).
  virtual void clear_live() {}
  /// The end of the run: table, ledger, what it waits for. `folder_hint`: " --runs DIR" when not the default.
  virtual void on_report(const RunReport& report, int exit_code, const std::string& folder_hint) = 0;
};

std::unique_ptr<RunView> make_view(bool json);

/// The report as the last line of --json.
Json report_json(const RunReport& report, int exit_code);
/// The ledger with money.
/// A decision of the journal for people: "approve by anna", "answered by anna: 4400". Not yet printable().
std::string decision_words(const Json& decision);

Json ledger_json(const Ledger& ledger);
/// Aligned columns, headers first; cells are made printable.
std::string text_table(const std::vector<std::vector<std::string>>& rows, std::size_t cell_width = 40);

/// Exit code of a report.
int exit_code_of(const RunReport& report);

}  // namespace kontor::agent::cli
