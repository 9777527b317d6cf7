// Sampling beside the logits: masks go up as bits, the best tokens come down.

#include "inference/cuda/stage.hpp"
#include "inference/shortlist.hpp"

namespace kontor::inference::cuda {

static_assert(kShortlistLength == Shortlist::kMost);

/// `rows`: those whose logits were just computed.
void Stage::start_shortlists(std::span<const Row* const> rows) {
  if (std::none_of(rows.begin(), rows.end(), [](const Row* row) { return row->shortlist; })) return;
  Workspace& w = work_;
  const auto n = static_cast<std::int64_t>(rows.size()), words = (config_.vocabulary + 31) / 32;
  std::vector<std::int32_t> masked(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i]->shortlist || rows[i]->shortlist->mask.empty()) continue;
    masked[i] = 1;
    std::span<const std::uint32_t> mask = rows[i]->shortlist->mask;
    if (static_cast<std::int64_t>(mask.size()) < words) {  // What the mask does not reach it forbids.
      w.mask_row.assign(mask.begin(), mask.end());
      w.mask_row.resize(static_cast<std::size_t>(words));
      mask = w.mask_row;
    }
    device_->copy_in(w.masks.as<std::uint32_t>() + static_cast<std::int64_t>(i) * words, mask.data(), static_cast<std::uint64_t>(words) * 4);
  }
  device_->copy_in(w.masked.data(), masked.data(), masked.size() * 4);
  ShortlistWork work;
  work.vocabulary = config_.vocabulary;
  work.pieces = shortlist_pieces(config_.vocabulary);
  work.chunks = shortlist_chunks(config_.vocabulary);
  work.mask_words = words;
  work.masked = w.masked.as<const std::int32_t>();
  work.masks = w.masks.as<const std::uint32_t>();
  work.lists[0] = w.lists.as<std::uint64_t>();
  work.lists[1] = w.other_lists.as<std::uint64_t>();
  work.seen = w.seen.as<ShortlistSeen>();
  work.sums = w.sums_of_logits.as<float>();
  work.results = w.results.as<ShortlistResult>();
  device_->start_clock();
  find_shortlists(w.logits.as<const float>(), n, work, device_->stream());
  device_->stop_clock();
  w.received.resize(rows.size());
  device_->copy_out(w.received.data(), w.results.data(), rows.size() * sizeof(ShortlistResult));
}

/// After wait(). Rows whose draw may fall outside the list get their logits after all.
Result<void> Stage::take_shortlists(std::span<const Row* const> rows) {
  bool late = false;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i]->shortlist) continue;
    Shortlist& list = *rows[i]->shortlist;
    const ShortlistResult& from = work_.received[i];
    list.best.clear();
    for (int k = 0; k < kShortlistLength && from.ids[k] >= 0; ++k) list.best.push_back({from.logits[k], from.ids[k]});
    list.finite = from.bad == 0 && !list.best.empty();
    list.total = from.total;
    list.all_top = from.all_top;
    list.all_total = from.all_total;
    list.filled = list.enough();
    if (list.filled) continue;
    late = true;
    device_->copy_out(rows[i]->logits, work_.logits.as<float>() + static_cast<std::int64_t>(i) * config_.vocabulary,
                      static_cast<std::uint64_t>(config_.vocabulary) * 4);
  }
  return late ? device_->wait() : Result<void>();
}

}  // namespace kontor::inference::cuda
