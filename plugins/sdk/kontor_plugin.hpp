#pragma once
// C++17 layer for plugin authors over plugins/abi/kontor_plugin.h. Header only; needs nlohmann/json.
//
//   #include "plugins/sdk/kontor_plugin.hpp"
//   using namespace kontor::plugin;
//
//   struct Words {
//     explicit Words(const Setup&) {}
//     Json count(const Json& arguments, Call&) {
//       std::istringstream text(arguments.at("text").get<std::string>());
//       return Json{{"words", std::distance(std::istream_iterator<std::string>(text), {})}};
//     }
//   };
//
//   KONTOR_PLUGIN(Words, "words", "1.0.0", "Counts words.", KONTOR_NO_PERMISSIONS,
//     {.name = "count", .description = "Count the words of a text.",
//      .parameters = R"({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})",
//      .call = call<&Words::count>});
//
// The class is the instance: its constructor may throw (the message reaches the user), its methods may run on several
// threads at once, and an exception in a method becomes a tool error. Nothing crosses the line.

#include "plugins/abi/kontor_plugin.h"

#include <nlohmann/json.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace kontor::plugin {

using Json = nlohmann::ordered_json;

constexpr kontor_text to_text(std::string_view text) { return {text.data(), text.size()}; }
constexpr std::string_view to_view(kontor_text text) { return text.size == 0 ? std::string_view() : std::string_view(text.data, text.size); }

/// Throw it to answer a call with an error that the model can read and react to.
class ToolError : public std::runtime_error {
 public:
  /// `kind` is a word such as not_found, refused, conflict.
  ToolError(std::string kind, const std::string& message) : std::runtime_error(message), kind_(std::move(kind)) {}
  const std::string& kind() const { return kind_; }

 private:
  std::string kind_;
};

enum class Level : std::uint32_t { debug, info, warning, error };

/// Writes to the plugin's log file. Copyable, thread-safe, valid as long as the instance.
class Log {
 public:
  explicit Log(const kontor_host* host) : host_(host) {}
  void operator()(Level level, std::string_view message) const {
    host_->log(host_, static_cast<std::uint32_t>(level), to_text(message));
  }

 private:
  const kontor_host* host_;
};

/// Connections to the hosts that the plugin declares; there is no other network. Copyable, thread-safe.
class Network {
 public:
  explicit Network(const kontor_host* host) : host_(host), feature_(static_cast<const kontor_network*>(host->extension(host, to_text(KONTOR_NETWORK)))) {}
  /// A connected TCP socket, the caller's to close. A ToolError (kind network) when there is none.
  int connect(std::string_view name, std::uint16_t port, std::int64_t timeout_ms = 10'000) const {
    const int socket = feature_ != nullptr ? feature_->connect(host_, to_text(name), port, timeout_ms) : -1;
    if (socket < 0) throw ToolError("network", "no connection to " + std::string(name) + ":" + std::to_string(port) + " (" + std::to_string(-socket) + ")");
    return socket;
  }

 private:
  const kontor_host* host_;
  const kontor_network* feature_;
};

/// What the constructor of an instance is given.
struct Setup {
  Json config;
  std::string data_dir;  ///< Folder for the plugin's own files, or "".
  std::string base_dir;
  Log log;
  Network network;

  /// A path of the configuration: relative ones are below the folder of the user's file.
  std::string path(const std::string& configured) const {
    if (configured.empty() || configured.front() == '/' || base_dir.empty()) return configured;
    return base_dir + "/" + configured;
  }
};

namespace detail {
/// The host's feature kontor.talk/1, or nullptr; the same for all instances of the library.
inline const kontor_talk*& talk() {
  static const kontor_talk* feature = nullptr;
  return feature;
}
/// The same for kontor.partial/1.
inline const kontor_partial*& partial() {
  static const kontor_partial* feature = nullptr;
  return feature;
}
}  // namespace detail

