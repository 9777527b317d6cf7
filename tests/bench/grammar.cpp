// Constrained decoding: time of masks over a large vocabulary, and calls by a model with random weights that all have to
// parse strictly and validate. Times are processor time of the one thread at work.
//
// usage: bench_grammar VOCABULARY.gguf POCKET.gguf TOOLS.jsonl [CALLS]

#include "agent/dialect/parser.hpp"
#include "agent/grammar/output_grammar.hpp"
#include "agent/grammar/schema_grammar.hpp"
#include "inference/local_model.hpp"
#include "inference/sampler.hpp"
#include "tests/support/gguf_builder.hpp"
#include "tools/schema.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>

#include <sys/wait.h>
#include <unistd.h>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::inference;

namespace {

/// Processor time of this thread in microseconds: what is measured takes micro- to milliseconds, and other programs run.
double now() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}
double microseconds(double from) { return now() - from; }

std::vector<ToolSchema> read_tools(const char* path) {
  std::vector<ToolSchema> out;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const auto tool = parse_json(line);
    if (tool) out.push_back({tool->at("name").get<std::string>(), "", tool->at("parameters")});
  }
  return out;
}

Tokenizer tokenizer_of(const char* path) {
  auto file = WeightFile::open(path);
  auto tokenizer = file ? Tokenizer::create(*file) : Result<Tokenizer>(file.error());
  if (!tokenizer) std::fprintf(stderr, "%s: %s\n", path, tokenizer.error().describe().c_str()), std::exit(2);
  return *tokenizer;
}

double percentile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<std::size_t>(share * static_cast<double>(values.size())))];
}

OutputRequest request_for(std::vector<ToolSchema> tools, bool call_tokens) {
  OutputRequest out;
  out.dialect = *dialect_for(call_tokens ? "r1" : "r1-distill");
  out.parser_format = call_tokens ? "deepseek-r1" : "deepseek-r1-distill";
  out.prefill = Prefill::open;
  out.call_tokens = call_tokens;
  out.choice = ToolChoice::required;
  out.tools = std::move(tools);
  return out;
}

/// From an agent's schemas to the first token that its model may write, each agent in a process of its own: nothing is
/// known of patterns that other agents have, too. `checked`: the schemas were checked before, as a run does when it starts.
struct Start {
  double grammar = 0, mask = 0;
};
Start start_alone(const Tokenizer& tokenizer, const std::shared_ptr<const TokenTrie>& trie, const std::vector<ToolSchema>& tools, bool checked) {
  Start out;
  int ends[2];
  if (pipe(ends) != 0) std::perror("pipe"), std::exit(1);
  const pid_t child = fork();
  if (child < 0) std::perror("fork"), std::exit(1);
  if (child == 0) {
    if (checked && !check_output_schemas(tools, {})) _exit(1);
    auto start = now();
    const auto program = compile_output(request_for(tools, false), tokenizer, trie);
    out.grammar = microseconds(start) / 1000;
    if (!program) std::fprintf(stderr, "%s\n", program.error().describe().c_str()), _exit(1);
    start = now();
    GrammarConstraint constraint(*program, {});
    (void)constraint.mask();
    out.mask = microseconds(start) / 1000;
    _exit(write(ends[1], &out, sizeof out) == sizeof out ? 0 : 1);
  }
  close(ends[1]);
  const bool told = read(ends[0], &out, sizeof out) == sizeof out;
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!told || status != 0) std::fprintf(stderr, "the grammar of an agent with '%s' failed\n", tools.front().name.c_str()), std::exit(1);
  return out;
}

