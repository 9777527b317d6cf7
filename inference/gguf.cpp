#include "inference/gguf.hpp"

#include "inference/unicode.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <optional>

namespace kontor::inference {

static_assert(std::endian::native == std::endian::little, "GGUF data is used in place and is little-endian");

std::uint64_t scalar_bytes(MetadataType type) {
  switch (type) {
    case MetadataType::u8:
    case MetadataType::i8:
    case MetadataType::boolean: return 1;
    case MetadataType::u16:
    case MetadataType::i16: return 2;
    case MetadataType::u32:
    case MetadataType::i32:
    case MetadataType::f32: return 4;
    case MetadataType::u64:
    case MetadataType::i64:
    case MetadataType::f64: return 8;
    case MetadataType::text:
    case MetadataType::array: return 0;
  }
  return 0;
}

namespace {

template <class T>
T load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

}  // namespace

bool read_integer(MetadataType type, const char* at, std::int64_t& out) {
  switch (type) {
    case MetadataType::u8: out = load<std::uint8_t>(at); return true;
    case MetadataType::i8: out = load<std::int8_t>(at); return true;
    case MetadataType::u16: out = load<std::uint16_t>(at); return true;
    case MetadataType::i16: out = load<std::int16_t>(at); return true;
    case MetadataType::u32: out = load<std::uint32_t>(at); return true;
    case MetadataType::i32: out = load<std::int32_t>(at); return true;
    case MetadataType::i64: out = load<std::int64_t>(at); return true;
    case MetadataType::u64: {
      const auto value = load<std::uint64_t>(at);
      out = static_cast<std::int64_t>(value);
      return value <= static_cast<std::uint64_t>(INT64_MAX);
    }
    default: return false;
  }
}

bool read_integer(const MetadataEntry& entry, std::int64_t& out) {
  return entry.type != MetadataType::array && read_integer(entry.type, entry.payload.data(), out);
}

namespace {

constexpr std::uint32_t kLastMetadataType = 12;
constexpr std::uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;           // key length, key, type, value
constexpr std::uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name length, name, rank, dimension, type, offset

std::string at_byte(std::uint64_t offset) { return " at byte " + std::to_string(offset); }

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& name)
      : text_(reinterpret_cast<const char*>(bytes.data()), bytes.size()), name_(name) {}

  Result<GgufDirectory> read();

 private:
  std::uint64_t left() const { return text_.size() - pos_; }

  template <class T>
  std::optional<T> number() {
    if (left() < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, text_.data() + pos_, sizeof(T));
    pos_ += sizeof(T);
    return value;
  }

  /// A length and that many bytes.
  std::optional<std::string_view> text() {
    const auto length = number<std::uint64_t>();
    if (!length || *length > left()) return std::nullopt;
    const std::string_view value = text_.substr(pos_, *length);
    pos_ += *length;
    return value;
  }

  Error bad(Errc code, std::string kind, std::string message) const { return fail(code, std::move(message), std::move(kind), name_); }
  Error malformed(std::string kind, std::string message) const { return bad(Errc::malformed, std::move(kind), std::move(message)); }
  Error truncated(std::string what, std::uint64_t offset) const {
    return malformed("truncated", "the file ends inside " + std::move(what) + " that starts" + at_byte(offset) +
                                      " (file size " + std::to_string(text_.size()) + ")");
  }

  Result<void> read_header();
  Result<void> read_entry();
  Result<void> skip_array(MetadataEntry& entry);
  Result<void> read_tensor();
  Result<void> find_alignment();
  Result<void> place_tensors();

  std::string_view text_;
  const std::string& name_;
  std::uint64_t pos_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t entry_count_ = 0;
  GgufDirectory out_;
};

