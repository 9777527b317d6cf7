#include "inference/tensor_names.hpp"

#include <charconv>

namespace kontor::inference {

std::optional<std::int64_t> layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t layer = 0;
  const char* end = name.data() + name.size();
  const auto [behind, error] = std::from_chars(name.data() + kPrefix.size(), end, layer);
  if (error != std::errc() || layer < 0 || behind == end || *behind != '.') return std::nullopt;
  return layer;
}

}  // namespace kontor::inference
