/* Kontor plugin ABI, version 1.0. C11; also compiles as C++11 and later.
 *
 * A plugin is a shared library that exports ONE data symbol, `kontor_plugin_entry`, which declares its tools as data
 * and points to its functions. Nothing else may be exported (compile with -fvisibility=hidden).
 *
 * Rules of this boundary
 *   - Every struct begins with struct_size, abi_major and abi_minor. Fields are only ever appended. A reader looks at
 *     a field only when struct_size covers it; a different abi_major is refused.
 *   - Text is pointer + size, UTF-8, not terminated. Arguments, results, schemas and configuration are JSON text.
 *   - No memory is freed across the line. What the host hands in is valid until the called function returns; what the
 *     plugin hands to a callback is copied before the callback returns; declared data lives as long as the library.
 *   - No C++ exception, longjmp or signal handler may cross the line.
 *   - Thread rules, one per function:
 *       [setup]        the host calls it while no other function of this instance runs.
 *       [any-thread]   may be called from any thread, from several at the same time.
 *       [call-thread]  only from inside the `call` or `probe` it belongs to, before that function returns.
 *   - By default the host runs the library in a process of its own: a crash is a failed call, state in memory is then
 *     lost and a new instance is created. Keep what must survive on disk (data_dir).
 */
#ifndef KONTOR_PLUGIN_H
#define KONTOR_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KONTOR_ABI_MAJOR 1 /* Changes never: a new major is a new header. */
#define KONTOR_ABI_MINOR 0 /* Grows with appended fields. */

#if defined(__GNUC__)
#define KONTOR_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#define KONTOR_PLUGIN_EXPORT
#endif

/** UTF-8 text; data may be NULL when size is 0. */
typedef struct kontor_text {
  const char* data;
  size_t size;
} kontor_text;

/** A kontor_text initialiser from a string literal: `.name = KONTOR_TEXT("echo")`. */
#define KONTOR_TEXT(literal) {(literal), sizeof(literal) - 1}
/** First three members of every struct: `{KONTOR_HEAD(kontor_tool), ...}`. */
#define KONTOR_HEAD(type) (uint32_t)sizeof(type), KONTOR_ABI_MAJOR, KONTOR_ABI_MINOR

/** What a call does to the world; values are ordered, the host's configuration may only raise them. */
enum {
  KONTOR_EFFECT_NONE = 0,       /**< Reads only. */
  KONTOR_EFFECT_IDEMPOTENT = 1, /**< Repeating with the same idempotency_key changes nothing more. */
  KONTOR_EFFECT_ONCE = 2        /**< Must happen at most once; after a crash the probe or a person decides. */
};

/** kontor_tool.flags */
enum {
  KONTOR_TOOL_UNTRUSTED_OUTPUT = 1u, /**< Results come from outside: web pages, mail, files of strangers. */
  KONTOR_TOOL_AT_ONCE = 2u           /**< A call only computes: it waits for nothing and ends within milliseconds, whatever the
                                          arguments. A host that has the plugin in its own process spares a thread for it. */
};

/** kontor_plugin.flags */
enum {
  KONTOR_PLUGIN_SERIAL = 1u /**< Never two calls of one instance at the same time. */
};

/** Answers of a probe. */
enum { KONTOR_PROBE_UNKNOWN = 0, KONTOR_PROBE_HAPPENED = 1, KONTOR_PROBE_NOT_HAPPENED = 2 };

/** Levels of kontor_host.log */
enum { KONTOR_LOG_DEBUG = 0, KONTOR_LOG_INFO = 1, KONTOR_LOG_WARNING = 2, KONTOR_LOG_ERROR = 3 };

/** Services of the host for the life of one instance. Owned by the host. */
typedef struct kontor_host {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  void* host_data; /**< Not for the plugin. */

  /** [any-thread] Writes one line to the plugin's log file; never to Kontor's output. */
  void (*log)(const struct kontor_host* host, uint32_t level, kontor_text message);
  /** [setup] Says why `create` is about to return NULL. */
  void (*refuse)(const struct kontor_host* host, kontor_text message);
  /** [any-thread] An optional feature of the host by id, "kontor.NAME/VERSION"; NULL when it has none of that id. */
  const void* (*extension)(const struct kontor_host* host, kontor_text id);
} kontor_host;

/** What `create` is told. Valid during `create` only. */
typedef struct kontor_setup {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  kontor_text config;   /**< A JSON object; `{}` when nothing is configured. */
  kontor_text data_dir; /**< Existing folder for the plugin's own files; empty when there is none. */
  kontor_text base_dir; /**< Relative paths in `config` mean paths below this folder. */
} kontor_setup;

/** One call (or probe). Owned by the host, valid until the function it was handed to returns.
 *  The function must give exactly one answer: `result` or `fail` in a call, `probed` in a probe. */
typedef struct kontor_call {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  void* host_data; /**< Not for the plugin. */
  kontor_text run_id;
  kontor_text call_id;         /**< Unique within the run. */
  kontor_text idempotency_key; /**< The same again when the call is repeated after a crash; empty outside of runs. */
  int64_t timeout_ms;          /**< What is left for this call; after it `cancelled` is true. */

  /** [call-thread] The answer: any JSON text. Numbers keep the digits they are written with. */
  void (*result)(const struct kontor_call* call, kontor_text json);
  /** [call-thread] The answer: an error for the caller to read. `kind` is a word of [a-z_]; message a sentence. */
  void (*fail)(const struct kontor_call* call, kontor_text kind, kontor_text message);
  /** [call-thread] The answer of a probe; `json` is the original result when state is HAPPENED, else empty. */
  void (*probed)(const struct kontor_call* call, uint32_t state, kontor_text json);
  /** [any-thread, during the call] True once nobody waits for the answer any more: stop soon. */
  bool (*cancelled)(const struct kontor_call* call);
  /** [any-thread, during the call] fraction is 0..1, or below 0 when it is not known. */
  void (*progress)(const struct kontor_call* call, double fraction, kontor_text note);
} kontor_call;

