#pragma once
// Many generations at once: one thread owns the forward passes of an engine, and every pass carries the next tokens of
// all generations in progress. Weights are read once for all of them, which is what decoding waits for.

#include "base/error.hpp"
#include "inference/generator.hpp"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

namespace kontor::inference {

struct SchedulerOptions {
  std::size_t active_most = 64;      ///< Generations that share a pass; more wait.
  std::size_t waiting_most = 1024;   ///< More are refused.
  std::int64_t rows_most = 256;      ///< Tokens in a pass.
  std::int64_t prompt_rows = 128;    ///< Prompt tokens in a pass where nobody decodes: the time until a stop is seen.
  std::int64_t shared_prompt_rows = 64;  ///< Prompt tokens in a pass where others decode: what these wait at most.
  std::int64_t guess_rows = 24;      ///< Guessed tokens in a pass, over all generations.
};

/// Thread-safe. Sinks and constraints are called on the scheduler's thread while the caller of run() waits; a sink that
/// takes long holds up everyone.
class Scheduler {
 public:
  /// `engine` must outlive it.
  explicit Scheduler(Engine& engine, const SchedulerOptions& options = {});
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Brings the generation to its end; blocks. Generations of different owners (any address) get their turn alternately
  /// where many wait. Errors: limit (kind queue_full). All others are in Generator::result().
  Result<void> run(Generator& generator, const void* owner, std::stop_token stop);

 private:
  struct Job {
    Generator* generator;
    std::stop_token stop;
    bool done = false;
    // Of the pass in progress:
    Generator::Work work;
    float* rows = nullptr;
    std::int64_t row_count = 0;
  };
  struct Line {  ///< Those of one owner that wait.
    const void* owner;
    std::deque<Job*> jobs;
  };

  void work();
  bool admit();
  void start(Job& job);
  template <class Body>
  static void guarded(Job& job, const Body& body);
  void retire();
  bool waits_for_prefix(std::size_t index) const;
  std::vector<Job*> plan();
  void pass(std::vector<Job*> jobs);
  Result<void> forward(std::span<Job* const> jobs);

  Engine& engine_;
  const SchedulerOptions options_;
  std::mutex mutex_;
  std::condition_variable work_there_, job_done_;
  std::list<Line> lines_;            ///< Owners with waiting jobs; whose turn it is stands first.
  std::size_t waiting_ = 0;
  bool stopping_ = false;
  std::vector<Job*> active_;         ///< Oldest first. Used by the thread alone, like all below.
  std::size_t turn_ = 0;             ///< Rotates who gets prompt tokens first.
  std::vector<float> logits_;
  std::jthread thread_;
};

}  // namespace kontor::inference
