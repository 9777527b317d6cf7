#include "inference/local_model.hpp"

#include "inference/constraint.hpp"
#include "inference/pooling.hpp"
#include "inference/sampler.hpp"

#include <chrono>
#include <cmath>

namespace kontor::inference {
namespace {

using Time = std::chrono::steady_clock;

double seconds_since(Time::time_point start) { return std::chrono::duration<double>(Time::now() - start).count(); }

/// Whether the token is markup by its id. DeepSeek's files type the call markers and think tags as user-defined, some
/// as normal tokens; one token with exactly that text is no text that merely looks like it.
bool is_markup(const Tokenizer& tokenizer, TokenId id) {
  const std::string_view text = tokenizer.piece(id);
  return tokenizer.is_control(id) || tokenizer.is_added(id) || text == "<think>" || text == "</think>";
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

void LocalModel::give_back(Session session) {
  session.publish();
  const std::lock_guard lock(mutex_);
  idle_ = std::move(session);
}

Result<Generation> LocalModel::generate(const GenerateRequest& request, const std::function<bool(const Piece&)>& sink) {
  const auto prompt = engine_->tokenizer().encode_segments(request.prompt);
  if (!prompt) return prompt.error();
  Generation out;
  const auto start = Time::now();
  Session session = take_session();
  const auto prefill = session.sync(*prompt, request.stop);
  if (!prefill) return prefill.error();
  out.usage.prompt_tokens_new = prefill->computed;
  out.usage.prompt_tokens_reused = prefill->reused;
  out.usage.prefill_seconds = seconds_since(start);
  if (prefill->stopped) {
    out.stop_reason = StopReason::cancelled;
    give_back(std::move(session));
    return out;
  }
  const auto decoding = Time::now();
  if (const auto done = decode(session, request, sink, out); !done) return done.error();
  out.usage.decode_seconds = seconds_since(decoding);
  give_back(std::move(session));
  return out;
}

/// Passes one token on. False: the output ends with it.
bool LocalModel::emit(TokenId id, float probability, const std::function<bool(const Piece&)>& sink, Generation& out) {
  const Tokenizer& tokenizer = engine_->tokenizer();
  out.tokens.push_back(id);
  if (tokenizer.is_end(id)) {
    out.stop_reason = StopReason::end_of_turn;
    return false;
  }
  const Piece piece{tokenizer.piece(id), is_markup(tokenizer, id), id, probability};
  out.text += piece.text;
  if (!sink || sink(piece)) return true;
  out.stop_reason = StopReason::stopped_by_sink;
  return false;
}

/// Appends what has to come anyway: one forward pass for all of it, none for an end of turn.
Result<bool> LocalModel::jump(Session& session, const GenerateRequest& request, int& left, const std::function<bool(const Piece&)>& sink,
                              Generation& out) {
  for (;;) {
    const auto forced = request.constraint->forced();
    if (forced.empty() || left <= 0) return left > 0;
    const std::vector<TokenId> tokens(forced.begin(),
                                      forced.begin() + std::min<std::ptrdiff_t>(left, std::ssize(forced)));
    std::vector<TokenId> timeline(session.tokens().begin(), session.tokens().end());
    bool more = true;
    for (const TokenId id : tokens) {
      if (const auto accepted = request.constraint->accept(id); !accepted) return accepted.error();
      ++out.usage.forced, --left;
      timeline.push_back(id);
      more = emit(id, 1.0f, sink, out);
      if (!more) break;
    }
    if (!more || left <= 0 || static_cast<std::int64_t>(timeline.size()) > engine_->context()) return false;
    const auto done = session.sync(timeline, request.stop);
    if (!done) return done.error();
    if (done->stopped) {
      out.stop_reason = StopReason::cancelled;
      return false;
    }
  }
}

Result<void> LocalModel::decode(Session& session, const GenerateRequest& request, const std::function<bool(const Piece&)>& sink,
                                Generation& out) {
  Sampler sampler(request.sampling);
  out.stop_reason = StopReason::length;
  TokenConstraint* const constraint = request.constraint.get();
  for (int left = request.max_tokens; left > 0;) {
    if (request.stop.stop_requested()) {
      out.stop_reason = StopReason::cancelled;
      return {};
    }
    if (constraint) {
      const auto more = jump(session, request, left, sink, out);
      if (!more) return more.error();
      if (!*more) return {};
      if (constraint->finished()) {
        out.stop_reason = StopReason::end_of_turn;
        return {};
      }
    }
    const auto mask = constraint ? constraint->mask() : std::span<const std::uint32_t>();
    const auto chosen = sampler.sample(session.logits(), session.tokens(), mask);
    if (!chosen) return chosen.error();
    ++out.usage.generated, --left;
    if (constraint) {
      if (const auto accepted = constraint->accept(chosen->id); !accepted) return accepted.error();
    }
    if (!emit(chosen->id, static_cast<float>(chosen->probability), sink, out) || left <= 0) return {};
    if (static_cast<std::int64_t>(session.tokens().size()) >= engine_->context()) return {};
    if (const auto done = session.append(chosen->id); !done) return done.error();
  }
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

Result<std::unique_ptr<TextModel>> open_local_model(const std::string& path, const LocalModelOptions& options) {
  EngineOptions engine_options;
  engine_options.backend.device = options.device;
  engine_options.backend.threads = options.threads;
  engine_options.context = options.context;
  auto engine = Engine::open(path, engine_options);
  if (!engine) return engine.error();
  return std::unique_ptr<TextModel>(std::make_unique<LocalModel>(std::move(*engine), options.tenant));
}

}  // namespace kontor::inference
