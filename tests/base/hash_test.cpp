#include "base/hash.hpp"
#include "tests/support/catch.hpp"

#include <cstdio>
#include <filesystem>

using namespace kontor;

TEST_CASE("SHA-256 gives the digests of FIPS 180-4", "[base][hash]") {
  CHECK(sha256_hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("a file hashes like its bytes, a missing one is an error", "[base][hash]") {
  const auto path = std::filesystem::temp_directory_path() / "kontor_hash_test.bin";
  std::FILE* file = std::fopen(path.c_str(), "wb");
  REQUIRE(file);
  const std::string bytes(200'000, 'x');
  std::fwrite(bytes.data(), 1, bytes.size(), file);
  std::fclose(file);
  CHECK(sha256_file(path.string()).value() == sha256_hex(bytes));
  std::filesystem::remove(path);
  CHECK(sha256_file(path.string()).error().code == Errc::not_found);
}
