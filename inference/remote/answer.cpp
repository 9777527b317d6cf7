#include "inference/remote/answer.hpp"

#include "inference/weight_file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

namespace kontor::inference::remote {
namespace {

// No vocabulary of the family has longer tokens.
constexpr std::size_t kTokenBytesMax = 512;
// Some servers name the end of the turn too.
constexpr std::size_t kSpareTokens = 4;
constexpr std::int64_t kCountMax = std::int64_t{1} << 40;

const Json* member(const Json& value, const char* key) {
  if (!value.is_object()) return nullptr;
  const auto found = value.find(key);
  return found == value.end() ? nullptr : &*found;
}

std::string text_of(const Json& value, const char* key) {
  const Json* text = member(value, key);
  return text && text->is_string() ? text->get<std::string>() : std::string();
}

/// -1 where there is no sensible count.
std::int64_t count_of(const Json& value, const char* key) {
  const Json* count = member(value, key);
  if (!count || !count->is_number_integer()) return -1;
  if (count->is_number_unsigned() && count->get<std::uint64_t>() > static_cast<std::uint64_t>(kCountMax)) return -1;
  const auto number = count->get<std::int64_t>();
  return number >= 0 && number <= kCountMax ? number : -1;
}

const Json& array_of(const Json& value, const char* key) {
  static const Json kNone = Json::array();
  const Json* list = member(value, key);
  return list && list->is_array() ? *list : kNone;
}

}  // namespace

std::string error_message(const Json& body) {
  const Json* error = member(body, "error");
  if (error && error->is_string()) return error->get<std::string>();
  if (error && error->is_object()) {
    const std::string message = text_of(*error, "message");
    return message.empty() ? "an error without a message" : message;
  }
  if (const std::string message = text_of(body, "message"); !message.empty()) return message;
  return text_of(body, "detail");
}

bool says_context_full(std::string_view message) {
  for (const std::string_view words : {"context length", "context size", "context window", "max_model_len", "maximum input length"}) {
    if (message.find(words) != std::string_view::npos) return true;
  }
  return false;
}

Answer::Answer(int max_tokens, std::stop_token stop, std::function<bool(const Piece&)> sink)
    : max_tokens_(std::max(max_tokens, 0)), stop_(std::move(stop)), sink_(std::move(sink)) {}

bool Answer::feed(std::string_view bytes) {
  if (over_ || error_) return false;
  const auto fed = events_.feed(bytes, [this](const SseEvent& event) { return event.data.empty() || on_event(event.data); });
  if (!fed && !error_) error_ = fail(Errc::limit, "an event of the answer is longer than " + std::to_string(kEventBytesMax) + " bytes", "endpoint");
  return !over_ && !error_;
}

bool Answer::on_event(std::string_view data) {
  if (data == "[DONE]") {
    if (!finished_) return refuse("no reason for its end");
    over_ = true;
    return false;
  }
  const auto event = parse_json(data);
  if (!event || !event->is_object()) return refuse("an event that is no JSON object");
  if (const std::string message = error_message(*event); !message.empty()) return refuse("an error: " + message, says_context_full(message));
  read_usage(*event);
  const Json& choices = array_of(*event, "choices");
  if (choices.empty()) return true;
  const Json& choice = choices[0];
  if (!choice.is_object()) return refuse("a choice that is no object");
  const std::string text = text_of(choice, "text");
  if (!text.empty() && !emit(text, tokens_of(choice))) return false;
  if (const std::string reason = text_of(choice, "finish_reason"); !reason.empty()) {
    if (reason == "length") {
      stop_reason_ = StopReason::length;
    } else if (reason != "stop" && reason != "eos" && reason != "eos_token") {
      return refuse("the end '" + reason + "'");
    }
    finished_ = true;
  }
  over_ = finished_ && generated_ >= 0;  // Otherwise the usage may follow.
  return !over_;
}

void Answer::read_usage(const Json& event) {
  if (const Json* usage = member(event, "usage"); usage && usage->is_object()) {
    if (const auto count = count_of(*usage, "prompt_tokens"); count >= 0) prompt_tokens_ = count;
    if (const auto count = count_of(*usage, "completion_tokens"); count >= 0) generated_ = count;
    if (const Json* details = member(*usage, "prompt_tokens_details")) cached_ = std::max<std::int64_t>(0, count_of(*details, "cached_tokens"));
  } else if (const Json* timings = member(event, "timings"); timings && prompt_tokens_ < 0) {
    // llama.cpp's server tells with every token how long the prompt was: all there is when the answer is cut off.
    const auto computed = count_of(*timings, "prompt_n"), cached = count_of(*timings, "cache_n");
    const auto past = count_of(*timings, "n_past"), predicted = count_of(*timings, "predicted_n");
    if (computed >= 0 && cached >= 0) {
      prompt_tokens_ = computed + cached, cached_ = cached;
    } else if (past >= 0 && predicted > 0 && past + 1 - predicted >= std::max<std::int64_t>(0, computed)) {
      prompt_tokens_ = past + 1 - predicted;
      if (computed >= 0) cached_ = prompt_tokens_ - computed;
    }
  }
}

std::vector<Answer::Token> Answer::tokens_of(const Json& choice) {
  std::vector<Token> tokens;
  const Json* given = member(choice, "logprobs");
  if (!given) return tokens;
  const auto add = [&](const Json& token, const Json& logprob) {
    if (!token.is_string()) return;
    const bool known = logprob.is_number() && !std::isnan(logprob.get<double>());
    tokens.push_back({token.get<std::string>(), known ? static_cast<float>(std::exp(std::min(0.0, logprob.get<double>()))) : kUnknownProbability});
  };
  static const Json kNull;
  for (const Json& entry : array_of(*given, "content")) {
    const Json* token = member(entry, "token");
    const Json* logprob = member(entry, "logprob");
    if (token) add(*token, logprob ? *logprob : kNull);
  }
  if (!tokens.empty()) return tokens;
  const Json& texts = array_of(*given, "tokens");
  const Json& logprobs = array_of(*given, "token_logprobs");
  for (std::size_t i = 0; i < texts.size(); ++i) add(texts[i], i < logprobs.size() ? logprobs[i] : kNull);
  return tokens;
}

bool Answer::emit(const std::string& text, const std::vector<Token>& tokens) {
  if (finished_) return refuse("text behind its end");
  counted_ += static_cast<std::int64_t>(tokens.empty() ? text.size() : tokens.size());
  named_ += tokens.size();
  const std::size_t allowed = static_cast<std::size_t>(max_tokens_);
  if (text_.size() + text.size() > allowed * kTokenBytesMax || named_ > allowed + kSpareTokens) return refuse("more text than was asked for");
  std::string joined;
  for (const Token& token : tokens) joined += token.text;
  if (joined == text) {
    for (const Token& token : tokens) {
      if (!token.text.empty() && !put(token.text, token.probability)) return false;
    }
    return true;
  }
  // Tokens that are parts of a character are spelt some other way: the least of them counts for all.
  float least = tokens.empty() ? kUnknownProbability : 1.0f;
  for (const Token& token : tokens) least = std::min(least, token.probability);
  return put(text, least);
}

bool Answer::put(std::string_view text, float probability) {
  text_ += text;
  Piece piece;
  piece.text = text;
  piece.probability = probability;
  const bool wanted = !sink_ || sink_(piece);
  if (!wanted) stop_reason_ = StopReason::stopped_by_sink;
  if (stop_.stop_requested()) stop_reason_ = StopReason::cancelled;
  over_ = !wanted || stop_.stop_requested();
  return !over_;
}

bool Answer::refuse(const std::string& what, bool full) {
  error_ = fail(full ? Errc::limit : Errc::malformed, "the answer has " + printable(what, 300), full ? "context_full" : "endpoint");
  return false;
}

Generation Answer::take(std::int64_t prompt_bound) {
  Generation generation;
  generation.text = std::move(text_);
  generation.stop_reason = stop_reason_;
  const std::int64_t prompt = prompt_tokens_ >= 0 ? prompt_tokens_ : prompt_bound;
  generation.usage.prompt_tokens_reused = std::min(cached_, prompt);
  generation.usage.prompt_tokens_new = prompt - generation.usage.prompt_tokens_reused;
  generation.usage.generated = std::min<std::int64_t>(generated_ >= 0 ? generated_ : counted_, max_tokens_);
  return generation;
}

}  // namespace kontor::inference::remote
