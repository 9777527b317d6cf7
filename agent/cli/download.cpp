#include "agent/cli/download.hpp"

#include "base/hash.hpp"
#include "base/json.hpp"
#include "tools/mcp/http_client.hpp"

#include <nlohmann/json.hpp>

#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <thread>

namespace kontor::agent::cli {
namespace {

namespace fs = std::filesystem;

using tools::mcp::HttpHead;
using tools::mcp::Url;

constexpr int kMaxRedirects = 8;
constexpr std::chrono::seconds kIdle{30};         ///< For connecting, the head, and each piece of the body.
constexpr std::chrono::hours kLongest{24 * 30};   ///< A slow line and a large model need days.
constexpr std::size_t kPiece = 1 << 18;

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// PATH.part, held by one process at a time.
class PartFile {
 public:
  explicit PartFile(const std::string& path) : path_(path + ".part") {}
  ~PartFile() {
    if (file_) std::fclose(file_);
  }
  const std::string& path() const { return path_; }

  Result<void> open() {
    file_ = std::fopen(path_.c_str(), "ab+e");
    if (!file_) return fail_errno("create", path_);
    if (::flock(::fileno(file_), LOCK_EX | LOCK_NB) != 0) return fail(Errc::conflict, "another download writes to it", "busy", path_);
    return {};
  }
  /// Feeds what is there to the digest; its length.
  Result<std::uint64_t> hash(Sha256& digest) {
    std::rewind(file_);
    std::vector<char> piece(kPiece);
    std::uint64_t length = 0;
    for (std::size_t n; (n = std::fread(piece.data(), 1, piece.size(), file_)) > 0; length += n) digest.add({piece.data(), n});
    if (std::ferror(file_)) return fail_errno("read", path_);
    return length;
  }
  Result<void> clear() {
    std::fflush(file_);
    if (::ftruncate(::fileno(file_), 0) != 0) return fail_errno("truncate", path_);
    return {};
  }
  Result<void> append(const char* bytes, std::size_t count) {
    if (std::fwrite(bytes, 1, count, file_) != count) return fail_errno("write", path_);
    return {};
  }
  Result<void> flush() {
    if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0) return fail_errno("write", path_);
    return {};
  }

 private:
  std::string path_;
  std::FILE* file_ = nullptr;
};

/// "bytes 100-199/200": first byte and total.
std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_range(const std::string& text) {
  unsigned long long first = 0, last = 0, total = 0;
  if (std::sscanf(text.c_str(), "bytes %llu-%llu/%llu", &first, &last, &total) != 3 || last < first || last >= total) return std::nullopt;
  return std::pair<std::uint64_t, std::uint64_t>{first, total};
}

class Fetch {
 public:
  explicit Fetch(const DownloadOptions& options) : options_(options), part_(options.path), wanted_(lower(options.sha256)) {}

  Result<Download> run() {
    const auto url = tools::mcp::parse_url(options_.url);
    if (!url) return fail(Errc::usage, "'" + options_.url + "' is no http or https address", "bad_url");
    if (!wanted_.empty() && !is_sha256(wanted_)) return fail(Errc::usage, "a SHA-256 digest has 64 hexadecimal digits", "bad_digest");
    if (const auto done = prepare(); !done) return done.error();
    for (int attempt = 0;; ++attempt) {
      const auto done = attempt_once(*url);
      if (done) break;
      const Error error = done.error();
      const bool again = (error.code == Errc::io || error.code == Errc::timeout) && error.kind != "local";
      if (!again || attempt >= options_.retries) return error;
      std::this_thread::sleep_for(std::chrono::milliseconds(500) * (1 << std::min(attempt, 5)));
    }
    return finish();
  }

 private:
  Result<void> prepare() {
    if (const auto done = part_.open(); !done) return done.error();
    const auto length = part_.hash(digest_);
    if (!length) return length.error();
    std::ifstream in(note_path());
    const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    const auto note = parse_json(text);
    const bool ours = note && note->is_object() && note->value("url", Json()) == options_.url;
    if (ours && note->contains("validator") && note->at("validator").is_string()) validator_ = note->at("validator").get<std::string>();
    // Without a validator of the server only a digest can tell whether the rest belongs to the beginning.
    if (*length > 0 && (!ours || (validator_.empty() && wanted_.empty()))) return restart();
    have_ = before_ = *length;
    return {};
  }

  std::string note_path() const { return part_.path() + ".json"; }

  Result<void> restart() {
    have_ = before_ = 0;
    digest_.reset();
    return part_.clear();
  }