/// The call at work.
class Call {
 public:
  explicit Call(const kontor_call* call) : call_(call) {}
  std::string run_id() const { return std::string(to_view(call_->run_id)); }
  std::string call_id() const { return std::string(to_view(call_->call_id)); }
  /// The same again when a call is repeated after a crash; "" outside of runs.
  std::string idempotency_key() const { return std::string(to_view(call_->idempotency_key)); }
  std::int64_t timeout_ms() const { return call_->timeout_ms; }
  bool cancelled() const { return call_->cancelled(call_); }
  void progress(double fraction, std::string_view note = {}) const { call_->progress(call_, fraction, to_text(note)); }

  /// With what the text of the result begins, as far as that is certain, where a call takes long; more of it every time. A
  /// model may read it meanwhile. What is returned counts, so it only makes sense for Text results that grow at their end.
  void partial(std::string_view json) const {
    if (detail::partial() != nullptr) detail::partial()->partial(call_, to_text(json));
  }

  /// A message for the caller, who may be a person or another program; `level` is a syslog word.
  void message(std::string_view level, const Json& data) const {
    if (detail::talk() == nullptr) return;
    const std::string text = data.dump(-1, ' ', false, Json::error_handler_t::replace);
    detail::talk()->message(call_, to_text(level), to_text(text));
  }
  /// Asks the caller, {"KEY": {"method", "params"}}, as the Model Context Protocol has it; blocks. The answers by key; a
  /// ToolError (kind refused) when nobody can be asked.
  Json ask(const Json& questions) const {
    if (detail::talk() == nullptr) throw ToolError("refused", "there is nobody to ask");
    const std::string text = questions.dump(-1, ' ', false, Json::error_handler_t::replace);
    std::string answers;
    const auto take = [](void* context, kontor_text json) { static_cast<std::string*>(context)->assign(json.data, json.size); };
    const bool asked = detail::talk()->ask(call_, to_text(text), take, &answers);
    Json given = Json::parse(answers);
    if (!asked) throw ToolError("refused", given.is_string() ? given.get<std::string>() : "nobody answered");
    return given;
  }
  /// Content blocks of the Model Context Protocol that go along with the result.
  void content(const Json& blocks) const {
    if (detail::talk() == nullptr) return;
    const std::string text = blocks.dump(-1, ' ', false, Json::error_handler_t::replace);
    detail::talk()->content(call_, to_text(text));
  }

 private:
  const kontor_call* call_;
};

/// JSON text that was written by hand, for results whose spelling matters (amounts with two decimals).
struct Text {
  std::string json;
};

/// What a probe found out. `result` is what the original call answered, when it happened.
struct Probed {
  std::uint32_t state = KONTOR_PROBE_UNKNOWN;
  Text result;

  static Probed happened(Text result) { return {KONTOR_PROBE_HAPPENED, std::move(result)}; }
  static Probed not_happened() { return {KONTOR_PROBE_NOT_HAPPENED, {}}; }
  static Probed unknown() { return {}; }
};

enum class Effect : std::uint32_t { none, idempotent, once };

using Handler = void (*)(void* instance, const kontor_call* call, kontor_text arguments);

/// A tool in the list that KONTOR_PLUGIN takes. The texts must be literals.
struct Tool {
  std::string_view name;
  std::string_view description;
  std::string_view parameters;
  Handler call = nullptr;
  Effect effect = Effect::none;
  Handler probe = nullptr;
  std::string_view result = {};
  std::int64_t timeout_ms = 0;
  bool untrusted_output = false;
  bool at_once = false;  ///< Only computes, within milliseconds, whatever the arguments: an in_process host spares a thread.
};

