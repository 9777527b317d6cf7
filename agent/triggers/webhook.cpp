#include "agent/triggers/webhook.hpp"

#include "base/hash.hpp"

#include <cstdlib>

namespace kontor::agent {
namespace {

constexpr std::int64_t kToleranceSeconds = kWebhookMemoryMs / 2000;
constexpr std::size_t kHeaderMax = 512, kSeenMax = 100'000;

bool same_word(std::string_view a, std::string_view lower) {
  if (a.size() != lower.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if ((a[i] >= 'A' && a[i] <= 'Z' ? a[i] + 32 : a[i]) != lower[i]) return false;
  }
  return true;
}

}  // namespace

Error webhook_refused() { return fail(Errc::denied, "the signature is missing, wrong, old or used before", "signature"); }

std::string sign_webhook(std::string_view secret, std::int64_t unix_seconds, std::string_view body) {
  const std::string time = std::to_string(unix_seconds);
  return "t=" + time + ",v1=" + hmac_sha256_hex(secret, time + "." + std::string(body));
}

Result<void> WebhookGuard::check(std::string_view header_name, std::string_view header_value, std::string_view body) {
  if (secret_.empty() || header_value.size() > kHeaderMax) return webhook_refused();
  std::string signature;
  if (same_word(header_name, "kontor-signature")) {
    const auto comma = header_value.find(",v1=");
    if (header_value.substr(0, 2) != "t=" || comma == std::string_view::npos) return webhook_refused();
    const std::string_view time = header_value.substr(2, comma - 2);
    if (time.empty() || time.size() > 12 || time.find_first_not_of("0123456789") != std::string_view::npos) return webhook_refused();
    const std::int64_t sent = std::strtoll(std::string(time).c_str(), nullptr, 10), now = clock_.unix_ms() / 1000;
    const bool good = equal_in_constant_time(header_value, sign_webhook(secret_, sent, body));
    if (!good || std::llabs(now - sent) > kToleranceSeconds) return webhook_refused();
    signature = header_value;
  } else if (same_word(header_name, "x-hub-signature-256")) {
    signature = "sha256=" + hmac_sha256_hex(secret_, body);
    if (!equal_in_constant_time(header_value, signature)) return webhook_refused();
  } else {
    return webhook_refused();
  }
  return remember(signature);
}

Result<void> WebhookGuard::remember(const std::string& signature) {
  const std::lock_guard guard(mutex_);
  const std::int64_t now = clock_.unix_ms();
  std::erase_if(seen_, [&](const auto& entry) { return now - entry.second > kWebhookMemoryMs; });
  if (seen_.size() >= kSeenMax || !seen_.emplace(signature, now).second) return webhook_refused();
  return {};
}

void WebhookGuard::forget(const std::string& header_value) {
  const std::lock_guard guard(mutex_);
  seen_.erase(header_value);
}

}  // namespace kontor::agent
