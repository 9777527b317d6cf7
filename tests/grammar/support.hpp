#pragma once
// Helpers of the grammar tests: a vocabulary, texts against schemas, and a writer that chooses at random.

#include "agent/grammar/output_grammar.hpp"
#include "agent/grammar/schema_grammar.hpp"
#include "inference/automaton.hpp"
#include "inference/sampler.hpp"
#include "tests/support/catch.hpp"
#include "tools/schema.hpp"

#include <fstream>
#include <optional>
#include <string>

namespace kontor::test {

inline Json json(const std::string& text) {
  auto value = parse_json(text);
  if (!value) throw std::runtime_error("bad JSON in a test: " + value.error().describe());
  return *value;
}

/// The vocabulary of the pocket model: byte-level BPE with all of R1's markers as control tokens.
inline const inference::Tokenizer& pocket_tokenizer() {
  static const inference::Tokenizer tokenizer = [] {
    auto file = inference::WeightFile::open(std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket-invoice.gguf");
    REQUIRE(file.has_value());
    auto made = inference::Tokenizer::create(*file);
    REQUIRE(made.has_value());
    return *made;
  }();
  return tokenizer;
}

/// A schema alone as a grammar; the error's pointer when it is refused.
inline Result<std::shared_ptr<const inference::Grammar>> grammar_of(const Json& schema, agent::ShapeOptions options = {}) {
  auto grammar = std::make_shared<inference::Grammar>();
  agent::SchemaGrammar schemas(*grammar, options);
  auto rule = schemas.add(schema);
  if (!rule) return rule.error();
  const auto end = grammar->add(), start = grammar->add();
  grammar->at(end).returns = true;
  grammar->call(start, *rule, end);
  grammar->set_start(start);
  if (auto done = grammar->finish(); !done) return done.error();
  return std::shared_ptr<const inference::Grammar>(grammar);
}

inline bool reads(const std::shared_ptr<const inference::Grammar>& grammar, std::string_view text, std::shared_ptr<const inference::VerbatimText> verbatim = nullptr) {
  inference::Automaton automaton(grammar, std::move(verbatim));
  const auto state = automaton.step_all(automaton.start(), text);
  return state != inference::kDeadState && automaton.may_end(state);
}

/// `accepts` and `refuses` in one line each.
inline bool allows(const std::string& schema, const std::string& text) {
  auto grammar = grammar_of(json(schema));
  REQUIRE(grammar.has_value());
  return reads(*grammar, text);
}

inline std::string refused_at(const std::string& schema) {
  auto grammar = grammar_of(json(schema));
  if (grammar) return "compiled";
  return grammar.error().kind == "grammar_schema" ? grammar.error().where : grammar.error().kind;
}

/// Writes with a constraint, choosing at random among what the mask allows. Stops at the end or after `most` tokens.
struct Written {
  std::string text;
  std::vector<inference::TokenId> tokens;
  std::size_t forced = 0;
  bool finished = false;
};
inline Written write_at_random(inference::TokenConstraint& constraint, const inference::Tokenizer& tokenizer, std::uint64_t seed, std::size_t most) {
  Written out;
  std::uint64_t draws = 0;
  const auto take = [&](inference::TokenId id) {
    const auto accepted = constraint.accept(id);
    REQUIRE(accepted.has_value());
    out.tokens.push_back(id);
    if (!tokenizer.is_end(id)) out.text += tokenizer.piece(id);
  };
  while (out.tokens.size() < most && !constraint.finished()) {
    const auto forced = constraint.forced();
    if (!forced.empty()) {
      const std::vector<inference::TokenId> ids(forced.begin(), forced.end());
      out.forced += ids.size();
      for (const auto id : ids) take(id);
      continue;
    }
    const auto mask = constraint.mask();
    std::vector<inference::TokenId> allowed;
    for (std::size_t i = 0; i < tokenizer.size(); ++i)
      if (inference::has_token(mask, static_cast<inference::TokenId>(i))) allowed.push_back(static_cast<inference::TokenId>(i));
    INFO(out.text);
    REQUIRE(!allowed.empty());
    const auto at = static_cast<std::size_t>(inference::random_uniform(seed, draws++) * static_cast<double>(allowed.size()));
    take(allowed[at]);
  }
  out.finished = constraint.finished();
  return out;
}

}  // namespace kontor::test