/// Worst and median over agents of `size` tools.
void measure_start(const Tokenizer& tokenizer, const std::shared_ptr<const TokenTrie>& trie, const std::vector<ToolSchema>& tools, std::size_t size, bool checked) {
  std::vector<double> grammar, mask, both;
  std::string slowest;
  for (std::size_t from = 0; from + size <= tools.size(); from += (size + 1) / 2) {
    const std::vector<ToolSchema> some(tools.begin() + static_cast<std::ptrdiff_t>(from), tools.begin() + static_cast<std::ptrdiff_t>(from + size));
    const Start start = start_alone(tokenizer, trie, some, checked);
    grammar.push_back(start.grammar), mask.push_back(start.mask), both.push_back(start.grammar + start.mask);
    if (both.back() >= *std::max_element(both.begin(), both.end())) slowest = some.front().name;
  }
  std::printf("%3zu agents of %2zu tools, %s: grammar p50 %.2f ms, max %.2f ms; first mask p50 %.3f ms, max %.3f ms; both p50 %.2f ms, p99 %.2f ms, max %.2f ms ('%s')\n", both.size(), size,
              checked ? "schemas checked before" : "nothing known before", percentile(grammar, 0.5), percentile(grammar, 1), percentile(mask, 0.5), percentile(mask, 1),
              percentile(both, 0.5), percentile(both, 0.99), percentile(both, 1), slowest.c_str());
}

/// A token of the mask, at random.
TokenId draw(std::span<const std::uint32_t> mask, std::uint64_t seed, std::uint64_t index) {
  std::size_t count = 0;
  for (const auto word : mask) count += static_cast<std::size_t>(__builtin_popcount(word));
  auto left = static_cast<std::size_t>(random_uniform(seed, index) * static_cast<double>(count));
  for (std::size_t i = 0; i < mask.size(); ++i) {
    const auto here = static_cast<std::size_t>(__builtin_popcount(mask[i]));
    if (left >= here) left -= here;
    else
      for (std::uint32_t word = mask[i];; word &= word - 1)
        if (left-- == 0) return static_cast<TokenId>(i * 32 + static_cast<std::size_t>(__builtin_ctz(word)));
  }
  return -1;
}

void measure_masks(const Tokenizer& tokenizer, const std::vector<ToolSchema>& tools) {
  auto start = now();
  const auto trie = std::make_shared<const TokenTrie>(tokenizer);
  std::printf("vocabulary %zu tokens, trie in %.1f ms (once, when a model is loaded)\n", tokenizer.size(), microseconds(start) / 1000);
  for (const bool checked : {false, true})
    for (const std::size_t size : {1, 5, 20}) measure_start(tokenizer, trie, tools, size, checked);
  std::vector<double> cold, warm, ending, accepted;
  std::size_t forced = 0, sampled = 0;
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const auto program = compile_output(request_for({tools[i]}, false), tokenizer, trie);
    if (!program) std::fprintf(stderr, "%s\n", program.error().describe().c_str()), std::exit(1);
    for (int round = 0; round < 6; ++round) {
      ConstraintOptions options;
      options.think_tokens = 8;
      GrammarConstraint constraint(*program, options);
      // The last two have just room enough: all of it is winding down.
      const bool short_of_room = round >= 4;
      if (short_of_room && !constraint.limit(constraint.shortest() + 16)) continue;
      std::size_t count = 0;
      for (std::uint64_t step = 0; !constraint.finished() && step < 1500; ++step) {
        const auto given = constraint.forced();
        if (!given.empty()) {
          const std::vector<TokenId> ids(given.begin(), given.end());
          for (const TokenId id : ids) (void)constraint.accept(id);
          forced += ids.size();
          continue;
        }
        start = now();
        const auto mask = constraint.mask();
        (short_of_room ? ending : round == 0 ? cold : warm).push_back(microseconds(start));
        // Long strings end after a while, as they do with a model that has something to say.
        TokenId id = draw(mask, i * 10 + static_cast<std::uint64_t>(round), step);
        const auto quote = tokenizer.find("\"");
        if (++count % 6 == 0 && quote && has_token(mask, *quote)) id = *quote;
        start = now();
        (void)constraint.accept(id);
        accepted.push_back(microseconds(start));
        ++sampled;
      }
    }
  }
  std::vector<double> all = cold;
  all.insert(all.end(), warm.begin(), warm.end());
  const auto row = [](const char* name, std::vector<double>& values) {
    std::printf("%-28s %8zu  p50 %7.1f us  p90 %7.1f us  p99 %7.1f us  max %7.1f us\n", name, values.size(), percentile(values, 0.5), percentile(values, 0.9), percentile(values, 0.99), percentile(values, 1));
  };
  row("mask, all", all);
  row("mask, first turn of a tool", cold);
  row("mask, later turns", warm);
  row("mask, room runs out", ending);
  row("accept", accepted);
  std::printf("forced %zu of %zu tokens (%.1f %%)\n", forced, forced + sampled, 100.0 * static_cast<double>(forced) / static_cast<double>(forced + sampled));
}