/** A declared tool. Data: the host reads it without running code of the plugin. */
typedef struct kontor_tool {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  kontor_text name;        /**< Function name, [a-z][a-z0-9_]* up to 64 bytes; the user's file gives the group. */
  kontor_text description; /**< One or two sentences for the model. */
  kontor_text parameters;  /**< JSON Schema of the argument object. */
  kontor_text result;      /**< JSON Schema of the result; empty when it differs from call to call. */
  uint32_t effect;         /**< KONTOR_EFFECT_... */
  uint32_t flags;          /**< KONTOR_TOOL_... */
  int64_t timeout_ms;      /**< 0: the host's default. */

  /** [any-thread] `instance` is what `create` returned. `arguments` fit `parameters`. Blocks until it has answered. */
  void (*call)(void* instance, const kontor_call* call, kontor_text arguments);
  /** [any-thread] Finds out whether an earlier call with this idempotency_key and these arguments took effect, without
   *  doing anything itself. NULL when it cannot be known. */
  void (*probe)(void* instance, const kontor_call* call, kontor_text arguments);
} kontor_tool;

/** The plugin. */
typedef struct kontor_plugin {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  kontor_text name; /**< [a-z][a-z0-9_]* up to 64 bytes. */
  kontor_text version;
  kontor_text description;
  uint32_t flags; /**< KONTOR_PLUGIN_... */
  /** What it needs, each "read:PATH", "write:PATH", "network:HOST" or "environment:NAME"; "config.KEY" in place of
   *  the value means what the user's configuration says under that key. */
  const kontor_text* permissions;
  size_t permission_count;
  const kontor_tool* const* tools;
  size_t tool_count;

  /** [setup] Makes an instance; NULL (after host->refuse) when it cannot. `host` stays valid until `destroy` returns. */
  void* (*create)(const kontor_host* host, const kontor_setup* setup);
  /** [setup] */
  void (*destroy)(void* instance);
  /** [any-thread] An optional feature of the plugin by id; may be NULL. */
  const void* (*extension)(kontor_text id);
} kontor_plugin;

/* ---- Optional features ----
 * Asked for by id with `extension`; a host or a plugin that does not know an id answers NULL. */

/** Of the host: a call talks with whoever made it. `host->extension(host, KONTOR_TALK)` gives a kontor_talk, owned by the
 *  host and valid as long as the instance. */
#define KONTOR_TALK "kontor.talk/1"
typedef struct kontor_talk {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  /** [any-thread, during the call] A message for the caller: a syslog word (info, warning, ...) and any JSON text. */
  void (*message)(const kontor_call* call, kontor_text level, kontor_text json);
  /** [call-thread] Questions, {"KEY": {"method", "params"}} as the Model Context Protocol has them (elicitation/create,
   *  sampling/createMessage, roots/list); blocks. True: `take` was called once with the answers by key. False: nobody
   *  can be asked, or the call was cancelled; `take` was called once with the reason, a JSON string. */
  bool (*ask)(const kontor_call* call, kontor_text questions, void (*take)(void* context, kontor_text json), void* context);
  /** [call-thread] A JSON list of content blocks of the Model Context Protocol that goes along with the result. */
  void (*content)(const kontor_call* call, kontor_text json);
} kontor_talk;

/** Of the host: a call says with what its answer will begin, while it still works, so that a model can read on meanwhile.
 *  `host->extension(host, KONTOR_PARTIAL)`; owned by the host and valid as long as the instance. */
#define KONTOR_PARTIAL "kontor.partial/1"
typedef struct kontor_partial {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  /** [any-thread, during the call] The JSON text of the answer from its first byte on, as far as it is certain; more of it
   *  every time. It saves time and nothing else: what `result` is given is the answer. */
  void (*partial)(const kontor_call* call, kontor_text json);
} kontor_partial;

/** Of the host: connections to the hosts that the plugin declares ("network:HOST"). In a process of its own a plugin has
 *  no other network: it makes no sockets. `host->extension(host, KONTOR_NETWORK)`; NULL when it declares no host. */
#define KONTOR_NETWORK "kontor.network/1"
typedef struct kontor_network {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  /** [any-thread] A connected TCP socket, blocking, the plugin's to close; or a negative errno, -EACCES for a host that is
   *  not declared. Blocks up to timeout_ms. */
  int (*connect)(const kontor_host* host, kontor_text name, uint16_t port, int64_t timeout_ms);
} kontor_network;

/** Of a plugin: it answers requests of the Model Context Protocol that are no tool calls (resources, prompts,
 *  completion) when Kontor serves it with `kontor mcp`. `plugin->extension(KONTOR_REQUESTS)` gives a kontor_requests that
 *  lives as long as the library. */
#define KONTOR_REQUESTS "kontor.requests/1"
typedef struct kontor_requests {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  const kontor_text* methods; /**< "resources/list", "prompts/get", ... */
  size_t method_count;
  /** [any-thread] Like kontor_tool.call: answers once with `result` (the result object) or `fail`. */
  void (*request)(void* instance, const kontor_call* call, kontor_text method, kontor_text params);
} kontor_requests;

/** The one exported symbol. */
extern KONTOR_PLUGIN_EXPORT const kontor_plugin kontor_plugin_entry;

#ifdef __cplusplus
}
#endif
#endif
