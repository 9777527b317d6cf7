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

/// What the constructor of an instance is given.
struct Setup {
  Json config;
  std::string data_dir;  ///< Folder for the plugin's own files, or "".
  std::string base_dir;
  Log log;

  /// A path of the configuration: relative ones are below the folder of the user's file.
  std::string path(const std::string& configured) const {
    if (configured.empty() || configured.front() == '/' || base_dir.empty()) return configured;
    return base_dir + "/" + configured;
  }
};

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
                      std::string(to_view(setup->base_dir)), Log(host)};
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

template <std::size_t N>
constexpr std::array<kontor_tool, N> declare(const Tool (&tools)[N]) {
  std::array<kontor_tool, N> declared{};
  for (std::size_t i = 0; i < N; ++i) {
    const Tool& tool = tools[i];
    declared[i] = {KONTOR_HEAD(kontor_tool), to_text(tool.name), to_text(tool.description), to_text(tool.parameters),
                   to_text(tool.result), static_cast<std::uint32_t>(tool.effect),
                   tool.untrusted_output ? std::uint32_t{KONTOR_TOOL_UNTRUSTED_OUTPUT} : 0u, tool.timeout_ms, tool.call, tool.probe};
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
                                             nullptr}
