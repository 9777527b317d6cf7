/* The smallest useful plugin in C: two tools without state. */
#include "plugins/abi/kontor_plugin.h"

#include <stdlib.h>
#include <string.h>

static void* create(const kontor_host* host, const kontor_setup* setup) {
  (void)setup;
  const kontor_text started = KONTOR_TEXT("echo started");
  host->log(host, KONTOR_LOG_INFO, started);
  static int instance; /* No state, but an instance must not be NULL. */
  return &instance;
}

static void destroy(void* instance) { (void)instance; }

/* The arguments are JSON, so they are a result as they are. */
static void say(void* instance, const kontor_call* call, kontor_text arguments) {
  (void)instance;
  call->result(call, arguments);
}

/* {"bytes": N}: the size of the arguments' JSON text. */
static void measure(void* instance, const kontor_call* call, kontor_text arguments) {
  (void)instance;
  char text[40] = "{\"bytes\": ";
  char digits[24];
  size_t at = sizeof digits, used = strlen(text);
  size_t rest = arguments.size;
  do digits[--at] = (char)('0' + rest % 10);
  while ((rest /= 10) != 0);
  memcpy(text + used, digits + at, sizeof digits - at);
  used += sizeof digits - at;
  text[used++] = '}';
  const kontor_text json = {text, used};
  call->result(call, json);
}

#define PARAMETERS "{\"type\": \"object\", \"properties\": {\"text\": {\"type\": \"string\"}}, \"required\": [\"text\"]}"

static const kontor_tool say_tool = {
    KONTOR_HEAD(kontor_tool), KONTOR_TEXT("say"), KONTOR_TEXT("Answer with the arguments."), KONTOR_TEXT(PARAMETERS),
    KONTOR_TEXT(""), KONTOR_EFFECT_NONE, 0, 5000, say, NULL};
static const kontor_tool measure_tool = {
    KONTOR_HEAD(kontor_tool), KONTOR_TEXT("measure"), KONTOR_TEXT("Count the bytes of the arguments."), KONTOR_TEXT(PARAMETERS),
    KONTOR_TEXT(""), KONTOR_EFFECT_NONE, 0, 5000, measure, NULL};
static const kontor_tool* const tools[] = {&say_tool, &measure_tool};

KONTOR_PLUGIN_EXPORT const kontor_plugin kontor_plugin_entry = {
    KONTOR_HEAD(kontor_plugin), KONTOR_TEXT("echo"), KONTOR_TEXT("1.0.0"), KONTOR_TEXT("Answers with what it was sent."),
    0, NULL, 0, tools, sizeof tools / sizeof tools[0], create, destroy, NULL};
