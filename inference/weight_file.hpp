#pragma once
// A model mapped into memory: metadata and the directory of tensors. It comes from a GGUF file (version 2 or 3,
// little-endian), from the parts of a split one, or from a Hugging Face folder, which is presented under the keys and
// names that the same model has as GGUF. Everything that can be judged without knowing the architecture is checked
// while opening; see docs/model-files.md.

#include "base/error.hpp"
#include "inference/tensor.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// Value types of GGUF metadata with their numbers in the file.
enum class MetadataType : std::uint32_t {
  u8 = 0, i8 = 1, u16 = 2, i16 = 3, u32 = 4, i32 = 5, f32 = 6, boolean = 7, text = 8, array = 9, u64 = 10, i64 = 11, f64 = 12,
};

std::string_view to_string(MetadataType type);

/// One metadata entry. Views point into the mapping. Scalars and arrays are decoded when they are asked for.
struct MetadataEntry {
  std::string_view key;
  MetadataType type = MetadataType::u8;          ///< `array` for arrays.
  MetadataType element_type = MetadataType::u8;  ///< Of an array; else equal to `type`.
  std::uint64_t count = 1;                       ///< Elements of an array; 1 for scalars.
  std::string_view payload;                      ///< Encoded bytes of the value (for a scalar text: its characters).
  std::uint64_t offset = 0;                      ///< Of the entry from the start of the file.
};

/// Read-only and safe to use from any number of threads. Cheap to move; tensors and views stay valid while any copy
/// of the object that `open` returned lives. Replacing or shortening the file while it is mapped is not survivable
/// (the kernel sends SIGBUS), renaming or unlinking it is harmless.
class WeightFile {
 public:
  /// Maps and checks a file, with the other parts where it is split, or a folder. Errors carry a stable kind: not_found, permission_denied, not_regular_file, truncated,
  /// bad_magic, unsupported_version, unsupported_endianness, bad_count, limit_exceeded, bad_key, duplicate_key,
  /// bad_value_type, bad_string, bad_alignment, wrong_key_type (general.alignment), bad_tensor_name, duplicate_tensor,
  /// bad_ndims, bad_dims, bad_tensor_type, size_overflow, bad_offset, overlap, data_out_of_range, out_of_memory; for
  /// folders also those of open_safetensors_folder (model_source.hpp).
  static Result<WeightFile> open(const std::string& path);

  /// The same over bytes that the caller keeps alive and unchanged, aligned to 64; `name` stands in for the path.
  static Result<WeightFile> parse(std::span<const std::byte> bytes, std::string name);

  const std::string& path() const;
  std::uint32_t version() const;
  std::uint64_t alignment() const;
  std::uint64_t size_bytes() const;
  /// Whether this is a Hugging Face folder: the vocabulary is in its tokenizer.json.
  bool is_folder() const;
  /// Parts of a split model that are not there are no error while the first part is opened. Errors: unsupported
  /// (missing_split), malformed (bad_split), and those of reading a part.
  Result<void> complete() const;
  /// Digest of exactly the bytes that are mapped, so a pin cannot be checked against another file. Reads everything.
  /// Of several files: the digest of their digests (lower-case hexadecimal, each with a line feed).
  std::string sha256() const;

  std::span<const MetadataEntry> metadata() const;
  /// Null where the key does not exist.
  const MetadataEntry* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }

  // Typed getters. Errors: malformed with kind missing_key, wrong_key_type or bad_utf8; the message names the key.
  // The forms with a fallback return it only where the key is missing; a wrong type stays an error.

  /// Valid UTF-8.
  Result<std::string_view> text(std::string_view key) const;
  Result<std::string_view> text_or(std::string_view key, std::string_view fallback) const;
  /// Any integer type that holds the value; booleans, floats and texts are wrong.
  Result<std::int64_t> integer(std::string_view key) const;
  Result<std::int64_t> integer_or(std::string_view key, std::int64_t fallback) const;
  /// f32, f64 or any integer type. May be NaN or infinite: the caller judges.
  Result<double> number(std::string_view key) const;
  Result<double> number_or(std::string_view key, double fallback) const;
  Result<bool> boolean_or(std::string_view key, bool fallback) const;

  // Arrays, copied out (views for texts). `integers` also takes a scalar as one element: hyperparameters may be either.

  Result<std::vector<std::string_view>> texts(std::string_view key) const;  ///< Raw bytes; UTF-8 is not checked.
  Result<std::vector<std::int64_t>> integers(std::string_view key) const;
  Result<std::vector<float>> numbers(std::string_view key) const;

  std::span<const Tensor> tensors() const;
  /// Null where there is no such tensor.
  const Tensor* find_tensor(std::string_view name) const;
  /// Errors: malformed with kind missing_tensor.
  Result<const Tensor*> tensor(std::string_view name) const;

 private:
  struct State;
  explicit WeightFile(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

/// Text from outside made fit for messages: control characters and invalid UTF-8 escaped as \xNN, cut at `limit` bytes.
std::string printable(std::string_view bytes, std::size_t limit = 80);

}  // namespace kontor::inference
