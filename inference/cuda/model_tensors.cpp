#include "inference/cuda/model_tensors.hpp"

namespace kontor::inference::cuda {

Result<const Tensor*> ModelTensors::checked(const std::string& name, std::int64_t columns, std::int64_t rows, std::int64_t slabs) const {
  const auto tensor = file_.tensor(name);
  if (!tensor) return tensor.error();
  const Tensor& t = **tensor;
  if (t.shape[0] != columns || t.shape[1] != rows || t.shape[2] != slabs || t.shape[3] != 1)
    return fail(Errc::malformed, printable(t.name) + " does not have the shape [" + std::to_string(columns) + ", " + std::to_string(rows * slabs) +
                "] that the hyperparameters ask for", "shape_mismatch");
  return &t;
}

Result<PlaneLayout> ModelTensors::layout_of(std::span<const Tensor> parts) const {
  Tensor whole = parts.front();
  whole.elements = 0;
  for (const Tensor& part : parts) {
    if (part.type != whole.type)
      return fail(Errc::unsupported, printable(part.name) + " has another type than its neighbours; the CUDA backend needs one type; use --device cpu",
                  "unsupported_arch");
    whole.elements += part.elements;
  }
  if (whole.row_elements() % kSpan != 0)
    return fail(Errc::unsupported, printable(whole.name) + " has rows of " + std::to_string(whole.row_elements()) +
                " values; the CUDA backend needs multiples of 32; use --device cpu", "unsupported_arch");
  return plane_layout(whole, exact_);
}

std::array<ExpertMatrix, 3> ModelTensors::expert_matrices() const {
  const std::int64_t width = config_.width, inner = config_.experts.feed_forward;
  return {{{"ffn_gate", width, inner}, {"ffn_up", width, inner}, {"ffn_down", inner, width}}};
}

Result<std::vector<Tensor>> ModelTensors::expert_parts(std::int64_t layer, const ExpertMatrix& m) const {
  const std::string prefix = "blk." + std::to_string(layer) + ".";
  const std::int64_t count = config_.experts.count;
  std::vector<Tensor> parts;
  if (file_.find_tensor(prefix + "ffn_gate_exps.weight") || !file_.find_tensor(prefix + "ffn_gate.0.weight")) {
    const auto tensor = checked(prefix + m.name + "_exps.weight", m.columns, m.rows, count);
    if (!tensor) return tensor.error();
    for (std::int64_t i = 0; i < count; ++i) parts.push_back(rows_of(**tensor, i * m.rows, m.rows));
    return parts;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const auto tensor = checked(prefix + m.name + "." + std::to_string(i) + ".weight", m.columns, m.rows, 1);
    if (!tensor) return tensor.error();
    parts.push_back(**tensor);
  }
  return parts;
}

}  // namespace kontor::inference::cuda