namespace detail {

template <class Method>
struct MethodOf;
template <class Class, class Return, class Arguments>
struct MethodOf<Return (Class::*)(Arguments, Call&)> {
  using Instance = Class;
};
template <class Class, class Return, class Arguments>
struct MethodOf<Return (Class::*)(Arguments, Call&) const> {
  using Instance = Class;
};

inline std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// Runs `work`; whatever it throws becomes the answer.
template <class Work>
void guarded(const kontor_call* call, Work&& work) noexcept {
  try {
    work();
  } catch (const ToolError& error) {
    call->fail(call, to_text(error.kind()), to_text(error.what()));
  } catch (const std::bad_alloc&) {
    call->fail(call, to_text("memory"), to_text("the plugin ran out of memory"));
  } catch (const std::exception& error) {
    call->fail(call, to_text("failed"), to_text(error.what()));
  } catch (...) {
    call->fail(call, to_text("failed"), to_text("the plugin threw something that is not a std::exception"));
  }
}

template <class Instance>
void* create(const kontor_host* host, const kontor_setup* setup) noexcept {
  try {
    const std::string_view config = to_view(setup->config);
    const Setup given{config.empty() ? Json::object() : Json::parse(config), std::string(to_view(setup->data_dir)),
                      std::string(to_view(setup->base_dir)), Log(host), Network(host)};
    talk() = static_cast<const kontor_talk*>(host->extension(host, to_text(KONTOR_TALK)));
    partial() = static_cast<const kontor_partial*>(host->extension(host, to_text(KONTOR_PARTIAL)));
    return new Instance(given);
  } catch (const std::exception& error) {
    host->refuse(host, to_text(error.what()));
  } catch (...) {
    host->refuse(host, to_text("the plugin threw something that is not a std::exception"));
  }
  return nullptr;
}

template <class Instance>
void destroy(void* instance) noexcept {
  delete static_cast<Instance*>(instance);
}

/// A class with `static constexpr std::string_view kRequests[]` and a method
/// `Json request(const std::string& method, const Json& params, Call& call)` has the feature kontor.requests/1.
template <class Class, class = void>
struct Requests {
  static const void* find(kontor_text) { return nullptr; }
};
template <class Class>
struct Requests<Class, std::void_t<decltype(Class::kRequests)>> {
  static void request(void* instance, const kontor_call* handle, kontor_text method, kontor_text params) noexcept {
    guarded(handle, [&] {
      Call current(handle);
      const std::string text = dump(static_cast<Class*>(instance)->request(std::string(to_view(method)), Json::parse(to_view(params)), current));
      handle->result(handle, to_text(text));
    });
  }
  static const void* find(kontor_text id) {
    constexpr std::size_t kCount = sizeof(Class::kRequests) / sizeof(Class::kRequests[0]);
    static const auto methods = [] {
      std::array<kontor_text, kCount> list{};
      for (std::size_t i = 0; i < kCount; ++i) list[i] = to_text(Class::kRequests[i]);
      return list;
    }();
    static const kontor_requests feature = {KONTOR_HEAD(kontor_requests), methods.data(), methods.size(), request};
    return to_view(id) == KONTOR_REQUESTS ? &feature : nullptr;
  }
};

template <std::size_t N>
constexpr std::array<kontor_tool, N> declare(const Tool (&tools)[N]) {
  std::array<kontor_tool, N> declared{};
  for (std::size_t i = 0; i < N; ++i) {
    const Tool& tool = tools[i];
    declared[i] = {KONTOR_HEAD(kontor_tool), to_text(tool.name), to_text(tool.description), to_text(tool.parameters),
                   to_text(tool.result), static_cast<std::uint32_t>(tool.effect),
                   (tool.untrusted_output ? std::uint32_t{KONTOR_TOOL_UNTRUSTED_OUTPUT} : 0u) | (tool.at_once ? std::uint32_t{KONTOR_TOOL_AT_ONCE} : 0u), tool.timeout_ms, tool.call, tool.probe};
  }
  return declared;
}

template <std::size_t N>
constexpr std::array<const kontor_tool*, N> point(const std::array<kontor_tool, N>& tools) {
  std::array<const kontor_tool*, N> pointers{};
  for (std::size_t i = 0; i < N; ++i) pointers[i] = &tools[i];
  return pointers;
}

template <std::size_t N>
constexpr std::array<kontor_text, N> texts(const std::string_view (&from)[N]) {
  std::array<kontor_text, N> result{};
  for (std::size_t i = 0; i < N; ++i) result[i] = to_text(from[i]);
  return result;
}

/// The number of permissions in front of the empty text that closes the list.
template <std::size_t N>
constexpr std::size_t count(const std::string_view (&)[N]) {
  return N - 1;
}

}  // namespace detail

