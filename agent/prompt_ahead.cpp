#include "agent/prompt_ahead.hpp"

#include "inference/tokenizer.hpp"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace kontor::agent {
namespace {

/// Less than this, or than this share of what is known, a pass over the weights costs more than it saves.
constexpr std::size_t kWorthwhileBytes = 256, kWorthwhileShare = 8;
constexpr std::size_t kPartialBytesMax = 1u << 20;

}  // namespace

struct PromptAhead::Shared : std::enable_shared_from_this<Shared> {
  Shared(inference::TextModel& computes, Conversation of) : model(computes), conversation(std::move(of)) {}

  inference::TextModel& model;
  const Conversation conversation;
  std::mutex mutex;
  std::condition_variable_any changed;
  std::vector<Message> results;
  std::optional<Message> partial;   ///< The result behind those, as far as it is known.
  std::size_t version = 0;          ///< Grows with both.
  bool over = false;
  inference::Prefilled prefilled;
  std::jthread thread;

  /// Under the mutex: there is more to compute.
  void grown() {
    ++version;
    changed.notify_all();
    if (thread.joinable()) return;
    thread = std::jthread([self = shared_from_this()](std::stop_token stop) {
      try {
        self->work(std::move(stop));
      } catch (const std::exception&) {
        // No memory, say: the turn that comes meets it again, and says so.
      }
    });
  }
  void work(std::stop_token stop);
};

PromptAhead::PromptAhead(inference::TextModel& model, Conversation conversation) : shared_(std::make_shared<Shared>(model, std::move(conversation))) {}

PromptAhead::~PromptAhead() { take(); }

void PromptAhead::result(Message message) {
  const std::lock_guard lock(shared_->mutex);
  shared_->results.push_back(std::move(message));
  shared_->partial.reset();
  shared_->grown();
}

std::function<void(std::string_view)> PromptAhead::partial_of(Message message) {
  std::size_t place = 0;
  {
    const std::lock_guard lock(shared_->mutex);
    place = shared_->results.size();
  }
  return [shared = shared_, message = std::move(message), place](std::string_view text) {
    const std::lock_guard lock(shared->mutex);
    const std::size_t known = shared->partial ? shared->partial->content.size() : 0;
    if (shared->over || shared->results.size() != place || text.size() > kPartialBytesMax) return;
    if (text.size() < known + std::max(kWorthwhileBytes, known / kWorthwhileShare)) return;
    shared->partial = message;
    shared->partial->content = text;
    shared->grown();
  };
}

inference::Prefilled PromptAhead::take() {
  std::jthread thread;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->over = true;
    thread = std::move(shared_->thread);
  }
  thread.request_stop();
  if (thread.joinable()) thread.join();
  return std::exchange(shared_->prefilled, {});
}

void PromptAhead::Shared::work(std::stop_token stop) {
  const auto* tokenizer = model.tokenizer();
  const RollingPrompt::Encode encode = [tokenizer](std::span<const inference::Segment> segments) { return tokenizer->encode_segments(segments); };
  std::size_t seen = 0;
  std::unique_lock lock(mutex);
  for (;;) {
    if (!changed.wait(lock, stop, [&] { return version != seen; }) || stop.stop_requested()) return;
    seen = version;
    const std::vector<Message> known = results;
    const std::optional<Message> begun = partial;
    inference::Prefilled before = std::exchange(prefilled, {});
    lock.unlock();
    auto rendered = conversation.prompt->ahead(conversation.dialect, *conversation.messages, known, begun ? &*begun : nullptr, *conversation.tools, encode);
    if (rendered) {
      inference::GenerateRequest request;
      request.earlier = rendered->earlier;
      request.prompt = std::move(rendered->segments);
      request.stop = stop;
      before = model.prefill(request, std::move(before));
    }
    lock.lock();
    prefilled = std::move(before);
    if (!rendered) return;  // The turn that comes says what is wrong.
  }
}

}  // namespace kontor::agent
