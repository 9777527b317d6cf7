#include "agent/memory_bridge.hpp"

namespace kontor::agent {
namespace {

tools::MemoryFact fact_of(const memory::Record& record, double score) {
  return {record.id, record.text, record.source, record.trusted, record.secret, record.created_ms, score};
}

}  // namespace

Result<memory::Embedder*> MemoryBridge::embedder() const {
  if (!embedder_) return nullptr;
  return embedder_();
}

Result<std::int64_t> MemoryBridge::remember(const std::string& space, const std::string& text, const std::string& source, const tools::Labels& labels) {
  memory::Record record;
  record.space = space;
  record.text = text;
  record.source = source;
  record.trusted = !labels.untrusted;
  record.secret = labels.secret;
  const auto embedder = this->embedder();
  if (!embedder) return embedder.error();
  return store_.add(record, *embedder);
}

Result<std::vector<tools::MemoryFact>> MemoryBridge::recall(const std::string& space, const std::string& query, std::size_t limit) {
  const auto embedder = this->embedder();
  if (!embedder) return embedder.error();
  if (*embedder) {
    // What was stored without it is found by its meaning too.
    if (auto made = store_.embed_missing(space, **embedder); !made) return made.error();
  }
  const auto hits = store_.search(space, query, limit, *embedder);
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
