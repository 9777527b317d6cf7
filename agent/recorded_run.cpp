#include "agent/recorded_run.hpp"

#include "agent/event_data.hpp"

namespace kontor::agent {
namespace {

RunOptions options_from_json(const Json& data) {
  RunOptions options;
  options.task = text_of(data, "task");
  options.model_path = text_of(data, "model_path");
  options.model_name = text_of(data, "model_name");
  options.device = text_of(data, "device");
  options.shadow_folder = text_of(data, "shadow_folder");
  if (data.contains("threads") && data.at("threads").is_number_integer()) options.threads = data.at("threads").get<int>();
  if (data.contains("seed") && data.at("seed").is_number_integer()) options.seed = data.at("seed").get<std::uint64_t>();
  options.airgap = data.contains("airgap") && data.at("airgap") == Json(true);
  options.untrusted_inputs = data.contains("untrusted_inputs") && data.at("untrusted_inputs") == Json(true);
  return options;
}

}  // namespace

Json options_to_json(const RunOptions& options, std::uint64_t seed) {
  return Json{{"task", options.task}, {"model_path", options.model_path}, {"model_name", options.model_name}, {"device", options.device},
              {"threads", options.threads}, {"seed", seed}, {"airgap", options.airgap}, {"shadow_folder", options.shadow_folder}, {"untrusted_inputs", options.untrusted_inputs}};
}

Result<std::unique_ptr<Redactor>> open_redactor(const Spec& spec, const Journal& journal) {
  if (spec.redact.empty()) return std::unique_ptr<Redactor>();
  return Redactor::create(spec.redact, journal.folder());
}

Result<void> open_sealed(const Spec& spec, const Journal& journal, std::vector<JournalEvent>& events) {
  auto redactor = open_redactor(spec, journal);
  if (!redactor) return redactor.error();
  if (!*redactor) return {};
  for (auto& event : events) {
    auto opened = (*redactor)->open(event.data);
    if (!opened) return opened.error();
    event.data = std::move(*opened);
  }
  return {};
}

Result<Recorded> read_start(const std::vector<JournalEvent>& events) {
  if (events.empty() || events.front().type != "run_created") return fail(Errc::malformed, "the journal of this run has no beginning", "journal_chain");
  const Json& data = events.front().data;
  const std::string yaml = text_of(data, "yaml"), file = text_of(data, "file"), folder = text_of(data, "folder");
  Checked checked = check_text(yaml, file, folder);
  if (!checked.spec) {
    std::string first = checked.diagnostics.empty() ? "unreadable" : checked.diagnostics.front().message;
    return fail(Errc::malformed, "the agent file of this run no longer checks: " + first, "spec", file);
  }
  Recorded recorded;
  recorded.spec = std::move(*checked.spec);
  recorded.inputs = data.contains("inputs") ? data.at("inputs") : Json::object();
  if (data.contains("options")) recorded.options = options_from_json(data.at("options"));
  return recorded;
}

Result<void> check_open(const RunRow& row) {
  if (row.status == "done" || row.status == "failed" || row.status == "cancelled") return fail(Errc::conflict, "run " + row.id + " is " + row.status);
  return {};
}

}  // namespace kontor::agent
