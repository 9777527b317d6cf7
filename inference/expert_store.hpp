#pragma once
// Internal: experts of a model that does not fit into memory. Weights stay in the mapped file and are converted tile by
// tile when they are used; the experts used most are kept packed, up to a limit.

#include "inference/decoder.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace kontor::inference {

/// Where a decoder's experts are. With room for all of them they are packed when the model is loaded. Otherwise an expert
/// is used from the file, and takes the place of a packed one once it has been used more often of late. What an expert
/// computes does not depend on where it is. Used by the decoder's thread.
class Decoder::ExpertStore {
 public:
  /// `needed_bytes`: of all experts, packed. `limit_bytes`: most that may be packed; 0: 60 % of what the machine has
  /// free. `uses_per_token`: experts that a token takes in all layers.
  ExpertStore(std::uint64_t needed_bytes, std::uint64_t limit_bytes, std::int64_t uses_per_token);

  /// Whether all experts are packed at load.
  bool all_resident() const { return all_resident_; }

  /// Asks the system to read the experts' weights ahead of their use.
  static void read_ahead(const ExpertWeights& weights, std::span<const std::int32_t> experts);
  /// Drops the pages of an expert's weights from this process; the system may keep them cached.
  static void release(const ExpertWeights& weights, std::int32_t expert);

  /// The expert's matrices for one use, packed or mapped.
  const FeedForward& use(ExpertWeights& weights, std::int32_t expert, bool as_f32, cpu::ThreadPool& pool);

  ExpertUse counts;

 private:
  struct Held {
    ExpertWeights* weights;
    std::int32_t expert;
    std::uint64_t bytes;
  };
  /// How much an expert was used of late: a use counts half some tokens later.
  double score(const ExpertWeights& weights, std::int32_t expert) const;
  bool make_room(std::uint64_t bytes, double score);

  std::uint64_t limit_;
  double half_life_;  ///< In uses.
  bool all_resident_;
  std::int64_t clock_ = 0;
  std::vector<Held> held_;
};

}  // namespace kontor::inference
