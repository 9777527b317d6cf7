#include "agent/vote.hpp"

#include "agent/workflow/parallel.hpp"

#include <algorithm>
#include <map>

namespace kontor::agent {
namespace {

/// Every branch draws its own numbers, the same ones in every execution.
std::uint64_t seed_of(std::uint64_t seed, std::size_t branch) { return seed + branch * 0x9E3779B97F4A7C15ull; }

}  // namespace

Election elect(std::span<const Ballot> ballots) {
  struct Group {
    std::size_t first = 0, count = 0;
    double certainty = 0;
  };
  std::map<std::string, Group> groups;
  for (std::size_t i = 0; i < ballots.size(); ++i) {
    if (ballots[i].choice.empty()) continue;
    Group& group = groups[ballots[i].choice];
    if (group.count++ == 0) group.first = i;
    group.certainty += ballots[i].certainty;
  }
  const Group* best = nullptr;
  for (const auto& [choice, group] : groups) {
    const double mean = group.certainty / static_cast<double>(group.count);
    const double best_mean = best ? best->certainty / static_cast<double>(best->count) : 0;
    const bool better = !best || group.count > best->count || (group.count == best->count && (mean > best_mean || (mean == best_mean && group.first < best->first)));
    if (better) best = &group;
  }
  return best ? Election{best->first, best->count} : Election{0, ballots.size()};
}

TurnRequest branch_request(const TurnRequest& request, std::size_t branch) {
  TurnRequest own = request;
  own.sampling.seed = seed_of(request.sampling.seed, branch);
  own.silent = branch > 0;
  own.early = nullptr;  // Only the elected branch calls anything.
  if (branch > 0) own.prompt = nullptr;  // The rolling prompt serves one turn at a time.
  if (branch > 0) own.ahead = nullptr;   // It was computed once.
  return own;
}

std::vector<std::optional<Result<Turn>>> write_branches(RunContext& run, inference::TextModel& model, std::span<const TurnRequest> requests, std::mutex& one_at_a_time) {
  std::vector<std::optional<Result<Turn>>> written(requests.size());
  const std::size_t threads = model.is_concurrent() ? requests.size() : 1;
  run_parallel(run, threads, requests.size(), [&](std::size_t, std::size_t branch) {
    written[branch] = generate_turn(run, model, requests[branch], one_at_a_time);
    return written[branch]->has_value() && !(*written[branch])->over_budget;
  });
  return written;
}

Result<Turn> generate_vote(RunContext& run, inference::TextModel& model, const TurnRequest& request, std::size_t branches,
                           const std::function<std::string(const TurnDone&)>& choice_of, std::mutex& one_at_a_time) {
  std::vector<TurnRequest> requests;
  for (std::size_t branch = 0; branch < branches; ++branch) requests.push_back(branch_request(request, branch));
  auto written = write_branches(run, model, requests, one_at_a_time);
  const auto broken = std::find_if(written.begin(), written.end(), [](const auto& turn) { return turn && !turn->has_value(); });
  if (broken != written.end()) {
    // The others are paid for all the same.
    Ledger lost;
    for (const auto& turn : written)
      if (turn && turn->has_value()) lost.add((*turn)->spent);
    if (lost.turns > 0 && run.log) {
      if (auto told = run.record("generation_cut", request.place, Json{{"reason", "another branch failed"}, {"spent", delta_json(lost)}}); !told) return told.error();
    }
    return (*broken)->error();
  }
  std::vector<Turn> turns;
  std::vector<Ballot> ballots;
  Ledger spent;
  std::optional<std::string> over_budget;
  for (auto& turn : written) {
    if (!turn) continue;  // Not begun, because one before it failed.
    spent.add((*turn)->spent);
    if ((*turn)->over_budget && !over_budget) over_budget = (*turn)->budget_reason;
    ballots.push_back({choice_of((*turn)->done), (*turn)->certainty});
    turns.push_back(std::move(**turn));
  }
  const Election election = elect(ballots);
  Turn chosen = std::move(turns[election.branch]);
  chosen.branch = election.branch;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    if (i == election.branch) continue;
    turns[i].agrees = ballots[i].choice == ballots[election.branch].choice;
    chosen.others.push_back(std::move(turns[i]));
  }
  chosen.spent = spent;
  if (over_budget) chosen.over_budget = true, chosen.budget_reason = *over_budget;
  return chosen;
}

}  // namespace kontor::agent
