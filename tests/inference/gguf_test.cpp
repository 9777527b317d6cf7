#include "inference/weight_file.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/gguf_builder.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

using namespace kontor;
using namespace kontor::inference;
using kontor::test::AlignedBytes;
using kontor::test::GgufBuilder;

namespace {

std::string kind_of(const std::string& bytes) {
  const AlignedBytes aligned(bytes);
  const auto file = WeightFile::parse(aligned.span(), "test.gguf");
  return file ? "ok" : file.error().kind;
}

GgufBuilder small_model() {
  GgufBuilder b;
  b.string("general.architecture", "qwen2");
  b.u32("qwen2.block_count", 2);
  b.scalar<float>("qwen2.eps", 6, 1e-6f);
  b.boolean("tokenizer.ggml.add_bos_token", true);
  b.strings("tokenizer.ggml.tokens", {"a", "", "bc"});
  b.i32s("types", {1, -2, 3});
  b.tensor("w", {4, 3}, 0, 0);
  b.tensor("q", {32}, 8, 64);
  b.data.assign(64 + 34, '\1');
  return b;
}

}  // namespace

TEST_CASE("metadata and tensors come back as they were written") {
  const AlignedBytes bytes(small_model().bytes());
  const auto opened = WeightFile::parse(bytes.span(), "m");
  REQUIRE(opened.has_value());
  const WeightFile& file = *opened;
  CHECK(file.version() == 3);
  CHECK(file.text("general.architecture").value() == "qwen2");
  CHECK(file.integer("qwen2.block_count").value() == 2);
  CHECK(file.integer_or("absent", 7).value() == 7);
  CHECK(file.number("qwen2.eps").value() == static_cast<double>(1e-6f));
  CHECK(file.number("qwen2.block_count").value() == 2.0);
  CHECK(file.boolean_or("tokenizer.ggml.add_bos_token", false).value());
  CHECK(file.texts("tokenizer.ggml.tokens").value() == std::vector<std::string_view>{"a", "", "bc"});
  CHECK(file.integers("types").value() == std::vector<std::int64_t>{1, -2, 3});
  CHECK(file.integers("qwen2.block_count").value() == std::vector<std::int64_t>{2});
  CHECK(file.integer("general.architecture").error().kind == "wrong_key_type");
  CHECK(file.integer("qwen2.eps").error().kind == "wrong_key_type");
  CHECK(file.integer("tokenizer.ggml.add_bos_token").error().kind == "wrong_key_type");
  CHECK(file.text("absent").error().kind == "missing_key");
  CHECK(file.text_or("absent", "x").value() == "x");
  CHECK(file.text_or("qwen2.block_count", "x").error().kind == "wrong_key_type");
  CHECK(file.texts("types").error().kind == "wrong_key_type");

  REQUIRE(file.tensors().size() == 2);
  const Tensor* w = file.tensor("w").value();
  CHECK(w->rank == 2);
  CHECK(w->row_elements() == 4);
  CHECK(w->rows() == 3);
  CHECK(w->bytes == 48);
  CHECK(w->row_bytes() == 16);
  CHECK(file.find_tensor("q")->bytes == 34);
  CHECK(file.find_tensor("x") == nullptr);
  CHECK(file.tensor("x").error().kind == "missing_tensor");
  CHECK(reinterpret_cast<std::uintptr_t>(file.find_tensor("q")->data) % 32 == 0);
}

