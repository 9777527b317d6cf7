#include "inference/local_model.hpp"

#include "inference/pooling.hpp"
#include "inference/scheduler.hpp"

#include <algorithm>
#include <cmath>

namespace kontor::inference {
namespace {

constexpr std::size_t kTimelinesKept = 64;

std::int64_t shared_length(std::span<const TokenId> a, std::span<const TokenId> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

/// What was computed ahead was computed for this turn.
void count_as_new(Usage& usage, const Prefilled& ahead, std::span<const TokenId> prompt) {
  const std::int64_t used = std::min(usage.prompt_tokens_reused, shared_length(ahead.tokens, prompt)) - ahead.from;
  if (used <= 0) return;
  usage.prompt_tokens_new += used;
  usage.prompt_tokens_reused -= used;
}

}  // namespace

LocalModel::LocalModel(std::shared_ptr<Engine> engine, const std::string& tenant)
    : engine_(std::move(engine)), cache_(engine_->prefix_cache(tenant)) {}

Session LocalModel::take_session() {
  const std::lock_guard lock(mutex_);
  if (!idle_) return Session(engine_, cache_);
  Session session = std::move(*idle_);
  idle_.reset();
  return session;
}

void LocalModel::give_back(Session session, std::span<const TokenId> prompt) {
  const std::lock_guard lock(mutex_);
  // A conversation that went on takes the place of what it was.
  std::erase_if(timelines_, [&](const Timeline& earlier) {
    return earlier.prompt <= prompt.size() && std::equal(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(earlier.prompt), earlier.tokens.begin());
  });
  if (timelines_.size() >= kTimelinesKept) timelines_.erase(timelines_.begin());
  const auto tokens = session.tokens();
  timelines_.push_back({{tokens.begin(), tokens.end()}, std::min(prompt.size(), tokens.size())});
  idle_ = std::move(session);
}

Prefilled LocalModel::prefill(const GenerateRequest& request, Prefilled before) {
  const auto prompt = engine_->tokenizer().encode_segments(request.earlier, request.prompt);
  if (!prompt) return before;
  const std::function<bool(const Piece&)> nobody;
  Generator generator(take_session(), *prompt, request, nobody, Generator::Until::prompt);
  if (const auto ran = engine_->scheduler().run(generator, this, request.stop); !ran) return before;
  const std::int64_t computed = generator.computed();
  const auto done = generator.result();
  if (!done) return before;
  const std::int64_t reused = done->usage.prompt_tokens_reused;
  Prefilled out;
  out.tokens.assign(prompt->begin(), prompt->begin() + static_cast<std::ptrdiff_t>(computed));
  out.from = before.tokens.empty() || shared_length(before.tokens, *prompt) < before.from ? reused : std::min(reused, before.from);
  const std::lock_guard lock(mutex_);
  idle_ = generator.release();
  return out;
}

Result<Generation> LocalModel::generate(const GenerateRequest& request, const std::function<bool(const Piece&)>& sink) {
  const auto prompt = engine_->tokenizer().encode_segments(request.earlier, request.prompt);
  if (!prompt) return prompt.error();
  Generator generator(take_session(), *prompt, request, sink);
  if (const auto ran = engine_->scheduler().run(generator, this, request.stop); !ran) return ran.error();
  auto generation = generator.result();
  if (generation && request.ahead) count_as_new(generation->usage, *request.ahead, *prompt);
  if (generation) give_back(generator.release(), *prompt);
  return generation;
}

Result<void> LocalModel::save_state(const std::string& path) {
  std::vector<std::vector<TokenId>> timelines;
  {
    const std::lock_guard lock(mutex_);
    for (const Timeline& timeline : timelines_) timelines.push_back(timeline.tokens);
  }
  const std::vector<PrefixCache::Entry> entries = cache_->entries(timelines);
  return save_snapshot(path, engine_->snapshot_key(), entries);
}

Result<void> LocalModel::load_state(const std::string& path) {
  const auto entries = load_snapshot(path, [&] { return engine_->snapshot_key(); }, cache_->limit_bytes(),
                                     [&](std::span<const std::byte> content) { return engine_->load_page(content); });
  if (!entries) return entries.error();
  cache_->insert(*entries);
  return {};
}

Result<std::vector<float>> LocalModel::embed(std::string_view text) {
  const std::vector<TokenId> tokens = engine_->tokenizer().encode_with_ends(text, false);
  if (tokens.empty()) return fail(Errc::usage, "there is nothing to embed in an empty text", "empty_prompt");
  const auto states = engine_->hidden_states(tokens);
  if (!states) return states.error();
  const auto pooling = read_pooling(engine_->file());
  if (!pooling) return pooling.error();
  std::vector<float> result = pool(*pooling, *states, engine_->config().width);
  double square = 0;
  for (const float x : result) square += double{x} * double{x};
  if (!std::isfinite(square) || square == 0)
    return fail(Errc::internal, "the model computed values that are not numbers", "nonfinite_logits");
  for (float& x : result) x = static_cast<float>(double{x} / std::sqrt(square));
  return result;
}

std::int64_t LocalModel::count_tokens(std::string_view text) const {
  return static_cast<std::int64_t>(engine_->tokenizer().encode(text, false).size());
}

Result<std::unique_ptr<TextModel>> open_local_model(const std::string& path, const LocalModelOptions& options, EnginePool* pool) {
  EngineOptions engine_options;
  engine_options.backend.device = options.device;
  engine_options.backend.threads = options.threads;
  engine_options.backend.kv = options.kv;
  engine_options.context = options.context;
  auto engine = pool ? pool->open(path, engine_options) : Engine::open(path, engine_options);
  if (!engine) return engine.error();
  return std::unique_ptr<TextModel>(std::make_unique<LocalModel>(std::move(*engine), options.tenant));
}

}  // namespace kontor::inference
