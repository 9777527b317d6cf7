#pragma once
// `observe.redact`: values that nobody should read in the journal, in logs or on the terminal. In the journal they are
// sealed (AES-256-GCM; the key lies beside the journal, for its owner alone), so that a run can still be resumed; to
// people they are shown as "[redacted]".

#include "base/error.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace kontor::agent {

inline constexpr const char* kSealed = "$sealed";
inline constexpr const char* kRedacted = "[redacted]";

/// Thread-safe.
class Redactor {
 public:
  Redactor() = default;
  /// `fields`: names of members whose values are redacted, wherever they stand; the values are redacted in other texts
  /// too, once they were seen. "iban" and "card" are also found by their form. `folder`: where the key lies; it is made
  /// when there is none. Errors: io, malformed (the key).
  static Result<std::unique_ptr<Redactor>> create(const std::vector<std::string>& fields, const std::string& folder);

  /// For the journal: every text that holds something to redact becomes {"$sealed": "..."}.
  Json seal(const Json& data);
  /// Takes `seal` back. Errors: malformed (another key, or changed).
  Result<Json> open(const Json& data) const;
  /// For people and logs.
  Json mask(const Json& data);
  std::string mask_text(const std::string& text);

 private:
  void learn(const Json& data);
  bool is_field(const std::string& name) const;
  bool has_secret(const std::string& text);
  Json walk(const Json& data, bool sealing, bool inside_field);

  std::vector<std::string> fields_;
  bool ibans_ = false, cards_ = false;
  std::string key_;
  std::mutex mutex_;
  std::set<std::string> values_;
};

/// What was sealed, as "[redacted]": for readers without the key.
Json hide_sealed(const Json& data);

}  // namespace kontor::agent
