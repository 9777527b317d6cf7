#include "agent/traces.hpp"

#include "agent/event_data.hpp"
#include "base/hash.hpp"
#include "tools/builtin/transfer.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace kontor::agent {
namespace {

std::int64_t count_at(const Json& data, const char* key) {
  const auto found = data.find(key);
  return found != data.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

Json value_of(const Json& value) {
  if (value.is_boolean()) return Json{{"boolValue", value}};
  if (value.is_number_integer()) return Json{{"intValue", value.dump()}};
  if (value.is_number()) return Json{{"doubleValue", value}};
  return Json{{"stringValue", value.is_string() ? value : Json(value.dump())}};
}

Json attributes_of(const Json& object) {
  Json list = Json::array();
  for (const auto& [key, value] : object.items()) list.push_back(Json{{"key", key}, {"value", value_of(value)}});
  return list;
}

}  // namespace

SpanMaker::SpanMaker(const std::string& run, const std::string& name, std::int64_t now_ns) : trace_(sha256_hex(run).substr(0, 32)) {
  root_.id = sha256_hex(trace_ + " " + std::to_string(now_ns)).substr(0, 16);
  root_.name = "run " + name;
  root_.start_ns = now_ns;
  root_.attributes = Json{{"kontor.run.id", run}, {"kontor.run.name", name}};
}

std::string SpanMaker::parent_of(const std::string& place) const {
  // each/2/decide#1.2 belongs to each/2/decide, which belongs to each.
  for (std::string at = place; !at.empty(); at.erase(std::min(at.find_last_of("#/"), at.size()))) {
    if (const auto found = open_.find({"step", at}); found != open_.end()) return found->second.id;
    if (at.find_last_of("#/") == std::string::npos) break;
  }
  return root_.id;
}

Span& SpanMaker::open(const std::string& kind, const std::string& place, const std::string& name, std::int64_t now_ns) {
  Span span;
  span.id = sha256_hex(root_.id + " " + std::to_string(++made_)).substr(0, 16);
  span.parent = parent_of(place);
  span.name = name;
  span.start_ns = now_ns;
  span.attributes = Json{{"kontor.place", place}};
  return open_[{kind, place}] = std::move(span);
}

std::vector<Span> SpanMaker::end(const std::string& kind, const std::string& place, std::int64_t now_ns, const Json& attributes, bool failed, const std::string& message) {
  const auto found = open_.find({kind, place});
  if (found == open_.end()) return {};
  Span span = std::move(found->second);
  open_.erase(found);
  span.end_ns = now_ns;
  span.attributes.update(attributes);
  span.failed = failed;
  span.message = message;
  return {std::move(span)};
}

std::vector<Span> SpanMaker::on_event(const RunEvent& event, std::int64_t now_ns) {
  const Json& data = event.data;
  const std::string& place = event.step;
  const bool replayed = data.is_object() && data.contains("replayed");
  if (event.type == "step_started") {
    const std::string kind = text_of(data, "kind"), target = text_of(data, "target");
    const bool agent = kind == "agent";
    Span& span = open("step", place, agent ? "invoke_agent " + target : kind + " " + place, now_ns);
    span.attributes["kontor.step.kind"] = kind;
    if (agent) span.attributes["gen_ai.operation.name"] = "invoke_agent", span.attributes["gen_ai.agent.name"] = target, span.attributes["gen_ai.provider.name"] = "kontor";
  } else if (event.type == "step_finished" || event.type == "step_failed") {
    const bool failed = event.type == "step_failed";
    Json more = Json::object();
    if (failed) more["error.type"] = text_of(data, "kind").empty() ? "failed" : text_of(data, "kind");
    return end("step", place, now_ns, more, failed, failed ? text_of(data, "error") : "");
  } else if (event.type == "turn_started") {
    Span& span = open("turn", place, "chat " + text_of(data, "model"), now_ns);
    span.attributes.update(Json{{"gen_ai.operation.name", "chat"}, {"gen_ai.provider.name", "kontor"}, {"gen_ai.request.model", text_of(data, "model")}, {"gen_ai.agent.name", text_of(data, "agent")}});
  } else if (event.type == "turn" && !replayed) {
    const Json spent = data.contains("spent") && data.at("spent").is_object() ? data.at("spent") : Json::object();
    Json more{{"gen_ai.usage.input_tokens", count_at(spent, "prefilled") + count_at(spent, "reused")}, {"gen_ai.usage.output_tokens", count_at(spent, "generated") + count_at(spent, "forced")},
              {"gen_ai.usage.cache_read.input_tokens", count_at(spent, "reused")}};
    if (spent.contains("joules") && spent.at("joules").is_number()) more["kontor.joules"] = spent.at("joules");
    return end("turn", place, now_ns, more, false, "");
  } else if (event.type == "call") {
    // A turn that was cut off says nothing more of itself.
    Span& span = open("call", place, "execute_tool " + text_of(data, "tool"), now_ns);
    span.attributes.update(Json{{"gen_ai.operation.name", "execute_tool"}, {"gen_ai.tool.name", text_of(data, "tool")}, {"gen_ai.tool.call.id", place}});
  } else if (event.type == "call_result") {
    if (replayed) open_.erase({"call", place});
    const bool failed = data.is_object() && data.contains("is_error") && data.at("is_error") == Json(true);
    return end("call", place, now_ns, failed ? Json{{"error.type", "tool_error"}} : Json::object(), failed, "");
  }
  return {};
}

std::vector<Span> SpanMaker::finish(const std::string& status, const std::string& note, std::int64_t now_ns) {
  std::vector<Span> spans;
  for (auto& [key, span] : open_) {
    span.end_ns = now_ns;
    span.attributes["kontor.unfinished"] = true;
    spans.push_back(std::move(span));
  }
  open_.clear();
  root_.end_ns = now_ns;
  root_.attributes["kontor.run.status"] = status;
  root_.failed = status == "failed" || status == "error" || status == "budget";
  if (root_.failed) root_.message = note, root_.attributes["error.type"] = status;
  spans.push_back(root_);
  return spans;
}

Json otlp_document(const std::string& trace, const std::vector<Span>& spans) {
  constexpr int kInternal = 1, kOk = 0, kError = 2;
  Json list = Json::array();
  for (const auto& span : spans) {
    Json one{{"traceId", trace}, {"spanId", span.id}, {"name", span.name}, {"kind", kInternal}, {"startTimeUnixNano", std::to_string(span.start_ns)},
             {"endTimeUnixNano", std::to_string(span.end_ns)}, {"attributes", attributes_of(span.attributes)}, {"status", Json{{"code", span.failed ? kError : kOk}}}};
    if (!span.parent.empty()) one["parentSpanId"] = span.parent;
    if (!span.message.empty()) one["status"]["message"] = span.message;
    list.push_back(std::move(one));
  }
  const Json resource{{"attributes", attributes_of(Json{{"service.name", "kontor"}})}};
  const Json scoped{{"scope", Json{{"name", "kontor"}}}, {"spans", std::move(list)}};
  return Json{{"resourceSpans", Json::array({Json{{"resource", resource}, {"scopeSpans", Json::array({scoped})}}})}};
}

struct TraceSender::State {
  State(const std::string& run, const std::string& name, const Clock& of_run, Limits of)
      : clock(of_run), base_ns(of_run.unix_ms() * 1'000'000 - of_run.steady_ns()), limits(of), spans(run, name, now()) {}

