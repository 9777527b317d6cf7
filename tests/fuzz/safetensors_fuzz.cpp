// Safetensors files and configurations from strangers: the header, every tensor's last row, and a config.json as hyperparameters.

#include "base/json.hpp"
#include "inference/dequantize.hpp"
#include "inference/safetensors.hpp"
#include "inference/safetensors_config.hpp"
#include "inference/safetensors_names.hpp"
#include "tests/support/gguf_builder.hpp"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const test::AlignedBytes bytes(text);
  if (const auto entries = read_safetensors(bytes.span(), "fuzz")) {
    for (const SafetensorsEntry& entry : *entries) {
      (void)gguf_tensor_name(entry.name);
      const Tensor& tensor = entry.tensor;
      if (tensor.row_elements() > 1 << 20) continue;
      std::vector<float> row(static_cast<std::size_t>(tensor.row_elements()));
      if (can_expand(tensor.type)) (void)dequantize_row(tensor, tensor.rows() - 1, row.data());
    }
  } else if (entries.error().kind.empty()) {
    std::abort();
  }
  JsonLimits limits;
  limits.depth = 16;
  if (const auto json = parse_json(text, limits)) {
    std::deque<std::string> texts;
    MetadataBuilder metadata(texts);
    const auto config = convert_config(*json, metadata);
    if (!config && config.error().kind.empty()) std::abort();
  }
  return 0;
}
