// kontor memory: facts that outlive a run, by hand.

#include "agent/cli/command.hpp"
#include "agent/cli/memory_bench.hpp"
#include "agent/model_embedder.hpp"
#include "base/json.hpp"
#include "inference/local_model.hpp"
#include "memory/store.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>

namespace kontor::agent::cli {
namespace {

constexpr std::size_t kLineMax = 1u << 20;
constexpr std::size_t kAll = 1'000'000'000;

struct Options {
  std::string db, space = "default", text, source = "command line", file, model, device = "auto";
  std::size_t limit = 5;
  std::int64_t id = 0;
  bool untrusted = false, all = false, secret = false, json = false;
};

/// Null without --model. Errors: of the model.
Result<std::unique_ptr<ModelEmbedder>> open_embedder(const Options& options) {
  if (options.model.empty()) return std::unique_ptr<ModelEmbedder>();
  inference::LocalModelOptions local;
  local.device = options.device;
  auto model = inference::open_local_model(options.model, local);
  if (!model) return model.error();
  return ModelEmbedder::create(std::move(*model), {});
}

int report_model(const Error& error) {
  print_error("--model: " + error.describe());
  return kModel;
}

std::string default_db() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state != '\0') return std::string(state) + "/kontor/memory.db";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return std::string(home) + "/.local/state/kontor/memory.db";
  return "kontor-memory.db";
}

int report(const Error& error) {
  print_error(error.describe());
  return error.code == Errc::usage ? kUsage : kFailed;
}

Json record_json(const memory::Record& record) {
  return {{"id", record.id}, {"namespace", record.space}, {"text", record.text}, {"source", record.source},
          {"trusted", record.trusted}, {"secret", record.secret}, {"created_ms", record.created_ms}};
}

std::string line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// People see one line per fact; control characters of stored text must not reach their terminal.
void print_record(const memory::Record& record) {
  std::string text;
  for (const char c : record.text) text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  std::printf("%6lld  %s%s\n", static_cast<long long>(record.id), text.c_str(), record.trusted ? record.secret ? "  (secret)" : "" : record.secret ? "  (untrusted, secret)" : "  (untrusted)");
}

int add(memory::Store& store, const Options& options) {
  const auto embedder = open_embedder(options);
  if (!embedder) return report_model(embedder.error());
  memory::Record record;
  record.space = options.space;
  record.text = options.text;
  record.source = options.source;
  record.trusted = !options.untrusted;
  record.secret = options.secret;
  const auto id = store.add(record, embedder->get());
  if (!id) return report(id.error());
  if (options.json) print_json(line(Json{{"id", *id}}));
  else std::printf("%lld\n", static_cast<long long>(*id));
  return kDone;
}

int search(memory::Store& store, const Options& options) {
  const auto embedder = open_embedder(options);
  if (!embedder) return report_model(embedder.error());
  std::int64_t made = 0;
  if (*embedder) {
    // Facts that this model has not seen are found by their meaning too.
    const auto missing = store.embed_missing(options.space, **embedder);
    if (!missing) return report(missing.error());
    made = *missing;
  }
  const auto hits = store.search(options.space, options.text, options.limit, embedder->get());
  if (!hits) return report(hits.error());
  Json list = Json::array();
  for (const auto& hit : *hits) {
    if (!options.json) print_record(hit.record);
    Json entry = record_json(hit.record);
    entry["score"] = hit.score;
    entry["similarity"] = hit.similarity;
    list.push_back(std::move(entry));
  }
  const bool hybrid = *embedder != nullptr;
  if (options.json) {
    Json found{{"mode", hybrid ? "hybrid" : "full_text"}, {"hits", std::move(list)}};
    if (hybrid) found["embedder"] = (*embedder)->name(), found["embedded"] = made;
    print_json(line(found));
  } else if (hybrid) {
    std::fprintf(stderr, "%zu found by words and vectors; %lld facts got their vectors now\n", hits->size(), static_cast<long long>(made));
  } else {
    std::fprintf(stderr, "%zu found by full text; vectors are compared with --model FILE\n", hits->size());
  }
  return kDone;
}

