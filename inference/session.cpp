#include "inference/session.hpp"

#include <algorithm>

namespace kontor::inference {
namespace {

/// Tokens between two looks at the stop token: a few hundred milliseconds on a small machine.
constexpr std::size_t kChunk = 128;

}  // namespace

Session::Session(std::shared_ptr<Engine> engine) : engine_(std::move(engine)), sequence_(engine_->create_sequence()) {}

void Session::roll_back(std::size_t length) {
  if (length >= tokens_.size()) return;
  sequence_->truncate(static_cast<std::int64_t>(length));
  tokens_.resize(length);
  logits_.clear();
}

void Session::clear() { roll_back(0); }

Result<Session::Prefill> Session::sync(std::span<const TokenId> tokens, std::stop_token stop) {
  if (tokens.empty()) return fail(Errc::usage, "a prompt needs at least one token", "empty_prompt");
  if (static_cast<std::int64_t>(tokens.size()) > engine_->context())
    return fail(Errc::limit, "a prompt of " + std::to_string(tokens.size()) + " tokens does not fit into the context of " +
                std::to_string(engine_->context()), "context_full");
  const auto common = std::mismatch(tokens.begin(), tokens.end(), tokens_.begin(), tokens_.end()).first;
  auto reused = static_cast<std::size_t>(common - tokens.begin());
  // Without logits for the last token, that token is computed again.
  if (reused == tokens.size() && !(tokens_.size() == reused && !logits_.empty())) --reused;
  roll_back(reused);
  Prefill result{0, static_cast<std::int64_t>(reused), false};
  for (std::size_t at = reused; at < tokens.size();) {
    if (stop.stop_requested()) {
      result.stopped = true;
      return result;
    }
    const std::size_t n = std::min(kChunk, tokens.size() - at);
    const bool last = at + n == tokens.size();
    if (last) logits_.resize(static_cast<std::size_t>(engine_->config().vocabulary));
    else logits_.clear();
    const Extension extension{sequence_.get(), tokens.subspan(at, n), last ? Output::last_logits : Output::none, logits_.data()};
    if (const auto done = engine_->forward(std::span(&extension, 1)); !done) {
      logits_.clear();
      return done.error();
    }
    tokens_.insert(tokens_.end(), tokens.begin() + static_cast<std::ptrdiff_t>(at), tokens.begin() + static_cast<std::ptrdiff_t>(at + n));
    at += n;
    result.computed += static_cast<std::int64_t>(n);
  }
  return result;
}

Result<void> Session::append(TokenId token) {
  if (static_cast<std::int64_t>(tokens_.size()) >= engine_->context())
    return fail(Errc::limit, "the context of " + std::to_string(engine_->context()) + " tokens is full", "context_full");
  logits_.resize(static_cast<std::size_t>(engine_->config().vocabulary));
  const Extension extension{sequence_.get(), std::span(&token, 1), Output::last_logits, logits_.data()};
  if (const auto done = engine_->forward(std::span(&extension, 1)); !done) {
    logits_.clear();
    return done.error();
  }
  tokens_.push_back(token);
  return {};
}

}  // namespace kontor::inference
