#pragma once
// A live plugin that can be called, whichever process it lives in.

#include "base/error.hpp"
#include "plugins/abi/kontor_plugin.h"
#include "plugins/host/declaration.hpp"
#include "tools/egress.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

namespace kontor::plugins {

struct CallRequest {
  std::size_t tool = 0;          ///< Index into Declaration::tools.
  bool probe = false;
  std::string method;            ///< Not empty: a request of that method, `arguments` are its parameters.
  std::string arguments;         ///< JSON text.
  std::string run_id, call_id, idempotency_key;
  std::int64_t timeout_ms = 30'000;
  std::stop_token stop;
  std::function<void(double fraction, const std::string& note)> progress;  ///< May be empty.
  std::function<void(const std::string& json)> partial;  ///< The feature kontor.partial/1. May be empty.
  // The feature kontor.talk/1; each may be empty. Texts are JSON as the plugin wrote it.
  std::function<void(const std::string& level, const std::string& json)> message;
  /// False with the reason in `answers` (a JSON string) when nobody can be asked.
  std::function<bool(const std::string& questions, std::string& answers)> ask;
  std::function<void(std::string json)> content;
};

/// What came back; texts are as the plugin wrote them, not yet parsed.
struct Answer {
  enum class Kind { result, error, probed } kind = Kind::error;
  std::string error_kind;        ///< crashed, timeout, cancelled, bad_result, or the plugin's own word.
  std::string text;              ///< Result JSON, error message, or the probed result.
  std::uint32_t probe_state = KONTOR_PROBE_UNKNOWN;

  static Answer error(std::string error_kind, std::string message) {
    return {Kind::error, std::move(error_kind), std::move(message), KONTOR_PROBE_UNKNOWN};
  }
};

/// Thread-safe.
class Instance {
 public:
  virtual ~Instance() = default;
  virtual const Declaration& declaration() const = 0;
  /// Blocks until answered, cancelled or timed out (a plugin inside this process can only be asked to stop).
  virtual Answer call(const CallRequest& request) = 0;
};

struct InstanceSetup {
  std::string config = "{}";     ///< JSON object text.
  std::string data_dir, base_dir;
  std::string log_path;          ///< Lines are appended; "" drops them.
  /// A connected socket or a negative errno, as connect_declared; empty for plugins without network.
  std::function<int(const std::string& name, std::uint16_t port, std::int64_t timeout_ms)> connect;
  bool declare_only = false;     ///< Of a host process: read the declaration, create nothing, run no function.
  tools::Egress egress;          ///< Which of the declared hosts may be reached.
};

/// An instance in this process. Errors: as read_declaration; usage (kind refused) with the plugin's reason.
Result<std::unique_ptr<Instance>> create_instance(const kontor_plugin& plugin, const InstanceSetup& setup);

constexpr std::size_t kResultBytesMax = 16u << 20;  ///< Longer results are errors.
constexpr std::size_t kPartialBytesMax = 1u << 20;  ///< Longer beginnings of results are not handed on.
constexpr std::size_t kNoteBytesMax = 64u << 10;    ///< Longer notes and messages are cut.

}  // namespace kontor::plugins
