#include "agent/cli/command.hpp"
#include "agent/cli/run_support.hpp"
#include "agent/cli/shared_options.hpp"
#include "agent/server/webhook_server.hpp"
#include "agent/triggers/folder_watch.hpp"
#include "agent/triggers/posted.hpp"
#include "agent/triggers/trigger_book.hpp"
#include "base/hash.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <list>
#include <mutex>
#include <thread>

namespace kontor::agent::cli {
namespace {

constexpr int kWatchSliceMs = 200, kQuietMs = 300;
constexpr auto kTick = std::chrono::milliseconds(250);
constexpr auto kSlice = std::chrono::milliseconds(100);
constexpr std::int64_t kWakeEverySeconds = 5;

struct Options {
  std::vector<std::string> files;
  std::string runs = default_state_folder(), listen = "127.0.0.1:8787";
  RunOptions run;
  bool json = false;
};

/// One served file: its triggers and the threads that run for it.
class Served {
 public:
  Served(Spec spec, Journal& journal, const Options& options, std::stop_token stop) : spec_(std::move(spec)), journal_(journal), options_(options), stop_(std::move(stop)) {}

  Result<void> open() {
    const std::int64_t now = system_clock().unix_ms() / 1000;
    const auto seen = [&](std::size_t trigger) {
      const auto value = journal_.kept(schedule_key(trigger));
      return value ? std::optional(*value) : std::nullopt;
    };
    auto book = TriggerBook::create(spec_.triggers, seen, now);
    if (!book) return book.error();
    book_ = std::move(*book);
    for (std::size_t i = 0; i < spec_.triggers.size(); ++i) {
      if (auto followed = follow_schedule(i, now); !followed) return followed.error();
    }
    for (std::size_t i = 0; i < spec_.triggers.size(); ++i) {
      const TriggerSpec& trigger = spec_.triggers[i];
      if (trigger.watch.empty()) continue;
      auto watch = FolderWatch::open(trigger.watch);
      if (!watch) return watch.error();
      threads_.emplace_back([this, i, watch = std::make_shared<FolderWatch>(std::move(*watch))] { follow(i, *watch); });
    }
    return {};
  }

  /// What stands behind the paths of this file; outlived by this. Errors: usage (a path that is there already).
  Result<void> add_webhooks(std::map<std::string, Webhook>& hooks) {
    auto secrets = load_secrets(spec_);
    if (!secrets) return secrets.error();
    for (std::size_t i = 0; i < spec_.triggers.size(); ++i) {
      const TriggerSpec& trigger = spec_.triggers[i];
      if (trigger.webhook.empty()) continue;
      Webhook hook;
      hook.secret = (*secrets)[trigger.secret];
      if (hook.secret.empty()) return fail(Errc::usage, spec_.path + ": the secret '" + trigger.secret + "' of the webhook " + trigger.webhook + " has no value");
      hook.start = [this, i](std::string_view body, const std::string& signature) { return post(i, body, signature); };
      if (!hooks.emplace(trigger.webhook, std::move(hook)).second) return fail(Errc::usage, spec_.path + ": another file has the webhook " + trigger.webhook);
    }
    return {};
  }

