#include "agent/tape_model.hpp"

#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace kontor::agent {
namespace {

constexpr std::size_t kPieceBytes = 8;  // Small enough to exercise splits, also inside characters.
constexpr std::size_t kMaxTapeBytes = 64u << 20;

}  // namespace

Result<std::unique_ptr<TapeModel>> TapeModel::open(const std::string& path) {
  std::error_code code;
  if (std::filesystem::file_size(path, code) > kMaxTapeBytes && !code) return fail(Errc::limit, "the tape is larger than 64 MiB", "tape", path);
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail_errno("open tape", path);
  std::ostringstream text;
  text << in.rdbuf();
  return parse(text.str(), path);
}

Result<std::unique_ptr<TapeModel>> TapeModel::parse(const std::string& text, const std::string& name) {
  auto model = std::make_unique<TapeModel>();
  model->info_.name = std::filesystem::path(name).filename().string();
  model->info_.architecture = "tape";
  model->info_.device = "tape";
  model->info_.dialect = "r1-0528";
  model->info_.context = 1 << 20;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = name + ":" + std::to_string(number);
    auto value = parse_json(line);
    if (!value) return fail(Errc::malformed, value.error().describe(), "tape", where);
    const auto text_of = [&](const char* key) {
      return value->contains(key) && value->at(key).is_string() ? value->at(key).get<std::string>() : std::string();
    };
    if (value->is_object() && value->contains("dialect")) {
      model->info_.dialect = text_of("dialect");
      continue;
    }
    if (!value->is_object() || !value->contains("text") || !value->at("text").is_string()) {
      return fail(Errc::malformed, "a line of a tape is an object with the key 'text'", "tape", where);
    }
    const bool repeat = value->contains("repeat") && value->at("repeat") == Json(true);
    model->turns_.push_back({text_of("when"), text_of("text"), repeat});
  }
  return model;
}

void TapeModel::skip(const std::string& text) {
  for (auto& turn : turns_) {
    if (!turn.played && turn.text == text) {
      turn.played = !turn.repeat;
      return;
    }
  }
}

std::size_t TapeModel::remaining() const {
  return static_cast<std::size_t>(std::count_if(turns_.begin(), turns_.end(), [](const Turn& turn) { return !turn.played; }));
}

Result<inference::Generation> TapeModel::generate(const inference::GenerateRequest& request,
                                                  const std::function<bool(const inference::Piece&)>& sink) {
  const std::string prompt = request.prompt_text();
  const auto turn = std::find_if(turns_.begin(), turns_.end(), [&](const Turn& candidate) {
    return !candidate.played && (candidate.when.empty() || prompt.find(candidate.when) != std::string::npos);
  });
  if (turn == turns_.end()) return fail(Errc::limit, "the tape " + info_.name + " has no further turn for this conversation", "tape_end");
  turn->played = !turn->repeat;
  inference::Generation generation;
  generation.usage.prompt_tokens_new = count_tokens(prompt);
  for (std::size_t at = 0; at < turn->text.size(); at += kPieceBytes) {
    if (request.stop.stop_requested()) {
      generation.stop_reason = inference::StopReason::cancelled;
      turn->played = false;
      return generation;
    }
    if (generation.usage.generated >= request.max_tokens) {
      generation.stop_reason = inference::StopReason::length;
      return generation;
    }
    inference::Piece piece;
    piece.text = std::string_view(turn->text).substr(at, kPieceBytes);
    generation.text += piece.text;
    ++generation.usage.generated;
    if (!sink(piece)) {
      generation.stop_reason = inference::StopReason::stopped_by_sink;
      return generation;
    }
  }
  return generation;
}

Result<std::vector<float>> TapeModel::embed(std::string_view) {
  return fail(Errc::unsupported, "a tape has no embeddings");
}

std::int64_t TapeModel::count_tokens(std::string_view text) const { return static_cast<std::int64_t>((text.size() + 3) / 4); }

}  // namespace kontor::agent
