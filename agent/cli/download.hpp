#pragma once
// Fetches one file over HTTP or HTTPS: resumed where it was cut off, checked, and under its name only when complete.

#include "base/error.hpp"

#include <cstdint>
#include <functional>
#include <string>

namespace kontor::agent::cli {

struct DownloadOptions {
  std::string url;     ///< http:// or https://
  std::string path;    ///< Where the file goes. PATH.part holds what is there so far, PATH.part.json where it is from.
  std::string sha256;  ///< 64 hexadecimal digits, or empty: whatever the server announces, if anything.
  bool airgap = false; ///< Refuse every address that is not on this machine.
  int retries = 4;     ///< Connections in addition to the first, when one breaks.
  /// Bytes that are there, of how many (0: not known), and how many were there at the start. False stops.
  std::function<bool(std::uint64_t done, std::uint64_t total, std::uint64_t before)> progress;
};

struct Download {
  std::string sha256;         ///< Of the whole file.
  std::uint64_t bytes = 0;
  std::uint64_t resumed = 0;  ///< Bytes that were there already.
  bool checked = false;       ///< Against a digest given or announced.
};

/// Follows redirects, never from https to http. Certificates are verified against the system's authorities. Errors:
/// usage (bad_url), denied (airgap), not_found, denied (forbidden), io, timeout, cancelled, malformed (hash_mismatch;
/// the partial file is removed), limit (disk_full).
Result<Download> download(const DownloadOptions& options);

}  // namespace kontor::agent::cli
