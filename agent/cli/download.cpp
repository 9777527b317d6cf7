#include "agent/cli/download.hpp"

#include "agent/cli/http_connection.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>
#include <openssl/evp.h>

#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <thread>

namespace kontor::agent::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxRedirects = 8;
constexpr std::size_t kPiece = 1 << 18;

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// SHA-256 as bytes arrive.
class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) { reset(); }
  void reset() { EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr); }
  void add(const char* bytes, std::size_t count) { EVP_DigestUpdate(context_.get(), bytes, count); }
  std::string hex() {
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_DigestFinal_ex(context_.get(), raw, &size);
    std::string text;
    for (unsigned int i = 0; i < size; ++i) {
      text += "0123456789abcdef"[raw[i] >> 4];
      text += "0123456789abcdef"[raw[i] & 15];
    }
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

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
  Result<std::uint64_t> hash(Digest& digest) {
    std::rewind(file_);
    std::vector<char> piece(kPiece);
    std::uint64_t length = 0;
    for (std::size_t n; (n = std::fread(piece.data(), 1, piece.size(), file_)) > 0; length += n) digest.add(piece.data(), n);
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
    const auto url = parse_http_url(options_.url);
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

  Result<void> attempt_once(HttpUrl url) {
    for (int redirects = 0; redirects <= kMaxRedirects; ++redirects) {
      HttpConnection connection;
      if (const auto done = connection.open(url, options_.airgap); !done) return done.error();
      std::vector<std::pair<std::string, std::string>> headers;
      if (have_ > 0) {
        headers.emplace_back("Range", "bytes=" + std::to_string(have_) + "-");
        if (!validator_.empty()) headers.emplace_back("If-Range", validator_);
      }
      if (const auto done = connection.get(url, headers); !done) return done.error();
      // Model hubs announce the file's digest before they redirect to where it lies.
      if (std::string linked = lower(connection.header("X-Linked-Etag")); linked.size() == 66 && is_sha256(linked.substr(1, 64)) && wanted_.empty())
        wanted_ = linked.substr(1, 64);
      const int status = connection.status();
      if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) {
        const auto next = resolve_redirect(url, connection.header("Location"));
        if (!next) return fail(Errc::malformed, "the server redirects to no http or https address", "bad_url");
        if (url.secure && !next->secure) return fail(Errc::denied, "the server redirects from https to http", "insecure_redirect");
        url = *next;
        continue;
      }
      return receive(connection, status);
    }
    return fail(Errc::malformed, "too many redirects", "bad_url");
  }

  Result<void> receive(HttpConnection& connection, int status) {
    if (status == 416 && have_ > 0) {
      if (connection.header("Content-Range") == "bytes */" + std::to_string(have_)) return {};  // All of it is there.
      if (const auto done = restart(); !done) return done.error();
      return fail(Errc::io, "the server has another file now");
    }
    if (status == 404 || status == 410) return fail(Errc::not_found, "the server has no such file (status " + std::to_string(status) + ")", "not_found");
    if (status == 401 || status == 403) return fail(Errc::denied, "the server refuses access (status " + std::to_string(status) + ")", "forbidden");
    if (status != 200 && status != 206) return fail(Errc::io, "the server answers with status " + std::to_string(status));
    std::uint64_t total = 0;
    if (status == 206) {
      const auto range = parse_range(connection.header("Content-Range"));
      if (!range || range->first != have_) {
        if (const auto done = restart(); !done) return done.error();
        return fail(Errc::io, "the server sends another part than was asked for");
      }
      total = range->second;
    } else {
      if (const auto done = restart(); !done) return done.error();
      const std::string length = connection.header("Content-Length");
      if (!length.empty() && length.size() < 19) total = std::strtoull(length.c_str(), nullptr, 10);
    }
    keep_note(connection);
    if (const auto done = check_room(total); !done) return done.error();
    return read_body(connection, total);
  }

  /// A strong entity tag or a date, with which the server can tell whether the file is still the same.
  void keep_note(const HttpConnection& connection) {
    const std::string tag = connection.header("ETag");
    validator_ = !tag.empty() && !tag.starts_with("W/") ? tag : connection.header("Last-Modified");
    std::ofstream(note_path(), std::ios::trunc) << Json{{"url", options_.url}, {"validator", validator_}}.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  Result<void> check_room(std::uint64_t total) const {
    std::error_code error;
    const auto space = fs::space(fs::absolute(part_.path()).parent_path(), error);
    if (error || total <= have_ || space.available >= total - have_) return {};
    return fail(Errc::limit, "the disk has room for " + std::to_string(space.available >> 20) + " MiB, but " + std::to_string((total - have_) >> 20) + " MiB are still to come",
                "disk_full");
  }

  Result<void> read_body(HttpConnection& connection, std::uint64_t total) {
    std::vector<char> piece(kPiece);
    while (true) {
      const auto count = connection.read(piece);
      if (!count) return count.error();
      if (*count == 0) break;
      digest_.add(piece.data(), *count);
      if (const auto done = part_.append(piece.data(), *count); !done) {
        Error error = done.error();
        error.kind = "local";
        return error;
      }
      have_ += *count;
      if (options_.progress && !options_.progress(have_, total, before_)) {
        (void)part_.flush();
        return fail(Errc::cancelled, "stopped; the next call goes on from here");
      }
    }
    if (total > 0 && have_ != total) return fail(Errc::io, "the connection ended at byte " + std::to_string(have_) + " of " + std::to_string(total));
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
  Digest digest_;
  std::uint64_t have_ = 0, before_ = 0;
};

}  // namespace

Result<Download> download(const DownloadOptions& options) { return Fetch(options).run(); }

}  // namespace kontor::agent::cli
