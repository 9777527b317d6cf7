#pragma once
// Writes small safetensors files for tests.

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/gguf_builder.hpp"

namespace kontor::test {

/// Tensors lie in the order of the calls.
class SafetensorsBuilder {
 public:
  static std::string bytes_of(const std::vector<float>& values) {
    std::string bytes(values.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }

  void add(const std::string& name, const std::string& dtype, const std::vector<std::int64_t>& shape, const std::string& data) {
    tensors_.push_back({name, dtype, shape, data});
  }
  void f32(const std::string& name, const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
    add(name, "F32", shape, bytes_of(values));
  }
  void replace(const std::string& name, const std::string& dtype, const std::vector<std::int64_t>& shape, const std::string& data) {
    for (Entry& entry : tensors_)
      if (entry.name == name) entry = {name, dtype, shape, data};
  }
  std::pair<SafetensorsBuilder, SafetensorsBuilder> split(std::size_t at) const {
    SafetensorsBuilder first, second;
    for (std::size_t i = 0; i < tensors_.size(); ++i) (i < at ? first : second).tensors_.push_back(tensors_[i]);
    return {first, second};
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const Entry& entry : tensors_) names.push_back(entry.name);
    return names;
  }

  std::string bytes() const {
    std::string header = "{", data;
    for (const Entry& entry : tensors_) {
      if (header.size() > 1) header += ",";
      header += "\"" + entry.name + "\":{\"dtype\":\"" + entry.dtype + "\",\"shape\":[";
      for (std::size_t i = 0; i < entry.shape.size(); ++i) header += (i ? "," : "") + std::to_string(entry.shape[i]);
      header += "],\"data_offsets\":[" + std::to_string(data.size()) + "," + std::to_string(data.size() + entry.data.size()) + "]}";
      data += entry.data;
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    std::string out(8, '\0');
    const std::uint64_t length = header.size();
    std::memcpy(out.data(), &length, sizeof length);
    return out + header + data;
  }

 private:
  struct Entry {
    std::string name, dtype;
    std::vector<std::int64_t> shape;
    std::string data;
  };
  std::vector<Entry> tensors_;
};

}  // namespace kontor::test
