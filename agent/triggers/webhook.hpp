#pragma once
// Is a posted message from somebody who knows the secret, and is it new?

#include "base/clock.hpp"
#include "base/error.hpp"

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace kontor::agent {

/// How long a message that was used is remembered: as long as its signature could be believed again.
inline constexpr std::int64_t kWebhookMemoryMs = 600'000;

/// The one answer to every signature that is not believed.
Error webhook_refused();

/// Two headers are understood:
///   Kontor-Signature: t=UNIX_SECONDS,v1=HEX      HMAC-SHA-256 over "UNIX_SECONDS.BODY"; refused when older than five
///                                                minutes, and when it was seen before
///   X-Hub-Signature-256: sha256=HEX              HMAC-SHA-256 over the body, as GitHub and others send it; refused when
///                                                the same body was seen in the last five minutes
/// What was used is remembered in memory here; the journal knows it over a restart (JournalMark). Thread-safe.
class WebhookGuard {
 public:
  explicit WebhookGuard(std::string secret, const Clock& clock = system_clock()) : secret_(std::move(secret)), clock_(clock) {}
  /// Errors: denied (no, wrong or old signature, repeated message). The message never says which part was wrong.
  Result<void> check(std::string_view header_name, std::string_view header_value, std::string_view body);
  /// A message that was believed came to nothing: it may be sent again.
  void forget(const std::string& header_value);

 private:
  Result<void> remember(const std::string& signature);

  std::string secret_;
  const Clock& clock_;
  std::mutex mutex_;
  std::map<std::string, std::int64_t> seen_;  // signature -> unix_ms
};

/// The value of a Kontor-Signature header.
std::string sign_webhook(std::string_view secret, std::int64_t unix_seconds, std::string_view body);

}  // namespace kontor::agent
