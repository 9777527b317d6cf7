#include "inference/scheduler.hpp"

#include <algorithm>
#include <exception>
#include <new>
#include <string>

namespace kontor::inference {
namespace {

/// Prompts that share less than this do not wait for one another.
constexpr std::int64_t kWorthWaiting = 16;

}  // namespace

Scheduler::Scheduler(Engine& engine, const SchedulerOptions& options) : engine_(engine), options_(options) {}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_there_.notify_all();
}

Result<void> Scheduler::run(Generator& generator, const void* owner, std::stop_token stop) {
  Job job{&generator, stop};
  std::unique_lock lock(mutex_);
  if (waiting_ >= options_.waiting_most)
    return fail(Errc::limit, std::to_string(waiting_) + " generations wait for this model already", "queue_full");
  auto line = std::find_if(lines_.begin(), lines_.end(), [&](const Line& l) { return l.owner == owner; });
  if (line == lines_.end()) line = lines_.insert(lines_.end(), Line{owner, {}});
  line->jobs.push_back(&job);
  ++waiting_;
  if (!thread_.joinable()) thread_ = std::jthread([this] { work(); });
  work_there_.notify_all();
  job_done_.wait(lock, [&] { return job.done; });
  return {};
}

void Scheduler::work() {
  while (admit()) {
    for (Job* job : active_)
      if (job->stop.stop_requested() && !job->generator->over()) job->generator->cancel();
    retire();
    if (auto jobs = plan(); !jobs.empty()) pass(std::move(jobs));
    retire();
  }
}

/// Waits for work and takes in what there is room for, one of each owner in turn. False: the end.
bool Scheduler::admit() {
  std::vector<Job*> fresh;
  {
    std::unique_lock lock(mutex_);
    work_there_.wait(lock, [&] { return stopping_ || waiting_ > 0 || !active_.empty(); });
    if (stopping_) return false;
    while (waiting_ > 0 && active_.size() + fresh.size() < options_.active_most) {
      Line& line = lines_.front();
      fresh.push_back(line.jobs.front());
      line.jobs.pop_front();
      --waiting_;
      if (line.jobs.empty()) lines_.pop_front();
      else lines_.splice(lines_.end(), lines_, lines_.begin());
    }
    // Who is stopped while waiting does not wait on.
    for (auto line = lines_.begin(); line != lines_.end();) {
      const auto stopped = std::stable_partition(line->jobs.begin(), line->jobs.end(), [](const Job* job) { return !job->stop.stop_requested(); });
      waiting_ -= static_cast<std::size_t>(line->jobs.end() - stopped);
      fresh.insert(fresh.end(), stopped, line->jobs.end());
      line->jobs.erase(stopped, line->jobs.end());
      line = line->jobs.empty() ? lines_.erase(line) : std::next(line);
    }
  }
  for (Job* job : fresh) start(*job);
  return true;
}

/// What sinks and constraints throw ends the generation they belong to, not the others.
template <class Body>
void Scheduler::guarded(Job& job, const Body& body) {
  try {
    body();
  } catch (const std::bad_alloc&) {
    job.generator->fail(kontor::fail(Errc::memory, "no memory left while generating", "out_of_memory"));
  } catch (const std::exception& error) {
    job.generator->fail(kontor::fail(Errc::internal, std::string("while generating: ") + error.what(), "sink_failed"));
  }
}

void Scheduler::start(Job& job) {
  active_.push_back(&job);
  if (job.stop.stop_requested()) return job.generator->cancel();
  guarded(job, [&] {
    if (const auto ready = job.generator->reuse(); !ready) job.generator->fail(ready.error());
  });
}

/// Lets go of those that are over.
void Scheduler::retire() {
  const auto over = std::stable_partition(active_.begin(), active_.end(), [](const Job* job) { return !job->generator->over(); });
  if (over == active_.end()) return;
  {
    const std::lock_guard lock(mutex_);
    for (auto job = over; job != active_.end(); ++job) (*job)->done = true;
  }
  active_.erase(over, active_.end());
  job_done_.notify_all();
}

