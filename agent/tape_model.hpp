#pragma once
// A recorded model: plays turns from a file of JSON lines, for tests and demonstrations without weights.
//
//   {"dialect": "r1-0528"}                          optional first line
//   {"text": "<think>...</think>..."}               the next turn
//   {"when": "inv-003.txt", "text": "..."}          the next turn of conversations that contain this text
//
//   {"when": "...", "text": "...", "repeat": true}  may be played any number of times
//
// Each other line is played once. A conversation takes the first unplayed line whose `when` it contains; lines without
// `when` are taken in order.

#include "inference/text_model.hpp"

#include <memory>
#include <string>
#include <vector>

namespace kontor::agent {

class TapeModel final : public inference::TextModel {
 public:
  /// Errors: not_found, io, malformed ("FILE:LINE").
  static Result<std::unique_ptr<TapeModel>> open(const std::string& path);
  static Result<std::unique_ptr<TapeModel>> parse(const std::string& text, const std::string& name);

  /// Marks a turn as played (a resumed run has it in its journal).
  void skip(const std::string& text);
  std::size_t remaining() const;

  const inference::ModelInfo& info() const override { return info_; }
  /// Errors: limit (kind tape_end) when no line fits.
  Result<inference::Generation> generate(const inference::GenerateRequest& request,
                                         const std::function<bool(const inference::Piece&)>& sink) override;
  Result<std::vector<float>> embed(std::string_view text) override;
  std::int64_t count_tokens(std::string_view text) const override;

 private:
  struct Turn {
    std::string when, text;
    bool repeat = false, played = false;
  };
  inference::ModelInfo info_;
  std::vector<Turn> turns_;
};

}  // namespace kontor::agent
