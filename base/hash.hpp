#pragma once
// SHA-256 (FIPS 180-4) through libcrypto: pins, journal chain, approval bindings.

#include "base/error.hpp"

#include <memory>
#include <string>
#include <string_view>

namespace kontor {

/// Digest of bytes that come in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void add(std::string_view bytes);
  /// Lower-case hexadecimal digest of all bytes since the start or the last reset; then starts anew.
  std::string hex();
  void reset();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Lower-case hexadecimal digest of the bytes.
std::string sha256_hex(std::string_view bytes);

/// HMAC-SHA-256 (RFC 2104) in lower-case hexadecimal.
std::string hmac_sha256_hex(std::string_view key, std::string_view bytes);

/// Compares in a time that does not depend on where the texts differ.
bool equal_in_constant_time(std::string_view a, std::string_view b);

/// Digest of a file's content, read in pieces. Errors: not_found, io.
Result<std::string> sha256_file(const std::string& path);

}  // namespace kontor
