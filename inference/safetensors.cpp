#include "inference/safetensors.hpp"

#include "base/json.hpp"
#include "inference/weight_file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <limits>

namespace kontor::inference {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kMaxNameBytes = 512;
constexpr std::int64_t kMaxElements = std::int64_t{1} << 62;

struct Kind {
  std::string_view name;
  TensorType type;
  std::uint64_t bytes;
};

constexpr Kind kKinds[] = {
    {"F32", TensorType::f32, 4},  {"F16", TensorType::f16, 2},          {"BF16", TensorType::bf16, 2}, {"F64", TensorType::f64, 8},
    {"I64", TensorType::i64, 8},  {"I32", TensorType::i32, 4},          {"I16", TensorType::i16, 2},   {"I8", TensorType::i8, 1},
    {"U64", TensorType::i64, 8},  {"U32", TensorType::i32, 4},          {"U16", TensorType::i16, 2},   {"U8", TensorType::i8, 1},
    {"BOOL", TensorType::i8, 1},  {"F8_E4M3", TensorType::f8_e4m3, 1},  {"F8_E5M2", TensorType::i8, 1},
};

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& name)
      : text_(reinterpret_cast<const char*>(bytes.data()), bytes.size()), name_(name) {}

  Result<std::vector<SafetensorsEntry>> read() {
    const auto header = read_header();
    if (!header) return header.error();
    for (const auto& [name, value] : header->items()) {
      if (name == "__metadata__") continue;  // Free text for people.
      if (const auto done = read_entry(name, value); !done) return done.error();
    }
    if (const auto done = check_places(); !done) return done.error();
    return std::move(out_);
  }

 private:
  Error bad(std::string kind, std::string message) const { return fail(Errc::malformed, std::move(message), std::move(kind), name_); }

  Result<Json> read_header() {
    if (text_.size() < kLengthBytes + 2) return bad("truncated", "not a safetensors file: it has only " + std::to_string(text_.size()) + " bytes");
    std::uint64_t length = 0;
    std::memcpy(&length, text_.data(), kLengthBytes);
    if (text_[kLengthBytes] != '{') return bad("bad_magic", "not a safetensors file: no header stands at its start");
    if (length > kMaxSafetensorsHeaderBytes)
      return fail(Errc::limit, "the header claims " + std::to_string(length) + " bytes; at most " + std::to_string(kMaxSafetensorsHeaderBytes) + " are read",
                  "limit_exceeded", name_);
    if (length > text_.size() - kLengthBytes)
      return bad("truncated", "the header needs " + std::to_string(length) + " bytes, but the file has only " + std::to_string(text_.size()));
    data_ = text_.substr(kLengthBytes + length);
    JsonLimits limits;
    limits.depth = 4;
    auto header = parse_json(text_.substr(kLengthBytes, length), limits);
    if (!header) {
      const bool twice = header.error().kind == "json_duplicate_key";
      return bad(twice ? "duplicate_tensor" : "bad_header", "the header is no JSON object of tensors: " + header.error().describe());
    }
    if (!header->is_object()) return bad("bad_header", "the header is no JSON object");
    return header;
  }

  Result<void> read_entry(const std::string& name, const Json& value) {
    if (name.empty() || name.size() > kMaxNameBytes || name.find('\0') != std::string::npos)
      return bad("bad_tensor_name", "tensor name \"" + printable(name) + "\" is empty, too long or has a NUL");
    const std::string what = "tensor '" + printable(name) + "'";
    if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") || !value.contains("data_offsets"))
      return bad("bad_header", what + " must have dtype, shape and data_offsets");
    const Json &dtype = value.at("dtype"), &shape = value.at("shape"), &offsets = value.at("data_offsets");
    const auto* kind = std::find_if(std::begin(kKinds), std::end(kKinds), [&](const Kind& k) { return dtype.is_string() && dtype.get_ref<const std::string&>() == k.name; });
    if (kind == std::end(kKinds)) return bad("bad_tensor_type", what + " has unknown dtype " + printable(dtype.dump(-1, ' ', false, Json::error_handler_t::replace)));
    SafetensorsEntry entry;
    entry.name = name;
    Tensor& tensor = entry.tensor;
    tensor.type = kind->type;
    if (const auto done = read_shape(shape, what, tensor); !done) return done.error();
    const auto is_offset = [](const Json& x) { return x.is_number_unsigned(); };
    if (!offsets.is_array() || offsets.size() != 2 || !is_offset(offsets[0]) || !is_offset(offsets[1]))
      return bad("bad_offset", what + ": data_offsets must be two positions");
    const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
    std::uint64_t bytes = 0;
    if (__builtin_mul_overflow(static_cast<std::uint64_t>(tensor.elements), kind->bytes, &bytes))
      return bad("size_overflow", what + " is larger than 2^64 bytes");
    if (end < begin || end - begin != bytes)
      return bad("bad_offset", what + " needs " + std::to_string(bytes) + " bytes, but its offsets are " + std::to_string(begin) + " and " + std::to_string(end));
    if (end > data_.size())
      return bad("data_out_of_range", what + " ends at byte " + std::to_string(end) + " of the data, which has only " + std::to_string(data_.size()) + " (incomplete download?)");
    if (bytes == 0) return {};
    tensor.bytes = bytes;
    tensor.data = reinterpret_cast<const std::byte*>(data_.data()) + begin;
    tensor.offset = static_cast<std::uint64_t>(data_.data() - text_.data()) + begin;
    if (tensor.offset % kind->bytes != 0)
      return bad("bad_alignment", what + " starts at byte " + std::to_string(tensor.offset) + ", which is no multiple of " + std::to_string(kind->bytes));
    out_.push_back(std::move(entry));
    return {};
  }

  Result<void> read_shape(const Json& shape, const std::string& what, Tensor& tensor) const {
    if (!shape.is_array()) return bad("bad_dims", what + ": the shape is no array");
    if (shape.size() > tensor.shape.size()) return bad("bad_ndims", what + " has " + std::to_string(shape.size()) + " dimensions (at most 4 allowed)");
    tensor.rank = std::max(1, static_cast<int>(shape.size()));
    tensor.elements = 1;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      const Json& length = shape[shape.size() - 1 - i];
      if (!length.is_number_unsigned() || length.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return bad("bad_dims", what + " has a dimension that is no length");
      const auto n = length.get<std::int64_t>();
      tensor.shape[i] = n;
      if (n != 0 && tensor.elements > kMaxElements / n) return bad("size_overflow", what + " has more elements than any file can hold");
      tensor.elements *= n;
    }
    return {};
  }

  /// The data is covered without overlaps and holes, as the format demands: a hole is either damage or hides something.
  Result<void> check_places() {
    std::sort(out_.begin(), out_.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) { return a.tensor.offset < b.tensor.offset; });
    std::uint64_t end = static_cast<std::uint64_t>(data_.data() - text_.data());
    for (const SafetensorsEntry& entry : out_) {
      if (entry.tensor.offset < end) return bad("overlap", "tensor '" + printable(entry.name) + "' overlaps the one before it");
      if (entry.tensor.offset > end)
        return bad("bad_offset", "tensor '" + printable(entry.name) + "' leaves a hole of " + std::to_string(entry.tensor.offset - end) + " bytes before it");
      end = entry.tensor.offset + entry.tensor.bytes;
    }
    if (end != text_.size()) return bad("bad_offset", std::to_string(text_.size() - end) + " bytes behind the last tensor belong to none");
    return {};
  }

  std::string_view text_, data_;
  const std::string& name_;
  std::vector<SafetensorsEntry> out_;
};

}  // namespace

Result<std::vector<SafetensorsEntry>> read_safetensors(std::span<const std::byte> bytes, const std::string& name) {
  return Reader(bytes, name).read();
}

}  // namespace kontor::inference