/// A method `Json|Text METHOD(const Json& arguments, Call& call)` as the handler of a tool.
template <auto Method>
void call(void* instance, const kontor_call* handle, kontor_text arguments) noexcept {
  detail::guarded(handle, [&] {
    using Instance = typename detail::MethodOf<decltype(Method)>::Instance;
    Call current(handle);
    const auto answer = (static_cast<Instance*>(instance)->*Method)(Json::parse(to_view(arguments)), current);
    if constexpr (std::is_same_v<std::decay_t<decltype(answer)>, Text>) {
      handle->result(handle, to_text(answer.json));
    } else {
      const std::string text = detail::dump(answer);
      handle->result(handle, to_text(text));
    }
  });
}

/// A method `Probed METHOD(const Json& arguments, Call& call)` as the probe of a tool.
template <auto Method>
void probe(void* instance, const kontor_call* handle, kontor_text arguments) noexcept {
  detail::guarded(handle, [&] {
    using Instance = typename detail::MethodOf<decltype(Method)>::Instance;
    Call current(handle);
    const Probed found = (static_cast<Instance*>(instance)->*Method)(Json::parse(to_view(arguments)), current);
    handle->probed(handle, found.state, to_text(found.result.json));
  });
}

}  // namespace kontor::plugin

/// Permissions in a list for KONTOR_PLUGIN: KONTOR_PERMISSIONS("read:config.orders", "network:erp.example").
#define KONTOR_PERMISSIONS(...) (__VA_ARGS__, "")
#define KONTOR_NO_PERMISSIONS ("")
#define KONTOR_PLUGIN_UNWRAP(...) __VA_ARGS__

/// Defines `kontor_plugin_entry`. Once per library, outside of any namespace; the tools follow as braced lists.
#define KONTOR_PLUGIN(Class, plugin_name, plugin_version, about, permission_list, ...)                                  \
  namespace {                                                                                                          \
  constexpr ::kontor::plugin::Tool kontor_listed[] = {__VA_ARGS__};                                                     \
  constexpr auto kontor_declared = ::kontor::plugin::detail::declare(kontor_listed);                                    \
  constexpr auto kontor_pointers = ::kontor::plugin::detail::point(kontor_declared);                                    \
  constexpr ::std::string_view kontor_permission_list[] = {KONTOR_PLUGIN_UNWRAP permission_list};                       \
  constexpr auto kontor_permissions = ::kontor::plugin::detail::texts(kontor_permission_list);                          \
  }                                                                                                                    \
  const kontor_plugin kontor_plugin_entry = {KONTOR_HEAD(kontor_plugin),                                                \
                                             ::kontor::plugin::to_text(plugin_name),                                    \
                                             ::kontor::plugin::to_text(plugin_version),                                 \
                                             ::kontor::plugin::to_text(about),                                          \
                                             0,                                                                        \
                                             kontor_permissions.data(),                                                 \
                                             ::kontor::plugin::detail::count(kontor_permission_list),                   \
                                             kontor_pointers.data(),                                                    \
                                             kontor_pointers.size(),                                                    \
                                             ::kontor::plugin::detail::create<Class>,                                   \
                                             ::kontor::plugin::detail::destroy<Class>,                                  \
                                             ::kontor::plugin::detail::Requests<Class>::find}
