#pragma once
// Reads the header, metadata and tensor directory of a GGUF file. Follows the GGUF specification, versions 2 and 3
// (little-endian); every count, length, offset and product comes from a stranger and is bounded before it is used.

#include "base/error.hpp"
#include "inference/weight_file.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

// Bounds beyond those of the specification. A published model has about 50 keys and, with one tensor per expert,
// some 50,000 tensors.
inline constexpr std::uint64_t kMaxMetadataEntries = 1u << 16;
inline constexpr std::uint64_t kMaxTensors = 1u << 18;
inline constexpr std::uint64_t kMaxKeyBytes = 65535;     // specification
inline constexpr std::uint64_t kMaxTensorNameBytes = 64;  // specification
inline constexpr std::uint64_t kMaxAlignment = 1u << 20;

struct GgufDirectory {
  std::uint32_t version = 0;
  std::uint64_t alignment = 32;
  std::uint64_t data_offset = 0;         ///< Of the tensor data; may lie behind the end of a file without tensors.
  std::vector<MetadataEntry> metadata;   ///< In file order.
  std::vector<std::uint32_t> by_key;     ///< Indices into `metadata`, sorted by key.
  std::vector<Tensor> tensors;           ///< In file order; `data` points into `bytes`.
  std::vector<std::uint32_t> by_name;    ///< Indices into `tensors`, sorted by name.

  /// Fills by_key and by_name. Equal keys and names stay in file order.
  void sort();
  /// Null where the key does not exist; by_key must be filled.
  const MetadataEntry* find(std::string_view key) const;
};

/// Views in the result point into `bytes`. `name` goes into Error::where. Takes time linear in the size of header and
/// directory (times a logarithm) and allocates less than a small multiple of it. Throws std::bad_alloc only.
Result<GgufDirectory> read_gguf(std::span<const std::byte> bytes, const std::string& name);

/// The integer at `at`. False where the type is no integer or the value is not below 2^63.
bool read_integer(MetadataType type, const char* at, std::int64_t& out);
bool read_integer(const MetadataEntry& entry, std::int64_t& out);

/// Size of a scalar in the file; 0 for texts and arrays.
std::uint64_t scalar_bytes(MetadataType type);

}  // namespace kontor::inference
