#pragma once
// Internal: tensor names of Hugging Face checkpoints and of GGUF files.

#include <string>
#include <string_view>

namespace kontor::inference {

/// The GGUF name of a tensor of the supported architectures ("model.layers.3.self_attn.q_proj.weight" ->
/// "blk.3.attn_q.weight"); "" for names that no architecture uses.
std::string gguf_tensor_name(std::string_view name);

}  // namespace kontor::inference
