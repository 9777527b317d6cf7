#pragma once
// Writes small GGUF files for tests, right ones and wrong ones.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::test {

/// Fields are appended as given; nothing is checked. Counts of the header are those of the calls made, unless set.
class GgufBuilder {
 public:
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;

  void key(std::string_view name, std::uint32_t type) {
    text(entries_, name);
    number(entries_, type);
    ++entry_count;
  }
  template <class T>
  void scalar(std::string_view name, std::uint32_t type, T value) {
    key(name, type);
    number(entries_, value);
  }
  void u32(std::string_view name, std::uint32_t value) { scalar(name, 4, value); }
  void boolean(std::string_view name, bool value) { scalar<std::uint8_t>(name, 7, value); }
  void string(std::string_view name, std::string_view value) {
    key(name, 8);
    text(entries_, value);
  }
  void strings(std::string_view name, const std::vector<std::string>& values) {
    key(name, 9);
    number(entries_, std::uint32_t{8});
    number(entries_, static_cast<std::uint64_t>(values.size()));
    for (const std::string& value : values) text(entries_, value);
  }
  void i32s(std::string_view name, const std::vector<std::int32_t>& values) {
    key(name, 9);
    number(entries_, std::uint32_t{5});
    number(entries_, static_cast<std::uint64_t>(values.size()));
    for (const std::int32_t value : values) number(entries_, value);
  }
  void f32s(std::string_view name, const std::vector<float>& values) {
    key(name, 9);
    number(entries_, std::uint32_t{6});
    number(entries_, static_cast<std::uint64_t>(values.size()));
    for (const float value : values) number(entries_, value);
  }
  /// `offset` is relative to the data.
  void tensor(std::string_view name, const std::vector<std::uint64_t>& dims, std::uint32_t type, std::uint64_t offset) {
    text(tensors_, name);
    number(tensors_, static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t d : dims) number(tensors_, d);
    number(tensors_, type);
    number(tensors_, offset);
    ++tensor_count;
  }
  std::string data;
  std::uint64_t entry_count = 0;
  std::uint64_t tensor_count = 0;

  std::string bytes() const {
    std::string out = "GGUF";
    number(out, version);
    number(out, tensor_count);
    number(out, entry_count);
    out += entries_;
    out += tensors_;
    if (!data.empty()) out.append((alignment - out.size() % alignment) % alignment, '\0');
    return out + data;
  }

 private:
  template <class T>
  static void number(std::string& out, T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    out.append(raw, sizeof(T));
  }
  static void text(std::string& out, std::string_view value) {
    number(out, static_cast<std::uint64_t>(value.size()));
    out += value;
  }
  std::string entries_;
  std::string tensors_;
};

/// The bytes of a file in memory aligned as a mapping would be.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::string_view text) : words_(text.size() / 64 + 1), size_(text.size()) {
    if (!text.empty()) std::memcpy(words_.data(), text.data(), text.size());
  }
  std::span<const std::byte> span() const { return {reinterpret_cast<const std::byte*>(words_.data()), size_}; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> words_;
  std::size_t size_;
};

}  // namespace kontor::test