/// Whether an older generation is computing a longer part of this one's prompt right now: nothing is computed twice.
bool Scheduler::waits_for_prefix(std::size_t index) const {
  const Generator& own = *active_[index]->generator;
  for (std::size_t i = 0; i < index; ++i) {
    const Generator& other = *active_[i]->generator;
    if (!other.prefilling()) continue;
    const std::int64_t shared = std::min(own.shared_prompt(other), own.prompt_left() + own.computed() - 1);
    if (shared >= own.computed() + kWorthWaiting && shared > other.computed()) return true;
  }
  return false;
}

/// Who takes part in the next pass, and with what. Decoders first: each brings one token, and guesses where few decode.
std::vector<Scheduler::Job*> Scheduler::plan() {
  std::vector<Job*> decoding, prompts;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    Job* job = active_[i];
    if (!job->generator->prefilling()) {
      decoding.push_back(job);
    } else if (!waits_for_prefix(i)) {
      guarded(*job, [&] {
        if (const auto again = job->generator->reuse(); !again) job->generator->fail(again.error());
      });
      if (!job->generator->over()) prompts.push_back(job);
    }
  }
  std::int64_t rows = options_.rows_most;
  const std::int64_t guesses = decoding.empty() ? 0 : options_.guess_rows / static_cast<std::int64_t>(decoding.size());
  std::vector<Job*> jobs;
  for (Job* job : decoding) {
    guarded(*job, [&] { job->work = job->generator->next(std::max<std::int64_t>(1, rows / static_cast<std::int64_t>(decoding.size())), guesses); });
    if (job->generator->over()) continue;
    rows -= static_cast<std::int64_t>(job->work.tokens.size());
    jobs.push_back(job);
  }
  std::int64_t budget = std::min(rows, decoding.empty() ? options_.prompt_rows : options_.shared_prompt_rows);
  for (std::size_t i = 0; i < prompts.size() && budget > 0; ++i) {
    Job* job = prompts[(turn_ + i) % prompts.size()];
    const auto left = static_cast<std::int64_t>(prompts.size() - i);
    job->work = job->generator->next((budget + left - 1) / left, 0);
    budget -= static_cast<std::int64_t>(job->work.tokens.size());
    jobs.push_back(job);
  }
  ++turn_;
  return jobs;
}

void Scheduler::pass(std::vector<Job*> jobs) {
  const auto width = static_cast<std::size_t>(engine_.config().vocabulary);
  std::size_t rows = 0;
  for (Job* job : jobs) {
    job->row_count = job->work.output == Output::none ? 0 : job->work.output == Output::last_logits ? 1 : static_cast<std::int64_t>(job->work.tokens.size());
    rows += static_cast<std::size_t>(job->row_count);
  }
  try {
    if (logits_.size() < rows * width) logits_.resize(rows * width);
  } catch (const std::bad_alloc&) {
    for (Job* job : jobs) job->generator->fail(kontor::fail(Errc::memory, "no memory left for logits", "out_of_memory"));
    return;
  }
  // One after the other in memory: the output matrix is read once for all of them.
  float* at = logits_.data();
  for (Job* job : jobs) job->rows = at, at += static_cast<std::size_t>(job->row_count) * width;
  if (const auto done = forward(jobs); !done) {
    // All or none: what is wrong with one of them must not end the others.
    for (Job*& job : jobs) {
      if (const auto alone = jobs.size() == 1 ? done : forward(std::span(&job, 1)); !alone) {
        job->generator->fail(alone.error());
        job = nullptr;
      }
    }
  }
  for (Job* job : jobs)
    if (job) guarded(*job, [&] { job->generator->take({job->rows, static_cast<std::size_t>(job->row_count) * width}); });
}

Result<void> Scheduler::forward(std::span<Job* const> jobs) {
  std::vector<Extension> extensions;
  for (Job* job : jobs) extensions.push_back(job->generator->extension(job->work, job->rows));
  return engine_.forward(extensions);
}

}  // namespace kontor::inference