Result<void> Reader::read_header() {
  if (text_.size() < 4) return malformed("truncated", "not a GGUF file: it has only " + std::to_string(text_.size()) + " bytes");
  if (text_.substr(0, 4) != "GGUF") {
    const bool swapped = text_.substr(0, 4) == "FUGG";
    return malformed("bad_magic", "not a GGUF file: it starts with \"" + printable(text_.substr(0, 4)) + "\"" +
                                      (swapped ? " (byte order reversed)" : "") + " instead of \"GGUF\"");
  }
  pos_ = 4;
  const auto version = number<std::uint32_t>();
  if (!version) return truncated("the header", 0);
  if (*version != 2 && *version != 3) {
    if ((*version & 0xffff) == 0 && *version != 0)
      return bad(Errc::unsupported, "unsupported_endianness", "the file is big-endian; convert it to little-endian GGUF");
    return bad(Errc::unsupported, "unsupported_version",
               "GGUF version " + std::to_string(*version) + " is not supported (2 and 3 are)");
  }
  out_.version = *version;
  const auto tensors = number<std::uint64_t>();
  const auto entries = number<std::uint64_t>();
  if (!tensors || !entries) return truncated("the header", 0);
  if (*tensors > kMaxTensors)
    return malformed("bad_count", "tensor count " + std::to_string(*tensors) + at_byte(8) + " is beyond " + std::to_string(kMaxTensors));
  if (*entries > kMaxMetadataEntries)
    return malformed("bad_count", "metadata count " + std::to_string(*entries) + at_byte(16) + " is beyond " + std::to_string(kMaxMetadataEntries));
  tensor_count_ = *tensors;
  entry_count_ = *entries;
  return {};
}

Result<void> Reader::skip_array(MetadataEntry& entry) {
  const std::string what = "array '" + printable(entry.key) + "'";
  const auto element = number<std::uint32_t>();
  const auto count = number<std::uint64_t>();
  if (!element || !count) return truncated(what, entry.offset);
  if (*element > kLastMetadataType || static_cast<MetadataType>(*element) == MetadataType::array)
    return malformed("bad_value_type", what + at_byte(entry.offset) + " has elements of unsupported type " + std::to_string(*element));
  entry.element_type = static_cast<MetadataType>(*element);
  entry.count = *count;
  const std::uint64_t start = pos_;
  if (entry.element_type == MetadataType::text) {
    if (*count > left() / 8) return truncated(what, entry.offset);
    for (std::uint64_t i = 0; i < *count; ++i)
      if (!text()) return truncated("element " + std::to_string(i) + " of " + what, entry.offset);
  } else {
    const std::uint64_t size = scalar_bytes(entry.element_type);
    if (*count > left() / size) return truncated(what, entry.offset);
    pos_ += *count * size;
  }
  entry.payload = text_.substr(start, pos_ - start);
  if (entry.element_type == MetadataType::boolean)
    for (const char c : entry.payload)
      if (c != 0 && c != 1) return malformed("bad_value_type", what + at_byte(entry.offset) + " holds a boolean that is neither 0 nor 1");
  return {};
}

Result<void> Reader::read_entry() {
  MetadataEntry entry;
  entry.offset = pos_;
  const auto key = text();
  const std::string number_text = std::to_string(out_.metadata.size());
  if (!key) return truncated("the key of metadata entry " + number_text, entry.offset);
  if (key->empty() || key->size() > kMaxKeyBytes)
    return malformed("bad_key", "metadata key " + number_text + at_byte(entry.offset) + " has " + std::to_string(key->size()) + " bytes (1 to 65535 allowed)");
  if (key->find('\0') != std::string_view::npos || !is_valid_utf8(*key))
    return malformed("bad_key", "metadata key \"" + printable(*key) + "\"" + at_byte(entry.offset) + " is not text (NUL or invalid UTF-8)");
  entry.key = *key;
  const std::string what = "'" + printable(*key) + "'";
  const auto type = number<std::uint32_t>();
  if (!type) return truncated(what, entry.offset);
  if (*type > kLastMetadataType)
    return malformed("bad_value_type", what + at_byte(entry.offset) + " has unknown value type " + std::to_string(*type));
  entry.type = static_cast<MetadataType>(*type);
  entry.element_type = entry.type;
  if (entry.type == MetadataType::array) {
    if (auto skipped = skip_array(entry); !skipped) return skipped.error();
  } else if (entry.type == MetadataType::text) {
    const auto value = text();
    if (!value) return truncated("text " + what, entry.offset);
    entry.payload = *value;
  } else {
    const std::uint64_t size = scalar_bytes(entry.type);
    if (size > left()) return truncated(what, entry.offset);
    entry.payload = text_.substr(pos_, size);
    pos_ += size;
    if (entry.type == MetadataType::boolean && entry.payload[0] != 0 && entry.payload[0] != 1)
      return malformed("bad_value_type", what + at_byte(entry.offset) + " is a boolean that is neither 0 nor 1");
  }
  out_.metadata.push_back(entry);
  return {};
}

