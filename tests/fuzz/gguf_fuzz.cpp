// Model files from strangers: opening, every getter, the vocabulary, and one row of every tensor.

#include "inference/dequantize.hpp"
#include "inference/tokenizer.hpp"
#include "inference/weight_file.hpp"
#include "tests/support/gguf_builder.hpp"

#include <cstdlib>
#include <vector>

using namespace kontor::inference;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const kontor::test::AlignedBytes bytes({reinterpret_cast<const char*>(data), size});
  const auto file = WeightFile::parse(bytes.span(), "fuzz");
  if (!file) {
    if (file.error().kind.empty() || !kontor::inference::printable(file.error().message).size()) std::abort();
    return 0;
  }
  for (const MetadataEntry& entry : file->metadata()) {
    (void)file->text(entry.key);
    (void)file->integer(entry.key);
    (void)file->number(entry.key);
    (void)file->texts(entry.key);
    (void)file->integers(entry.key);
    (void)file->numbers(entry.key);
  }
  for (const Tensor& tensor : file->tensors()) {
    std::vector<float> row(static_cast<std::size_t>(tensor.row_elements() <= (1 << 20) ? tensor.row_elements() : 0));
    if (!row.empty()) (void)dequantize_row(tensor, tensor.rows() - 1, row.data());
  }
  if (const auto tokenizer = Tokenizer::create(*file)) (void)tokenizer->encode("Hello <think> \xff world 123", true);
  return 0;
}
