#pragma once
// The bytes of a plugin: read once into sealed memory, hashed there, and loaded from there. Whoever changes the file
// between the check and the load changes nothing.

#include "base/error.hpp"
#include "plugins/abi/kontor_plugin.h"

#include <string>

namespace kontor::plugins {

/// A sealed in-memory copy of a shared library. Owns its descriptor; a value that can be moved.
class LibraryImage {
 public:
  /// Reads the file (at most 512 MiB) and, when `pin` is not empty, compares its SHA-256 (64 hex digits, any case).
  /// Errors: not_found, io, limit, malformed (kind not_elf), denied (kind pin_mismatch; names the actual hash).
  static Result<LibraryImage> read(const std::string& path, const std::string& pin);

  LibraryImage(LibraryImage&& other) noexcept;
  LibraryImage& operator=(LibraryImage&& other) noexcept;
  LibraryImage(const LibraryImage&) = delete;
  ~LibraryImage();

  int descriptor() const { return descriptor_; }
  const std::string& sha256() const { return sha256_; }
  const std::string& path() const { return path_; }

 private:
  LibraryImage(int descriptor, std::string sha256, std::string path);

  int descriptor_ = -1;
  std::string sha256_;
  std::string path_;
};

/// dlopen of a descriptor and its entry symbol. The library stays loaded, and the descriptor open, until the process
/// ends: code of a plugin may be referenced by thread-local destructors, and the loader knows libraries by the number
/// of their descriptor. `name` is for messages. Errors: malformed (kind load, no_entry).
Result<const kontor_plugin*> open_entry(int descriptor, const std::string& name);

/// The entry of an image inside this process; images with the same hash are loaded once. Thread-safe.
Result<const kontor_plugin*> open_in_process(const LibraryImage& image);

}  // namespace kontor::plugins
