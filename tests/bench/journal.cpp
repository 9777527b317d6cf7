// What the journal costs: CPU time and bytes of a step, and how long a run of 5,000 steps takes to resume.
//
//   ninja -C build bench_journal && build/tests/bench_journal [STEPS]
//
// Tools that answer at once (at_once) and plugins in a process of their own (say) are called on the run's thread, the others on
// threads of their own. What the plugin's process spends is not counted.

#include "agent/run.hpp"
#include "plugins/host/loader.hpp"
#include "tests/support/answer_tool.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

using namespace kontor;
using namespace kontor::agent;

namespace {

double cpu_seconds() {
  rusage self{};
  getrusage(RUSAGE_SELF, &self);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(self.ru_utime) + seconds(self.ru_stime);
}

double wall_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::size_t bytes_below(const std::string& folder, const std::string& prefix) {
  std::size_t sum = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename().string().rfind(prefix, 0) == 0) sum += entry.file_size();
  }
  return sum;
}

struct Measured {
  double cpu_us = 0, wall_us = 0, resume_seconds = 0, events_seconds = 0;
  std::size_t bytes_open = 0, bytes_closed = 0;
};

/// The sample plugin, which answers with its arguments.
std::vector<std::shared_ptr<tools::Tool>> echo() {
  plugins::PluginOptions options;
  options.path = std::string(KONTOR_BINARY_DIR) + "/plugins/libecho_c.so";
  options.group = "t";
  auto loaded = plugins::load_plugin(options);
  if (!loaded) std::abort();
  return loaded->tools;
}

Measured measure(int steps, const std::string& sync, const std::string& tool, const std::vector<std::shared_ptr<tools::Tool>>& more = {}) {
  std::string pattern = (std::filesystem::temp_directory_path() / "kontor-bench-XXXXXX").string();
  const std::string folder = ::mkdtemp(pattern.data());
  Json items = Json::array();
  for (int i = 0; i < steps; ++i) items.push_back(i);
  const std::string yaml = "kontor: 1\nname: bench\ntools: {t: {use: plugin, library: lib.so}}\npolicy: {allow: [\"t.*\"]}\ndurability: {sync: " + sync +
                           "}\nworkflow:\n  - {id: list, tool: t.list}\n  - {id: each, for_each: \"${steps.list.items}\", do: [{id: step, tool: " + tool + ", with: {" + (more.empty() ? "n: \"${item}\"" : "text: \"" + std::string(196, 'x') + "\"") + "}}]}\n";
  auto checked = check_text(yaml, folder + "/agent.yaml", folder);
  if (!checked.spec) std::abort();
  RunWorld world;
  world.make_tools = [&](const ToolRequest&) -> Result<std::vector<std::shared_ptr<tools::Tool>>> {
    std::vector<std::shared_ptr<tools::Tool>> made{std::make_shared<kontor::test::AnswerTool>("t.list", Json{{"items", items}}, tools::Effect::none),
                                                     std::make_shared<kontor::test::AnswerTool>("t.read", Json{{"text", std::string(208, 'x')}}, tools::Effect::none),
                                                     std::make_shared<kontor::test::AnswerTool>("t.write", Json{{"text", std::string(208, 'x')}}, tools::Effect::idempotent),
                                                     std::make_shared<kontor::test::AnswerTool>("t.read_at_once", Json{{"text", std::string(208, 'x')}}, tools::Effect::none, true),
                                                     std::make_shared<kontor::test::AnswerTool>("t.write_at_once", Json{{"text", std::string(208, 'x')}}, tools::Effect::idempotent, true)};
    made.insert(made.end(), more.begin(), more.end());
    return made;
  };
  Measured result;
  std::string id;
  {
    auto journal = Journal::open(folder);
    const double cpu = cpu_seconds(), wall = wall_seconds();
    auto report = start_run(**journal, *checked.spec, Json::object(), {}, world);
    if (!report || report->status != "done") std::abort();
    result.cpu_us = (cpu_seconds() - cpu) / steps * 1e6;
    result.wall_us = (wall_seconds() - wall) / steps * 1e6;
    result.bytes_open = bytes_below(folder, "journal.db");
    id = report->id;
  }
  result.bytes_closed = bytes_below(folder, "journal.db");
  {
    // The way of a resumed run: everything is read, checked and walked again.
    auto journal = Journal::open(folder);
    const double began = wall_seconds();
    auto report = replay_run(**journal, id, world);
    if (!report || report->status != "done") std::abort();
    result.resume_seconds = wall_seconds() - began;
    const double read = wall_seconds();
    if (!(*journal)->events(id)) std::abort();
    result.events_seconds = wall_seconds() - read;
  }
  std::filesystem::remove_all(folder);
  return result;
}

}  // namespace

int main(int count, char** words) {
  const int steps = count > 1 ? std::atoi(words[1]) : 5000;
  const auto plugin = echo();
  for (const char* sync : {"off", "step"}) {
    for (const char* tool : {"t.read_at_once", "t.write_at_once", "t.read", "t.write", "t.say"}) {
      const auto& more = std::string(tool) == "t.say" ? plugin : std::vector<std::shared_ptr<tools::Tool>>();
      std::vector<Measured> runs;
      for (int i = 0; i < 5; ++i) runs.push_back(measure(std::string(sync) == "off" ? steps : std::min(steps, 500), sync, tool, more));
      std::sort(runs.begin(), runs.end(), [](const auto& a, const auto& b) { return a.cpu_us < b.cpu_us; });
      const Measured& m = runs[2];
      std::printf("sync %-4s %-15s  %6.1f us CPU per step  %7.1f us  walked again in %.3f s (read and checked in %.3f s)\n", sync, tool, m.cpu_us, m.wall_us, m.resume_seconds, m.events_seconds);
    }
  }
  for (const char* tool : {"t.read", "t.write"}) {
    const Measured m = measure(200, "step", tool);
    std::printf("200 steps %-7s  %zu bytes while open, %zu closed\n", tool, m.bytes_open, m.bytes_closed);
  }
}
