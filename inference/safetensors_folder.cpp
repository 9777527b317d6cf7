// A Hugging Face folder (config.json, safetensors in one file or in shards with an index, tokenizer_config.json) under
// the keys and names of a GGUF file. Matrices stay where they lie; vectors become float32, as GGUF files have them.

#include "base/json.hpp"
#include "inference/dequantize.hpp"
#include "inference/model_source.hpp"
#include "inference/safetensors.hpp"
#include "inference/safetensors_config.hpp"
#include "inference/safetensors_names.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

namespace kontor::inference {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxShards = 4096;
constexpr std::int64_t kMaxVector = 1 << 24;  ///< Far above any norm or bias.
constexpr std::string_view kScaleEnding = "_scale_inv";

class Folder {
 public:
  explicit Folder(const std::string& path) : path_(path) {}

  Result<ModelSource> open() {
    source_.folder = true;
    if (const auto done = read_config(); !done) return done.error();
    const auto files = weight_files();
    if (!files) return files.error();
    for (const std::string& name : *files)
      if (const auto done = read_weights(name); !done) return done.error();
    if (const auto done = attach_scales(); !done) return done.error();
    source_.directory.version = 3;
    source_.directory.alignment = 8;
    source_.directory.sort();
    return std::move(source_);
  }

 private:
  std::string in_folder(std::string_view name) const { return (fs::path(path_) / name).string(); }
  bool has(std::string_view name) const {
    std::error_code ignored;
    return fs::exists(in_folder(name), ignored);
  }

  Result<Json> json_of(std::string_view name) {
    auto mapping = FileMapping::open(in_folder(name));
    if (!mapping) return mapping.error();
    const auto bytes = mapping->bytes();
    auto json = parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (!json) {
      Error error = json.error();
      error.where = in_folder(name) + ":" + error.where;
      return error;
    }
    source_.mappings.push_back(std::move(*mapping));  // Part of the model's digest.
    return json;
  }

  Result<void> read_config() {
    if (!has("config.json")) return fail(Errc::malformed, "a folder without config.json holds no model", "not_regular_file", path_);
    const auto json = json_of("config.json");
    if (!json) return json.error();
    MetadataBuilder metadata(source_.texts);
    auto config = convert_config(*json, metadata);
    if (!config) {
      Error error = config.error();
      error.where = path_;
      return error;
    }
    const fs::path folder = fs::path(path_).lexically_normal();
    metadata.text("general.name", (folder.has_filename() ? folder.filename() : folder.parent_path().filename()).string());
    if (const auto done = read_chat_template(metadata); !done) return done.error();
    if (const auto done = read_pooling(metadata, config->architecture); !done) return done.error();
    if (!config->rope_factors.empty()) add_vector("rope_freqs.weight", std::move(config->rope_factors));
    source_.directory.metadata = metadata.take();
    return {};
  }

  /// In tokenizer_config.json, as a text or a list of named ones.
  Result<void> read_chat_template(MetadataBuilder& metadata) {
    if (!has("tokenizer_config.json")) return {};
    const auto json = json_of("tokenizer_config.json");
    if (!json) return json.error();
    if (!json->is_object() || !json->contains("chat_template")) return {};
    const Json& chat = json->at("chat_template");
    if (chat.is_string()) metadata.text("tokenizer.chat_template", chat.get<std::string>());
    if (!chat.is_array()) return {};
    for (const Json& one : chat)
      if (one.is_object() && one.value("name", Json()) == "default" && one.contains("template") && one.at("template").is_string())
        metadata.text("tokenizer.chat_template", one.at("template").get<std::string>());
    return {};
  }

  /// How a sentence-transformers folder pools.
  Result<void> read_pooling(MetadataBuilder& metadata, const std::string& architecture) {
    if (!has("1_Pooling/config.json")) return {};
    const auto json = json_of("1_Pooling/config.json");
    if (!json) return json.error();
    const auto set = [&](const char* key) { return json->is_object() && json->value(key, Json()) == true; };
    const int type = set("pooling_mode_cls_token") ? 2 : set("pooling_mode_lasttoken") ? 3 : 1;
    metadata.integer(architecture + ".pooling_type", type);
    return {};
  }

  Result<std::vector<std::string>> weight_files() {
    if (!has("model.safetensors.index.json")) return std::vector<std::string>{"model.safetensors"};
    const auto index = json_of("model.safetensors.index.json");
    if (!index) return index.error();
    const auto bad = [&](std::string message, std::string kind = "bad_index") {
      return fail(Errc::malformed, std::move(message), std::move(kind), in_folder("model.safetensors.index.json"));
    };
    if (!index->is_object() || !index->contains("weight_map") || !index->at("weight_map").is_object()) return bad("there is no weight_map");
    std::set<std::string> files;
    for (const auto& [tensor, file] : index->at("weight_map").items()) {
      if (!file.is_string()) return bad("the file of '" + printable(tensor) + "' is no text");
      const auto& name = file.get_ref<const std::string&>();
      if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos || name.find('\0') != std::string::npos)
        return bad("'" + printable(name) + "' is not the name of a file in the folder", "path_outside_model_root");
      files.insert(name);
      wanted_[name].insert(tensor);
    }
    if (files.empty() || files.size() > kMaxShards) return bad("the weights lie in " + std::to_string(files.size()) + " files");
    return std::vector<std::string>(files.begin(), files.end());
  }