Result<void> Reader::read_tensor() {
  const std::uint64_t offset = pos_;
  const std::string number_text = std::to_string(out_.tensors.size());
  const auto name = text();
  if (!name) return truncated("the name of tensor " + number_text, offset);
  if (name->empty() || name->size() > kMaxTensorNameBytes)
    return malformed("bad_tensor_name", "the name of tensor " + number_text + at_byte(offset) + " has " + std::to_string(name->size()) + " bytes (1 to 64 allowed)");
  if (name->find('\0') != std::string_view::npos || !is_valid_utf8(*name))
    return malformed("bad_tensor_name", "tensor name \"" + printable(*name) + "\"" + at_byte(offset) + " is not text (NUL or invalid UTF-8)");
  Tensor tensor;
  tensor.name = *name;
  const std::string what = "tensor '" + printable(*name) + "'";
  const auto rank = number<std::uint32_t>();
  if (!rank) return truncated(what, offset);
  if (*rank < 1 || *rank > 4)
    return malformed("bad_ndims", what + at_byte(offset) + " has " + std::to_string(*rank) + " dimensions (1 to 4 allowed)");
  tensor.rank = static_cast<int>(*rank);
  constexpr std::int64_t kMaxElements = std::int64_t{1} << 62;
  tensor.elements = 1;
  for (int i = 0; i < tensor.rank; ++i) {
    const auto dimension = number<std::uint64_t>();
    if (!dimension) return truncated(what, offset);
    if (*dimension == 0 || *dimension > static_cast<std::uint64_t>(INT64_MAX))
      return malformed("bad_dims", what + at_byte(offset) + " has dimension " + std::to_string(*dimension));
    const auto length = static_cast<std::int64_t>(*dimension);
    if (length > kMaxElements / tensor.elements)
      return malformed("size_overflow", what + at_byte(offset) + " has more elements than any file can hold");
    tensor.shape[static_cast<std::size_t>(i)] = length;
    tensor.elements *= length;
  }
  const auto type = number<std::uint32_t>();
  const auto place = number<std::uint64_t>();
  if (!type || !place) return truncated(what, offset);
  const TensorTypeInfo* traits = find_tensor_type(*type);
  if (!traits) return malformed("bad_tensor_type", what + at_byte(offset) + " has unknown type " + std::to_string(*type));
  tensor.type = traits->type;
  if (tensor.shape[0] % traits->block_elements != 0)
    return malformed("bad_dims", what + at_byte(offset) + ": rows of " + std::to_string(tensor.shape[0]) + " values do not divide into " +
                                     std::string(traits->name) + " blocks of " + std::to_string(traits->block_elements));
  const std::int64_t blocks = tensor.elements / traits->block_elements;
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<std::uint64_t>(blocks), static_cast<std::uint64_t>(traits->block_bytes), &bytes))
    return malformed("size_overflow", what + at_byte(offset) + " is larger than 2^64 bytes");
  tensor.bytes = bytes;
  tensor.offset = *place;  // relative to the data until place_tensors
  out_.tensors.push_back(tensor);
  return {};
}

Result<void> Reader::find_alignment() {
  const MetadataEntry* found = out_.find("general.alignment");
  if (!found) return {};
  const MetadataEntry& entry = *found;
  std::uint64_t value = 0;
  switch (entry.type) {
    case MetadataType::u8: case MetadataType::i8: case MetadataType::u16: case MetadataType::i16:
    case MetadataType::u32: case MetadataType::i32: case MetadataType::u64: case MetadataType::i64:
      // A negative number keeps its sign bit, so it is no power of two below the limit.
      std::memcpy(&value, entry.payload.data(), entry.payload.size());
      break;
    default:
      return malformed("wrong_key_type", "'general.alignment'" + at_byte(entry.offset) + " is " + std::string(to_string(entry.type)) + ", not an integer");
  }
  if (!std::has_single_bit(value) || value < 8 || value > kMaxAlignment)
    return malformed("bad_alignment", "'general.alignment'" + at_byte(entry.offset) + " is " + std::to_string(value) + "; it must be a power of two from 8 to " + std::to_string(kMaxAlignment));
  out_.alignment = value;
  return {};
}

