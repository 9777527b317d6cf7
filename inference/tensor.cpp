#include "inference/tensor.hpp"

namespace kontor::inference {
namespace {

constexpr TensorTypeInfo kTypes[] = {
    {TensorType::f32, "F32", 1, 4},           {TensorType::f16, "F16", 1, 2},
    {TensorType::q4_0, "Q4_0", 32, 18},       {TensorType::q4_1, "Q4_1", 32, 20},
    {TensorType::q5_0, "Q5_0", 32, 22},       {TensorType::q5_1, "Q5_1", 32, 24},
    {TensorType::q8_0, "Q8_0", 32, 34},       {TensorType::q8_1, "Q8_1", 32, 36},
    {TensorType::q2_k, "Q2_K", 256, 84},      {TensorType::q3_k, "Q3_K", 256, 110},
    {TensorType::q4_k, "Q4_K", 256, 144},     {TensorType::q5_k, "Q5_K", 256, 176},
    {TensorType::q6_k, "Q6_K", 256, 210},     {TensorType::q8_k, "Q8_K", 256, 292},
    {TensorType::iq2_xxs, "IQ2_XXS", 256, 66}, {TensorType::iq2_xs, "IQ2_XS", 256, 74},
    {TensorType::iq3_xxs, "IQ3_XXS", 256, 98}, {TensorType::iq1_s, "IQ1_S", 256, 50},
    {TensorType::iq4_nl, "IQ4_NL", 32, 18},   {TensorType::iq3_s, "IQ3_S", 256, 110},
    {TensorType::iq2_s, "IQ2_S", 256, 82},    {TensorType::iq4_xs, "IQ4_XS", 256, 136},
    {TensorType::i8, "I8", 1, 1},             {TensorType::i16, "I16", 1, 2},
    {TensorType::i32, "I32", 1, 4},           {TensorType::i64, "I64", 1, 8},
    {TensorType::f64, "F64", 1, 8},           {TensorType::iq1_m, "IQ1_M", 256, 56},
    {TensorType::bf16, "BF16", 1, 2},         {TensorType::tq1_0, "TQ1_0", 256, 54},
    {TensorType::tq2_0, "TQ2_0", 256, 66},    {TensorType::mxfp4, "MXFP4", 32, 17},
    {TensorType::nvfp4, "NVFP4", 64, 36},     {TensorType::f8_e4m3, "F8_E4M3", 1, 1},
};

constexpr std::uint32_t kFirstOutsideGguf = 0x10000;

}  // namespace

const TensorTypeInfo* find_tensor_type(std::uint32_t number) {
  if (number >= kFirstOutsideGguf) return nullptr;
  for (const TensorTypeInfo& entry : kTypes)
    if (static_cast<std::uint32_t>(entry.type) == number) return &entry;
  return nullptr;
}

const TensorTypeInfo* find_tensor_type(std::string_view name) {
  for (const TensorTypeInfo& entry : kTypes)
    if (entry.name == name) return &entry;
  return nullptr;
}

const TensorTypeInfo& info(TensorType type) {
  for (const TensorTypeInfo& entry : kTypes)
    if (entry.type == type) return entry;
  return kTypes[0];
}

std::string_view to_string(TensorType type) { return info(type).name; }

Tensor rows_of(const Tensor& tensor, std::int64_t first, std::int64_t count) {
  Tensor part = tensor;
  part.rank = 2;
  part.shape = {tensor.shape[0], count, 1, 1};
  part.elements = tensor.shape[0] * count;
  part.bytes = tensor.row_bytes() * static_cast<std::uint64_t>(count);
  const std::uint64_t skipped = tensor.row_bytes() * static_cast<std::uint64_t>(first);
  part.data += skipped;
  part.offset += skipped;
  part.first_row += first;
  return part;
}

}  // namespace kontor::inference
