// Hugging Face folders: the same results as the GGUF file of the same weights, and hostile files refused by kind.

#include "inference/dequantize.hpp"
#include "inference/golden.hpp"
#include "inference/safetensors.hpp"
#include "inference/safetensors_names.hpp"
#include "inference/weight_file.hpp"

#include "base/json.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/safetensors_builder.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

namespace kontor::inference {
namespace {

namespace fs = std::filesystem;
using test::SafetensorsBuilder;

std::string kind_of(const std::string& bytes) {
  const test::AlignedBytes aligned(bytes);
  const auto entries = read_safetensors(aligned.span(), "test");
  return entries ? "" : entries.error().kind;
}

/// The header is padded with blanks so that the data is aligned, unless it ends with one.
std::string with_header(std::string header, const std::string& data) {
  std::string out(8, '\0');
  if (header.back() != ' ') header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size();
  std::memcpy(out.data(), &length, 8);
  return out + header + data;
}

/// A folder that is removed at the end.
class Folder {
 public:
  explicit Folder(const char* name) : path_(fs::temp_directory_path() / ("kontor-" + std::string(name) + "-" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  void write(const std::string& name, const std::string& bytes) const { std::ofstream(path_ / name, std::ios::binary) << bytes; }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

const char* const kConfig = R"({"model_type":"qwen2","hidden_size":8,"intermediate_size":16,"num_hidden_layers":1,
  "num_attention_heads":2,"num_key_value_heads":1,"max_position_embeddings":64,"rms_norm_eps":1e-6,"rope_theta":10000.0})";

/// The tensors of kConfig's model, all F32.
SafetensorsBuilder small_model() {
  SafetensorsBuilder builder;
  const auto matrix = [&](const std::string& name, std::int64_t rows, std::int64_t columns) {
    std::vector<float> values(static_cast<std::size_t>(rows * columns));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.3f * std::sin(static_cast<float>(i * 7 + name.size()));
    builder.f32(name, {rows, columns}, values);
  };
  const auto vector = [&](const std::string& name, std::int64_t n) { builder.f32(name, {n}, std::vector<float>(static_cast<std::size_t>(n), 1.0f)); };
  matrix("model.embed_tokens.weight", 32, 8);
  vector("model.norm.weight", 8);
  const std::string layer = "model.layers.0.";
  vector(layer + "input_layernorm.weight", 8);
  vector(layer + "post_attention_layernorm.weight", 8);
  matrix(layer + "self_attn.q_proj.weight", 8, 8);
  matrix(layer + "self_attn.k_proj.weight", 4, 8);
  matrix(layer + "self_attn.v_proj.weight", 4, 8);
  matrix(layer + "self_attn.o_proj.weight", 8, 8);
  matrix(layer + "mlp.gate_proj.weight", 16, 8);
  matrix(layer + "mlp.up_proj.weight", 16, 8);
  matrix(layer + "mlp.down_proj.weight", 8, 16);
  return builder;
}

Result<std::vector<float>> logits_of(const std::string& path) {
  const auto file = WeightFile::open(path);
  if (!file) return file.error();
  const auto backend = open_backend(*file, {"cpu", 1, Compute::f32, ""});
  if (!backend) return backend.error();
  const TokenId tokens[] = {1, 5, 9};
  std::vector<float> logits(3 * static_cast<std::size_t>((*backend)->config().vocabulary));
  const auto sequence = (*backend)->create_sequence();
  const Extension extension[] = {{sequence.get(), tokens, Output::all_logits, logits.data()}};
  if (const auto done = (*backend)->forward(extension); !done) return done.error();
  return logits;
}

std::string kind_of_folder(const Folder& folder) {
  const auto logits = logits_of(folder.path());
  return logits ? "" : logits.error().kind;
}

}  // namespace

TEST_CASE("a folder and the GGUF file of the same weights give the same bits", "[safetensors]") {
  const std::string shared = test::shared_dir();
  std::ifstream in(shared + "/golden/manifest.json");
  const auto manifest = parse_json(std::string{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()});
  if (shared.empty() || !manifest || !manifest->contains("hf")) return test::count_cases("safetensors-golden", 0, 0, 1);
  int passed = 0, failed = 0;
  for (const Json& folder : manifest->at("hf")) {
    for (const Json& model : manifest->at("models")) {
      if (model.at("id") != folder.at("same_weights_as")) continue;
      GoldenInput input;
      input.one = model.at("sequences").at("seq1").get<std::vector<TokenId>>();
      input.some = model.at("sequences").at("seq17").get<std::vector<TokenId>>();
      input.many = model.at("sequences").at("seq130").get<std::vector<TokenId>>();
      input.chunks = model.at("chunks").get<std::vector<std::int64_t>>();
      input.positions = model.at("rows").at("seq130_at").at("positions").get<std::vector<std::int64_t>>();
      std::vector<GoldenOutput> outputs;
      for (const auto& path : {model.at("file").get<std::string>(), folder.at("directory").get<std::string>()}) {
        const auto file = WeightFile::open(shared + "/golden/" + path);
        REQUIRE(file.has_value());
        auto backend = open_backend(*file, {"cpu", 2, Compute::f32, ""});
        REQUIRE(backend.has_value());
        auto output = run_golden(**backend, input);
        REQUIRE(output.has_value());
        outputs.push_back(std::move(*output));
      }
      const bool same = outputs[0].rows == outputs[1].rows && outputs[0].greedy == outputs[1].greedy && outputs[1].differences.empty();
      (same ? passed : failed) += 1;
      if (!same) std::cout << "safetensors-golden " << folder.at("id") << " differs from the GGUF file\n";
    }
  }
  test::count_cases("safetensors-golden", passed, failed, 0);
  REQUIRE(failed == 0);
}

TEST_CASE("a small folder of our own runs, in one file and in shards", "[safetensors]") {
  const Folder one("one"), shards("shards");
  one.write("config.json", kConfig);
  one.write("model.safetensors", small_model().bytes());
  const auto whole = logits_of(one.path());
  REQUIRE(whole.has_value());

  const auto [first, second] = small_model().split(5);
  shards.write("config.json", kConfig);
  shards.write("model-00001-of-00002.safetensors", first.bytes());
  shards.write("model-00002-of-00002.safetensors", second.bytes());
  Json map = Json::object();
  for (const auto& name : first.names()) map[name] = "model-00001-of-00002.safetensors";
  for (const auto& name : second.names()) map[name] = "model-00002-of-00002.safetensors";
  shards.write("model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  const auto parts = logits_of(shards.path());
  REQUIRE(parts.has_value());
  CHECK(*parts == *whole);

  map[second.names().front()] = "../elsewhere.safetensors";
  shards.write("model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  CHECK(kind_of_folder(shards) == "path_outside_model_root");
  map[second.names().front()] = "model-00001-of-00002.safetensors";
  shards.write("model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  CHECK(kind_of_folder(shards) == "missing_tensor");
  map[second.names().front()] = "model-00009-of-00002.safetensors";
  shards.write("model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  CHECK(kind_of_folder(shards) == "not_found");
  shards.write("model.safetensors.index.json", R"({"weight_map":[]})");
  CHECK(kind_of_folder(shards) == "bad_index");
}

TEST_CASE("F8 weights are multiplied by the scale of their block", "[safetensors]") {
  Tensor tensor;
  tensor.type = TensorType::f8_e4m3;
  tensor.rank = 2;
  tensor.shape = {200, 130, 1, 1};
  tensor.elements = 200 * 130;
  tensor.bytes = 200 * 130;
  std::vector<std::byte> data(200 * 130, std::byte{0x38});  // 1.0
  data[129 * 200 + 0] = std::byte{0x01};                      // the smallest: 2^-9
  data[129 * 200 + 1] = std::byte{0x7e};                      // the largest: 448
  data[129 * 200 + 2] = std::byte{0xb8};
  data[129 * 200 + 3] = std::byte{0x7f};
  const float scales[] = {1, 2, 3, 4};
  tensor.data = data.data();
  tensor.scales = scales;
  std::vector<float> row(200);
  REQUIRE(dequantize_row(tensor, 0, row.data()).has_value());
  CHECK(row[127] == 1.0f);
  CHECK(row[128] == 2.0f);
  REQUIRE(dequantize_row(tensor, 129, row.data()).has_value());
  CHECK(row[0] == 3 * 0x1p-9f);
  CHECK(row[1] == 3 * 448.0f);
  CHECK(row[2] == -3.0f);
  CHECK(std::isnan(row[3]));
  CHECK(row[199] == 4.0f);
  // A slice keeps its place among the blocks.
  REQUIRE(dequantize_row(rows_of(tensor, 129, 1), 0, row.data()).has_value());
  CHECK(row[1] == 3 * 448.0f);
}

TEST_CASE("an F8 folder runs, and needs its scales", "[safetensors]") {
  const Folder folder("f8");
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  SafetensorsBuilder builder = small_model();
  builder.replace(name, "F8_E4M3", {8, 8}, std::string(64, '\x30'));  // 0.5
  folder.write("config.json", kConfig);
  folder.write("model.safetensors", builder.bytes());
  CHECK(kind_of_folder(folder) == "bad_tensor_type");
  builder.f32(name + "_scale_inv", {1, 1}, {0.5f});
  folder.write("model.safetensors", builder.bytes());
  const auto f8 = logits_of(folder.path());
  REQUIRE(f8.has_value());
  SafetensorsBuilder plain = small_model();
  plain.replace(name, "F32", {8, 8}, SafetensorsBuilder::bytes_of(std::vector<float>(64, 0.25f)));
  folder.write("model.safetensors", plain.bytes());
  const auto f32 = logits_of(folder.path());
  REQUIRE(f32.has_value());
  CHECK(*f8 == *f32);
  builder.replace(name + "_scale_inv", "F32", {2, 1}, SafetensorsBuilder::bytes_of({1, 2}));
  folder.write("model.safetensors", builder.bytes());
  CHECK(kind_of_folder(folder) == "shape_mismatch");
}

TEST_CASE("hostile safetensors files are refused by kind", "[safetensors]") {
  const std::string data(8, '\0');
  const auto entry = [](const std::string& text) { return "{\"a\":" + text + "}"; };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"truncated", ""},
      {"truncated", std::string(9, '\0')},
      {"bad_magic", std::string(64, '\0')},
      {"limit_exceeded", std::string(8, '\x7f') + "{}"},
      {"truncated", std::string("\xff\0\0\0\0\0\0\0", 8) + "{}"},
      {"bad_header", with_header("{", "")},
      {"bad_header", with_header("{\"a\":" + std::string(1000, '[') + std::string(1000, ']') + "}", "")},
      {"bad_header", with_header("{\"a\":1}", "")},
      {"bad_header", with_header("{\"a\":{\"dtype\":\"F32\"}}", "")},
      {"bad_tensor_name", with_header(R"({"":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", data)},
      {"duplicate_tensor", with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", data)},
      {"bad_tensor_type", with_header(entry(R"({"dtype":"F3","shape":[2],"data_offsets":[0,8]})"), data)},
      {"bad_tensor_type", with_header(entry(R"({"dtype":7,"shape":[2],"data_offsets":[0,8]})"), data)},
      {"bad_dims", with_header(entry(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})"), data)},
      {"bad_dims", with_header(entry(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), data)},
      {"bad_dims", with_header(entry(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), data)},
      {"bad_ndims", with_header(entry(R"({"dtype":"F32","shape":[1,1,1,1,2],"data_offsets":[0,8]})"), data)},
      {"size_overflow", with_header(entry(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})"), data)},
      {"bad_offset", with_header(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"), data)},
      {"bad_offset", with_header(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), data)},
      {"bad_offset", with_header(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"), data)},
      {"bad_offset", with_header(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})"), data)},
      {"data_out_of_range", with_header(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8,16]})"), data)},
      {"bad_offset", with_header(entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), data)},
      {"bad_offset", with_header(entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"), data)},
      {"overlap", with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", data)},
      {"bad_alignment", with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} )", data)},
  };
  int passed = 0, failed = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const std::string kind = kind_of(cases[i].second);
    (kind == cases[i].first ? passed : failed) += 1;
    if (kind != cases[i].first) std::cout << "safetensors case " << i << ": " << (kind.empty() ? "accepted" : kind) << " instead of " << cases[i].first << "\n";
  }
  CHECK(kind_of(small_model().bytes()).empty());
  CHECK(kind_of(with_header("{\"__metadata__\":{\"format\":\"pt\"}}", "")).empty());
  test::count_cases("safetensors-hostile", passed, failed, 0);
  REQUIRE(failed == 0);
}

TEST_CASE("configurations that would be computed wrongly are refused", "[safetensors]") {
  const auto base = parse_json(kConfig);
  REQUIRE(base.has_value());
  const Folder folder("config");
  folder.write("model.safetensors", small_model().bytes());
  const auto kind_with = [&](const char* key, const Json& value) {
    Json config = *base;
    if (value.is_discarded()) config.erase(key);
    else config[key] = value;
    folder.write("config.json", config.dump());
    return kind_of_folder(folder);
  };
  const Json gone(nlohmann::json::value_t::discarded);
  CHECK(kind_with("model_type", "qwen2").empty());
  CHECK(kind_with("model_type", "gpt2") == "unsupported_arch");
  CHECK(kind_with("hidden_size", gone) == "missing_key");
  CHECK(kind_with("hidden_size", "8") == "wrong_key_type");
  CHECK(kind_with("hidden_size", -8) == "bad_hparam");
  CHECK(kind_with("hidden_size", 16) == "shape_mismatch");
  CHECK(kind_with("num_hidden_layers", 2) == "missing_tensor");
  CHECK(kind_with("hidden_act", "gelu") == "bad_hparam");
  CHECK(kind_with("use_sliding_window", true) == "bad_hparam");
  CHECK(kind_with("rope_scaling", Json{{"rope_type", "dynamic"}, {"factor", 2.0}}) == "bad_hparam");
  CHECK(kind_with("rope_scaling", Json{{"rope_type", "llama3"}, {"factor", 0.0}}) == "bad_hparam");
  CHECK(kind_with("rope_scaling", Json{{"type", "linear"}, {"factor", 2.0}}).empty());
  CHECK(kind_with("quantization_config", Json{{"quant_method", "gptq"}}) == "bad_hparam");
  folder.write("config.json", "[]");
  CHECK(kind_of_folder(folder) == "wrong_key_type");
  folder.write("config.json", "{");
  CHECK(kind_of_folder(folder) == "json_syntax");
}

TEST_CASE("tensor names of checkpoints have their GGUF names", "[safetensors]") {
  CHECK(gguf_tensor_name("model.layers.12.self_attn.q_proj.bias") == "blk.12.attn_q.bias");
  CHECK(gguf_tensor_name("layers.0.mlp.down_proj.weight") == "blk.0.ffn_down.weight");
  CHECK(gguf_tensor_name("model.layers.3.mlp.experts.255.up_proj.weight") == "blk.3.ffn_up.255.weight");
  CHECK(gguf_tensor_name("model.layers.3.mlp.gate.e_score_correction_bias") == "blk.3.exp_probs_b.bias");
  CHECK(gguf_tensor_name("model.layers.3.mlp.gate.weight") == "blk.3.ffn_gate_inp.weight");
  CHECK(gguf_tensor_name("bert.encoder.layer.1.attention.output.LayerNorm.bias") == "blk.1.attn_output_norm.bias");
  CHECK(gguf_tensor_name("model.layers.x.mlp.up_proj.weight").empty());
  CHECK(gguf_tensor_name("model.layers.1").empty());
  CHECK(gguf_tensor_name("").empty());
  CHECK(gguf_tensor_name("model.layers.0.self_attn.rotary_emb.inv_freq").empty());
}

}  // namespace kontor::inference
