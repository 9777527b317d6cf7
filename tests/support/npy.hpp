#pragma once
// Reads float32 arrays in NumPy's .npy format, versions 1 to 3 (little-endian, C order), for reference data.

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

namespace kontor::test {

struct NpyArray {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
  std::int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  std::int64_t columns() const { return rows() == 0 ? 0 : static_cast<std::int64_t>(values.size()) / rows(); }
};

/// Empty where the file is missing or holds something else than '<f4' in C order.
inline std::optional<NpyArray> read_npy(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (bytes.size() < 12 || bytes.compare(0, 6, "\x93NUMPY") != 0) return std::nullopt;
  const bool wide = bytes[6] > 1;
  std::size_t length = static_cast<unsigned char>(bytes[8]) | static_cast<std::size_t>(static_cast<unsigned char>(bytes[9])) << 8;
  if (wide)
    length |= static_cast<std::size_t>(static_cast<unsigned char>(bytes[10])) << 16 | static_cast<std::size_t>(static_cast<unsigned char>(bytes[11])) << 24;
  const std::size_t start = wide ? 12 : 10;
  if (bytes.size() < start + length) return std::nullopt;
  const std::string header = bytes.substr(start, length);
  if (header.find("'<f4'") == std::string::npos || header.find("'fortran_order': False") == std::string::npos) return std::nullopt;
  std::size_t at = header.find("'shape': (");
  if (at == std::string::npos) return std::nullopt;
  at += 10;
  NpyArray out;
  std::int64_t count = 1;
  while (at < header.size() && header[at] != ')') {
    if (header[at] < '0' || header[at] > '9') {
      ++at;
      continue;
    }
    std::int64_t number = 0;
    while (at < header.size() && header[at] >= '0' && header[at] <= '9') number = number * 10 + (header[at++] - '0');
    out.shape.push_back(number);
    count *= number;
  }
  if (bytes.size() - start - length != static_cast<std::size_t>(count) * sizeof(float)) return std::nullopt;
  out.values.resize(static_cast<std::size_t>(count));
  std::memcpy(out.values.data(), bytes.data() + start + length, out.values.size() * sizeof(float));
  return out;
}

}  // namespace kontor::test
