#include "inference/shortlist.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

namespace kontor::inference {
namespace {

double share(const Shortlist& list, std::size_t i) { return std::exp(double{list.best[i].logit} - double{list.best[0].logit}); }

/// How many of the best top-k and top-p leave; nothing where the list ends before top-p does.
std::optional<std::size_t> truncated(const Shortlist& list, const Sampling& settings) {
  const bool all = list.best.size() < Shortlist::kMost;  // Nothing else may be drawn.
  std::size_t count = list.best.size();
  double total = list.total;
  if (settings.top_k > 0) {
    count = std::min(count, static_cast<std::size_t>(settings.top_k));
    total = 0;
    for (std::size_t i = 0; i < count; ++i) total += share(list, i);
  }
  if (settings.top_p < 1.0f) {
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
      sum += share(list, i) / total;
      if (sum >= double{settings.top_p}) return i + 1;
    }
  }
  if (all || (settings.top_k > 0 && static_cast<std::size_t>(settings.top_k) <= Shortlist::kMost)) return count;
  return std::nullopt;
}

/// What is left to do once truncation by rank and share is done.
Sampling behind_truncation(Sampling settings) {
  settings.top_k = 0;
  settings.top_p = 1.0f;
  settings.penalty_last_n = 0;
  return settings;
}

}  // namespace

bool suits_shortlist(const Sampling& s) {
  const bool neutral = s.repeat_penalty == 1.0f && s.frequency_penalty == 0.0f && s.presence_penalty == 0.0f;
  if (s.penalty_last_n > 0 && !neutral) return false;
  if (s.temperature <= 0) return true;
  if (s.top_k > 0) return static_cast<std::size_t>(s.top_k) <= Shortlist::kMost;
  return s.top_p < 1.0f || s.min_p > 0;
}

bool Shortlist::enough() const {
  if (!finite || settings.temperature <= 0 || best.size() < kMost) return true;
  if (truncated(*this, settings)) return true;
  // Without top-p, what min-p excludes need not be known.
  return settings.top_k <= 0 && !(settings.top_p < 1.0f) && settings.min_p > 0 &&
         best.back().logit < static_cast<float>(double{best[0].logit} + std::log(double{settings.min_p}));
}

TokenChooser::TokenChooser(const Sampling& settings) : rows_(settings), lists_(behind_truncation(settings)) {}

Result<Candidate> TokenChooser::sample(std::span<const float> logits, std::span<const TokenId> history, std::span<const std::uint32_t> mask) {
  const float one = 0;
  (void)lists_.sample(std::span(&one, 1), {});
  return rows_.sample(logits, history, mask);
}

Result<Candidate> TokenChooser::sample(const Shortlist& list) {
  const float one = 0;
  (void)rows_.sample(std::span(&one, 1), {});
  kept_.clear();
  if (list.finite) {
    const std::size_t count = settings().temperature <= 0 ? 1 : truncated(list, settings()).value_or(list.best.size());
    for (std::size_t i = 0; i < count; ++i) kept_.push_back(list.best[i].logit);
  }
  // Places in the list stand for the tokens: equal logits keep their order.
  auto chosen = lists_.sample(kept_, {});
  if (!chosen) return chosen.error();
  const Scored& entry = list.best[static_cast<std::size_t>(chosen->id)];
  chosen->id = entry.id;
  chosen->probability = std::exp(double{entry.logit} - double{list.all_top}) / list.all_total;
  return chosen;
}

}  // namespace kontor::inference
