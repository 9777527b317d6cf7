// `kontor model tokenize`, `logits`, `generate` and `embed`.

#include "agent/cli/model_verbs.hpp"
#include "base/json.hpp"
#include "inference/local_model.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

namespace kontor::agent::cli {
namespace {

using inference::TokenId;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// Calls `each` for every line of a JSON Lines file; its errors carry "FILE:LINE".
template <class Each>
Result<void> for_each_line(const std::string& path, const Each& each) {
  const auto text = read_input(path);
  if (!text) return text.error();
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text->size(); ++number) {
    const std::size_t end = std::min(text->find('\n', begin), text->size());
    const std::string_view line = std::string_view(*text).substr(begin, end - begin);
    begin = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = path + ":" + std::to_string(number + 1);
    const auto json = parse_json(line);
    if (!json) return fail(Errc::usage, json.error().message, json.error().kind, where + ":" + json.error().where);
    if (!json->is_object() || !json->contains("text") || !json->at("text").is_string())
      return fail(Errc::usage, "each line must be an object with a \"text\"", "bad_batch", where);
    if (const Result<void> done = each(*json); !done) return done.error();
  }
  return {};
}

Json id_of(const Json& line) { return line.contains("id") ? line.at("id") : Json(nullptr); }

struct TokenizeOptions {
  std::string file, batch;
  std::optional<std::string> text;
  bool special = false, json = false;
};

/// From a GGUF file, a tokenizer.json or a folder that holds one.
Result<inference::Tokenizer> open_tokenizer(const std::string& path) {
  std::error_code ignored;
  if (path.ends_with(".json") || std::filesystem::is_directory(path, ignored)) return inference::Tokenizer::from_json_file(path);
  const auto file = inference::WeightFile::open(path);
  if (!file) return file.error();
  return inference::Tokenizer::create(*file);
}

int tokenize(const TokenizeOptions& options) {
  if (options.batch.empty() == !options.text) {
    print_error("give either a text or --batch");
    return kUsage;
  }
  const auto tokenizer = open_tokenizer(options.file);
  if (!tokenizer) return report_model_error(tokenizer.error());
  if (options.text) {
    const auto ids = tokenizer->encode(*options.text, options.special);
    if (options.json) {
      print_json(dump(Json{{"ids", ids}}));
    } else {
      for (const TokenId id : ids) std::cout << id << "\t" << dump(Json(std::string(tokenizer->piece(id)))) << "\n";
    }
    return kDone;
  }
  const auto done = for_each_line(options.batch, [&](const Json& line) -> Result<void> {
    bool special = options.special;
    if (line.contains("special")) {
      if (!line.at("special").is_boolean()) return fail(Errc::usage, "\"special\" must be true or false", "bad_batch");
      special = line.at("special").get<bool>();
    }
    Json out{{"id", id_of(line)}, {"ids", tokenizer->encode(line.at("text").get<std::string>(), special)}};
    print_json(dump(out));
    return {};
  });
  return done ? static_cast<int>(kDone) : report_model_error(done.error());
}

struct LogitsOptions {
  std::shared_ptr<ModelOptions> model;
  std::vector<TokenId> tokens;
  bool all = false;
};

int logits(const LogitsOptions& options) {
  const auto engine = open_engine(*options.model);
  if (!engine) return report_model_error(engine.error());
  const auto width = static_cast<std::size_t>((*engine)->config().vocabulary);
  const std::size_t rows = options.all ? options.tokens.size() : 1;
  std::vector<float> values(rows * width);
  const auto sequence = (*engine)->create_sequence();
  const auto output = options.all ? inference::Output::all_logits : inference::Output::last_logits;
  const inference::Extension extension[] = {{sequence.get(), options.tokens, output, values.data()}};
  if (const auto done = (*engine)->forward(extension); !done) return report_model_error(done.error());
  Json list = Json::array();
  for (std::size_t r = 0; r < rows; ++r) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(r * width);
    Json row = std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(width));
    if (options.all) list.push_back(std::move(row));
    else list = std::move(row);
  }
  if (options.model->json) {
    print_json(dump(Json{{"logits", std::move(list)}}));
    return kDone;
  }
  const auto last = values.end() - static_cast<std::ptrdiff_t>(width);
  std::vector<std::pair<float, TokenId>> best;
  for (std::size_t i = 0; i < width; ++i) best.emplace_back(last[static_cast<std::ptrdiff_t>(i)], static_cast<TokenId>(i));
  const auto shown = best.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(10, width));
  std::partial_sort(best.begin(), shown, best.end(), std::greater<>());
  for (auto it = best.begin(); it != shown; ++it)
    std::cout << it->second << "\t" << it->first << "\t" << dump(Json(std::string((*engine)->tokenizer().piece(it->second)))) << "\n";
  return kDone;
}

struct GenerateOptions {
  std::shared_ptr<ModelOptions> model;
  std::string prompt;
  inference::Sampling sampling;
  int count = 256;
};

std::string_view name_of(inference::StopReason reason) {
  switch (reason) {
    case inference::StopReason::end_of_turn: return "end_of_turn";
    case inference::StopReason::length: return "length";
    case inference::StopReason::cancelled: return "cancelled";
    case inference::StopReason::stopped_by_sink: return "stopped_by_sink";
  }
  return "";
}