  std::int64_t now() const { return base_ns + clock.steady_ns(); }

  void queue(std::vector<Span> more) {
    if (more.empty()) return;
    const std::lock_guard guard(mutex);
    for (auto& span : more) {
      if (waiting.size() >= limits.queued) {
        ++dropped;
        if (why.empty()) why = "more than " + std::to_string(limits.queued) + " waited";
      } else {
        waiting.push_back(std::move(span));
      }
    }
    changed.notify_all();
  }

  Result<void> send(const std::vector<Span>& batch, const std::stop_token& stop) const {
    if (auto permitted = egress.permit_name(address.origin(), address.host(), address.port()); !permitted) return permitted;
    tools::WebRequest request;
    request.method = "POST";
    request.address = address;
    request.headers = {{"Content-Type", "application/json"}};
    request.body = otlp_document(spans.trace(), batch).dump(-1, ' ', false, Json::error_handler_t::replace);
    request.timeout_ms = limits.request_ms;
    request.body_bytes = 64u << 10;
    request.permit = [this](const std::string& reached) { return egress.permit_address(address.origin(), address.host(), reached, address.port()); };
    const auto answer = tools::transfer(request, stop);
    if (!answer) return answer.error();
    if (answer->status / 100 != 2) return fail(Errc::io, "the collector answered " + std::to_string(answer->status));
    return {};
  }

