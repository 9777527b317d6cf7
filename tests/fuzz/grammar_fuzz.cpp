// Schemas from strangers as grammars, then output from strangers: bytes behind a NUL choose what is written. Nothing may
// crash, hang or get stuck, and whatever can be written is valid.

#include "agent/grammar/schema_grammar.hpp"
#include "inference/automaton.hpp"
#include "tools/schema.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kontor;
  if (size > 20'000) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto middle = text.find('\0');
  const auto choices = middle == std::string_view::npos ? text : text.substr(middle + 1);
  const auto schema = parse_json(text.substr(0, middle));
  if (!schema) return 0;
  const auto checker = tools::Schema::compile(*schema);
  auto grammar = std::make_shared<inference::Grammar>();
  agent::SchemaGrammar schemas(*grammar);
  const auto rule = schemas.add(*schema);
  if (!rule) {
    if (rule.error().message.empty()) std::abort();
    return 0;
  }
  const auto end = grammar->add(), start = grammar->add();
  grammar->at(end).returns = true;
  grammar->call(start, *rule, end);
  grammar->set_start(start);
  if (!grammar->finish()) return 0;
  auto words = std::make_shared<inference::VerbatimText>();
  words->add(choices);
  if (words->empty()) words->add("word 12");
  inference::Automaton automaton(grammar, words);
  auto state = automaton.start();
  std::string written;
  for (std::size_t i = 0; i < 400 && state != inference::kDeadState; ++i) {
    if (automaton.may_end(state) && (choices.empty() || (static_cast<std::uint8_t>(choices[i % choices.size()]) & 3) == 0)) break;
    // The first byte from the chosen one on that may come; one that closes things when the text is long.
    auto byte = choices.empty() ? std::uint8_t{'"'} : static_cast<std::uint8_t>(choices[i % choices.size()]);
    if (i > 200) byte = i % 2 ? '"' : ']';
    int tried = 0;
    for (; tried < 256 && automaton.step(state, byte) == inference::kDeadState; ++tried) ++byte;
    if (tried == 256) {
      if (!automaton.may_end(state)) std::abort();  // Stuck.
      break;
    }
    state = automaton.step(state, byte);
    written += static_cast<char>(byte);
  }
  if (!checker || !automaton.may_end(state)) return 0;
  const auto value = parse_json(written);
  if (!value || !checker->validate(*value, 1).empty()) {
    // A checker that gives up is not a wrong grammar.
    if (value && checker->validate(*value, 1).front().keyword == "limit") return 0;
    std::abort();
  }
  return 0;
}