int generate(const GenerateOptions& options) {
  const auto engine = open_engine(*options.model);
  if (!engine) return report_model_error(engine.error());
  const inference::Tokenizer& tokenizer = (*engine)->tokenizer();
  inference::GenerateRequest request;
  request.sampling = options.sampling;
  request.max_tokens = options.count;
  const auto ids = tokenizer.encode(options.prompt, true);
  const bool begin = tokenizer.bos() && (ids.empty() || tokenizer.add_bos()) && (ids.empty() || ids.front() != *tokenizer.bos());
  if (begin) request.prompt.push_back({{}, true, {*tokenizer.bos()}});
  request.prompt.push_back({options.prompt, true, ids});
  inference::LocalModel model(*engine);
  const bool stream = !options.model->json;
  const auto result = model.generate(request, [&](const inference::Piece& piece) {
    if (stream) std::cout << piece.text << std::flush;
    return true;
  });
  if (!result) return report_model_error(result.error());
  if (stream) {
    std::cout << "\n";
    return kDone;
  }
  const inference::Usage& usage = result->usage;
  Json ledger{{"prompt_tokens_new", usage.prompt_tokens_new}, {"prompt_tokens_reused", usage.prompt_tokens_reused},
              {"generated", usage.generated}, {"forced", usage.forced}, {"prefill_seconds", usage.prefill_seconds},
              {"decode_seconds", usage.decode_seconds}, {"stop_reason", name_of(result->stop_reason)}};
  print_json(dump(Json{{"text", result->text}, {"ids", result->tokens}, {"ledger", ledger}}));
  return kDone;
}

struct EmbedOptions {
  std::shared_ptr<ModelOptions> model;
  std::string batch;
  std::optional<std::string> text;
};

int embed(const EmbedOptions& options) {
  if (options.batch.empty() == !options.text) {
    print_error("give either a text or --batch");
    return kUsage;
  }
  const auto engine = open_engine(*options.model);
  if (!engine) return report_model_error(engine.error());
  inference::LocalModel model(*engine);
  if (options.text) {
    const auto vector = model.embed(*options.text);
    if (!vector) return report_model_error(vector.error());
    print_json(dump(Json{{"embedding", *vector}}));
    return kDone;
  }
  const auto done = for_each_line(options.batch, [&](const Json& line) -> Result<void> {
    const auto vector = model.embed(line.at("text").get<std::string>());
    if (!vector) return vector.error();
    print_json(dump(Json{{"id", id_of(line)}, {"embedding", *vector}}));
    return {};
  });
  return done ? static_cast<int>(kDone) : report_model_error(done.error());
}

}  // namespace

void add_model_tokenize(CLI::App& verb) {
  add_leaf(verb, "tokenize", "text to token ids", [](CLI::App& app) -> Action {
    auto options = std::make_shared<TokenizeOptions>();
    app.add_option("FILE", options->file, "GGUF file, tokenizer.json, or folder that holds one")->required();
    app.add_option("TEXT", options->text, "text to encode");
    app.add_option("--batch", options->batch, "JSON lines {\"id\",\"text\",\"special\"}; - reads standard input");
    app.add_flag("--special", options->special, "recognise control tokens in the text");
    app.add_flag("--json", options->json, "print one JSON document");
    return [options] { return tokenize(*options); };
  });
}

void add_model_logits(CLI::App& verb) {
  add_leaf(verb, "logits", "scores of the next token behind given token ids", [](CLI::App& app) -> Action {
    auto options = std::make_shared<LogitsOptions>();
    options->model = add_model_options(app);
    app.add_option("--tokens", options->tokens, "token ids, separated by commas")->required()->delimiter(',');
    app.add_flag("--all", options->all, "for every position, not only the last");
    return [options] { return logits(*options); };
  });
}

void add_model_generate(CLI::App& verb) {
  add_leaf(verb, "generate", "continue a text; control tokens in the prompt are recognised", [](CLI::App& app) -> Action {
    auto options = std::make_shared<GenerateOptions>();
    options->model = add_model_options(app);
    app.add_option("--prompt", options->prompt, "text to continue");
    app.add_option("-n,--n", options->count, "tokens at most")->capture_default_str()->check(CLI::Range(0, 1 << 24));
    app.add_option("--temperature", options->sampling.temperature, "0 takes the most probable token")->capture_default_str();
    app.add_option("--top-k", options->sampling.top_k, "0: off")->capture_default_str();
    app.add_option("--top-p", options->sampling.top_p, "1: off")->capture_default_str();
    app.add_option("--min-p", options->sampling.min_p, "0: off")->capture_default_str();
    app.add_option("--repeat-penalty", options->sampling.repeat_penalty, "1: off")->capture_default_str();
    app.add_option("--seed", options->sampling.seed, "the same seed gives the same text")->capture_default_str();
    return [options] { return generate(*options); };
  });
}

void add_model_embed(CLI::App& verb) {
  add_leaf(verb, "embed", "unit vectors of texts", [](CLI::App& app) -> Action {
    auto options = std::make_shared<EmbedOptions>();
    options->model = add_model_options(app);
    app.add_option("TEXT", options->text, "text to embed");
    app.add_option("--batch", options->batch, "JSON lines {\"id\",\"text\"}; - reads standard input");
    return [options] { return embed(*options); };
  });
}

}  // namespace kontor::agent::cli
