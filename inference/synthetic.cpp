#include "inference/synthetic.hpp"

#include "inference/dequantize.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <thread>

namespace kontor::inference {
namespace {

/// Tensors begin at multiples of this, which is a page everywhere we run.
constexpr std::uint64_t kAlignment = 65536;
constexpr std::uint64_t kPatternBytes = std::uint64_t{16} << 20;

struct Shape {
  std::string_view name, architecture;
  std::int64_t layers, width, heads, kv_heads, inner, vocabulary;
  float rope_base;
  bool biases = false;  ///< On queries, keys and values.
  bool latent = false;  ///< DeepSeek V3: latent attention and experts, with the sizes of kLatent.
};

constexpr Shape kShapes[] = {
    {"r1-distill-qwen-1.5b", "qwen2", 28, 1536, 12, 2, 8960, 151936, 10000.0f, true},
    {"r1-distill-qwen-7b", "qwen2", 28, 3584, 28, 4, 18944, 152064, 10000.0f, true},
    {"r1-distill-qwen-14b", "qwen2", 48, 5120, 40, 8, 13824, 152064, 1e6f, true},
    {"r1-distill-qwen-32b", "qwen2", 64, 5120, 40, 8, 27648, 152064, 1e6f, true},
    {"r1-distill-llama-8b", "llama", 32, 4096, 32, 8, 14336, 128256, 500000.0f},
    {"r1-distill-llama-70b", "llama", 80, 8192, 64, 8, 28672, 128256, 500000.0f},
    // The first four layers of R1: three dense ones and one with 256 experts.
    {"r1-671b-slice", "deepseek2", 4, 7168, 128, 1, 18432, 129280, 10000.0f, false, true},
};

struct {
  std::int64_t query_rank = 1536, rank = 512, rotary = 64, plain = 128, value = 128;
  std::int64_t dense_layers = 3, experts = 256, used = 8, shared = 1, inner = 2048, groups = 8, groups_used = 4;
} constexpr kLatent;

struct Planned {
  std::string name;
  TensorType type;
  std::vector<std::int64_t> shape;
  std::uint64_t bytes = 0, offset = 0;
};

/// Chooses types and collects tensors.
class Plan {
 public:
  Plan(const Shape& shape, TensorType type, bool recipe) : shape_(shape), type_(type), recipe_(recipe) {
    matrix("token_embd", type, {shape.width, shape.vocabulary});
    matrix("output", recipe ? TensorType::q6_k : type, {shape.width, shape.vocabulary});
    vector("output_norm.weight", shape.width);
    for (std::int64_t i = 0; i < shape.layers; ++i) layer(i);
    for (Planned& t : tensors) {
      t.offset = bytes;
      bytes += (t.bytes + kAlignment - 1) / kAlignment * kAlignment;
    }
  }

  std::vector<Planned> tensors;
  std::uint64_t bytes = 0;

 private:
  void add(std::string name, TensorType type, std::vector<std::int64_t> shape) {
    const TensorTypeInfo& kind = info(type);
    const std::int64_t elements = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    tensors.push_back({std::move(name), type, std::move(shape), static_cast<std::uint64_t>(elements / kind.block_elements * kind.block_bytes)});
  }
  void vector(std::string name, std::int64_t length) { add(std::move(name), TensorType::f32, {length}); }
  void matrix(const std::string& name, TensorType type, std::vector<std::int64_t> shape) {
    if (shape[0] % info(type).block_elements != 0) type = shape[0] % 32 == 0 ? TensorType::q8_0 : TensorType::f16;
    add(name + ".weight", type, std::move(shape));
  }