  Result<void> attempt_once(Url url) {
    for (int redirects = 0; redirects <= kMaxRedirects; ++redirects) {
      tools::mcp::HttpRequest request;
      request.url = url;
      request.headers = {{"Accept", "*/*"}, {"Accept-Encoding", "identity"}};
      if (have_ > 0) {
        request.headers.emplace_back("Range", "bytes=" + std::to_string(have_) + "-");
        if (!validator_.empty()) request.headers.emplace_back("If-Range", validator_);
      }
      tools::mcp::HttpLimits limits;
      limits.deadline = std::chrono::steady_clock::now() + kLongest;
      limits.idle = kIdle;
      limits.body_bytes = std::numeric_limits<std::uint64_t>::max();
      if (options_.airgap) limits.egress = tools::Egress::airgap();
      std::optional<Url> next;
      Result<void> outcome;
      total_ = 0;
      const auto answer = tools::mcp::http_stream(
          request, limits,
          [&](const HttpHead& head) {
            outcome = on_head(head, url, next);
            return outcome && !next && (head.status == 200 || head.status == 206);
          },
          [&](std::string_view piece) {
            outcome = on_piece(piece);
            return outcome.has_value();
          });
      if (!answer) return answer.error();
      if (!outcome) return outcome;
      if (!next) {
        if (total_ > 0 && have_ != total_) return fail(Errc::io, "the connection ended at byte " + std::to_string(have_) + " of " + std::to_string(total_));
        return {};
      }
      url = *next;
    }
    return fail(Errc::malformed, "too many redirects", "bad_url");
  }

  /// `next`: where a redirect leads.
  Result<void> on_head(const HttpHead& head, const Url& url, std::optional<Url>& next) {
    // Model hubs announce the file's digest before they redirect to where it lies.
    if (std::string linked = lower(head.header("X-Linked-Etag")); linked.size() == 66 && is_sha256(linked.substr(1, 64)) && wanted_.empty())
      wanted_ = linked.substr(1, 64);
    const int status = head.status;
    if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) {
      const auto target = tools::mcp::resolve_url(url, head.header("Location"));
      if (!target) return fail(Errc::malformed, "the server redirects to no http or https address", "bad_url");
      if (url.tls && !target->tls) return fail(Errc::denied, "the server redirects from https to http", "insecure_redirect");
      next = *target;
      return {};
    }
    if (status == 416 && have_ > 0) {
      if (head.header("Content-Range") == "bytes */" + std::to_string(have_)) return {};  // All of it is there.
      if (const auto done = restart(); !done) return done.error();
      return fail(Errc::io, "the server has another file now");
    }
    if (status == 404 || status == 410) return fail(Errc::not_found, "the server has no such file (status " + std::to_string(status) + ")", "not_found");
    if (status == 401 || status == 403) return fail(Errc::denied, "the server refuses access (status " + std::to_string(status) + ")", "forbidden");
    if (status != 200 && status != 206) return fail(Errc::io, "the server answers with status " + std::to_string(status));
    if (status == 206) {
      const auto range = parse_range(head.header("Content-Range"));
      if (!range || range->first != have_) {
        if (const auto done = restart(); !done) return done.error();
        return fail(Errc::io, "the server sends another part than was asked for");
      }
      total_ = range->second;
    } else {
      if (const auto done = restart(); !done) return done.error();
      const std::string length = head.header("Content-Length");
      if (!length.empty() && length.size() < 19) total_ = std::strtoull(length.c_str(), nullptr, 10);
    }
    keep_note(head);
    return check_room();
  }

  /// A strong entity tag or a date, with which the server can tell whether the file is still the same.
  void keep_note(const HttpHead& head) {
    const std::string tag = head.header("ETag");
    validator_ = !tag.empty() && !tag.starts_with("W/") ? tag : head.header("Last-Modified");
    std::ofstream(note_path(), std::ios::trunc) << Json{{"url", options_.url}, {"validator", validator_}}.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  Result<void> check_room() const {
    std::error_code error;
    const auto space = fs::space(fs::absolute(part_.path()).parent_path(), error);
    if (error || total_ <= have_ || space.available >= total_ - have_) return {};
    return fail(Errc::limit, "the disk has room for " + std::to_string(space.available >> 20) + " MiB, but " + std::to_string((total_ - have_) >> 20) + " MiB are still to come",
                "disk_full");
  }

  Result<void> on_piece(std::string_view piece) {
    digest_.add(piece);
    if (const auto done = part_.append(piece.data(), piece.size()); !done) {
      Error error = done.error();
      error.kind = "local";
      return error;
    }
    have_ += piece.size();
    if (options_.progress && !options_.progress(have_, total_, before_)) {
      (void)part_.flush();
      return fail(Errc::cancelled, "stopped; the next call goes on from here");
    }
    return {};
  }

  Result<Download> finish() {
    if (const auto done = part_.flush(); !done) return done.error();
    Download result;
    result.sha256 = digest_.hex();
    result.bytes = have_;
    result.resumed = before_;
    result.checked = !wanted_.empty();
    std::error_code error;
    if (result.checked && result.sha256 != wanted_) {
      fs::remove(part_.path(), error);
      fs::remove(note_path(), error);
      return fail(Errc::malformed, "the file has SHA-256 " + result.sha256 + ", not " + wanted_ + "; it was removed", "hash_mismatch", options_.path);
    }
    fs::rename(part_.path(), options_.path, error);
    if (error) return fail(Errc::io, "rename " + part_.path() + ": " + error.message());
    fs::remove(note_path(), error);
    return result;
  }

  const DownloadOptions& options_;
  PartFile part_;
  std::string wanted_, validator_;
  Sha256 digest_;
  std::uint64_t have_ = 0, before_ = 0;
  std::uint64_t total_ = 0;  ///< Bytes of the whole file, as the server says; 0: not known.
};

}  // namespace

Result<Download> download(const DownloadOptions& options) { return Fetch(options).run(); }

}  // namespace kontor::agent::cli
