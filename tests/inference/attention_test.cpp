// Attention over timelines of several spans (decoder_attention.cpp), on a tiny model with random weights.

#include "inference/backend.hpp"
#include "inference/sampler.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_builder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

namespace {

constexpr std::uint32_t kWidth = 64, kHeads = 4, kInner = 96, kVocabulary = 50, kLayers = 2, kKvLength = 16;

/// llama with one key head: the hardest case for sharing attention out among threads.
std::string tiny_model() {
  test::GgufBuilder file;
  file.string("general.architecture", "llama");
  const std::pair<const char*, std::uint32_t> numbers[] = {
      {"block_count", kLayers}, {"context_length", 4096}, {"embedding_length", kWidth}, {"feed_forward_length", kInner},
      {"attention.head_count", kHeads}, {"attention.head_count_kv", 1}};
  for (const auto& [key, value] : numbers) file.u32(std::string("llama.") + key, value);
  file.scalar<float>("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f);
  std::uint64_t drawn = 0;
  const auto add = [&](const std::string& name, const std::vector<std::uint64_t>& dims, float scale, float shift) {
    file.tensor(name, dims, 0, file.data.size());
    const std::uint64_t n = dims.size() == 1 ? dims[0] : dims[0] * dims[1];
    for (std::uint64_t i = 0; i < n; ++i) {
      const float value = shift + scale * static_cast<float>(random_uniform(3, drawn++) * 2 - 1);
      file.data.append(reinterpret_cast<const char*>(&value), 4);
    }
    file.data.append((32 - file.data.size() % 32) % 32, '\0');
  };
  add("token_embd.weight", {kWidth, kVocabulary}, 1.0f, 0);
  add("output_norm.weight", {kWidth}, 0.1f, 1);
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    const std::string p = "blk." + std::to_string(layer) + ".";
    add(p + "attn_norm.weight", {kWidth}, 0.1f, 1);
    add(p + "ffn_norm.weight", {kWidth}, 0.1f, 1);
    add(p + "attn_q.weight", {kWidth, kWidth}, 0.5f, 0);
    add(p + "attn_k.weight", {kWidth, kKvLength}, 0.5f, 0);
    add(p + "attn_v.weight", {kWidth, kKvLength}, 0.3f, 0);
    add(p + "attn_output.weight", {kWidth, kWidth}, 0.3f, 0);
    add(p + "ffn_gate.weight", {kWidth, kInner}, 0.2f, 0);
    add(p + "ffn_up.weight", {kWidth, kInner}, 0.2f, 0);
    add(p + "ffn_down.weight", {kInner, kWidth}, 0.2f, 0);
  }
  return file.bytes();
}

struct Run {
  int threads;
  int chunk;  ///< Tokens of a call.
  Compute compute = Compute::native;
  const char* kernels = "";
};

/// Logits after each of the last tokens of a timeline of `count`.
std::vector<float> logits_of(const WeightFile& file, const Run& run, int count, int last) {
  BackendOptions options;
  options.device = "cpu";
  options.threads = run.threads;
  options.compute = run.compute;
  options.kernels = run.kernels;
  auto backend = open_backend(file, options);
  REQUIRE(backend.has_value());
  const auto sequence = (*backend)->create_sequence();
  std::vector<float> out(static_cast<std::size_t>(last) * kVocabulary);
  for (int at = 0; at < count;) {
    const int n = at < count - last ? std::min(run.chunk, count - last - at) : 1;
    std::vector<TokenId> tokens;
    for (int i = 0; i < n; ++i) tokens.push_back((at + i) * 7 % static_cast<int>(kVocabulary));
    float* to = at < count - last ? nullptr : out.data() + (at - (count - last)) * static_cast<int>(kVocabulary);
    const Extension extension[] = {{sequence.get(), tokens, to ? Output::last_logits : Output::none, to}};
    REQUIRE((*backend)->forward(extension).has_value());
    at += n;
  }
  return out;
}

}  // namespace

TEST_CASE("a timeline of several spans gives the same bits in any chunks and on any number of threads") {
  const std::string bytes = tiny_model();
  const test::AlignedBytes aligned(bytes);
  const auto file = WeightFile::parse(aligned.span(), "tiny");
  REQUIRE(file.has_value());
  const auto expected = logits_of(*file, {1, 1}, 1300, 6);
  for (const Run run : {Run{1, 200}, Run{2, 64}, Run{5, 1300}, Run{3, 37}, Run{8, 20}}) {
    const auto got = logits_of(*file, run, 1300, 6);
    INFO(run.threads << " threads, chunks of " << run.chunk);
    CHECK(std::memcmp(got.data(), expected.data(), expected.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("attention over several spans agrees with the float32 reference and between kernel sets") {
  const std::string bytes = tiny_model();
  const test::AlignedBytes aligned(bytes);
  const auto file = WeightFile::parse(aligned.span(), "tiny");
  REQUIRE(file.has_value());
  const auto reference = logits_of(*file, {1, 300, Compute::f32, "scalar"}, 1100, 2);
  float largest = 0;
  for (const float v : reference) largest = std::max(largest, std::fabs(v));
  for (const auto& [compute, tolerance] : {std::pair{Compute::f32, 1e-4f}, std::pair{Compute::native, 1e-2f}}) {
    const auto got = logits_of(*file, {2, 300, compute}, 1100, 2);
    float worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::fabs(got[i] - reference[i]));
    CHECK(worst <= tolerance * largest);
  }
}
