#include "inference/engine.hpp"

#include "inference/model_info.hpp"
#include "inference/scheduler.hpp"

#include <unistd.h>

#include <algorithm>
#include <new>

namespace kontor::inference {
namespace {

std::uint64_t default_cache_bytes() {
  constexpr std::uint64_t kMost = std::uint64_t{4} << 30, kShare = 8;
  const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return kMost / kShare;
  return std::min(kMost, static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page) / kShare);
}

std::shared_future<std::shared_ptr<const TokenTrie>> start_trie(const Tokenizer& tokenizer) {
  return std::async(std::launch::async | std::launch::deferred, [tokenizer] { return std::make_shared<const TokenTrie>(tokenizer); });
}

}  // namespace

Engine::Engine(const WeightFile& file, Tokenizer tokenizer, Trie trie, std::unique_ptr<Backend> backend, const EngineOptions& options)
    : file_(file), tokenizer_(std::move(tokenizer)), trie_(std::move(trie)), backend_(std::move(backend)), info_(describe_model(file_, backend_->config(), tokenizer_)),
      prefix_cache_bytes_(options.prefix_cache_bytes > 0 ? options.prefix_cache_bytes : default_cache_bytes()) {
  info_.device = backend_->device();
  scheduler_ = std::make_unique<Scheduler>(*this);
  if (options.context > 0 && options.context < info_.context) info_.context = options.context;
}

Engine::~Engine() = default;

Result<std::shared_ptr<Engine>> Engine::open(const std::string& path, const EngineOptions& options) {
  const auto file = WeightFile::open(path);
  if (!file) return file.error();
  return create(*file, options);
}

Result<std::shared_ptr<Engine>> Engine::create(const WeightFile& file, const EngineOptions& options) {
  try {
    // What is cheap to refuse is refused before weights are read.
    if (const auto config = read_model_config(file); !config) return config.error();
    if (const auto chat = file.text_or("tokenizer.chat_template", ""); !chat) return chat.error();
    auto tokenizer = Tokenizer::create(file);
    if (!tokenizer) return tokenizer.error();
    Trie trie = start_trie(*tokenizer);
    auto backend = open_backend(file, options.backend);
    if (!backend) return backend.error();
    return std::shared_ptr<Engine>(new Engine(file, std::move(*tokenizer), std::move(trie), std::move(*backend), options));
  } catch (const std::bad_alloc&) {
    return fail(Errc::memory, "no memory left while loading " + file.path(), "out_of_memory");
  }
}

Result<std::shared_ptr<Engine>> Engine::create(const WeightFile& file, std::unique_ptr<Backend> backend, const EngineOptions& options) {
  try {
    auto tokenizer = Tokenizer::create(file);
    if (!tokenizer) return tokenizer.error();
    Trie trie = start_trie(*tokenizer);
    return std::shared_ptr<Engine>(new Engine(file, std::move(*tokenizer), std::move(trie), std::move(backend), options));
  } catch (const std::bad_alloc&) {
    return fail(Errc::memory, "no memory left while loading " + file.path(), "out_of_memory");
  }
}

std::unique_ptr<Sequence> Engine::create_sequence() {
  const std::lock_guard lock(mutex_);
  return backend_->create_sequence();
}

Result<KvPageRef> Engine::load_page(std::span<const std::byte> content) {
  const std::lock_guard lock(mutex_);
  return backend_->load_page(content);
}

SnapshotKey Engine::snapshot_key() {
  std::call_once(hashed_, [this] { sha256_ = file_.sha256(); });
  return {sha256_, backend_->arithmetic(), backend_->page_bytes(), config().vocabulary};
}

std::shared_ptr<PrefixCache> Engine::prefix_cache(const std::string& tenant) {
  const std::lock_guard lock(mutex_);
  auto& cache = prefix_caches_[tenant];
  if (!cache) cache = std::make_shared<PrefixCache>(backend_->page_bytes(), prefix_cache_bytes_);
  return cache;
}

Result<void> Engine::forward(std::span<const Extension> extensions) {
  const std::lock_guard lock(mutex_);
  try {
    return backend_->forward(extensions);
  } catch (const std::bad_alloc&) {
    return fail(Errc::memory, "no memory left during a forward pass", "out_of_memory");
  }
}

Result<std::vector<float>> Engine::hidden_states(std::span<const TokenId> tokens) {
  std::vector<float> states(tokens.size() * static_cast<std::size_t>(config().width));
  const auto sequence = create_sequence();
  const Extension extension[] = {{sequence.get(), tokens, Output::all_hidden, states.data()}};
  if (const auto done = forward(extension); !done) return done.error();
  return states;
}

void Engine::set_threads(int threads) {
  const std::lock_guard lock(mutex_);
  backend_->set_threads(threads);
}

}  // namespace kontor::inference