  void layer(std::int64_t index) {
    const std::string p = "blk." + std::to_string(index) + ".";
    const std::int64_t eighth = shape_.layers / 8;
    const bool more = recipe_ && (index < eighth || index >= 7 * eighth || (index - eighth) % 3 == 2);
    const TensorType type = type_, finer = more ? TensorType::q6_k : type_;
    vector(p + "attn_norm.weight", shape_.width);
    vector(p + "ffn_norm.weight", shape_.width);
    if (shape_.latent) return latent_layer(index, p, finer);
    const std::int64_t kv = shape_.width / shape_.heads * shape_.kv_heads;
    matrix(p + "attn_q", type, {shape_.width, shape_.width});
    matrix(p + "attn_k", type, {shape_.width, kv});
    matrix(p + "attn_v", finer, {shape_.width, kv});
    matrix(p + "attn_output", type, {shape_.width, shape_.width});
    if (shape_.biases) {
      vector(p + "attn_q.bias", shape_.width);
      vector(p + "attn_k.bias", kv);
      vector(p + "attn_v.bias", kv);
    }
    feed_forward(p, "", finer, shape_.inner, {});
  }

  void feed_forward(const std::string& p, const std::string& suffix, TensorType down, std::int64_t inner, std::vector<std::int64_t> count) {
    const auto shape = [&](std::int64_t from, std::int64_t to) {
      std::vector<std::int64_t> s{from, to};
      s.insert(s.end(), count.begin(), count.end());
      return s;
    };
    matrix(p + "ffn_gate" + suffix, type_, shape(shape_.width, inner));
    matrix(p + "ffn_up" + suffix, type_, shape(shape_.width, inner));
    matrix(p + "ffn_down" + suffix, down, shape(inner, shape_.width));
  }

  void latent_layer(std::int64_t index, const std::string& p, TensorType down) {
    const auto& l = kLatent;
    matrix(p + "attn_q_a", type_, {shape_.width, l.query_rank});
    vector(p + "attn_q_a_norm.weight", l.query_rank);
    matrix(p + "attn_q_b", type_, {l.query_rank, shape_.heads * (l.plain + l.rotary)});
    matrix(p + "attn_kv_a_mqa", type_, {shape_.width, l.rank + l.rotary});
    vector(p + "attn_kv_a_norm.weight", l.rank);
    matrix(p + "attn_k_b", type_, {l.plain, l.rank, shape_.heads});
    matrix(p + "attn_v_b", type_, {l.rank, l.value, shape_.heads});
    matrix(p + "attn_output", type_, {shape_.heads * l.value, shape_.width});
    if (index < l.dense_layers) return feed_forward(p, "", down, shape_.inner, {});
    add(p + "ffn_gate_inp.weight", TensorType::f32, {shape_.width, l.experts});
    vector(p + "exp_probs_b.bias", l.experts);
    feed_forward(p, "_exps", down, l.inner, {l.experts});
    feed_forward(p, "_shexp", down, l.inner * l.shared, {});
  }

