#include "agent/memory_bridge.hpp"

namespace kontor::agent {
namespace {

tools::MemoryFact fact_of(const memory::Record& record, double score) {
  return {record.id, record.text, record.source, record.trusted, record.created_ms, score};
}

/// Held while the embedder may be used; without one, calls run side by side.
std::unique_lock<std::mutex> guard(std::mutex& mutex, const memory::Embedder* embedder) {
  if (embedder == nullptr) return {};
  return std::unique_lock(mutex);
}

}  // namespace

Result<std::int64_t> MemoryBridge::remember(const std::string& space, const std::string& text, const std::string& source, bool trusted) {
  memory::Record record;
  record.space = space;
  record.text = text;
  record.source = source;
  record.trusted = trusted;
  const auto lock = guard(embedding_, embedder_);
  return store_.add(record, embedder_);
}

Result<std::vector<tools::MemoryFact>> MemoryBridge::recall(const std::string& space, const std::string& query, std::size_t limit) {
  const auto lock = guard(embedding_, embedder_);
  const auto hits = store_.search(space, query, limit, embedder_);
  if (!hits) return hits.error();
  std::vector<tools::MemoryFact> facts;
  for (const auto& hit : *hits) facts.push_back(fact_of(hit.record, hit.score));
  return facts;
}

Result<std::vector<tools::MemoryFact>> MemoryBridge::list(const std::string& space, std::size_t limit) {
  const auto records = store_.list(space, limit);
  if (!records) return records.error();
  std::vector<tools::MemoryFact> facts;
  for (const auto& record : *records) facts.push_back(fact_of(record, 0));
  return facts;
}

Result<bool> MemoryBridge::forget(const std::string& space, std::int64_t id) {
  const auto gone = store_.forget(space, id);
  if (!gone) return gone.error();
  return *gone > 0;
}

}  // namespace kontor::agent
