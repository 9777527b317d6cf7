#include "agent/spec/report.hpp"

#include <algorithm>

namespace kontor::agent {

void Report::add(Phase phase, const SourceFile& file, std::size_t offset, std::string kind, std::string message, std::optional<std::size_t> order) {
  // An alias leads to the same mistake at the same place more than once.
  if (full() || !seen_.emplace(file.name, offset, kind + message).second) return;
  const Place place = file.document->source->place(offset);
  Finding finding{phase, order.value_or(offset), offset, {}};
  if (!file.name.empty()) finding.order = file.included_at;
  finding.diagnostic = {file.name, place.line, place.column, std::move(kind), std::move(message)};
  if (!file.name.empty()) finding.diagnostic.message = "in the " + file.noun + " " + file.name + ": " + finding.diagnostic.message;
  phases_.insert(phase);
  findings_.push_back(std::move(finding));
}

std::vector<Diagnostic> Report::sorted() const {
  std::vector<const Finding*> order;
  for (const auto& finding : findings_) order.push_back(&finding);
  std::stable_sort(order.begin(), order.end(), [](const Finding* a, const Finding* b) {
    return std::tie(a->phase, a->order, a->inner) < std::tie(b->phase, b->order, b->inner);
  });
  if (order.size() > kShown) order.resize(kShown);
  std::vector<Diagnostic> list;
  for (const auto* finding : order) list.push_back(finding->diagnostic);
  return list;
}

}  // namespace kontor::agent
