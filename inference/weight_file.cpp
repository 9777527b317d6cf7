#include "inference/weight_file.hpp"

#include "base/hash.hpp"
#include "inference/model_source.hpp"
#include "inference/unicode.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <new>

namespace kontor::inference {
namespace {

// Short enough for the small-string buffers, so reporting exhausted memory needs none.
Error out_of_memory() { return fail(Errc::memory, "out of memory", "out_of_memory"); }

template <class T>
T load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

bool read_number(MetadataType type, const char* at, double& out) {
  if (type == MetadataType::f32) {
    out = load<float>(at);
    return true;
  }
  if (type == MetadataType::f64) {
    out = load<double>(at);
    return true;
  }
  std::int64_t integer = 0;
  if (!read_integer(type, at, integer)) return false;
  out = static_cast<double>(integer);
  return true;
}

std::string describe_type(const MetadataEntry& entry) {
  if (entry.type != MetadataType::array) return std::string(to_string(entry.type));
  return "array of " + std::string(to_string(entry.element_type));
}

}  // namespace

struct WeightFile::State {
  std::string path;
  ModelSource source;
  std::vector<std::span<const std::byte>> parts;  ///< The bytes of every file.
  const GgufDirectory& directory = source.directory;

  Error missing(std::string_view key) const { return fail(Errc::malformed, "metadata key '" + printable(key) + "' is missing", "missing_key", path); }
  Error wrong(const MetadataEntry& entry, std::string_view wanted) const {
    return fail(Errc::malformed,
                "metadata key '" + printable(entry.key) + "' at byte " + std::to_string(entry.offset) + " is " + describe_type(entry) +
                    ", expected " + std::string(wanted),
                "wrong_key_type", path);
  }
};

std::string_view to_string(MetadataType type) {
  switch (type) {
    case MetadataType::u8: return "u8";
    case MetadataType::i8: return "i8";
    case MetadataType::u16: return "u16";
    case MetadataType::i16: return "i16";
    case MetadataType::u32: return "u32";
    case MetadataType::i32: return "i32";
    case MetadataType::f32: return "f32";
    case MetadataType::boolean: return "boolean";
    case MetadataType::text: return "text";
    case MetadataType::array: return "array";
    case MetadataType::u64: return "u64";
    case MetadataType::i64: return "i64";
    case MetadataType::f64: return "f64";
  }
  return "unknown";
}

WeightFile::WeightFile(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Result<WeightFile> WeightFile::open(const std::string& path) try {
  std::error_code ignored;
  auto source = std::filesystem::is_directory(path, ignored) ? open_safetensors_folder(path) : open_gguf(path);
  if (!source) return source.error();
  auto state = std::make_shared<State>();
  state->path = path;
  state->source = std::move(*source);
  for (const FileMapping& mapping : state->source.mappings) state->parts.push_back(mapping.bytes());
  return WeightFile(std::move(state));
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

Result<WeightFile> WeightFile::parse(std::span<const std::byte> bytes, std::string name) try {
  auto state = std::make_shared<State>();
  state->path = std::move(name);
  state->parts.push_back(bytes);
  auto directory = read_gguf(bytes, state->path);
  if (!directory) return directory.error();
  state->source.directory = std::move(*directory);
  return WeightFile(std::move(state));
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

const std::string& WeightFile::path() const { return state_->path; }
std::uint32_t WeightFile::version() const { return state_->directory.version; }
std::uint64_t WeightFile::alignment() const { return state_->directory.alignment; }
bool WeightFile::is_folder() const { return state_->source.folder; }

Result<void> WeightFile::complete() const {
  if (state_->source.incomplete.code != Errc::none) return state_->source.incomplete;
  return {};
}

std::uint64_t WeightFile::size_bytes() const {
  std::uint64_t total = 0;
  for (const auto& part : state_->parts) total += part.size();
  return total;
}

std::string WeightFile::sha256() const {
  const auto digest = [](std::span<const std::byte> bytes) { return sha256_hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()}); };
  if (state_->parts.size() == 1) return digest(state_->parts.front());
  std::string lines;
  for (const auto& part : state_->parts) lines += digest(part) + "\n";
  return sha256_hex(lines);
}

std::span<const MetadataEntry> WeightFile::metadata() const { return state_->directory.metadata; }
std::span<const Tensor> WeightFile::tensors() const { return state_->directory.tensors; }

const MetadataEntry* WeightFile::find(std::string_view key) const {
  const GgufDirectory& d = state_->directory;
  const auto at = std::lower_bound(d.by_key.begin(), d.by_key.end(), key, [&](std::uint32_t i, std::string_view k) { return d.metadata[i].key < k; });
  return at != d.by_key.end() && d.metadata[*at].key == key ? &d.metadata[*at] : nullptr;
}

const Tensor* WeightFile::find_tensor(std::string_view name) const {
  const GgufDirectory& d = state_->directory;
  const auto at = std::lower_bound(d.by_name.begin(), d.by_name.end(), name, [&](std::uint32_t i, std::string_view n) { return d.tensors[i].name < n; });
  return at != d.by_name.end() && d.tensors[*at].name == name ? &d.tensors[*at] : nullptr;
}

Result<const Tensor*> WeightFile::tensor(std::string_view name) const {
  if (const Tensor* found = find_tensor(name)) return found;
  return fail(Errc::malformed, "tensor '" + printable(name) + "' is missing", "missing_tensor", state_->path);
}

Result<std::string_view> WeightFile::text(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (!entry) return state_->missing(key);
  if (entry->type != MetadataType::text) return state_->wrong(*entry, "text");
  if (!is_valid_utf8(entry->payload))
    return fail(Errc::malformed, "metadata key '" + printable(key) + "' at byte " + std::to_string(entry->offset) + " is not valid UTF-8", "bad_utf8", state_->path);
  return entry->payload;
}

Result<std::string_view> WeightFile::text_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? text(key) : Result<std::string_view>(fallback);
}

Result<std::int64_t> WeightFile::integer(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (!entry) return state_->missing(key);
  std::int64_t value = 0;
  if (!read_integer(entry->type, entry->payload.data(), value)) return state_->wrong(*entry, "an integer below 2^63");
  return value;
}

Result<std::int64_t> WeightFile::integer_or(std::string_view key, std::int64_t fallback) const {
  return has(key) ? integer(key) : Result<std::int64_t>(fallback);
}

Result<double> WeightFile::number(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (!entry) return state_->missing(key);
  double value = 0;
  if (!read_number(entry->type, entry->payload.data(), value)) return state_->wrong(*entry, "a number");
  return value;
}

Result<double> WeightFile::number_or(std::string_view key, double fallback) const { return has(key) ? number(key) : Result<double>(fallback); }

Result<bool> WeightFile::boolean_or(std::string_view key, bool fallback) const {
  const MetadataEntry* entry = find(key);
  if (!entry) return fallback;
  if (entry->type != MetadataType::boolean) return state_->wrong(*entry, "a boolean");
  return entry->payload[0] != 0;
}

Result<std::vector<std::string_view>> WeightFile::texts(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (!entry) return state_->missing(key);
  if (entry->type != MetadataType::array || entry->element_type != MetadataType::text) return state_->wrong(*entry, "an array of texts");
  std::vector<std::string_view> values;
  values.reserve(entry->count);  // at least 8 bytes of the file each
  std::string_view rest = entry->payload;
  for (std::uint64_t i = 0; i < entry->count; ++i) {
    const auto length = load<std::uint64_t>(rest.data());  // walked and checked when the file was opened
    values.push_back(rest.substr(8, length));
    rest.remove_prefix(8 + length);
  }
  return values;
}

Result<std::vector<std::int64_t>> WeightFile::integers(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (!entry) return state_->missing(key);
  const std::uint64_t size = scalar_bytes(entry->element_type);
  std::vector<std::int64_t> values;
  if (size != 0) values.reserve(entry->count);
  for (std::uint64_t i = 0; i < entry->count; ++i) {
    std::int64_t value = 0;
    if (size == 0 || !read_integer(entry->element_type, entry->payload.data() + i * size, value)) return state_->wrong(*entry, "an integer or an array of integers");
    values.push_back(value);
  }
  if (entry->count == 0 && size == 0) return state_->wrong(*entry, "an array of integers");
  return values;
}

Result<std::vector<float>> WeightFile::numbers(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (!entry) return state_->missing(key);
  const std::uint64_t size = scalar_bytes(entry->element_type);
  if (entry->type != MetadataType::array || size == 0) return state_->wrong(*entry, "an array of numbers");
  std::vector<float> values;
  values.reserve(entry->count);
  for (std::uint64_t i = 0; i < entry->count; ++i) {
    double value = 0;
    if (!read_number(entry->element_type, entry->payload.data() + i * size, value)) return state_->wrong(*entry, "an array of numbers");
    values.push_back(static_cast<float>(value));
  }
  return values;
}

std::string printable(std::string_view bytes, std::size_t limit) {
  std::string out;
  for (std::size_t at = 0; at < bytes.size();) {
    if (out.size() >= limit) {
      out += "...";
      break;
    }
    const CodePoint point = decode_utf8(bytes, at);
    const bool control = point.value < 0x20 || (point.value >= 0x7f && point.value < 0xa0) || point.value == 0x2028 || point.value == 0x2029 ||
                         (point.value >= 0x202a && point.value <= 0x202e) || (point.value >= 0x2066 && point.value <= 0x2069);
    if (point.value != kBadByte && !control) {
      out.append(bytes.substr(at, point.bytes));
    } else {
      constexpr char kDigits[] = "0123456789abcdef";
      for (std::uint32_t i = 0; i < point.bytes; ++i) {
        const auto byte = static_cast<unsigned char>(bytes[at + i]);
        out += "\\x";
        out += kDigits[byte >> 4];
        out += kDigits[byte & 15];
      }
    }
    at += point.bytes;
  }
  return out;
}

}  // namespace kontor::inference
