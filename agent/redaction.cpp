#include "agent/redaction.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <re2/re2.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>

namespace kontor::agent {
namespace {

constexpr std::size_t kKeyBytes = 32, kNonceBytes = 12, kTagBytes = 16;
constexpr std::size_t kShortestValue = 4, kValuesMost = 10'000;

struct FreeCipher {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

unsigned char* bytes(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
const unsigned char* bytes(const std::string& text) { return reinterpret_cast<const unsigned char*>(text.data()); }

std::string to_hex(const std::string& text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text) out += {kHex[static_cast<unsigned char>(c) >> 4], kHex[static_cast<unsigned char>(c) & 15]};
  return out;
}

std::string from_hex(const std::string& text) {
  std::string out;
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    if (digit(text[i]) < 0 || digit(text[i + 1]) < 0) return {};
    out += static_cast<char>(digit(text[i]) * 16 + digit(text[i + 1]));
  }
  return out;
}

std::string encrypted(const std::string& key, const std::string& plain) {
  std::string nonce(kNonceBytes, '\0'), out(plain.size(), '\0'), tag(kTagBytes, '\0');
  if (::getrandom(nonce.data(), nonce.size(), 0) != static_cast<ssize_t>(nonce.size())) return {};
  const Cipher cipher(EVP_CIPHER_CTX_new());
  int length = 0, rest = 0;
  const bool done = EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes(key), bytes(nonce)) == 1 &&
                    EVP_EncryptUpdate(cipher.get(), bytes(out), &length, bytes(plain), static_cast<int>(plain.size())) == 1 &&
                    EVP_EncryptFinal_ex(cipher.get(), bytes(out) + length, &rest) == 1 &&
                    EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, static_cast<int>(tag.size()), tag.data()) == 1;
  return done ? to_hex(nonce + tag + out) : std::string();
}

Result<std::string> decrypted(const std::string& key, const std::string& sealed) {
  const Error bad = fail(Errc::malformed, "a redacted value cannot be opened: the key beside the journal is another one, or the value was changed", "redaction");
  const std::string all = from_hex(sealed);
  if (all.size() < kNonceBytes + kTagBytes) return bad;
  const std::string nonce = all.substr(0, kNonceBytes), body = all.substr(kNonceBytes + kTagBytes);
  std::string tag = all.substr(kNonceBytes, kTagBytes), out(body.size(), '\0');
  const Cipher cipher(EVP_CIPHER_CTX_new());
  int length = 0, rest = 0;
  const bool done = EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes(key), bytes(nonce)) == 1 &&
                    EVP_DecryptUpdate(cipher.get(), bytes(out), &length, bytes(body), static_cast<int>(body.size())) == 1 &&
                    EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, static_cast<int>(tag.size()), tag.data()) == 1 &&
                    EVP_DecryptFinal_ex(cipher.get(), bytes(out) + length, &rest) == 1;
  if (!done) return bad;
  return out;
}

Result<std::string> load_key(const std::string& folder) {
  const std::string path = folder + "/redaction.key";
  std::string key(kKeyBytes, '\0');
  int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor >= 0) {
    const bool made = ::getrandom(key.data(), key.size(), 0) == static_cast<ssize_t>(key.size()) &&
                      ::write(descriptor, key.data(), key.size()) == static_cast<ssize_t>(key.size()) && ::fsync(descriptor) == 0;
    ::close(descriptor);
    if (made) return key;
    ::unlink(path.c_str());
    return fail(Errc::io, "cannot make the key " + path, "redaction");
  }
  descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return fail_errno("open", path);
  const auto got = ::read(descriptor, key.data(), key.size());
  ::close(descriptor);
  if (got != static_cast<ssize_t>(key.size())) return fail(Errc::malformed, path + " is not a key", "redaction");
  return key;
}

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

const re2::RE2& iban_form() {
  static const re2::RE2 form("\\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}\\b");
  return form;
}
const re2::RE2& card_form() {
  static const re2::RE2 form("\\b[0-9](?:[ -]?[0-9]){12,18}\\b");
  return form;
}

}  // namespace

