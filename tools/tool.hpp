#pragma once
// A tool: something an agent or a workflow step can call by name with one JSON object.

#include "base/error.hpp"
#include "base/json.hpp"
#include "tools/labels.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

namespace kontor::tools {

/// What a call does to the world. Order matters: a setting may only make it stricter.
enum class Effect {
  none,        ///< Reads only; may be repeated freely.
  idempotent,  ///< Repeating with the same idempotency key changes nothing more.
  once,        ///< Must happen at most once; after a crash only a probe or a person may decide.
};
std::string_view to_string(Effect effect);

/// Declared facts of a tool; data, not code.
struct ToolSpec {
  std::string name;                       ///< GROUP.FUNCTION
  std::string description;                ///< One or two sentences for the model.
  Json parameters = Json::object();       ///< JSON Schema of the argument object.
  Json result = nullptr;                  ///< JSON Schema of the result, or null when it is dynamic.
  Effect effect = Effect::none;
  bool has_probe = false;                 ///< `probe` can tell whether an interrupted call took effect.
  bool asks_person = false;               ///< Not called: the run puts `question` (and `choices`) to a person and waits.
  bool untrusted_output = false;          ///< Results come from outside (files, web, mail).
  bool at_once = false;                   ///< `call` only computes: it waits for nothing and ends within milliseconds, whatever
                                          ///< the arguments, so it needs no thread that can be left behind.
  bool ends_on_stop = false;              ///< `call` may take long, but ends within three seconds of being asked to stop,
                                          ///< whatever it waits for: it needs no thread that can be left behind either.
  bool labelled_output = false;           ///< Each result says itself what it was made from (ToolResult::labels).
  std::int64_t timeout_ms = 30'000;
};

struct CallContext {
  std::string run_id;
  std::string call_id;                    ///< Unique within the run.
  std::string idempotency_key;            ///< Stable over resume: run, step, call.
  std::stop_token stop;
  Labels labels;                          ///< Of all that had influence on the call.
  std::function<void(double fraction, const std::string& note)> progress;  ///< May be empty.
  /// With what the result's text will begin, as far as that is certain; more of it at every call. Only used to be earlier
  /// with what follows. May be empty.
  std::function<void(std::string_view text)> partial;
};

/// Outcome of a call. A failure is a value for the model to read, not a C++ error.
struct ToolResult {
  bool is_error = false;
  Json value = nullptr;                   ///< What expressions and the model see; {"error": "..."} when is_error.
  std::string error_kind;                 ///< invalid_arguments, not_found, timeout, denied, crashed, ...
  std::string text;                       ///< The JSON text as the tool wrote it (numbers keep their digits); the model
                                          ///< is shown this. Empty: spaced_json(value).
  Labels labels;                          ///< What it was made from, beside what its source says of every result.

  static ToolResult ok(Json value) { return {false, std::move(value), {}, {}, {}}; }
  static ToolResult error(std::string kind, const std::string& message) {
    return {true, Json{{"error", message}}, std::move(kind), {}, {}};
  }
};

/// What a probe found out about an earlier call with the same idempotency key.
struct Probe {
  enum class State { happened, not_happened, unknown } state = State::unknown;
  Json value = nullptr;                   ///< The original result, when happened.
};

/// Thread-safe: `call` may run on several threads at once.
class Tool {
 public:
  virtual ~Tool() = default;
  virtual const ToolSpec& spec() const = 0;
  /// Blocks. Arguments were checked against `spec().parameters` before.
  virtual ToolResult call(const Json& arguments, const CallContext& context) = 0;
  virtual Probe probe(const Json& /*arguments*/, const CallContext& /*context*/) { return {}; }
};

}  // namespace kontor::tools
