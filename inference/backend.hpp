#pragma once
// A decoder on a device: weights that are loaded once, sequences that grow token by token. The CPU decoder implements
// it here; a device backend implements it in its own folder.

#include "base/error.hpp"
#include "inference/device_choice.hpp"
#include "inference/model_config.hpp"
#include "inference/text_model.hpp"
#include "inference/weight_file.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// Positions in a page of the KV cache.
inline constexpr std::int64_t kPagePositions = 64;

/// Keys and values of kPagePositions neighbouring positions in all layers, held by whoever has a reference: sequences
/// that share a prefix, the prefix cache. Never written while more than one holds it.
class KvPage {
 public:
  virtual ~KvPage() = default;
  /// The content in the backend's own layout, for snapshots: as many bytes as Backend::page_bytes() says.
  virtual void copy_to(std::span<std::byte> out) const = 0;
};
using KvPageRef = std::shared_ptr<KvPage>;

/// The KV cache of one token timeline. Belongs to the backend that made it and dies before it.
class Sequence {
 public:
  virtual ~Sequence() = default;
  /// Tokens whose keys and values are held.
  virtual std::int64_t length() const = 0;
  /// Forgets everything from `length` on. No effect where the sequence is shorter.
  virtual void truncate(std::int64_t length) = 0;
  /// A sequence that holds the same and goes its own way from here. Pages are shared until one of the two writes.
  virtual std::unique_ptr<Sequence> fork() const = 0;
  /// References to the pages that hold length() positions; the last one may be filled in part.
  virtual std::vector<KvPageRef> pages() const = 0;
  /// Holds the first `length` positions of these pages from now on, instead of what it held. `pages`: as many as
  /// `length` needs, made by the same backend.
  virtual void adopt(std::span<const KvPageRef> pages, std::int64_t length) = 0;
  /// Bytes of memory held now, shared pages included.
  virtual std::uint64_t bytes() const = 0;
};

/// What a forward pass is to return for one extension.
enum class Output {
  none,
  last_logits,  ///< `vocabulary` floats: after the last token.
  all_logits,   ///< tokens x vocabulary floats.
  all_hidden,   ///< tokens x width floats: final states after the last norm.
};

struct Shortlist;

/// Tokens to append to a sequence. A sequence occurs once in a call.
struct Extension {
  Sequence* sequence = nullptr;
  std::span<const TokenId> tokens;
  Output output = Output::none;
  float* out = nullptr;  ///< Owned by the caller, large enough for `output`.
  /// With last_logits, on backends with shortlists(): filled instead of `out` where it is enough.
  Shortlist* shortlist = nullptr;
};

enum class Compute {
  native,  ///< Stored weights, activations in 8 bit where the weights are quantised, 16-bit KV cache.
  f32,     ///< The reference: weights expanded to float32, float32 arithmetic and KV cache.
};

/// What native arithmetic keeps keys and values in.
enum class KvType {
  f16,   ///< Binary16.
  q8_0,  ///< Codes of 8 bit, one scale for 32 values: little more than half the memory.
};
/// "f16", "q8_0".
std::string_view to_string(KvType type);
std::optional<KvType> kv_type_named(std::string_view name);

struct BackendOptions {
  std::string device = "auto";  ///< As parse_device() reads it.
  int threads = 0;              ///< 0: as many as there are processors.
  Compute compute = Compute::native;
  std::string kernels;          ///< Name of a kernel set (tests); empty: the best.
  bool deterministic = false;   ///< Bit-equal results whatever the batch, on devices where that costs speed.
  /// Bytes that the experts of a mixture may take in memory; with less than all need they are read from the file as
  /// they are used. 0: 60 % of the memory that is free when the model is loaded. On a GPU: bytes of its memory; experts of
  /// the other layers lie in the host's. 0: what fits beside the rest.
  std::uint64_t expert_bytes = 0;
  KvType kv = KvType::f16;
};

/// How experts were found, since the model was loaded.
struct ExpertUse {
  std::int64_t uses = 0;
  std::int64_t packed = 0;           ///< In memory, in the form in which they are computed. All, where there is room for all.
  std::int64_t predicted = 0;        ///< Read ahead for the next layer,
  std::int64_t predicted_right = 0;  ///< and used there.
  std::uint64_t packed_bytes = 0;    ///< Held now, where there is no room for all.
};

/// Used by one thread at a time.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const ModelConfig& config() const = 0;
  /// "cpu", "cuda:0", "cuda:0,1".
  virtual std::string device() const = 0;
  virtual std::unique_ptr<Sequence> create_sequence() = 0;
  virtual std::uint64_t page_bytes() const = 0;
  /// Names everything beside the model file on which the bits of keys and values depend: "cpu avx512 native".
  virtual std::string arithmetic() const = 0;
  /// A page from what KvPage::copy_to wrote, on the same kind of device. `content`: page_bytes() bytes, of any value:
  /// nonsense gives nonsense, never a fault. Errors: memory (out_of_memory).
  virtual Result<KvPageRef> load_page(std::span<const std::byte> content) = 0;

  /// Appends every extension's tokens. After an error the sequences have the length they had before the call.
  /// Errors: usage (bad_token), limit (context_full), memory (out_of_memory).
  virtual Result<void> forward(std::span<const Extension> extensions) = 0;

  /// Bytes of weights that one token reads; the lower bound of decode time is this over the memory bandwidth.
  virtual std::uint64_t weight_bytes_per_token() const = 0;
  virtual ExpertUse expert_use() const { return {}; }
  /// Whether Extension::shortlist is looked at.
  virtual bool shortlists() const { return false; }
  /// Seconds that a device worked on forward passes, by its own clock, without the host's part; 0 where there is none.
  virtual double device_seconds() const { return 0; }
  virtual int threads() const = 0;
  /// Changes the number of threads between two calls.
  virtual void set_threads(int threads) = 0;
};

/// Loads the model for the device; the backend keeps `file` open. Errors: those of read_model_config; malformed
/// (missing_tensor, shape_mismatch, bad_tensor_type); usage for an unknown device, and for a KV type beside float32
/// arithmetic (bad_kv_type); unsupported where this build or machine has no such device (no_device), and where the device
/// or the model's heads do not allow the KV type (kv_type); memory (out_of_memory).
Result<std::unique_ptr<Backend>> open_backend(const WeightFile& file, const BackendOptions& options);

/// One function for each kind of device; cuda/no_cuda.cpp stands in where the build has none. `numbers`: as in DeviceChoice.
Result<std::unique_ptr<Backend>> open_cpu_backend(const WeightFile& file, const BackendOptions& options);
Result<std::unique_ptr<Backend>> open_cuda_backend(const WeightFile& file, const BackendOptions& options, std::span<const int> numbers);
/// Devices that open_cuda_backend could use now.
int cuda_device_count();

}  // namespace kontor::inference