  void work(const std::stop_token& stop) {
    std::unique_lock lock(mutex);
    while (changed.wait(lock, stop, [&] { return !waiting.empty(); })) {
      std::vector<Span> batch;
      while (!waiting.empty() && batch.size() < limits.batch) {
        batch.push_back(std::move(waiting.front()));
        waiting.pop_front();
      }
      at_work = batch.size();
      lock.unlock();
      const auto sent = send(batch, stop);
      lock.lock();
      at_work = 0;
      if (!sent) dropped += batch.size(), why = sent.error().message;
      idle.notify_all();
    }
  }

  const Clock& clock;
  const std::int64_t base_ns;
  const Limits limits;
  tools::WebAddress address;
  tools::Egress egress;
  SpanMaker spans;
  std::mutex mutex;
  std::condition_variable_any changed, idle;
  std::deque<Span> waiting;
  std::size_t at_work = 0, dropped = 0;
  std::string why;
  std::jthread sender;  // Last: it uses everything else.
};

TraceSender::TraceSender(std::unique_ptr<State> state) : state_(std::move(state)) {}
TraceSender::~TraceSender() = default;

Result<std::unique_ptr<TraceSender>> TraceSender::create(const std::string& url, tools::Egress egress, const std::string& run, const std::string& name, const Clock& clock) {
  return create(url, std::move(egress), run, name, clock, Limits());
}

Result<std::unique_ptr<TraceSender>> TraceSender::create(const std::string& url, tools::Egress egress, const std::string& run, const std::string& name, const Clock& clock, Limits limits) {
  std::string whole = url;
  while (whole.ends_with('/')) whole.pop_back();
  if (!whole.ends_with("/v1/traces")) whole += "/v1/traces";
  auto address = tools::WebAddress::parse(whole);
  if (!address) return fail(Errc::usage, "observe.otlp: " + address.error().message);
  auto state = std::make_unique<State>(run, name, clock, limits);
  state->address = std::move(*address);
  state->egress = egress.named("observe.otlp");
  state->sender = std::jthread([raw = state.get()](const std::stop_token& stop) { raw->work(stop); });
  return std::unique_ptr<TraceSender>(new TraceSender(std::move(state)));
}

void TraceSender::on_event(const RunEvent& event) { state_->queue(state_->spans.on_event(event, state_->now())); }

std::string TraceSender::finish(const std::string& status, const std::string& note) {
  state_->queue(state_->spans.finish(status, note, state_->now()));
  std::unique_lock lock(state_->mutex);
  state_->idle.wait_for(lock, std::chrono::milliseconds(state_->limits.linger_ms), [&] { return state_->waiting.empty() && state_->at_work == 0; });
  const std::size_t left = state_->waiting.size() + state_->at_work;
  state_->sender.request_stop();
  if (state_->dropped + left == 0) return {};
  return std::to_string(state_->dropped + left) + " spans were not sent to " + state_->address.origin() + ": " + (state_->why.empty() ? "the collector is too slow" : state_->why);
}

}  // namespace kontor::agent