  void tick() {
    const std::int64_t now = system_clock().unix_ms() / 1000;
    TriggerBook::Due due;
    {
      std::lock_guard guard(mutex_);
      due = book_->due(now);
    }
    for (const auto trigger : due.left_out) {
      if (auto followed = follow_schedule(trigger, now); !followed) print_error(followed.error().describe());
    }
    for (const auto trigger : due.start) {
      begin([this, trigger, now] {
        start(trigger, now);
        std::lock_guard guard(mutex_);
        book_->finished(trigger);
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

  /// What a sender waits for; the run may outlive its connection.
  struct Promise {
    std::mutex mutex;
    std::condition_variable kept;
    std::optional<Result<std::string>> id;

    void keep(Result<std::string> value) {
      std::lock_guard guard(mutex);
      if (!id) id = std::move(value);
      kept.notify_all();
    }
  };

  void begin(std::function<void()> job) {
    std::lock_guard guard(works_mutex_);
    runs_.remove_if([](const Work& work) { return work.done.load(); });
    Work& work = runs_.emplace_back();
    work.thread = std::jthread([job = std::move(job), &work] {
      job();
      work.done = true;
    });
  }

  std::string schedule_key(std::size_t trigger) const {
    const TriggerSpec& spec = spec_.triggers[trigger];
    return "schedule:" + sha256_hex(spec_.name + "\n" + spec.schedule + "\n" + spec.time_zone + "\n" + spec.inputs.dump());
  }

  /// Notes that nothing of a schedule is open until `now`, where that is so.
  Result<void> follow_schedule(std::size_t trigger, std::int64_t now) {
    if (spec_.triggers[trigger].schedule.empty() || book_->is_waiting(trigger)) return {};
    return journal_.keep({schedule_key(trigger), now});
  }

  Result<std::string> post(std::size_t trigger, std::string_view body, const std::string& signature) {
    if (stop_.stop_requested()) return fail(Errc::cancelled, "the server stops", "stopping");
    auto inputs = posted_inputs(spec_, spec_.triggers[trigger], body);
    if (!inputs) return inputs.error();
    JournalMark message{"message:" + sha256_hex(spec_.name + "\n" + spec_.triggers[trigger].webhook + "\n" + signature), 0, true, system_clock().unix_ms() + kWebhookMemoryMs};
    if (journal_.kept(message.key)) return webhook_refused();  // An earlier process had it.
    std::optional<std::uint64_t> place;
    {
      std::lock_guard guard(mutex_);
      place = book_->posted(trigger);
    }
    if (!place && spec_.triggers[trigger].overlap == "queue") return fail(Errc::budget, "too many messages of this webhook wait for their turn", "queue_full");
    if (!place) return fail(Errc::conflict, "the last run of this webhook still works", "overlap");
    auto promise = std::make_shared<Promise>();
    begin([this, trigger, inputs = std::move(*inputs), place = *place, promise, message = std::move(message)] { work_on(trigger, inputs, place, message, *promise); });
    std::unique_lock lock(promise->mutex);
    // Also when the sender went away or we stop: whether there is a run decides if the message may come again.
    promise->kept.wait(lock, [&] { return promise->id.has_value(); });
    return *promise->id;
  }

  void work_on(std::size_t trigger, const Json& inputs, std::uint64_t place, const JournalMark& message, Promise& promise) {
    RunOptions run = options_.run;
    run.untrusted_inputs = true;
    RunWorld around = world();
    around.mark = message;
    around.created = [&](const std::string& id) {
      promise.keep(id);
      std::unique_lock lock(mutex_);
      while (!book_->has_turn(trigger, place) && !stop_.stop_requested()) turns_.wait_for(lock, kSlice);
    };
    const auto report = start_run(journal_, spec_, inputs, run, around);
    {
      std::lock_guard guard(mutex_);
      book_->left(trigger, place);
    }
    turns_.notify_all();
    if (!report && report.error().kind == kRepeated) return promise.keep(webhook_refused());
    tell("webhook", report);
    // A reason that is ours, not the sender's: the server's log has it.
    promise.keep(report ? Result<std::string>(report->id) : Result<std::string>(fail(Errc::internal, report.error().message)));
  }

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

  void start(std::size_t trigger, std::int64_t now) {
    const bool scheduled = !spec_.triggers[trigger].schedule.empty();
    auto inputs = resolve_inputs(spec_, spec_.triggers[trigger].inputs);
    RunWorld around = world();
    if (scheduled) around.mark = JournalMark{schedule_key(trigger), now};
    const auto report = inputs ? start_run(journal_, spec_, *inputs, options_.run, around) : Result<RunReport>(inputs.error());
    tell(scheduled ? "schedule" : "watch", report);
    // What could not start was told, and is not tried again.
    if (report || !scheduled) return;
    if (auto followed = journal_.keep({schedule_key(trigger), now}); !followed) print_error(followed.error().describe());
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
  std::condition_variable turns_;
  std::optional<TriggerBook> book_;
  std::int64_t woken_ = 0;
  std::vector<std::jthread> threads_;  ///< One for each watched folder.
  std::mutex works_mutex_;
  std::list<Work> runs_;
};

int execute(const Options& options) {
  Interrupts interrupts("");
  auto journal = Journal::open(options.runs);
  if (!journal) return report_error(journal.error());
  std::vector<std::unique_ptr<Served>> served;
  std::map<std::string, Webhook> hooks;
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
    if (auto added = served.back()->add_webhooks(hooks); !added) return report_error(added.error());
  }
  if (triggers == 0) return report_error(fail(Errc::usage, "there are no triggers: in these files"));
  std::unique_ptr<WebhookServer> server;
  WebhookSetup setup;
  setup.airgap = options.run.airgap;
  if (auto read = read_listen(options.listen, setup); !read) return report_error(read.error());
  if (!hooks.empty()) {
    auto opened = WebhookServer::open(std::move(hooks), setup);
    if (!opened) return report_error(opened.error());
    server = std::move(*opened);
    std::fprintf(stderr, "listening on http://%s:%d (not encrypted; for others put a proxy with TLS in front)\n", setup.host.c_str(), server->port());
  }
  std::jthread web([&] {
    if (server) server->run(interrupts.token());
  });
  if (!options.json) std::fprintf(stderr, "%zu %s; Ctrl-C ends\n", triggers, triggers == 1 ? "trigger" : "triggers");
  while (!interrupts.token().stop_requested()) {
    for (const auto& file : served) file->tick();
    std::this_thread::sleep_for(kTick);
  }
  return kDone;
}

const Verb verb{"serve", "start runs when their triggers say so: schedules, folders, webhooks", [](CLI::App& app) -> Action {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->files, "agent files with triggers, or their folders")->required();
  add_model_options(app, options->run);
  add_runs_option(app, options->runs);
  app.add_option("--listen", options->listen, "ADDRESS:PORT of webhooks and /health (default 127.0.0.1:8787; port 0 takes a free one)");
  add_airgap_flag(app, options->run.airgap);
  app.add_flag("--json", options->json, "one JSON line for each run");
  app.footer("HTTP is served where a file has a webhook: POST to its path, signed (docs/runs.md), and GET /health.");
  return [options] { return execute(*options); };
}};

}  // namespace
}  // namespace kontor::agent::cli