  Result<void> read_weights(const std::string& name) {
    const std::string path = in_folder(name);
    auto mapping = FileMapping::open(path);
    if (!mapping) return mapping.error();
    auto entries = read_safetensors(mapping->bytes(), path);
    if (!entries) return entries.error();
    source_.mappings.push_back(std::move(*mapping));
    const auto wanted = wanted_.find(name);
    for (const SafetensorsEntry& entry : *entries) {
      // The index decides which tensors count.
      if (wanted != wanted_.end() && wanted->second.erase(entry.name) == 0) continue;
      if (const auto done = add(entry); !done) return done.error();
    }
    if (wanted != wanted_.end() && !wanted->second.empty())
      return fail(Errc::malformed, "tensor '" + printable(*wanted->second.begin()) + "' is missing, though the index names it", "missing_tensor", path);
    return {};
  }

  Result<void> add(const SafetensorsEntry& entry) {
    if (std::string_view(entry.name).ends_with(kScaleEnding)) {
      scales_.emplace(entry.name.substr(0, entry.name.size() - kScaleEnding.size()), entry.tensor);
      return {};
    }
    const std::string name = gguf_tensor_name(entry.name);
    if (name.empty()) return {};  // Nothing that is computed here.
    if (!names_.emplace(name, entry.name).second)
      return fail(Errc::malformed, "tensors '" + printable(names_.at(name)) + "' and '" + printable(entry.name) + "' mean the same", "duplicate_tensor", path_);
    const Tensor& from = entry.tensor;
    const bool narrow = from.type == TensorType::f16 || from.type == TensorType::bf16;
    if (from.rank == 1 && narrow && from.elements <= kMaxVector) {
      std::vector<float> values(static_cast<std::size_t>(from.elements));
      if (const auto read = dequantize_row(from, 0, values.data()); !read) return read.error();
      add_vector(name, std::move(values));
      return {};
    }
    Tensor tensor = from;
    tensor.name = source_.texts.emplace_back(name);
    if (tensor.type == TensorType::f8_e4m3) quantized_.emplace_back(entry.name, source_.directory.tensors.size());
    source_.directory.tensors.push_back(tensor);
    return {};
  }

  void add_vector(std::string_view name, std::vector<float> values) {
    const std::vector<float>& kept = source_.values.emplace_back(std::move(values));
    Tensor tensor;
    tensor.name = source_.texts.emplace_back(name);
    tensor.rank = 1;
    tensor.elements = tensor.shape[0] = static_cast<std::int64_t>(kept.size());
    tensor.bytes = kept.size() * sizeof(float);
    tensor.data = reinterpret_cast<const std::byte*>(kept.data());
    source_.directory.tensors.push_back(tensor);
  }

  /// F8 weights have a factor for each block in a tensor beside them.
  Result<void> attach_scales() {
    for (const auto& [name, index] : quantized_) {
      Tensor& tensor = source_.directory.tensors[index];
      const auto at = scales_.find(name);
      if (at == scales_.end())
        return fail(Errc::unsupported, "F8 tensor '" + printable(name) + "' has no '" + printable(name) + std::string(kScaleEnding) + "'", "bad_tensor_type", path_);
      const Tensor& scales = at->second;
      const auto blocks = [](std::int64_t n) { return (n + kScaleBlock - 1) / kScaleBlock; };
      if (tensor.rank != 2 || scales.rank != 2 || scales.shape[0] != blocks(tensor.shape[0]) || scales.shape[1] != blocks(tensor.shape[1]))
        return fail(Errc::malformed, "the scales of '" + printable(name) + "' do not have one value for each block of 128 by 128", "shape_mismatch", path_);
      std::vector<float>& values = source_.values.emplace_back(static_cast<std::size_t>(scales.elements));
      for (std::int64_t r = 0; r < scales.rows(); ++r)
        if (const auto read = dequantize_row(scales, r, values.data() + r * scales.shape[0]); !read) return read.error();
      tensor.scales = values.data();
    }
    return {};
  }

  const std::string& path_;
  ModelSource source_;
  std::map<std::string, std::set<std::string>> wanted_;  ///< Tensors of each file that the index names and that were not read yet.
  std::map<std::string, std::string> names_;                ///< GGUF name to the name in the file.
  std::map<std::string, Tensor> scales_;
  std::vector<std::pair<std::string, std::size_t>> quantized_;
};

}  // namespace

Result<ModelSource> open_safetensors_folder(const std::string& path) { return Folder(path).open(); }

}  // namespace kontor::inference
