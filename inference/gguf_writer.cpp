#include "inference/gguf_writer.hpp"

#include <unistd.h>

#include <filesystem>

namespace kontor::inference {
namespace {

constexpr std::uint64_t kAlignment = 32;

template <class T>
void number(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void text_to(std::string& out, std::string_view value) {
  number(out, static_cast<std::uint64_t>(value.size()));
  out += value;
}

std::uint64_t padded(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

void GgufMetadata::key(std::string_view name, MetadataType type) {
  text_to(bytes_, name);
  number(bytes_, static_cast<std::uint32_t>(type));
  ++count_;
}

void GgufMetadata::copy(const MetadataEntry& entry) {
  key(entry.key, entry.type);
  if (entry.type == MetadataType::array) {
    number(bytes_, static_cast<std::uint32_t>(entry.element_type));
    number(bytes_, entry.count);
  } else if (entry.type == MetadataType::text) {
    number(bytes_, static_cast<std::uint64_t>(entry.payload.size()));
  }
  bytes_ += entry.payload;
}

void GgufMetadata::text(std::string_view name, std::string_view value) {
  key(name, MetadataType::text);
  text_to(bytes_, value);
}

void GgufMetadata::u32(std::string_view name, std::uint32_t value) {
  key(name, MetadataType::u32);
  number(bytes_, value);
}

std::uint64_t GgufTensor::bytes() const {
  std::int64_t elements = 1;
  for (const std::int64_t length : shape) elements *= length;
  return static_cast<std::uint64_t>(elements / info(type).block_elements) * static_cast<std::uint64_t>(info(type).block_bytes);
}

Result<std::unique_ptr<GgufWriter>> GgufWriter::create(const std::string& path, const GgufMetadata& metadata, std::span<const GgufTensor> tensors) {
  std::unique_ptr<GgufWriter> writer(new GgufWriter(path));
  writer->file_ = std::fopen(writer->temporary_.c_str(), "wbe");
  if (!writer->file_) return fail_errno("create", writer->temporary_);
  std::string head = "GGUF";
  number(head, std::uint32_t{3});
  number(head, static_cast<std::uint64_t>(tensors.size()));
  number(head, metadata.count());
  head += metadata.bytes();
  std::uint64_t offset = 0;
  for (const GgufTensor& tensor : tensors) {
    text_to(head, tensor.name);
    number(head, static_cast<std::uint32_t>(tensor.rank));
    for (int i = 0; i < tensor.rank; ++i) number(head, static_cast<std::uint64_t>(tensor.shape[static_cast<std::size_t>(i)]));
    number(head, static_cast<std::uint32_t>(tensor.type));
    number(head, offset);
    offset += padded(tensor.bytes());
  }
  if (const auto done = writer->write(std::as_bytes(std::span(head))); !done) return done.error();
  if (const auto done = writer->pad(); !done) return done.error();
  return writer;
}

GgufWriter::~GgufWriter() {
  if (!file_) return;
  std::fclose(file_);
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

Result<void> GgufWriter::write(std::span<const std::byte> bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) return fail_errno("write", temporary_);
  written_ += bytes.size();
  return {};
}

Result<void> GgufWriter::pad() {
  const std::byte zeros[kAlignment] = {};
  return write(std::span(zeros).first(padded(written_) - written_));
}

Result<void> GgufWriter::end_tensor() { return pad(); }

Result<void> GgufWriter::finish() {
  if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0) return fail_errno("write", temporary_);
  std::fclose(file_);
  file_ = nullptr;
  std::error_code error;
  std::filesystem::rename(temporary_, path_, error);
  if (error) {
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
    return fail(Errc::io, "rename " + temporary_ + ": " + error.message(), "", path_);
  }
  return {};
}

}  // namespace kontor::inference
