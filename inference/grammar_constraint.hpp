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

/// The tokens that may come next, and how much more can be left behind the worst of them than was left before.
struct TokenMask {
  TokenSet tokens;
  std::int64_t rise = 0;
};

/// Masks of states seen before, by their key; shared by all generations of a grammar. Thread-safe, bounded.
class MaskCache {
 public:
  static constexpr std::size_t kMasksMax = 1024;
  std::shared_ptr<const TokenMask> find(const Automaton::Key& key);
  void insert(const Automaton::Key& key, std::shared_ptr<const TokenMask> mask);

 private:
  struct Hash {
    std::size_t operator()(const Automaton::Key& key) const { return key.high ^ (key.low * 31); }
  };
  std::mutex mutex_;
  std::unordered_map<Automaton::Key, std::shared_ptr<const TokenMask>, Hash> masks_;
};

/// What generations of one grammar share. Immutable but for the cache.
struct GrammarProgram {
  std::shared_ptr<const Grammar> grammar;   ///< After finish().
  std::shared_ptr<const TokenTrie> trie;    ///< Of `tokenizer`.
  Tokenizer tokenizer;
  TokenId end = -1;                         ///< The end-of-turn token that forced() gives; -1: none is forced.
  std::shared_ptr<const Endings> endings;   ///< Of `grammar` and `trie`. Null: outputs have no limit.
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

  /// Before the first token: the output has at most so many tokens, forced ones and the end of the turn among them. When
  /// they run short, only what can still be completed may come, and reasoning is closed in time; so an output is never
  /// cut inside a call or JSON. Free text can be. Errors: limit (kind output_limit) where not even shortest() fits.
  Result<void> limit(std::int64_t tokens);

  std::span<const std::uint32_t> mask() override;
  /// Never inside verbatim values: what the conversation leaves as the only choice is sampled all the same, so that the
  /// probabilities of copied digits are known.
  std::span<const TokenId> forced() override;
  Result<void> accept(TokenId token) override;
  bool finished() const override { return finished_; }
  std::unique_ptr<TokenConstraint> fork() const override;

  /// Tokens that any output may need, at most, to be complete: a smaller limit cannot be promised to be kept.
  std::int64_t shortest() const { return shortest_; }
  /// The limit kept something out that the grammar allows: calls and JSON may be shorter than the model meant them to be.
  bool wound_down() const { return wound_down_; }
  /// The reasoning was closed by the budget, the limit, or because it went round in circles.
  bool think_forced() const { return think_forced_; }
  bool think_looped() const { return think_looped_; }
  bool thinking() const { return automaton_->thinking(state_); }
  /// The output may end here.
  bool may_end() const { return automaton_->may_end(state_); }

 private:
  GrammarConstraint(const GrammarConstraint& other, int);
  /// Of the tokens that may come, those behind which at most `most` are left.
  std::shared_ptr<const TokenMask> compute(TokenCount most);
  void add_slices(TokenMask& out, std::span<const TrieNode>& rest, TokenCount most, TokenCount& worst);
  std::optional<std::size_t> alphanumeric_run(TokenCount& worst);
  void walk(std::span<const TrieNode> trie, TokenSet& out, TokenCount most, TokenCount& worst);
  std::int64_t remaining() const { return most_tokens_ - tokens_; }
  /// Tokens that are forced would leave too few for the rest.
  bool forced_too_much();
  void close_thinking();
  void append_forced();
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
  std::shared_ptr<const TokenMask> mask_;
  std::vector<TokenId> forced_;
  std::int64_t tokens_ = 0, think_tokens_ = 0;
  std::int64_t most_tokens_ = 0;
  std::int64_t shortest_ = 0;               ///< From the start.
  TokenCount think_close_left_ = kTokensNever;  ///< From where reasoning goes on that was closed.
  bool limited_ = false;
  bool wound_down_ = false;
  std::string thought_;                     ///< The end of the reasoning, for the loop detector.
  bool think_forced_ = false, think_looped_ = false, finished_ = false;
};

/// Does the text end in one short piece over and over? Models that lost the thread write until they are stopped.
bool repeats_itself(std::string_view text);

}  // namespace kontor::inference
