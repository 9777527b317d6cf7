#pragma once
// Writes GGUF version 3 files.

#include "base/error.hpp"
#include "inference/weight_file.hpp"

#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// Metadata as it stands in the file, in the order of the calls. No key may be written twice.
class GgufMetadata {
 public:
  /// An entry of another file, unchanged.
  void copy(const MetadataEntry& entry);
  void text(std::string_view key, std::string_view value);
  void u32(std::string_view key, std::uint32_t value);
  std::uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(std::string_view name, MetadataType type);
  std::string bytes_;
  std::uint64_t count_ = 0;
};

struct GgufTensor {
  std::string name;
  TensorType type = TensorType::f32;
  int rank = 1;
  std::array<std::int64_t, 4> shape{1, 1, 1, 1};
  std::uint64_t bytes() const;
};

/// Writes into PATH.part and renames it when everything is there, so that no half-written file bears the name.
class GgufWriter {
 public:
  /// Writes header and directory. Errors: io.
  static Result<std::unique_ptr<GgufWriter>> create(const std::string& path, const GgufMetadata& metadata, std::span<const GgufTensor> tensors);
  /// Removes what was written unless `finish` succeeded.
  ~GgufWriter();

  /// Data in the order of the directory, without padding; a tensor may come in pieces. Errors: io.
  Result<void> write(std::span<const std::byte> bytes);
  /// After the last byte of a tensor.
  Result<void> end_tensor();
  /// Flushes to the disk and gives the file its name. Errors: io.
  Result<void> finish();

 private:
  explicit GgufWriter(std::string path) : path_(std::move(path)), temporary_(path_ + ".part") {}
  Result<void> pad();

  std::string path_, temporary_;
  std::FILE* file_ = nullptr;
  std::uint64_t written_ = 0;
};

}  // namespace kontor::inference
