#include "agent/cli/command.hpp"
#include "agent/cli/event_table.hpp"
#include "agent/cli/run_support.hpp"
#include "agent/cli/shared_options.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace kontor::agent::cli {
namespace {

struct Options {
  std::string runs = default_state_folder();
  std::string id, call, word, by, choice, reason, decisions;
  std::vector<std::string> words, approve;
  RunOptions run;
  std::size_t limit = 20;
  bool json = false, no_resume = false;
};
using Shared = std::shared_ptr<Options>;

/// The status as people should read it: a run marked running without a process was cut off.
std::string shown_status(const Journal& journal, const RunRow& row) {
  return row.status == "running" && !journal.is_held(row.id) ? "interrupted" : row.status;
}

struct Opened {
  std::unique_ptr<LeapingClock> clock;  // Before the journal, which uses it to its end.
  std::unique_ptr<Journal> journal;
  RunRow row;
};

/// Looking at a folder without a journal makes none.
bool has_journal(const Options& options) {
  std::error_code code;
  return std::filesystem::exists(options.runs + "/journal.db", code) || code;
}

Result<Opened> open_run(const Options& options) {
  if (!has_journal(options)) return fail(Errc::not_found, "there are no runs in " + options.runs);
  auto clock = std::make_unique<LeapingClock>();
  auto journal = Journal::open(options.runs, *clock);
  if (!journal) return journal.error();
  auto row = (*journal)->find(options.id);
  if (!row) return row.error();
  return Opened{std::move(clock), std::move(*journal), std::move(*row)};
}

int list(const Options& options) {
  std::unique_ptr<Journal> journal;
  std::vector<RunRow> rows;
  if (has_journal(options)) {
    auto opened = Journal::open(options.runs);
    if (!opened) return report_error(opened.error());
    journal = std::move(*opened);
    auto found = journal->list(options.limit);
    if (!found) return report_error(found.error());
    rows = std::move(*found);
  }
  if (options.json) {
    Json all = Json::array();
    for (const auto& row : rows) {
      all.push_back(Json{{"id", row.id}, {"name", row.name}, {"status", shown_status(*journal, row)}, {"note", row.note}, {"file", row.file},
                         {"created_ms", row.created_ms}, {"updated_ms", row.updated_ms}});
    }
    print_json(Json{{"runs", std::move(all)}}.dump(-1, ' ', false, Json::error_handler_t::replace));
    return kDone;
  }
  if (rows.empty()) {
    std::printf("no runs in %s\n", options.runs.c_str());
    return kDone;
  }
  std::vector<std::vector<std::string>> table = {{"RUN", "AGENT", "STATUS", "STARTED", "NOTE"}};
  for (const auto& row : rows) table.push_back({row.id, row.name, shown_status(*journal, row), time_words(row.created_ms), row.note});
  std::fputs(text_table(table, 60).c_str(), stdout);
  return kDone;
}

Json event_json(const JournalEvent& event) {
  return Json{{"seq", event.seq}, {"unix_ms", event.unix_ms}, {"type", event.type}, {"step", event.step}, {"data", event.data}, {"hash", event.hash}};
}

int show(const Options& options) {
  auto opened = open_run(options);
  if (!opened) return report_error(opened.error());
  auto events = opened->journal->events(opened->row.id);
  if (!events) return report_error(events.error());
  for (auto& event : *events) event.data = hide_sealed(event.data);
  const History history(*events);
  RunReport report;
  report.id = opened->row.id, report.name = opened->row.name, report.note = opened->row.note;
  report.status = shown_status(*opened->journal, opened->row);
  report.ledger = history.spent();
  report.pending = history.pending();
  for (const auto& event : *events) {
    if (event.type == "run_finished" && event.data.contains("result")) report.result = event.data.at("result");
  }
  if (options.json) {
    Json value = report_json(report, exit_code_of(report));
    value.erase("event");
    value.erase("exit_code");
    value["file"] = opened->row.file;
    value["created_ms"] = opened->row.created_ms;
    value["events"] = Json::array();
    for (const auto& event : *events) value["events"].push_back(event_json(event));
    print_json(value.dump(-1, ' ', false, Json::error_handler_t::replace));
    return kDone;
  }
  std::printf("run %s  %s  %s  started %s\n\n", report.id.c_str(), printable(report.name, 60).c_str(), report.status.c_str(), time_words(opened->row.created_ms).c_str());
  std::fputs(event_table(*events, opened->row.created_ms).c_str(), stdout);
  make_view(false)->on_report(report, 0, runs_hint(options.runs));
  return kDone;
}

int go_on(const Options& options, const Opened& opened, bool replay) {
  Journal& journal = *opened.journal;
  const std::string& id = opened.row.id;
  Interrupts interrupts("");
  auto watch = read_watch(options.approve, options.decisions);
  if (!watch) return report_error(watch.error());
  watch->overrides = options.run, watch->json = options.json, watch->runs = options.runs;
  if (watch->scripted) {
    if (auto leapt = leap_to_end(journal, id, *opened.clock); !leapt) return report_error(leapt.error());
  }
  return watch_run(journal, *opened.clock, interrupts, std::move(*watch),
                   [&](const RunWorld& world) { return replay ? replay_run(journal, id, world) : resume_run(journal, id, options.run, world); });
}

int resume(const Options& options, bool replay) {
  auto opened = open_run(options);
  if (!opened) return report_error(opened.error());
  return go_on(options, *opened, replay);
}

int verify(const Options& options) {
  Interrupts interrupts("");
  auto opened = open_run(options);
  if (!opened) return report_error(opened.error());
  RunWorld world;
  world.make_tools = make_tools;
  world.open_model = make_model_opener();
  world.stop = interrupts.token();
  if (!options.json) {
    world.sink = [](const RunEvent& event) {
      if (event.type != "turn_verified") return;
      std::printf("%-9s %s\n", event.data.at("same") == Json(true) ? "same" : "DIFFERENT", printable(event.step, 100).c_str());
      std::fflush(stdout);
    };
  }
  auto report = verify_run(*opened->journal, opened->row.id, options.run, world);
  if (!report) {
    const int code = report_error(report.error());
    return report.error().kind == kModelFailed ? static_cast<int>(kModel) : report.error().kind == agent::kInterrupted ? static_cast<int>(kInterrupted) : code;
  }
  const bool ok = report->complete && report->same == report->turns;
  if (options.json) {
    Json value{{"id", report->id}, {"ok", ok}, {"turns", report->turns}, {"same", report->same}, {"tokens", report->tokens},
               {"unpromised", report->unpromised}, {"complete", report->complete}, {"note", report->note}};
    if (const auto& first = report->first) value["first_difference"] = Json{{"place", first->place}, {"token", first->token}, {"recorded", first->recorded}, {"again", first->again}};
    print_json(value.dump(-1, ' ', false, Json::error_handler_t::replace));
    return ok ? kDone : kFailed;
  }
  std::printf("%zu of %zu turns came out as recorded (%lld tokens)\n", report->same, report->turns, static_cast<long long>(report->tokens));
  if (report->unpromised > 0) {
    std::printf("%zu turns were written by a server: what it computes beside them can change its numbers, so a difference there proves nothing\n", report->unpromised);
  }
  if (!report->complete) std::printf("not all turns were reached: %s\n", printable(report->note, 300).c_str());
  if (const auto& first = report->first) {
    std::printf("first difference: %s, token %zu\n  recorded  %s\n  again     %s\n", printable(first->place, 100).c_str(), first->token,
                printable(first->recorded, 100).c_str(), printable(first->again, 100).c_str());
  }
  return ok ? kDone : kFailed;
}

/// The words behind approve, reject and resolve: [ID] [CALL]. A word with a slash or of no run is a call of the latest.
Result<Opened> open_with_call(Options& options) {
  if (options.words.size() > 2) return fail(Errc::usage, "too many words: give a run and a call");
  if (options.words.size() == 2) options.id = options.words[0], options.call = options.words[1];
  if (options.words.size() == 1) options.id = options.words[0];
  auto opened = open_run(options);
  if (opened || options.words.size() != 1) return opened;
  Options latest = options;
  latest.id.clear();
  auto fallback = open_run(latest);
  if (!fallback) return opened.error();
  auto events = fallback->journal->events(fallback->row.id);
  if (!events) return opened.error();
  const History history(*events);
  const auto pending = history.pending();
  if (std::none_of(pending.begin(), pending.end(), [&](const PendingItem& item) { return item.call == options.words[0]; }) && history.decisions(options.words[0]).empty()) {
    return fail(Errc::not_found, "'" + options.words[0] + "' is neither a run nor what the latest run, " + fallback->row.id + ", waits for");
  }
  options.id = fallback->row.id;
  options.call = options.words[0];
  return fallback;
}

int decide(Options& options, bool approve) {
  auto opened = open_with_call(options);
  if (!opened) return report_error(opened.error());
  const std::string by = options.by.empty() ? person() : options.by;
  auto item = decide_approval(*opened->journal, opened->row.id, options.call, {approve, by, options.choice, options.reason});
  if (!item) return report_error(item.error());
  if (!options.json) std::printf("%s: %s%s by %s\n", approve ? "approved" : "rejected", item->call.c_str(), item->tool.empty() ? "" : (" " + printable(item->tool, 60)).c_str(), printable(by, 60).c_str());
  if (options.no_resume) return kDone;
  return go_on(options, *opened, false);
}

int answer(Options& options) {
  if (options.words.empty()) return report_error(fail(Errc::usage, "say what the answer is: runs answer [ID] [CALL] TEXT"));
  const std::string text = options.words.back();
  if (text.empty()) return report_error(fail(Errc::usage, "an answer is not empty"));
  options.words.pop_back();
  auto opened = open_with_call(options);
  if (!opened) return report_error(opened.error());
  auto events = opened->journal->events(opened->row.id);
  if (!events) return report_error(events.error());
  auto pending = History(*events).pending();
  std::erase_if(pending, [&](const PendingItem& item) { return !item.is_question || (!options.call.empty() && item.call != options.call); });
  // Beside a question, approvals may be waiting: without a name, the only question is meant.
  if (pending.empty()) return report_error(fail(Errc::not_found, "run " + opened->row.id + " has no question" + (options.call.empty() ? "" : " at '" + options.call + "'")));
  if (pending.size() == 1) options.call = pending.front().call;
  const std::string by = options.by.empty() ? person() : options.by;
  auto item = decide_approval(*opened->journal, opened->row.id, options.call, {true, by, text, options.reason});
  if (!item) return report_error(item.error());
  if (!options.json) std::printf("answered: %s %s by %s\n", item->call.c_str(), printable(item->tool, 60).c_str(), printable(by, 60).c_str());
  if (options.no_resume) return kDone;
  return go_on(options, *opened, false);
}

int resolve(Options& options) {
  if (options.words.empty()) return report_error(fail(Errc::usage, "say what happened: runs resolve [ID] [CALL] happened|not-happened"));
  const std::string state = options.words.back();
  if (state != "happened" && state != "not-happened") return report_error(fail(Errc::usage, "the last word is happened or not-happened, not '" + state + "'"));
  options.words.pop_back();
  auto opened = open_with_call(options);
  if (!opened) return report_error(opened.error());
  auto item = resolve_outcome(*opened->journal, opened->row.id, options.call, state == "happened", options.by.empty() ? person() : options.by);
  if (!item) return report_error(item.error());
  if (!options.json) std::printf("%s: %s %s\n", state.c_str(), item->call.c_str(), printable(item->tool, 60).c_str());
  if (options.no_resume) return kDone;
  return go_on(options, *opened, false);
}

int cancel(const Options& options) {
  auto opened = open_run(options);
  if (!opened) return report_error(opened.error());
  if (auto done = cancel_run(*opened->journal, opened->row.id, person()); !done) return report_error(done.error());
  if (options.json) print_json(Json{{"id", opened->row.id}, {"status", "cancelled"}}.dump());
  else std::printf("cancelled %s\n", opened->row.id.c_str());
  return kDone;
}

int export_events(const Options& options) {
  auto opened = open_run(options);
  if (!opened) return report_error(opened.error());
  auto events = opened->journal->events(opened->row.id);
  if (!events) return report_error(events.error());
  for (const auto& event : *events) print_json(event_json(event).dump(-1, ' ', false, Json::error_handler_t::replace));
  return kDone;
}

void add_common(CLI::App& app, const Shared& options) {
  add_runs_option(app, options->runs);
  app.add_flag("--json", options->json, "print one JSON document, or JSON lines");
}

void add_id(CLI::App& app, const Shared& options) { app.add_option("ID", options->id, "run, or its beginning; the latest when absent"); }

void add_world(CLI::App& app, const Shared& options) {
  add_model_options(app, options->run);
  add_approve_option(app, options->approve);
  add_airgap_flag(app, options->run.airgap);
}

void add_answer(CLI::App& app, const Shared& options, const std::string& words) {
  app.add_option("WORDS", options->words, words);
  app.add_option("--by", options->by, "who decides; your login name when absent");
  app.add_option("--reason", options->reason, "why; kept with the answer");
  app.add_flag("--no-resume", options->no_resume, "only record the answer");
  add_world(app, options);
}

const Verb verb{"runs", "list, show and continue runs", [](CLI::App& app) -> Action {
  const auto leaf = [&](const std::string& name, const std::string& summary, const std::function<void(CLI::App&, const Shared&)>& setup, const std::function<int(Options&)>& action) {
    add_leaf(app, name, summary, [&](CLI::App& sub) -> Action {
      auto options = std::make_shared<Options>();
      add_common(sub, options);
      setup(sub, options);
      return [options, action] { return action(*options); };
    });
  };
  const auto resumable = [](CLI::App& sub, const Shared& options) {
    add_id(sub, options), add_world(sub, options);
    add_decisions_option(sub, options->decisions);
  };
  leaf("list", "latest runs and their state", [](CLI::App& sub, const Shared& options) { sub.add_option("--limit", options->limit, "how many (default 20)")->check(CLI::Range(1, 100000)); }, list);
  leaf("show", "every event of a run, what it waits for, what it cost", add_id, show);
  leaf("resume", "continue a run where its journal ends", resumable, [](Options& options) { return resume(options, false); });
  leaf("replay", "walk a run again from its journal, without model and effects", add_id, [](Options& options) { return resume(options, true); });
  leaf("verify", "let the model write every turn again and compare token by token",
       [](CLI::App& sub, const Shared& options) { add_id(sub, options), add_model_options(sub, options->run), add_airgap_flag(sub, options->run.airgap); }, [](Options& options) { return verify(options); });
  leaf("approve", "approve a pending call: [ID] [CALL]; then the run continues",
       [](CLI::App& sub, const Shared& options) {
         add_answer(sub, options, "[ID] [CALL]");
         sub.add_option("--choice", options->choice, "one of the step's choices");
       },
       [](Options& options) { return decide(options, true); });
  leaf("reject", "reject a pending call: [ID] [CALL]; then the run continues", [](CLI::App& sub, const Shared& options) { add_answer(sub, options, "[ID] [CALL]"); },
       [](Options& options) { return decide(options, false); });
  leaf("answer", "answer a question of a run: [ID] [CALL] TEXT; then the run continues", [](CLI::App& sub, const Shared& options) { add_answer(sub, options, "[ID] [CALL] TEXT"); }, answer);
  leaf("resolve", "say whether an effect happened: [ID] [CALL] happened|not-happened", [](CLI::App& sub, const Shared& options) { add_answer(sub, options, "[ID] [CALL] happened|not-happened"); }, resolve);
  leaf("cancel", "give a run up: it is not continued", add_id, cancel);
  leaf("export", "all events as JSON lines", add_id, export_events);
  return {};
}};

}  // namespace
}  // namespace kontor::agent::cli
