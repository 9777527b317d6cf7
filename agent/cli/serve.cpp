#include "agent/cli/command.hpp"
#include "agent/cli/run_support.hpp"
#include "agent/triggers/folder_watch.hpp"
#include "agent/triggers/trigger_book.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <list>
#include <mutex>
#include <thread>

namespace kontor::agent::cli {
namespace {

constexpr int kWatchSliceMs = 200, kQuietMs = 300;
constexpr auto kTick = std::chrono::milliseconds(250);
constexpr std::int64_t kWakeEverySeconds = 5;

struct Options {
  std::vector<std::string> files;
  std::string runs = default_state_folder();
  RunOptions run;
  bool json = false;
};

/// One served file: its triggers and the threads that run for it.
class Served {
 public:
  Served(Spec spec, Journal& journal, const Options& options, std::stop_token stop) : spec_(std::move(spec)), journal_(journal), options_(options), stop_(std::move(stop)) {}

  Result<void> open() {
    auto book = TriggerBook::create(spec_.triggers, journal_.folder() + "/triggers-" + spec_.name + ".json", system_clock().unix_ms() / 1000);
    if (!book) return book.error();
    book_ = std::move(*book);
    for (std::size_t i = 0; i < spec_.triggers.size(); ++i) {
      const TriggerSpec& trigger = spec_.triggers[i];
      if (!trigger.webhook.empty()) std::fprintf(stderr, "%s: the webhook %s is not served: this version has no HTTP server\n", spec_.path.c_str(), trigger.webhook.c_str());
      if (trigger.watch.empty()) continue;
      auto watch = FolderWatch::open(trigger.watch);
      if (!watch) return watch.error();
      threads_.emplace_back([this, i, watch = std::make_shared<FolderWatch>(std::move(*watch))] { follow(i, *watch); });
    }
    return {};
  }

  void tick() {
    const std::int64_t now = system_clock().unix_ms() / 1000;
    std::vector<std::size_t> due;
    {
      std::lock_guard guard(mutex_);
      due = book_->due(now);
    }
    runs_.remove_if([](const Work& work) { return work.done.load(); });
    for (const auto trigger : due) {
      Work& work = runs_.emplace_back();
      work.thread = std::jthread([this, trigger, &work] {
        start(trigger);
        {
          std::lock_guard guard(mutex_);
          book_->finished(trigger);
        }
        work.done = true;
      });
    }
    if (now - woken_ >= kWakeEverySeconds) {
      woken_ = now;
      wake_parked(now * 1000);
    }
  }

 private:
  struct Work {
    std::atomic<bool> done = false;
    std::jthread thread;
  };
  const ModelOpener open_model_ = make_model_opener();  ///< Runs share engines.

  RunWorld world() {
    RunWorld world;
    world.make_tools = make_tools;
    world.open_model = open_model_;
    world.stop = stop_;
    world.timers_park = true;
    return world;
  }

  void tell(const char* what, const Result<RunReport>& report) {
    std::lock_guard guard(mutex_);
    if (options_.json) {
      const Json line = report ? Json{{"event", what}, {"file", spec_.path}, {"run", report->id}, {"status", report->status}, {"note", report->note}}
                               : Json{{"event", what}, {"file", spec_.path}, {"status", "error"}, {"note", report.error().describe()}};
      print_json(line.dump(-1, ' ', false, Json::error_handler_t::replace));
      std::fflush(stdout);
    } else if (report) {
      std::printf("%s  %s  run %s  %s%s\n", what, spec_.name.c_str(), report->id.c_str(), report->status.c_str(), report->note.empty() ? "" : (": " + printable(report->note, 200)).c_str());
      std::fflush(stdout);
    } else {
      print_error(printable(report.error().describe(), 400));
    }
  }

  void start(std::size_t trigger) {
    auto inputs = resolve_inputs(spec_, spec_.triggers[trigger].inputs);
    tell(spec_.triggers[trigger].schedule.empty() ? "watch" : "schedule", inputs ? start_run(journal_, spec_, *inputs, options_.run, world()) : Result<RunReport>(inputs.error()));
  }

  void follow(std::size_t trigger, FolderWatch& watch) {
    while (!stop_.stop_requested()) {
      auto names = watch.wait(kWatchSliceMs, kQuietMs);
      if (!names) return print_error(spec_.triggers[trigger].watch + ": " + names.error().describe());
      if (names->empty()) continue;
      std::lock_guard guard(mutex_);
      book_->happened(trigger);
    }
  }

  /// Parked runs of this file whose wait or question has come to its time.
  void wake_parked(std::int64_t now_ms) {
    constexpr std::size_t kLatest = 200;
    auto rows = journal_.list(kLatest);
    if (!rows) return;
    std::error_code code;
    const std::string file = std::filesystem::absolute(spec_.path, code).string();
    for (const auto& row : *rows) {
      if (row.status != "parked" || row.file != file || journal_.is_held(row.id)) continue;
      auto events = journal_.events(row.id);
      if (!events) continue;
      for (const auto& item : History(*events).pending()) {
        if (item.expires_at_ms == 0 || item.expires_at_ms > now_ms) continue;
        tell("woken", resume_run(journal_, row.id, options_.run, world()));
        break;
      }
    }
  }

  const Spec spec_;
  Journal& journal_;
  const Options& options_;
  std::stop_token stop_;
  std::mutex mutex_;
  std::optional<TriggerBook> book_;
  std::int64_t woken_ = 0;
  std::vector<std::jthread> threads_;  ///< One for each watched folder.
  std::list<Work> runs_;
};

int execute(const Options& options) {
  Interrupts interrupts("");
  auto journal = Journal::open(options.runs);
  if (!journal) return report_error(journal.error());
  std::vector<std::unique_ptr<Served>> served;
  std::size_t triggers = 0;
  for (const auto& given : options.files) {
    auto file = find_agent_file(given);
    if (!file) return report_error(file.error());
    auto spec = read_spec(*file);
    if (!spec) return kUsage;
    if (spec->workflow.empty() && !spec->triggers.empty()) return report_error(fail(Errc::usage, *file + " has triggers but no workflow to start"));
    triggers += spec->triggers.size();
    served.push_back(std::make_unique<Served>(std::move(*spec), **journal, options, interrupts.token()));
    if (auto opened = served.back()->open(); !opened) return report_error(opened.error());
  }
  if (triggers == 0) return report_error(fail(Errc::usage, "there are no triggers: in these files"));
  if (!options.json) std::fprintf(stderr, "%zu triggers; Ctrl-C ends\n", triggers);
  while (!interrupts.token().stop_requested()) {
    for (const auto& file : served) file->tick();
    std::this_thread::sleep_for(kTick);
  }
  return kDone;
}

const Verb verb{"serve", "start runs when their triggers say so: schedules and folders", [](CLI::App& app) -> Action {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->files, "agent files with triggers, or their folders")->required();
  app.add_option("--model", options->run.model_path, "model file for all agents");
  app.add_option("--device", options->run.device, "auto, cpu or cuda")->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_option("--threads", options->run.threads, "processor threads")->check(CLI::Range(1, 1024));
  app.add_option("--runs", options->runs, "folder of the journal");
  app.add_flag("--airgap", options->run.airgap, "refuse everything that is not on this machine");
  app.add_flag("--json", options->json, "one JSON line for each run");
  app.footer("In this version: schedules and watched folders. HTTP (API, web pages, webhooks) is not served yet.");
  return [options] { return execute(*options); };
}};

}  // namespace
}  // namespace kontor::agent::cli
