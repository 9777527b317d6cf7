// Writing models: quantisers against the error that the reference files have, whole files, split files.

#include "inference/dequantize.hpp"
#include "inference/golden.hpp"
#include "inference/gguf_writer.hpp"
#include "inference/model_config.hpp"
#include "inference/quantize.hpp"
#include "inference/quantize_blocks.hpp"

#include "tests/support/catch.hpp"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <random>

namespace kontor::inference {
namespace {

namespace fs = std::filesystem;

class Scratch {
 public:
  Scratch() : path_(fs::temp_directory_path() / ("kontor-quantize-" + std::to_string(::getpid()))) { fs::create_directories(path_); }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

/// Root mean square error of the round trip over the root mean square of the values.
double round_trip_error(TensorType type, const std::vector<float>& values) {
  const TensorTypeInfo& traits = info(type);
  std::vector<std::byte> blocks(values.size() / static_cast<std::size_t>(traits.block_elements) * static_cast<std::size_t>(traits.block_bytes));
  find_quantizer(type)(values.data(), static_cast<std::int64_t>(values.size()), blocks.data());
  std::vector<float> back(values.size());
  find_dequantizer(type)(blocks.data(), static_cast<std::int64_t>(values.size()), back.data());
  double error = 0, square = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    error += (double{back[i]} - double{values[i]}) * (double{back[i]} - double{values[i]});
    square += double{values[i]} * double{values[i]};
  }
  return std::sqrt(error / square);
}

/// Relative error of a file's layer matrices against another file of the same model.
double file_error(const WeightFile& file, const WeightFile& reference) {
  double error = 0, square = 0;
  for (const Tensor& tensor : reference.tensors()) {
    const Tensor* other = file.find_tensor(tensor.name);
    REQUIRE(other);
    if (tensor.rank < 2) continue;
    std::vector<float> a(static_cast<std::size_t>(tensor.row_elements())), b(a.size());
    for (std::int64_t r = 0; r < tensor.rows(); ++r) {
      REQUIRE(dequantize_row(tensor, r, a.data()).has_value());
      REQUIRE(dequantize_row(*other, r, b.data()).has_value());
      for (std::size_t i = 0; i < a.size(); ++i) {
        error += (double{a[i]} - double{b[i]}) * (double{a[i]} - double{b[i]});
        square += double{a[i]} * double{a[i]};
      }
    }
  }
  return std::sqrt(error / square);
}

Result<std::vector<float>> logits_of(const std::string& path) {
  const auto file = WeightFile::open(path);
  if (!file) return file.error();
  const auto backend = open_backend(*file, {"cpu", 1, Compute::f32, ""});
  if (!backend) return backend.error();
  const TokenId tokens[] = {1, 5, 9, 100};
  std::vector<float> logits(4 * static_cast<std::size_t>((*backend)->config().vocabulary));
  const auto sequence = (*backend)->create_sequence();
  const Extension extension[] = {{sequence.get(), tokens, Output::all_logits, logits.data()}};
  if (const auto done = (*backend)->forward(extension); !done) return done.error();
  return logits;
}

}  // namespace

TEST_CASE("quantisers keep normal weights within the error of their width", "[quantize]") {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values(256 * 400);
  for (float& x : values) x = normal(random);
  const std::pair<TensorType, double> limits[] = {{TensorType::f32, 0},         {TensorType::f16, 3e-4},  {TensorType::bf16, 2.5e-3},
                                                  {TensorType::q8_0, 6.5e-3},   {TensorType::q6_k, 0.018}, {TensorType::q5_k, 0.037},
                                                  {TensorType::q4_k, 0.075},    {TensorType::q4_0, 0.092}};
  for (const auto& [type, limit] : limits) {
    INFO(to_string(type));
    CHECK(round_trip_error(type, values) <= limit);
  }
}

TEST_CASE("quantisers survive values that leave nothing to divide by", "[quantize]") {
  for (const TensorType type : {TensorType::q8_0, TensorType::q4_0, TensorType::q4_k, TensorType::q5_k, TensorType::q6_k}) {
    for (const float value : {0.0f, 1.0f, -1.0f, 1e-30f, 1e-38f, 60000.0f, -60000.0f}) {
      INFO(to_string(type) << " " << value);
      const std::vector<float> same(256, value);
      const TensorTypeInfo& traits = info(type);
      std::vector<std::byte> blocks(static_cast<std::size_t>(256 / traits.block_elements * traits.block_bytes));
      find_quantizer(type)(same.data(), 256, blocks.data());
      std::vector<float> back(256);
      find_dequantizer(type)(blocks.data(), 256, back.data());
      for (const float x : back) {
        REQUIRE(std::isfinite(x));
        REQUIRE(std::fabs(x - value) <= 0.02f * std::fabs(value) + 1e-6f);
      }
    }
    std::vector<float> lone(256, 0.0f);
    lone[77] = 5;
    CHECK(round_trip_error(type, lone) < 0.02);
  }
}

TEST_CASE("our quantised files are no further from the weights than the reference files", "[quantize]") {
  const std::string shared = test::shared_dir();
  const std::string models = shared + "/golden/models/";
  if (shared.empty() || !fs::exists(models + "qbase.f16.gguf")) return test::count_cases("quantize-reference", 0, 0, 1);
  const Scratch scratch;
  const auto base = WeightFile::open(models + "qbase.f16.gguf");
  REQUIRE(base.has_value());
  int passed = 0, failed = 0;
  for (const std::string type : {"q8_0", "q4_0", "q4_k", "q5_k", "q6_k"}) {
    QuantizeOptions options;
    options.type = type;
    options.threads = 2;
    const auto report = quantize_model(*base, scratch / (type + ".gguf"), options);
    REQUIRE(report.has_value());
    const auto ours = WeightFile::open(scratch / (type + ".gguf")), theirs = WeightFile::open(models + "qbase." + type + ".gguf");
    REQUIRE(ours.has_value());
    REQUIRE(theirs.has_value());
    const double mine = file_error(*ours, *base), reference = file_error(*theirs, *base);
    // 1 %: which of two codes at the same distance is taken is a matter of taste.
    const bool good = mine <= 1.01 * reference;
    (good ? passed : failed) += 1;
    std::cout << "quantize " << type << ": error " << mine << ", reference file " << reference << (good ? "" : "  WORSE") << "\n";
    CHECK(logits_of(scratch / (type + ".gguf")).has_value());
  }
  test::count_cases("quantize-reference", passed, failed, 0);
  REQUIRE(failed == 0);
}

TEST_CASE("a converted folder is the GGUF file that it would be", "[quantize]") {
  const std::string shared = test::shared_dir();
  if (shared.empty() || !fs::exists(shared + "/golden/hf/llama-rope3")) return test::count_cases("quantize-folder", 0, 0, 1);
  const Scratch scratch;
  const auto folder = WeightFile::open(shared + "/golden/hf/llama-rope3");
  REQUIRE(folder.has_value());
  QuantizeOptions options;
  options.type = "bf16";  // The weights are BF16: nothing is lost.
  REQUIRE(quantize_model(*folder, scratch / "llama.gguf", options).has_value());
  const auto converted = WeightFile::open(scratch / "llama.gguf");
  REQUIRE(converted.has_value());
  // Rows of queries and keys are in GGUF's order, so that other programs can read the file.
  const auto original = WeightFile::open(shared + "/golden/models/llama-rope3.f32.gguf");
  REQUIRE(original.has_value());
  CHECK(file_error(*converted, *original) == 0);
  const auto expected = logits_of(shared + "/golden/models/llama-rope3.f32.gguf"), got = logits_of(scratch / "llama.gguf");
  REQUIRE(expected.has_value());
  REQUIRE(got.has_value());
  CHECK(*got == *expected);
}

TEST_CASE("what cannot be quantised is said before anything is written", "[quantize]") {
  const std::string shared = test::shared_dir();
  const std::string model = shared + "/golden/models/qwen2.f32.gguf";
  if (shared.empty() || !fs::exists(model)) return;
  const Scratch scratch;
  const auto file = WeightFile::open(model);
  REQUIRE(file.has_value());
  QuantizeOptions options;
  options.type = "q3_x";
  CHECK(quantize_model(*file, scratch / "a.gguf", options).error().kind == "bad_quantization");
  options.type = "q4_k_m";
  CHECK(quantize_model(*file, model, options).error().kind == "bad_quantization");
  CHECK(quantize_model(*file, scratch / "no/folder/a.gguf", options).error().code == Errc::not_found);
  options.progress = [](std::uint64_t, std::uint64_t) { return false; };
  CHECK(quantize_model(*file, scratch / "a.gguf", options).error().code == Errc::cancelled);
  CHECK(!fs::exists(scratch / "a.gguf"));
  CHECK(!fs::exists(scratch / "a.gguf.part"));
  // Rows of 128 do not hold blocks of 256.
  options.progress = nullptr;
  const auto report = quantize_model(*file, scratch / "a.gguf", options);
  REQUIRE(report.has_value());
  CHECK(report->fallbacks > 0);
  CHECK(logits_of(scratch / "a.gguf").has_value());
}

TEST_CASE("a split model is the whole one, and says which part is missing", "[split]") {
  const std::string shared = test::shared_dir();
  const std::string model = shared + "/golden/models/qwen2.f32.gguf";
  if (shared.empty() || !fs::exists(model)) return;
  const auto file = WeightFile::open(model);
  REQUIRE(file.has_value());
  const Scratch scratch;
  const auto name = [&](int part) { return scratch / ("m-0000" + std::to_string(part) + "-of-00003.gguf"); };
  const auto write_part = [&](int part, int number, std::uint32_t total) {
    GgufMetadata metadata;
    if (part == 0)
      for (const MetadataEntry& entry : file->metadata()) metadata.copy(entry);
    metadata.u32("split.no", static_cast<std::uint32_t>(number));
    metadata.u32("split.count", 3);
    metadata.u32("split.tensors.count", total);
    std::vector<GgufTensor> directory;
    std::vector<const Tensor*> tensors;
    for (std::size_t i = static_cast<std::size_t>(part); i < file->tensors().size(); i += 3) {
      const Tensor& t = file->tensors()[i];
      tensors.push_back(&t);
      directory.push_back({std::string(t.name), t.type, t.rank, t.shape});
    }
    auto writer = GgufWriter::create(name(part + 1), metadata, directory);
    REQUIRE(writer.has_value());
    for (const Tensor* t : tensors) {
      REQUIRE((*writer)->write({t->data, t->bytes}).has_value());
      REQUIRE((*writer)->end_tensor().has_value());
    }
    REQUIRE((*writer)->finish().has_value());
  };
  const auto count = static_cast<std::uint32_t>(file->tensors().size());
  for (int part = 0; part < 3; ++part) write_part(part, part, count);
  const auto whole = logits_of(model), split = logits_of(name(1)), from_last = logits_of(name(3));
  REQUIRE(whole.has_value());
  REQUIRE(split.has_value());
  REQUIRE(from_last.has_value());
  CHECK(*split == *whole);
  CHECK(*from_last == *whole);

  write_part(1, 2, count);
  CHECK(logits_of(name(1)).error().kind == "bad_split");
  write_part(1, 1, count);
  write_part(0, 0, count + 1);
  CHECK(logits_of(name(1)).error().kind == "bad_split");
  write_part(0, 0, count);
  fs::copy(name(3), scratch / "renamed.gguf");
  CHECK(logits_of(scratch / "renamed.gguf").error().kind == "missing_split");
  fs::remove(name(2));
  const auto missing = logits_of(name(1));
  CHECK(missing.error().kind == "missing_split");
  CHECK(missing.error().message.find("part 2 of 3") != std::string::npos);
}

}  // namespace kontor::inference