Result<void> Reader::place_tensors() {
  out_.data_offset = (pos_ + out_.alignment - 1) / out_.alignment * out_.alignment;
  const std::uint64_t available = text_.size() > out_.data_offset ? text_.size() - out_.data_offset : 0;
  for (Tensor& tensor : out_.tensors) {
    const std::string what = "tensor '" + printable(tensor.name) + "'";
    if (tensor.offset % out_.alignment != 0)
      return malformed("bad_offset", what + ": data offset " + std::to_string(tensor.offset) + " is not a multiple of the alignment " + std::to_string(out_.alignment));
    if (tensor.offset > available || tensor.bytes > available - tensor.offset)
      return malformed("data_out_of_range", what + " needs " + std::to_string(tensor.bytes) + " bytes at data offset " + std::to_string(tensor.offset) +
                                                ", but the file holds only " + std::to_string(available) + " bytes of data from byte " +
                                                std::to_string(out_.data_offset) + " on (incomplete download?)");
    tensor.offset += out_.data_offset;
    tensor.data = reinterpret_cast<const std::byte*>(text_.data()) + tensor.offset;
  }
  std::vector<std::uint32_t> order(out_.tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return out_.tensors[a].offset < out_.tensors[b].offset; });
  // Nothing but padding may lie between tensors: a hole is either damage or hides something.
  std::uint64_t end = out_.data_offset;
  const Tensor* before = nullptr;
  for (const std::uint32_t index : order) {
    const Tensor& tensor = out_.tensors[index];
    if (tensor.offset < end)
      return malformed("overlap", "tensors '" + printable(before->name) + "' and '" + printable(tensor.name) + "' overlap" + at_byte(tensor.offset));
    if (tensor.offset - end >= out_.alignment)
      return malformed("bad_offset", "tensor '" + printable(tensor.name) + "'" + at_byte(tensor.offset) + " leaves a hole of " +
                                         std::to_string(tensor.offset - end) + " bytes before it");
    end = tensor.offset + tensor.bytes;
    before = &tensor;
  }
  return {};
}

Result<GgufDirectory> Reader::read() {
  if (auto done = read_header(); !done) return done.error();
  out_.metadata.reserve(std::min(entry_count_, left() / kMinEntryBytes));
  for (std::uint64_t i = 0; i < entry_count_; ++i)
    if (auto done = read_entry(); !done) return done.error();

  out_.sort();
  for (std::size_t i = 1; i < out_.by_key.size(); ++i) {
    const MetadataEntry& again = out_.metadata[out_.by_key[i]];
    if (again.key == out_.metadata[out_.by_key[i - 1]].key)
      return malformed("duplicate_key", "key '" + printable(again.key) + "' occurs again" + at_byte(again.offset));
  }
  if (auto done = find_alignment(); !done) return done.error();

  out_.tensors.reserve(std::min(tensor_count_, left() / kMinTensorBytes));
  for (std::uint64_t i = 0; i < tensor_count_; ++i)
    if (auto done = read_tensor(); !done) return done.error();
  out_.sort();
  for (std::size_t i = 1; i < out_.by_name.size(); ++i)
    if (out_.tensors[out_.by_name[i]].name == out_.tensors[out_.by_name[i - 1]].name)
      return malformed("duplicate_tensor", "tensor '" + printable(out_.tensors[out_.by_name[i]].name) + "' occurs twice in the directory");
  if (auto done = place_tensors(); !done) return done.error();
  return std::move(out_);
}

}  // namespace

void GgufDirectory::sort() {
  const auto fill = [](std::vector<std::uint32_t>& order, const auto& items, const auto& name_of) {
    order.resize(items.size());
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      const int difference = name_of(items[a]).compare(name_of(items[b]));
      return difference != 0 ? difference < 0 : a < b;
    });
  };
  fill(by_key, metadata, [](const MetadataEntry& entry) { return entry.key; });
  fill(by_name, tensors, [](const Tensor& tensor) { return tensor.name; });
}

const MetadataEntry* GgufDirectory::find(std::string_view key) const {
  const auto at = std::lower_bound(by_key.begin(), by_key.end(), key, [&](std::uint32_t i, std::string_view k) { return metadata[i].key < k; });
  return at != by_key.end() && metadata[*at].key == key ? &metadata[*at] : nullptr;
}

Result<GgufDirectory> read_gguf(std::span<const std::byte> bytes, const std::string& name) { return Reader(bytes, name).read(); }

}  // namespace kontor::inference