/// A llama of one layer with random weights and the vocabulary of another file.
std::string random_model(const char* vocabulary) {
  constexpr std::uint64_t kWidth = 32, kInner = 64;
  const auto file = WeightFile::open(vocabulary);
  const std::string architecture = "llama";
  test::GgufBuilder out;
  out.string("general.architecture", architecture);
  const auto set = [&](const char* name, std::uint32_t value) { out.u32(architecture + "." + name, value); };
  set("context_length", 32768), set("embedding_length", kWidth), set("block_count", 1), set("feed_forward_length", kInner);
  set("attention.head_count", 2), set("attention.head_count_kv", 2);
  out.scalar<float>(architecture + ".attention.layer_norm_rms_epsilon", 6, 1e-5f);
  std::string names;
  for (const auto& entry : file->metadata()) {
    if (!entry.key.starts_with("tokenizer.")) continue;
    if (entry.type == MetadataType::text) out.string(entry.key, *file->text(entry.key));
    else if (entry.type == MetadataType::u32) out.u32(entry.key, static_cast<std::uint32_t>(*file->integer(entry.key)));
    else if (entry.type == MetadataType::boolean) out.boolean(entry.key, *file->boolean_or(entry.key, false));
    else if (entry.type == MetadataType::array && entry.element_type == MetadataType::text) {
      std::vector<std::string> values;
      for (const auto text : *file->texts(entry.key)) values.emplace_back(text);
      out.strings(entry.key, values);
    } else if (entry.type == MetadataType::array && entry.element_type == MetadataType::i32) {
      std::vector<std::int32_t> values;
      for (const auto value : *file->integers(entry.key)) values.push_back(static_cast<std::int32_t>(value));
      out.i32s(entry.key, values);
    }
  }
  const std::uint64_t tokens = file->texts("tokenizer.ggml.tokens")->size();
  std::uint64_t drawn = 0;
  const auto tensor = [&](const std::string& name, const std::vector<std::uint64_t>& dims, bool ones) {
    std::uint64_t count = 1;
    for (const auto d : dims) count *= d;
    out.data.resize((out.data.size() + 31) / 32 * 32);
    out.tensor(name, dims, 0, out.data.size());
    for (std::uint64_t i = 0; i < count; ++i) {
      const float value = ones ? 1.0f : static_cast<float>(random_uniform(99, drawn++) - 0.5) * 0.5f;
      out.data.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
  };
  tensor("token_embd.weight", {kWidth, tokens}, false);
  tensor("output.weight", {kWidth, tokens}, false);
  tensor("output_norm.weight", {kWidth}, true);
  for (const char* norm : {"attn_norm", "ffn_norm"}) tensor(std::string("blk.0.") + norm + ".weight", {kWidth}, true);
  for (const char* square : {"attn_q", "attn_k", "attn_v", "attn_output"}) tensor(std::string("blk.0.") + square + ".weight", {kWidth, kWidth}, false);
  for (const char* wide : {"ffn_gate", "ffn_up"}) tensor(std::string("blk.0.") + wide + ".weight", {kWidth, kInner}, false);
  tensor("blk.0.ffn_down.weight", {kInner, kWidth}, false);
  return out.bytes();
}

int make_calls(const char* vocabulary, const std::vector<ToolSchema>& tools, std::size_t calls) {
  const test::AlignedBytes bytes(random_model(vocabulary));
  const auto file = WeightFile::parse(bytes.span(), "random");
  EngineOptions options;
  options.backend.device = "cpu";
  options.backend.threads = 1;
  const auto engine = file ? Engine::create(*file, options) : Result<std::shared_ptr<Engine>>(file.error());
  if (!engine) return std::fprintf(stderr, "random model: %s\n", engine.error().describe().c_str()), 2;
  LocalModel model(*engine);
  OutputGrammars grammars;
  std::size_t made = 0, parsed_right = 0, valid = 0, turns = 0, cut = 0, wound_down = 0;
  std::int64_t generated = 0, forced = 0;
  const auto start = now();
  for (; made < calls; ++turns) {
    const ToolSchema& tool = tools[turns % tools.size()];
    auto request = request_for({tool}, true);
    const auto program = grammars.get(tool.name, request, model);
    if (!program) return std::fprintf(stderr, "%s\n", program.error().describe().c_str()), 1;
    ConstraintOptions constraint;
    constraint.think_tokens = 16;
    GenerateRequest generate;
    generate.prompt.push_back({"<｜User｜>" + tool.name + "<｜Assistant｜><think>\n", true, {}});
    generate.sampling.temperature = 1, generate.sampling.top_p = 1, generate.sampling.seed = turns;
    generate.max_tokens = 1500;
    const auto rules = std::make_shared<GrammarConstraint>(*program, constraint);
    if (const auto room = rules->limit(generate.max_tokens); !room) return std::fprintf(stderr, "%s: %s\n", tool.name.c_str(), room.error().describe().c_str()), 1;
    generate.constraint = rules;
    ParserOptions parse;
    parse.format = request.parser_format, parse.prefill = request.prefill, parse.mode = ParseMode::strict, parse.markers = MarkerPolicy::token;
    parse.tools.emplace(1, tool.name);
    Parser parser(parse);
    const auto generation = model.generate(generate, [&](const Piece& piece) { return parser.feed(piece.text, piece.control), true; });
    if (!generation) return std::fprintf(stderr, "%s\n", generation.error().describe().c_str()), 1;
    generated += generation->usage.generated, forced += generation->usage.forced;
    cut += generation->stop_reason != StopReason::end_of_turn;
    wound_down += rules->wound_down();
    const auto result = parser.finish(generation->stop_reason == StopReason::length ? Finish::length : Finish::stop);
    made += std::max<std::size_t>(result.calls.size(), 1);
    if (!result.errors.empty() || result.calls.empty()) {
      std::printf("%s: %s %s\n", tool.name.c_str(), result.errors.empty() ? "no call" : result.errors.front().kind.c_str(), generation->text.substr(0, 200).c_str());
      continue;
    }
    parsed_right += result.calls.size();
    const auto schema = tools::Schema::compile(tool.parameters);
    for (const auto& call : result.calls) valid += schema->validate(call.arguments).empty();
  }
  std::printf("%zu calls in %zu turns over %zu tools by a model with random weights: %zu parse strictly, %zu validate; %zu turns wound down at their limit, %zu cut\n", made, turns, tools.size(), parsed_right, valid, wound_down, cut);
  std::printf("%lld tokens sampled, %lld forced, %.0f tokens/s\n", static_cast<long long>(generated), static_cast<long long>(forced),
              static_cast<double>(generated + forced) / (microseconds(start) / 1e6));
  return parsed_right == made && valid == made ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return std::fprintf(stderr, "usage: bench_grammar VOCABULARY.gguf POCKET.gguf TOOLS.jsonl [CALLS]\n"), 2;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const auto tools = read_tools(argv[3]);
  if (argv[1][0] != '-') measure_masks(tokenizer_of(argv[1]), tools);
  return make_calls(argv[2], tools, argc > 4 ? std::strtoul(argv[4], nullptr, 10) : 10'000);
}