Result<std::unique_ptr<Redactor>> Redactor::create(const std::vector<std::string>& fields, const std::string& folder) {
  auto redactor = std::make_unique<Redactor>();
  for (const auto& field : fields) redactor->fields_.push_back(lower(field));
  redactor->ibans_ = redactor->is_field("iban");
  redactor->cards_ = redactor->is_field("card");
  if (fields.empty()) return redactor;
  auto key = load_key(folder);
  if (!key) return key.error();
  redactor->key_ = std::move(*key);
  return redactor;
}

bool Redactor::is_field(const std::string& name) const { return std::find(fields_.begin(), fields_.end(), lower(name)) != fields_.end(); }

/// Remembers values of redacted fields, to find them in other texts.
void Redactor::learn(const Json& data) {
  if (!data.is_structured()) return;
  for (const auto& [name, value] : data.items()) {
    if (data.is_object() && is_field(name) && value.is_string() && values_.size() < kValuesMost) {
      const std::string& text = value.get_ref<const std::string&>();
      if (text.size() >= kShortestValue) values_.insert(text);
    }
    learn(value);
  }
}

bool Redactor::has_secret(const std::string& text) {
  if (ibans_ && re2::RE2::PartialMatch(text, iban_form())) return true;
  if (cards_ && re2::RE2::PartialMatch(text, card_form())) return true;
  return std::any_of(values_.begin(), values_.end(), [&](const std::string& value) { return text.find(value) != std::string::npos; });
}

Json Redactor::walk(const Json& data, bool sealing, bool inside_field) {
  if (data.is_object()) {
    // A value of somebody else that looks like a sealed one must not be taken for it later.
    if (sealing && data.contains(kSealed)) return Json{{kSealed, encrypted(key_, data.dump(-1, ' ', false, Json::error_handler_t::replace))}};
    Json out = Json::object();
    for (const auto& [name, value] : data.items()) out[name] = walk(value, sealing, inside_field || is_field(name));
    return out;
  }
  if (data.is_array()) {
    Json out = Json::array();
    for (const auto& value : data) out.push_back(walk(value, sealing, inside_field));
    return out;
  }
  if (data.is_null() || data.is_boolean()) return data;
  const bool hidden = inside_field || (data.is_string() && has_secret(data.get_ref<const std::string&>()));
  if (!hidden) return data;
  if (!sealing) return inside_field ? Json(kRedacted) : Json(mask_text(data.get<std::string>()));
  return Json{{kSealed, encrypted(key_, data.dump(-1, ' ', false, Json::error_handler_t::replace))}};
}

Json Redactor::seal(const Json& data) {
  if (fields_.empty()) return data;
  {
    std::lock_guard guard(mutex_);
    learn(data);
    return walk(data, true, false);
  }
}

Json Redactor::mask(const Json& data) {
  if (fields_.empty()) return data;
  std::lock_guard guard(mutex_);
  learn(data);
  return walk(data, false, false);
}

std::string Redactor::mask_text(const std::string& text) {
  std::string out = text;
  for (const auto& value : values_) {
    for (auto at = out.find(value); at != std::string::npos; at = out.find(value, at)) out.replace(at, value.size(), kRedacted);
  }
  if (ibans_) re2::RE2::GlobalReplace(&out, iban_form(), kRedacted);
  if (cards_) re2::RE2::GlobalReplace(&out, card_form(), kRedacted);
  return out;
}

Result<Json> Redactor::open(const Json& data) const {
  if (!data.is_structured()) return data;
  if (data.is_object() && data.size() == 1 && data.contains(kSealed) && data.at(kSealed).is_string()) {
    auto plain = decrypted(key_, data.at(kSealed).get<std::string>());
    if (!plain) return plain.error();
    return parse_json(*plain);
  }
  Json out = data;
  for (auto& value : out) {
    auto opened = open(value);
    if (!opened) return opened;
    value = std::move(*opened);
  }
  return out;
}

Json hide_sealed(const Json& data) {
  if (!data.is_structured()) return data;
  if (data.is_object() && data.size() == 1 && data.contains(kSealed)) return Json(kRedacted);
  Json out = data;
  for (auto& value : out) value = hide_sealed(value);
  return out;
}

}  // namespace kontor::agent
