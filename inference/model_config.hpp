#pragma once
// What a model file says about its decoder, checked before anything is computed from it.

#include "base/error.hpp"
#include "inference/weight_file.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// Which two values of a head turn together: (2i, 2i+1) or (i, i + n/2).
enum class RopePairs {
  none,
  adjacent,
  halves,
  halves_to_adjacent,  ///< Projected as halves, kept as adjacent pairs: llama weights whose rows were not reordered.
};

/// What distinguishes the architectures that the decoder computes. Biases, norms of queries and keys, a separate output
/// matrix, positions as vectors and the kind of feed-forward are recognised by their tensors and need no entry here.
struct Architecture {
  std::string_view name;  ///< general.architecture
  RopePairs rope_pairs;
  bool latent = false;    ///< Multi-head latent attention.
  bool experts = false;   ///< Layers behind the leading dense ones choose among experts.
  bool encoder = false;   ///< BERT family: every token sees all, layer norms behind each step, states instead of logits.
};

/// Null where the decoder does not know the architecture.
const Architecture* find_architecture(std::string_view name);

/// Rotary position embedding, ready to use: angle of pair i at position p is p * frequencies[i].
struct Rope {
  int dimensions = 0;               ///< Values that are rotated: the leading ones of a head, with latent attention the last; even.
  std::vector<double> frequencies;  ///< dimensions / 2, with every scaling applied.
  float magnitude = 1.0f;           ///< Factor on cosine and sine (YaRN).
  float score_factor = 1.0f;        ///< Factor on attention scores (YaRN with latent attention).
};

/// Multi-head latent attention (DeepSeek-V2, 2024): keys and values of all heads are projections of one latent vector.
/// The cache holds the latent and the rotated part, which all heads share; queries are projected into the latent space.
struct LatentShape {
  std::int64_t query_rank = 0;  ///< 0: queries come directly from the state.
  std::int64_t rank = 0;        ///< Of the latent vector; 0: ordinary attention.
  std::int64_t plain = 0;       ///< Leading values of a head that are not rotated.
  std::int64_t rotary = 0;      ///< Values behind them that are.
  std::int64_t value = 0;       ///< Of a head.
};

/// Mixture of experts: each token is computed by the `used` experts that the router scores highest.
struct ExpertShape {
  std::int64_t count = 0;          ///< 0: dense.
  std::int64_t used = 0;
  std::int64_t feed_forward = 0;   ///< Of one expert.
  std::int64_t shared = 0;         ///< Feed-forward width of the experts that every token takes; 0: none.
  std::int64_t first_layer = 0;    ///< Layers before it are dense.
  std::int64_t groups = 1;         ///< Experts form groups of equal size,
  std::int64_t groups_used = 1;    ///< of which only the best are considered.
  std::int64_t group_leaders = 2;  ///< A group is as good as its best two experts together; DeepSeek-V2: its best one.
  bool sigmoid = false;            ///< Scores are sigmoids, else a softmax over all experts.
  bool normalize = false;          ///< The chosen scores are divided by their sum.
  float scale = 1.0f;              ///< Factor on the chosen scores.
};

struct ModelConfig {
  const Architecture* architecture = nullptr;
  RopePairs rope_pairs = RopePairs::none;  ///< The architecture's, unless the file's rows are ordered otherwise.
  std::string name;           ///< general.name, or the file's name.
  std::int64_t layers = 0;
  std::int64_t width = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  ///< Divides `heads`. With latent attention 1: the cache holds one key and value for all.
  std::int64_t key_length = 0;    ///< Of a head in the cache; with latent attention rank + rotary.
  std::int64_t value_length = 0;  ///< Accordingly; with latent attention the rank.
  float attention_scale = 0;      ///< Factor on the scores before the softmax.
  std::int64_t feed_forward = 0;
  std::int64_t vocabulary = 0;
  std::int64_t context = 0;   ///< As the file says; memory is taken by use.
  float norm_epsilon = 0;
  Rope rope;
  LatentShape latent;
  ExpertShape experts;

  bool is_expert_layer(std::int64_t layer) const { return experts.count > 0 && layer >= experts.first_layer; }
};

/// Reads and checks the metadata. Errors are malformed, unsupported or limit with the kinds missing_key,
/// wrong_key_type, unsupported_arch, bad_hparam, missing_split, shape_mismatch, bad_tensor_type, limit_exceeded.
Result<ModelConfig> read_model_config(const WeightFile& file);

}  // namespace kontor::inference