int list(memory::Store& store, const Options& options) {
  const auto records = store.list(options.space, options.limit);
  if (!records) return report(records.error());
  Json all = Json::array();
  for (const auto& record : *records) {
    if (options.json) all.push_back(record_json(record));
    else print_record(record);
  }
  if (!options.json) return kDone;
  const auto spaces = store.spaces();
  if (!spaces) return report(spaces.error());
  print_json(line(Json{{"facts", std::move(all)}, {"namespaces", *spaces}}));
  return kDone;
}

int forget(memory::Store& store, const Options& options) {
  if (options.all == (options.id != 0)) {
    print_error("give either the id of a fact or --all");
    return kUsage;
  }
  const auto gone = options.all ? store.forget_all(options.space) : store.forget(options.space, options.id);
  if (!gone) return report(gone.error());
  if (options.json) print_json(line(Json{{"forgotten", *gone}}));
  else std::printf("%lld forgotten\n", static_cast<long long>(*gone));
  if (!options.all && *gone == 0) {
    print_error("there is no fact " + std::to_string(options.id) + " in namespace '" + options.space + "'");
    return kFailed;
  }
  return kDone;
}

/// JSON lines, oldest first, so that an import gives facts the same order.
int export_all(memory::Store& store, const Options& options) {
  const auto records = store.list(options.space, kAll);
  if (!records) return report(records.error());
  for (auto record = records->rbegin(); record != records->rend(); ++record) print_json(line(record_json(*record)));
  return kDone;
}

int import_all(memory::Store& store, const Options& options) {
  const auto embedder = open_embedder(options);
  if (!embedder) return report_model(embedder.error());
  std::ifstream file;
  if (options.file != "-") {
    file.open(options.file, std::ios::binary);
    if (!file) {
      print_error("open " + options.file + ": not readable");
      return kFailed;
    }
  }
  std::istream& in = options.file == "-" ? std::cin : file;
  std::string text;
  std::int64_t number = 0, kept = 0;
  while (std::getline(in, text)) {
    ++number;
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = options.file + ":" + std::to_string(number);
    if (text.size() > kLineMax) return report(fail(Errc::limit, "a line of more than " + std::to_string(kLineMax) + " bytes", "import", where));
    const auto parsed = parse_json(text);
    if (!parsed || !parsed->is_object() || !parsed->contains("text") || !(*parsed)["text"].is_string()) {
      return report(fail(Errc::malformed, parsed ? "a fact is an object with \"text\"" : parsed.error().message, "import", where));
    }
    const auto words = [&](const char* key, const std::string& fallback) {
      const auto found = parsed->find(key);
      return found != parsed->end() && found->is_string() ? found->get<std::string>() : fallback;
    };
    memory::Record record;
    record.space = options.space;
    record.text = words("text", "");
    record.source = words("source", "import of " + options.file);
    // A file can claim anything; only what says nothing against it and was not called untrusted is trusted.
    const auto trusted = parsed->find("trusted");
    record.trusted = !options.untrusted && (trusted == parsed->end() || (trusted->is_boolean() && trusted->get<bool>()));
    // The safe side again: anything but a plain no.
    if (const auto secret = parsed->find("secret"); secret != parsed->end()) record.secret = *secret != Json(false);
    if (const auto created = parsed->find("created_ms"); created != parsed->end() && created->is_number_integer()) record.created_ms = created->get<std::int64_t>();
    if (auto id = store.add(record, embedder->get()); !id) {
      Error error = id.error();
      error.where = where;
      return report(error);
    }
    ++kept;
  }
  if (options.json) print_json(line(Json{{"imported", kept}}));
  else std::printf("%lld imported\n", static_cast<long long>(kept));
  return kDone;
}

int verify(memory::Store& store, const Options& options) {
  const auto checked = store.verify();
  if (options.json) {
    Json result{{"ok", checked.has_value()}};
    if (!checked) result["error"] = Json{{"kind", checked.error().kind}, {"message", checked.error().describe()}};
    print_json(line(result));
  } else if (checked) {
    std::printf("ok\n");
  } else {
    print_error(checked.error().describe());
  }
  return checked ? kDone : kFailed;
}

using Work = int (*)(memory::Store&, const Options&);