TEST_CASE("every broken structure has its own kind of error") {
  const auto changed = [](auto change) {
    GgufBuilder b = small_model();
    change(b);
    return kind_of(b.bytes());
  };
  CHECK(changed([](GgufBuilder&) {}) == "ok");
  CHECK(kind_of("") == "truncated");
  CHECK(kind_of("GGUF") == "truncated");
  CHECK(kind_of("GGUX............................") == "bad_magic");
  CHECK(changed([](GgufBuilder& b) { b.version = 1; }) == "unsupported_version");
  CHECK(changed([](GgufBuilder& b) { b.version = 0x03000000; }) == "unsupported_endianness");
  CHECK(changed([](GgufBuilder& b) { b.entry_count = ~0ull; }) == "bad_count");
  CHECK(changed([](GgufBuilder& b) { b.tensor_count = 1ull << 63; }) == "bad_count");
  CHECK(changed([](GgufBuilder& b) { b.u32("types", 1); }) == "duplicate_key");
  CHECK(changed([](GgufBuilder& b) { b.u32("", 1); }) == "bad_key");
  CHECK(changed([](GgufBuilder& b) { b.u32(std::string("a\0b", 3), 1); }) == "bad_key");
  CHECK(changed([](GgufBuilder& b) { b.u32("\xff", 1); }) == "bad_key");
  CHECK(changed([](GgufBuilder& b) { b.u32(std::string(65536, 'k'), 1); }) == "bad_key");
  CHECK(changed([](GgufBuilder& b) { b.scalar<std::uint8_t>("flag", 7, 2); }) == "bad_value_type");
  CHECK(changed([](GgufBuilder& b) { b.key("odd", 13); }) == "bad_value_type");
  CHECK(changed([](GgufBuilder& b) { b.u32("general.alignment", 0); }) == "bad_alignment");
  CHECK(changed([](GgufBuilder& b) { b.u32("general.alignment", 48); }) == "bad_alignment");
  CHECK(changed([](GgufBuilder& b) { b.scalar<std::int32_t>("general.alignment", 5, -32); }) == "bad_alignment");
  CHECK(changed([](GgufBuilder& b) { b.string("general.alignment", "32"); }) == "wrong_key_type");
  CHECK(changed([](GgufBuilder& b) { b.tensor("w", {1}, 0, 96); }) == "duplicate_tensor");
  CHECK(changed([](GgufBuilder& b) { b.tensor("", {1}, 0, 96); }) == "bad_tensor_name");
  CHECK(changed([](GgufBuilder& b) { b.tensor(std::string(65, 'n'), {1}, 0, 96); }) == "bad_tensor_name");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {}, 0, 96); }) == "bad_ndims");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {1, 1, 1, 1, 1}, 0, 96); }) == "bad_ndims");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {0}, 0, 96); }) == "bad_dims");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {1ull << 63}, 0, 96); }) == "bad_dims");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {31}, 8, 96); }) == "bad_dims");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {1ull << 40, 1ull << 40}, 0, 96); }) == "size_overflow");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {1ull << 31, 1ull << 31}, 28, 96); }) == "size_overflow");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {1}, 4, 96); }) == "bad_tensor_type");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {1}, 0, 8); }) == "bad_offset");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {1}, 0, 32); }) == "overlap");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {1}, 0, 96); }) == "data_out_of_range");
  CHECK(changed([](GgufBuilder& b) {
          b.data.resize(4096 + 4);
          b.tensor("t", {1}, 0, 4096);
        }) == "bad_offset");
  CHECK(changed([](GgufBuilder& b) { b.tensor("t", {1}, 0, 0 - 4096ull); }) == "data_out_of_range");
  CHECK(changed([](GgufBuilder& b) { b.data.pop_back(); }) == "data_out_of_range");
}

TEST_CASE("a file cut at any byte is refused") {
  const std::string whole = small_model().bytes();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const std::string kind = kind_of(whole.substr(0, length));
    INFO("cut at " << length);
    REQUIRE((kind == "truncated" || kind == "data_out_of_range"));
  }
}

TEST_CASE("damaged files neither crash nor read outside their bytes") {
  const std::string whole = small_model().bytes();
  std::uint64_t random = 12345;
  const auto next = [&] { return (random = random * 6364136223846793005ull + 1442695040888963407ull) >> 33; };
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = whole;
    for (std::uint64_t n = next() % 4 + 1; n > 0; --n) damaged[next() % damaged.size()] = static_cast<char>(next() % 3 == 0 ? 0xff : next());
    const AlignedBytes bytes(damaged);
    const auto file = WeightFile::parse(bytes.span(), "m");
    if (!file) {
      REQUIRE(!file.error().kind.empty());
      continue;
    }
    ++accepted;
    for (const Tensor& tensor : file->tensors()) {
      const std::byte* data = bytes.span().data();
      REQUIRE((tensor.data >= data && tensor.data + tensor.bytes <= data + bytes.span().size()));
    }
    for (const MetadataEntry& entry : file->metadata()) {
      (void)file->texts(entry.key);
      (void)file->integers(entry.key);
      (void)file->numbers(entry.key);
      (void)file->text(entry.key);
      (void)file->number(entry.key);
    }
  }
  CHECK(accepted > 0);
}

TEST_CASE("only regular files are opened and every refusal says why") {
  const auto folder = std::filesystem::temp_directory_path() / ("kontor_gguf_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const std::string path = (folder / "m.gguf").string();
  CHECK(WeightFile::open(path).error().kind == "not_found");
  CHECK(WeightFile::open(folder.string()).error().kind == "not_regular_file");
  CHECK(WeightFile::open("/dev/zero").error().kind == "not_regular_file");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  CHECK(WeightFile::open(path).error().kind == "not_regular_file");
  std::filesystem::remove(path);
  const std::string whole = small_model().bytes();
  std::ofstream(path, std::ios::binary) << whole;
  {
    const auto file = WeightFile::open(path);
    REQUIRE(file.has_value());
    CHECK(file->size_bytes() == whole.size());
    CHECK(file->sha256().size() == 64);
    const WeightFile copy = *file;  // views stay valid with any copy
    std::filesystem::remove(path);
    CHECK(copy.text("general.architecture").value() == "qwen2");
  }
  std::ofstream(path, std::ios::binary) << "";
  CHECK(WeightFile::open(path).error().kind == "truncated");
  if (::geteuid() != 0) {
    ::chmod(path.c_str(), 0);
    CHECK(WeightFile::open(path).error().kind == "permission_denied");
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("text of strangers is escaped before it is shown") {
  CHECK(printable("abc") == "abc");
  CHECK(printable("a\x1b[31m\xff\n") == "a\\x1b[31m\\xff\\x0a");
  CHECK(printable("Köln") == "Köln");
  CHECK(printable("\xe2\x80\xae") == "\\xe2\\x80\\xae");
  CHECK(printable(std::string(200, 'x'), 10) == "xxxxxxxxxx...");
}
