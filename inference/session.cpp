#include "inference/session.hpp"

#include <algorithm>

namespace kontor::inference {
namespace {

/// Tokens between two looks at the stop token: a few hundred milliseconds on a small machine.
constexpr std::size_t kChunk = 128;

}  // namespace

Session::Session(std::shared_ptr<Engine> engine, std::shared_ptr<PrefixCache> cache)
    : engine_(std::move(engine)), cache_(std::move(cache)), sequence_(engine_->create_sequence()) {}

void Session::roll_back(std::size_t length) {
  if (length >= tokens_.size()) return;
  sequence_->truncate(static_cast<std::int64_t>(length));
  tokens_.resize(length);
  logits_.clear();
}

void Session::commit(std::span<const TokenId> tokens, std::span<const float> logits) {
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  logits_.assign(logits.begin(), logits.end());
}

void Session::publish() const {
  if (cache_ && !tokens_.empty()) cache_->insert(tokens_, sequence_->pages());
}

Session Session::fork() const {
  Session other(engine_, cache_);
  other.sequence_ = sequence_->fork();
  other.tokens_ = tokens_;
  other.logits_ = logits_;
  return other;
}

Result<std::int64_t> Session::reuse(std::span<const TokenId> tokens) {
  if (tokens.empty()) return fail(Errc::usage, "a prompt needs at least one token", "empty_prompt");
  if (static_cast<std::int64_t>(tokens.size()) > engine_->context())
    return fail(Errc::limit, "a prompt of " + std::to_string(tokens.size()) + " tokens does not fit into the context of " +
                std::to_string(engine_->context()), "context_full");
  const auto common = std::mismatch(tokens.begin(), tokens.end(), tokens_.begin(), tokens_.end()).first;
  auto reused = static_cast<std::size_t>(common - tokens.begin());
  if (reused == tokens.size() && tokens_.size() == reused && !logits_.empty()) return static_cast<std::int64_t>(reused);
  // Without logits for the last token, that token is computed again.
  const auto wanted = tokens.first(tokens.size() - 1);
  reused = std::min(reused, wanted.size());
  if (cache_ && cache_->match_length(wanted) > static_cast<std::int64_t>(reused)) {
    const PrefixCache::Match match = cache_->find(wanted);  // May have shrunk meanwhile.
    if (match.length > static_cast<std::int64_t>(reused)) {
      sequence_->adopt(match.pages, match.length);
      reused = static_cast<std::size_t>(match.length);
      tokens_.assign(tokens.begin(), tokens.begin() + match.length);
      logits_.clear();
    }
  }
  roll_back(reused);
  return static_cast<std::int64_t>(reused);
}

Result<Session::Prefill> Session::sync(std::span<const TokenId> tokens, std::stop_token stop) {
  const auto reused = reuse(tokens);
  if (!reused) return reused.error();
  Prefill result{0, *reused, false};
  std::vector<float> logits;
  for (auto at = static_cast<std::size_t>(*reused); at < tokens.size();) {
    if (stop.stop_requested()) {
      result.stopped = true;
      return result;
    }
    const auto part = tokens.subspan(at, std::min(kChunk, tokens.size() - at));
    at += part.size();
    const bool last = at == tokens.size();
    if (last) logits.resize(static_cast<std::size_t>(engine_->config().vocabulary));
    const Extension next = extension(part, last ? Output::last_logits : Output::none, logits.data());
    if (const auto done = engine_->forward(std::span(&next, 1)); !done) {
      logits_.clear();
      return done.error();
    }
    commit(part, logits);
    result.computed += static_cast<std::int64_t>(part.size());
  }
  publish();
  return result;
}

Result<void> Session::append(TokenId token) {
  if (static_cast<std::int64_t>(tokens_.size()) >= engine_->context())
    return fail(Errc::limit, "the context of " + std::to_string(engine_->context()) + " tokens is full", "context_full");
  logits_.resize(static_cast<std::size_t>(engine_->config().vocabulary));
  const Extension next = extension(std::span(&token, 1), Output::last_logits, logits_.data());
  if (const auto done = engine_->forward(std::span(&next, 1)); !done) {
    logits_.clear();
    return done.error();
  }
  tokens_.push_back(token);
  return {};
}

}  // namespace kontor::inference
