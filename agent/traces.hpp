#pragma once
// Traces of a run for OpenTelemetry: spans of the run, its steps, turns of models and calls of tools, sent to a collector as
// OTLP/HTTP JSON. Names are those of the GenAI conventions. What was written, asked and answered is not in them.

#include "agent/events.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "tools/egress.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kontor::agent {

/// One span, ready to be sent.
struct Span {
  std::string id, parent;          ///< 16 hexadecimal digits; the root has no parent.
  std::string name;
  std::int64_t start_ns = 0, end_ns = 0;  ///< Unix time.
  Json attributes = Json::object();
  bool failed = false;
  std::string message;             ///< Why.
};

/// Makes spans of a run's events. One thread at a time.
class SpanMaker {
 public:
  /// `run`: the id; all processes that work on a run write into one trace.
  SpanMaker(const std::string& run, const std::string& name, std::int64_t now_ns);
  /// Spans that ended with this event. What was only read from the journal makes none.
  std::vector<Span> on_event(const RunEvent& event, std::int64_t now_ns);
  /// Ends what is open, and the root.
  std::vector<Span> finish(const std::string& status, const std::string& note, std::int64_t now_ns);
  const std::string& trace() const { return trace_; }

 private:
  Span& open(const std::string& kind, const std::string& place, const std::string& name, std::int64_t now_ns);
  std::vector<Span> end(const std::string& kind, const std::string& place, std::int64_t now_ns, const Json& attributes, bool failed, const std::string& message);
  std::string parent_of(const std::string& place) const;

  std::string trace_;
  std::uint64_t made_ = 0;
  Span root_;
  std::map<std::pair<std::string, std::string>, Span> open_;  ///< By kind and place.
};

/// The document of an OTLP/HTTP JSON request.
Json otlp_document(const std::string& trace, const std::vector<Span>& spans);

/// Sends the spans of one run in the background. A collector that is slow or gone costs spans, never the run.
class TraceSender {
 public:
  struct Limits {
    std::size_t queued = 4096;            ///< Spans that wait; more are dropped.
    std::size_t batch = 512;              ///< Spans of one request.
    std::int64_t request_ms = 5'000;
    std::int64_t linger_ms = 2'000;       ///< The end of a run waits so long for the last ones.
  };
  /// `url`: of the collector, with or without /v1/traces. Errors: usage.
  static Result<std::unique_ptr<TraceSender>> create(const std::string& url, tools::Egress egress, const std::string& run, const std::string& name, const Clock& clock, Limits limits);
  static Result<std::unique_ptr<TraceSender>> create(const std::string& url, tools::Egress egress, const std::string& run, const std::string& name, const Clock& clock);
  ~TraceSender();
  TraceSender(const TraceSender&) = delete;
  TraceSender& operator=(const TraceSender&) = delete;

  /// Never blocks. One thread at a time.
  void on_event(const RunEvent& event);
  /// The last spans; waits for them as long as `linger_ms`. Returns "" or what was not sent, and why.
  std::string finish(const std::string& status, const std::string& note);

 private:
  struct State;
  TraceSender(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kontor::agent
