#include "inference/tokenizer_json.hpp"

#include "inference/unicode.hpp"
#include "inference/weight_file.hpp"

#include <algorithm>
#include <cmath>

namespace kontor::inference {
namespace {

class Reader {
 public:
  Reader(JsonScanner& scanner, TokenizerJson& out) : scan_(scanner), out_(out) {}

  Result<void> read() {
    std::string_view key;
    bool model = false;
    scan_.open('{');
    while (scan_.member(key)) {
      if (key == "model") {
        if (std::exchange(model, true)) return twice(key);
        read_model();
      } else if (key == "added_tokens") {
        read_added();
      } else if (key == "normalizer") {
        read_small(out_.normalizer);
      } else if (key == "pre_tokenizer") {
        read_small(out_.pre_tokenizer);
      } else if (key == "post_processor") {
        read_small(out_.post_processor);
      } else {
        std::string_view ignored;
        scan_.skip(ignored);
      }
      if (error_.code != Errc::none) return error_;
    }
    scan_.end();
    if (error_.code != Errc::none) return error_;
    if (scan_.failed()) return scan_.error(out_.where);
    if (!model) return bad("it has no \"model\"");
    if (out_.type.empty()) out_.type = guess_type();
    return place_tokens();
  }

 private:
  Error bad(std::string message, std::string kind = "bad_vocab") { return fail(kind == "limit_exceeded" ? Errc::limit : Errc::malformed, std::move(message), std::move(kind), out_.where); }
  Error twice(std::string_view key) { return bad("\"" + printable(key) + "\" stands there twice"); }
  void stop(Error error) {
    if (error_.code == Errc::none) error_ = std::move(error);
  }

  void read_small(Json& into) {
    std::string_view raw;
    if (!scan_.skip(raw)) return;
    auto json = parse_json(raw, {64, 32u << 20, true});
    if (!json) return stop(fail(json.error().code, json.error().message, json.error().kind, out_.where));
    into = std::move(*json);
  }

  void read_model() {
    if (scan_.peek() != '{') {
      scan_.fail_here("\"model\" is not an object");
      return;
    }
    out_.options = Json::object();
    std::string_view key;
    scan_.open('{');
    bool vocabulary = false, merges = false;
    while (error_.code == Errc::none && scan_.member(key)) {
      if (key == "vocab") {
        if (std::exchange(vocabulary, true)) return stop(twice(key));
        scan_.peek() == '[' ? read_scored() : read_vocabulary();
      } else if (key == "merges") {
        if (std::exchange(merges, true)) return stop(twice(key));
        read_merges();
      } else if (key == "type") {
        std::string_view type;
        if (scan_.text(type)) out_.type = type;
      } else {
        const std::string name(key);
        Json value;
        read_small(value);
        out_.options[name] = std::move(value);
      }
    }
    if (!scan_.failed() && error_.code == Errc::none && !vocabulary) stop(bad("its model has no \"vocab\""));
  }

  void read_vocabulary() {
    std::string_view token;
    std::int64_t id = 0;
    scan_.open('{');
    while (scan_.member(token) && scan_.integer(id)) {
      if (id < 0 || id >= static_cast<std::int64_t>(kMaxTokens)) return stop(bad("token \"" + printable(token) + "\" has id " + std::to_string(id), "limit_exceeded"));
      entries_.push_back({token, static_cast<TokenId>(id)});
    }
  }

  void read_scored() {
    std::string_view token;
    double score = 0;
    scan_.open('[');
    while (scan_.element()) {
      scan_.open('[');
      if (!scan_.element() || !scan_.text(token) || !scan_.element() || !scan_.number(score)) {
        scan_.fail_here("a token is not [text, score]");
        return;
      }
      if (scan_.element()) {
        scan_.fail_here("a token is not [text, score]");
        return;
      }
      if (entries_.size() >= kMaxTokens) return stop(bad("more than " + std::to_string(kMaxTokens) + " tokens", "limit_exceeded"));
      entries_.push_back({token, static_cast<TokenId>(entries_.size())});
      scores_.push_back(score);
    }
  }

  void read_merges() {
    scan_.open('[');
    while (scan_.element()) {
      std::string_view left, right;
      if (scan_.peek() == '[') {
        scan_.open('[');
        const bool pair = scan_.element() && scan_.text(left) && scan_.element() && scan_.text(right);
        if (!pair || scan_.element()) {
          scan_.fail_here("a merge is not a pair of texts");
          return;
        }
      } else {
        if (!scan_.text(left)) return;
        const std::size_t space = left.find(' ');
        if (space == std::string_view::npos || left.find(' ', space + 1) != std::string_view::npos) {
          scan_.fail_here("a merge is not two texts with a space between them");
          return;
        }
        right = left.substr(space + 1);
        left = left.substr(0, space);
      }
      if (out_.merges.size() >= kMaxTokens) return stop(bad("more than " + std::to_string(kMaxTokens) + " merges", "limit_exceeded"));
      out_.merges.emplace_back(left, right);
    }
  }

