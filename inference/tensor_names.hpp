#pragma once
// What the names of tensors in GGUF files say.

#include <cstdint>
#include <optional>
#include <string_view>

namespace kontor::inference {

/// The layer in "blk.12.attn_v.weight".
std::optional<std::int64_t> layer_of(std::string_view name);

}  // namespace kontor::inference