Action leaf(CLI::App& app, const std::shared_ptr<Options>& options, Work work) {
  app.add_option("--db", options->db, "the memory file (default: XDG state folder)");
  app.add_option("--namespace", options->space, "which memory")->capture_default_str();
  app.add_flag("--json", options->json, "print JSON");
  return [options, work]() -> int {
    const auto store = memory::Store::open(options->db.empty() ? default_db() : options->db);
    return store ? work(**store, *options) : report(store.error());
  };
}

void add_model(CLI::App& app, Options& options) {
  app.add_option("--model", options.model, "embedding model (GGUF file or folder): vectors beside words");
  add_device_option(app, options.device);
}

const Verb verb{"memory", "keep, find and forget facts", [](CLI::App& app) -> Action {
  add_leaf(app, "add", "keep a fact", [](CLI::App& leaf_app) {
    auto options = std::make_shared<Options>();
    leaf_app.add_option("TEXT", options->text, "the fact")->required();
    leaf_app.add_option("--source", options->source, "who says so")->capture_default_str();
    leaf_app.add_flag("--untrusted", options->untrusted, "mark it as coming from outside");
    leaf_app.add_flag("--secret", options->secret, "mark it as made from a secret");
    add_model(leaf_app, *options);
    return leaf(leaf_app, options, add);
  });
  add_leaf(app, "search", "find the facts that fit best", [](CLI::App& leaf_app) {
    auto options = std::make_shared<Options>();
    leaf_app.add_option("QUERY", options->text, "any text")->required();
    leaf_app.add_option("--limit", options->limit, "how many")->capture_default_str()->check(CLI::Range(1, 10'000));
    add_model(leaf_app, *options);
    return leaf(leaf_app, options, search);
  });
  add_leaf(app, "list", "list facts, newest first", [](CLI::App& leaf_app) {
    auto options = std::make_shared<Options>();
    options->limit = 100;
    leaf_app.add_option("--limit", options->limit, "how many")->capture_default_str()->check(CLI::Range(1, 1'000'000));
    return leaf(leaf_app, options, list);
  });
  add_leaf(app, "forget", "remove a fact, or all of a namespace", [](CLI::App& leaf_app) {
    auto options = std::make_shared<Options>();
    leaf_app.add_option("ID", options->id, "id of the fact");
    leaf_app.add_flag("--all", options->all, "every fact of the namespace");
    return leaf(leaf_app, options, forget);
  });
  add_leaf(app, "export", "write the facts as JSON lines", [](CLI::App& leaf_app) {
    return leaf(leaf_app, std::make_shared<Options>(), export_all);
  });
  add_leaf(app, "import", "read facts from JSON lines", [](CLI::App& leaf_app) {
    auto options = std::make_shared<Options>();
    leaf_app.add_option("FILE", options->file, "file, or - for standard input")->required();
    leaf_app.add_flag("--untrusted", options->untrusted, "mark all as coming from outside");
    add_model(leaf_app, *options);
    return leaf(leaf_app, options, import_all);
  });
  add_leaf(app, "verify", "check the memory file completely", [](CLI::App& leaf_app) {
    return leaf(leaf_app, std::make_shared<Options>(), verify);
  });
  add_leaf(app, "bench", "measure adding and searching", [](CLI::App& leaf_app) -> Action {
    auto options = std::make_shared<MemoryBenchOptions>();
    auto model = std::make_shared<Options>();
    leaf_app.add_option("-n,--facts", options->facts, "facts in the memory")->capture_default_str()->check(CLI::Range(1, 10'000'000));
    leaf_app.add_option("-w,--width", options->width, "floats of a vector, without --model")->capture_default_str()->check(CLI::Range(1, 65'536));
    leaf_app.add_option("-q,--queries", options->queries, "searches to measure")->capture_default_str()->check(CLI::Range(1, 100'000));
    leaf_app.add_option("--limit", options->limit, "hits of a search")->capture_default_str()->check(CLI::Range(1, 10'000));
    add_model(leaf_app, *model);
    leaf_app.add_flag("--json", options->json, "print JSON");
    return [options, model]() -> int {
      const auto embedder = open_embedder(*model);
      if (!embedder) return report_model(embedder.error());
      return bench_memory(*options, embedder->get());
    };
  });
  return {};
}};

}  // namespace
}  // namespace kontor::agent::cli
