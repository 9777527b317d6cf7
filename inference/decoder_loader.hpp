#pragma once
// Internal: checks the tensors of a model file and binds them to the layers of a decoder.

#include "inference/decoder_parts.hpp"

#include <initializer_list>
#include <string>

namespace kontor::inference {

/// Goes over the tensors of a model once to check them and once to load them. After the first error everything else is
/// skipped. Errors: malformed (missing_tensor, shape_mismatch, bad_tensor_type), unsupported (bad_tensor_type), memory.
class Decoder::Loader {
 public:
  Loader(Decoder& decoder, bool only_check) : decoder_(decoder), only_check_(only_check) {}

  /// What all experts would take in memory; after the check of every layer.
  std::uint64_t expert_bytes() const { return expert_bytes_; }
  bool failed() const { return error_.code != Errc::none; }
  const Error& error() const { return error_; }

  /// Embedding, last norm, output.
  void whole_model();
  void layer(std::int64_t index, Layer& layer);

 private:
  /// Names are completed by the prefix of the layer ("blk.3.").
  const Tensor* find(const std::string& name) const;
  /// Null after an error: the tensor is missing or has another shape.
  const Tensor* checked(const std::string& name, std::initializer_list<std::int64_t> shape);
  void vector(const float*& to, const std::string& name, std::int64_t length, bool required);
  void matrix(cpu::Matrix& to, const std::string& name, std::int64_t columns, std::int64_t rows);
  void take(cpu::Matrix& to, const Tensor& tensor);

  void type_vector();
  void grouped_attention(Layer& layer);
  /// Tensors ffn_gate, ffn_up and ffn_down; `suffix` (".3", "_shexp") stands behind each name.
  void feed_forward(FeedForward& to, const std::string& suffix, std::int64_t inner);

  // decoder_mla.cpp
  void latent_attention(Layer& layer);
  /// From the one tensor that older files have for keys and values.
  void split_latent(LatentWeights& to, const Tensor& keys_and_values);

  // decoder_moe.cpp
  void experts(Layer& layer);
  /// The tensors of one expert, one in all three; false after an error.
  bool expert_source(ExpertWeights::Source& to, std::int64_t expert);
  std::uint64_t expert_bytes_ = 0;  ///< Of all experts seen so far, packed.

  Decoder& decoder_;
  const bool only_check_;
  std::string prefix_;
  Error error_;
};

}  // namespace kontor::inference
