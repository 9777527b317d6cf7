#pragma once
// A compiled grammar as the constraint of one generation: token masks, forced tokens, the think budget.

#include "inference/automaton.hpp"
#include "inference/constraint.hpp"
#include "inference/token_trie.hpp"
#include "inference/tokenizer.hpp"

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace kontor::inference {

/// Masks of states seen before, by their key; shared by all generations of a grammar. Thread-safe, bounded.
class MaskCache {
 public:
  static constexpr std::size_t kMasksMax = 1024;
  std::shared_ptr<const TokenSet> find(const Automaton::Key& key);
  void insert(const Automaton::Key& key, std::shared_ptr<const TokenSet> mask);

 private:
  struct Hash {
    std::size_t operator()(const Automaton::Key& key) const { return key.high ^ (key.low * 31); }
  };
  std::mutex mutex_;
  std::unordered_map<Automaton::Key, std::shared_ptr<const TokenSet>, Hash> masks_;
};

/// What generations of one grammar share. Immutable but for the cache.
struct GrammarProgram {
  std::shared_ptr<const Grammar> grammar;   ///< After finish().
  std::shared_ptr<const TokenTrie> trie;    ///< Of `tokenizer`.
  Tokenizer tokenizer;
  TokenId end = -1;                         ///< The end-of-turn token that forced() gives; -1: none is forced.
  std::shared_ptr<MaskCache> masks = std::make_shared<MaskCache>();
};

struct ConstraintOptions {
  std::int64_t think_tokens = 0;            ///< After so many the reasoning is closed. 0: no limit.
  bool stop_think_loops = true;             ///< Reasoning that repeats itself is closed.
  std::shared_ptr<const VerbatimText> verbatim;  ///< Texts that may be copied from.
};

class GrammarConstraint final : public TokenConstraint {
 public:
  GrammarConstraint(std::shared_ptr<const GrammarProgram> program, ConstraintOptions options);

  std::span<const std::uint32_t> mask() override;
  /// Never inside verbatim values: what the conversation leaves as the only choice is sampled all the same, so that the
  /// probabilities of copied digits are known.
  std::span<const TokenId> forced() override;
  Result<void> accept(TokenId token) override;
  bool finished() const override { return finished_; }
  std::unique_ptr<TokenConstraint> fork() const override;

  /// The reasoning was closed by the budget or because it went round in circles.
  bool think_forced() const { return think_forced_; }
  bool think_looped() const { return think_looped_; }
  bool thinking() const { return automaton_->thinking(state_); }
  /// The output may end here.
  bool may_end() const { return automaton_->may_end(state_); }

 private:
  GrammarConstraint(const GrammarConstraint& other, int);
  std::shared_ptr<const TokenSet> compute();
  void add_slices(TokenSet& out, std::span<const TrieNode>& rest);
  std::optional<std::size_t> alphanumeric_run();
  void walk(std::span<const TrieNode> trie, TokenSet& out);
  void close_thinking();
  /// Tokens of the text that has to come, without those that a longer token could take the place of. `behind`: the
  /// state behind the text; kDeadState where a control token or the end follows.
  /// False where not all of it could be appended: nothing may follow it then.
  bool append_forced_text(const std::string& text, StateId behind);
  std::size_t settled_bytes(const std::string& text, StateId behind);
  bool longer_token_fits(std::string_view tail, StateId behind);

  std::shared_ptr<const GrammarProgram> program_;
  ConstraintOptions options_;
  std::unique_ptr<Automaton> automaton_;
  StateId state_ = kDeadState;
  std::shared_ptr<const TokenSet> mask_;
  std::vector<TokenId> forced_;
  std::int64_t think_tokens_ = 0;
  std::string thought_;                     ///< The end of the reasoning, for the loop detector.
  bool think_forced_ = false, think_looped_ = false, finished_ = false;
};

/// Does the text end in one short piece over and over? Models that lost the thread write until they are stopped.
bool repeats_itself(std::string_view text);

}  // namespace kontor::inference