  void read_added() {
    if (scan_.peek() == 'n') {
      Json none;
      return read_small(none);
    }
    scan_.open('[');
    while (error_.code == Errc::none && scan_.element()) {
      Json json;
      read_small(json);
      if (scan_.failed() || error_.code != Errc::none) return;
      TokenizerJson::Added token;
      const auto flag = [&](const char* key, bool& into) {
        if (!json.contains(key)) return true;
        if (!json.at(key).is_boolean()) return false;
        into = json.at(key).get<bool>();
        return true;
      };
      if (!json.is_object() || !json.contains("id") || !json.at("id").is_number_integer() || !json.contains("content") || !json.at("content").is_string() || !flag("special", token.special) ||
          !flag("lstrip", token.rule.strip_left) || !flag("rstrip", token.rule.strip_right) || !flag("single_word", token.rule.single_word))
        return stop(bad("added token " + std::to_string(out_.added.size()) + " has no \"id\" or \"content\", or a rule of it is not true or false"));
      const auto id = json.at("id").get<std::int64_t>();
      token.content = json.at("content").get<std::string>();
      if (id < 0 || id >= static_cast<std::int64_t>(kMaxTokens)) return stop(bad("added token \"" + printable(token.content) + "\" has id " + std::to_string(id), "limit_exceeded"));
      token.id = static_cast<TokenId>(id);
      out_.added.push_back(std::move(token));
    }
  }

  std::string guess_type() const {
    if (!scores_.empty()) return "Unigram";
    if (!out_.merges.empty()) return "BPE";
    return out_.options.contains("max_input_chars_per_word") ? "WordPiece" : "";
  }

  /// Puts each text at its id.
  Result<void> place_tokens() {
    TokenId last = -1;
    for (const Entry& entry : entries_) last = std::max(last, entry.id);
    for (const TokenizerJson::Added& token : out_.added) last = std::max(last, token.id);
    if (static_cast<std::size_t>(last) + 1 > 8 * (entries_.size() + out_.added.size()) + 4096) return bad("token id " + std::to_string(last) + " of " + std::to_string(entries_.size() + out_.added.size()) + " tokens: too many ids are not used");
    TokenList& list = out_.tokens;
    list.where = out_.where;
    list.unique = true;
    const auto count = static_cast<std::size_t>(last + 1);
    list.texts.resize(count);
    list.types.assign(count, TokenType::unused);
    for (const Entry& entry : entries_) {
      const auto i = static_cast<std::size_t>(entry.id);
      if (list.types[i] != TokenType::unused) return bad("\"" + printable(list.texts[i]) + "\" and \"" + printable(entry.text) + "\" both have id " + std::to_string(entry.id));
      list.texts[i] = entry.text;
      list.types[i] = TokenType::normal;
    }
    if (!scores_.empty()) {
      list.scores = scores_;
      list.scores.resize(count, 0.0);
    }
    for (const TokenizerJson::Added& token : out_.added) {
      const auto i = static_cast<std::size_t>(token.id);
      if (list.types[i] != TokenType::unused && list.texts[i] != token.content)
        return bad("added token \"" + printable(token.content) + "\" has id " + std::to_string(token.id) + ", which is \"" + printable(list.texts[i]) + "\"");
      list.texts[i] = token.content;
      list.types[i] = token.special ? TokenType::control : TokenType::user_defined;
      if (token.rule.strip_left || token.rule.strip_right || token.rule.single_word) list.rules.emplace_back(token.id, token.rule);
    }
    return {};
  }

  struct Entry {
    std::string_view text;
    TokenId id;
  };
  JsonScanner& scan_;
  TokenizerJson& out_;
  std::vector<Entry> entries_;
  std::vector<double> scores_;
  Error error_;
};

}  // namespace

Result<TokenizerJson> read_tokenizer_json(std::string_view text, JsonScanner& scanner, const std::string& where) {
  if (text.size() > kMaxTokenizerJsonBytes) return fail(Errc::limit, "it has " + std::to_string(text.size()) + " bytes, more than " + std::to_string(kMaxTokenizerJsonBytes), "limit_exceeded", where);
  if (!is_valid_utf8(text)) return fail(Errc::malformed, "it is not UTF-8", "bad_utf8", where);
  TokenizerJson out;
  out.where = where;
  Reader reader(scanner, out);
  if (auto read = reader.read(); !read) return read.error();
  return out;
}

}  // namespace kontor::inference