  const Shape& shape_;
  TensorType type_;
  bool recipe_;
};

/// A GGUF header in memory.
class Header {
 public:
  void text(std::string_view key, std::string_view value) {
    name(key);
    number<std::uint32_t>(static_cast<std::uint32_t>(MetadataType::text));
    name(value);
    ++entries;
  }
  template <class T>
  void entry(std::string_view key, MetadataType type, T value) {
    name(key);
    number<std::uint32_t>(static_cast<std::uint32_t>(type));
    number<T>(value);
    ++entries;
  }
  void tensor(const Planned& t) {
    name(t.name);
    number<std::uint32_t>(static_cast<std::uint32_t>(t.shape.size()));
    for (const std::int64_t n : t.shape) number<std::uint64_t>(static_cast<std::uint64_t>(n));
    number<std::uint32_t>(static_cast<std::uint32_t>(t.type));
    number<std::uint64_t>(t.offset);
  }
  template <class T>
  void number(T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void name(std::string_view s) {
    number<std::uint64_t>(s.size());
    out += s;
  }

  std::string out;
  std::uint64_t entries = 0;
};

std::string header_of(const Shape& s, std::string_view quant, const Plan& plan) {
  Header body;
  const std::string p = std::string(s.architecture) + ".";
  const auto u32 = [&](const std::string& key, std::int64_t value) { body.entry(p + key, MetadataType::u32, static_cast<std::uint32_t>(value)); };
  const auto f32 = [&](const std::string& key, float value) { body.entry(p + key, MetadataType::f32, value); };
  body.text("general.architecture", s.architecture);
  body.text("general.name", std::string(s.name) + " " + std::string(quant) + " (synthetic)");
  body.entry("general.alignment", MetadataType::u32, static_cast<std::uint32_t>(kAlignment));
  u32("block_count", s.layers);
  u32("context_length", 131072);
  u32("embedding_length", s.width);
  u32("feed_forward_length", s.inner);
  u32("attention.head_count", s.heads);
  u32("attention.head_count_kv", s.kv_heads);
  f32("attention.layer_norm_rms_epsilon", 1e-6f);
  f32("rope.freq_base", s.rope_base);
  if (s.latent) {
    const auto& l = kLatent;
    u32("attention.q_lora_rank", l.query_rank);
    u32("attention.kv_lora_rank", l.rank);
    u32("rope.dimension_count", l.rotary);
    u32("attention.key_length", l.plain + l.rotary);
    u32("attention.value_length", l.value);
    u32("leading_dense_block_count", l.dense_layers);
    u32("expert_count", l.experts);
    u32("expert_used_count", l.used);
    u32("expert_shared_count", l.shared);
    u32("expert_feed_forward_length", l.inner);
    u32("expert_group_count", l.groups);
    u32("expert_group_used_count", l.groups_used);
    u32("expert_gating_func", 2);
    f32("expert_weights_scale", 2.5f);
    body.entry(p + "expert_weights_norm", MetadataType::boolean, std::uint8_t{1});
  }
  const std::uint64_t entries = body.entries;
  for (const Planned& t : plan.tensors) body.tensor(t);
  Header all;
  all.out = "GGUF";
  all.number<std::uint32_t>(3);
  all.number<std::uint64_t>(plan.tensors.size());
  all.number<std::uint64_t>(entries);
  all.out += body.out;
  all.out.resize((all.out.size() + kAlignment - 1) / kAlignment * kAlignment);
  return all.out;
}

std::uint64_t mixed(std::uint64_t x) {  // SplitMix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Plausible values of a type. In block types every byte is below 32: wherever a binary16 scale lies, it is small.
void fill_part(TensorType type, std::byte* out, std::uint64_t first, std::uint64_t bytes) {
  for (std::uint64_t i = first; i < bytes; i += 8) {
    std::uint64_t word = mixed(i);
    if (type == TensorType::f32) word = (word & 0x807fffff807fffffu) | 0x3c0000003c000000u;
    else if (type == TensorType::f16) word = (word & 0x83ff83ff83ff83ffu) | 0x2000200020002000u;
    else if (type == TensorType::bf16) word = (word & 0x807f807f807f807fu) | 0x3c003c003c003c00u;
    else word &= 0x1f1f1f1f1f1f1f1fu;
    std::memcpy(out + i, &word, std::min<std::uint64_t>(8, bytes - i));
  }
}

/// With as many threads as there are processors, where it is much.
void fill(TensorType type, std::byte* out, std::uint64_t bytes) {
  constexpr std::uint64_t kPiece = 16 << 20;
  const std::uint64_t most = std::min<std::uint64_t>(bytes / kPiece + 1, std::max(1u, std::thread::hardware_concurrency()));
  const std::uint64_t share = (bytes / most + 7) / 8 * 8;
  std::vector<std::jthread> threads;
  for (std::uint64_t first = share; most > 1 && first < bytes; first += share)
    threads.emplace_back([=] { fill_part(type, out, first, std::min(first + share, bytes)); });
  fill_part(type, out, 0, most > 1 ? std::min(share, bytes) : bytes);
}

const Shape* find_shape(std::string_view name) {
  const Shape* found = nullptr;
  for (const Shape& s : kShapes) {
    if (s.name == name) return &s;
    const bool ends = !name.empty() && s.name.size() > name.size() && s.name.ends_with(name) && s.name[s.name.size() - name.size() - 1] == '-';
    if (ends && found) return nullptr;
    if (ends) found = &s;
  }
  return found;
}

std::string joined(const std::vector<std::string_view>& names) {
  std::string text;
  for (const std::string_view n : names) text += (text.empty() ? "" : ", ") + std::string(n);
  return text;
}

}  // namespace

/// Address space of one file: ordinary memory, and patterns mapped into it.
class SyntheticModel::Memory {
 public:
  explicit Memory(std::uint64_t bytes) : bytes_(bytes) {
    void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at != MAP_FAILED) data_ = static_cast<std::byte*>(at);
  }
  ~Memory() {
    if (data_) ::munmap(data_, bytes_);
    for (const auto& [type, descriptor] : patterns_) ::close(descriptor);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::byte* data() const { return data_; }
  std::uint64_t bytes() const { return bytes_; }

  /// Puts weights of a type at `offset`, a multiple of kAlignment.
  bool put(TensorType type, std::uint64_t offset, std::uint64_t bytes, bool ones) {
    std::byte* at = data_ + offset;
    if (ones) {
      for (std::uint64_t i = 0; i < bytes; i += 4) {
        constexpr float kOne = 1.0f;
        std::memcpy(at + i, &kOne, 4);
      }
      return true;
    }
    // Backends use unquantised weights where they lie: these must be memory of their own.
    if (info(type).block_elements == 1) {
#ifdef MADV_HUGEPAGE
      ::madvise(at, bytes, MADV_HUGEPAGE);
#endif
      fill(type, at, bytes);
      return true;
    }
    const int descriptor = pattern(type);
    if (descriptor < 0) return false;
    const std::uint64_t period = kPatternBytes;
    for (std::uint64_t done = 0; done < bytes; done += period) {
      const std::uint64_t n = std::min(period, bytes - done);
      if (::mmap(at + done, n, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0) == MAP_FAILED) return false;
    }
    return true;
  }

 private:
  int pattern(TensorType type) {
    const auto found = patterns_.find(type);
    if (found != patterns_.end()) return found->second;
    const int descriptor = ::memfd_create("kontor-pattern", MFD_CLOEXEC);
    if (descriptor < 0) return -1;
    patterns_[type] = descriptor;
    if (::ftruncate(descriptor, static_cast<off_t>(kPatternBytes)) != 0) return -1;
    void* at = ::mmap(nullptr, kPatternBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (at == MAP_FAILED) return -1;
    fill(type, static_cast<std::byte*>(at), kPatternBytes);
    ::munmap(at, kPatternBytes);
    return descriptor;
  }

  std::byte* data_ = nullptr;
  std::uint64_t bytes_;
  std::map<TensorType, int> patterns_;
};

std::vector<std::string_view> SyntheticModel::shapes() {
  std::vector<std::string_view> names;
  for (const Shape& s : kShapes) names.push_back(s.name);
  return names;
}

Result<SyntheticModel> SyntheticModel::create(std::string_view shape_name, std::string_view quant) {
  const Shape* shape = find_shape(shape_name);
  if (!shape) return fail(Errc::usage, "no shape '" + printable(shape_name) + "'; known are " + joined(shapes()), "bad_shape");
  std::string upper(quant);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  const bool recipe = upper == "Q4_K_M";
  const TensorTypeInfo* type = find_tensor_type(recipe ? std::string_view("Q4_K") : std::string_view(upper));
  if (!type || !find_dequantizer(type->type))
    return fail(Errc::usage, "no quantisation '" + printable(quant) + "'; known are q4_k_m and the tensor types (q8_0, q6_k, f16, ...)", "bad_quant");

  const Plan plan(*shape, type->type, recipe);
  const std::string header = header_of(*shape, quant, plan);
  SyntheticModel model;
  model.memory_ = std::make_shared<Memory>(header.size() + plan.bytes);
  Memory& memory = *model.memory_;
  if (!memory.data()) return fail(Errc::memory, "no address space for the weights", "out_of_memory");
  std::memcpy(memory.data(), header.data(), header.size());
  for (const Planned& t : plan.tensors)
    if (!memory.put(t.type, header.size() + t.offset, t.bytes, t.shape.size() == 1))
      return fail(Errc::memory, "no memory for the weights of " + t.name, "out_of_memory");
  auto file = WeightFile::parse({memory.data(), memory.bytes()}, std::string(shape->name) + " " + std::string(quant));
  if (!file) return file.error();
  model.file_ = std::make_unique<WeightFile>(std::move(*file));
  return model;
}

}  // namespace kontor::inference
