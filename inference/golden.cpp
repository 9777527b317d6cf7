#include "inference/golden.hpp"

#include "inference/sampler.hpp"

#include <algorithm>
#include <cstring>

namespace kontor::inference {
namespace {

class Runner {
 public:
  Runner(Backend& backend, GoldenOutput& out) : backend_(backend), out_(out), width_(static_cast<std::size_t>(backend.config().vocabulary)) {}

  /// Appends tokens; `logits` gets one row for each of them.
  Result<void> append(Sequence& sequence, std::span<const TokenId> tokens, std::vector<float>& logits) {
    logits.resize(tokens.size() * width_);
    const Extension extension[] = {{&sequence, tokens, Output::all_logits, logits.data()}};
    return backend_.forward(extension);
  }

  std::vector<float> row(const std::vector<float>& logits, std::size_t index) const {
    const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(index * width_);
    return {begin, begin + static_cast<std::ptrdiff_t>(width_)};
  }

  void expect_same(const std::vector<float>& got, const std::vector<float>& wanted, const std::string& what) {
    if (std::memcmp(got.data(), wanted.data(), wanted.size() * sizeof(float)) != 0) out_.differences.push_back(what);
  }

  Result<void> one_call(std::span<const TokenId> tokens, std::span<const std::int64_t> positions) {
    const auto sequence = backend_.create_sequence();
    std::vector<float> logits;
    if (const auto done = append(*sequence, tokens, logits); !done) return done.error();
    for (const std::int64_t position : positions) out_.rows.push_back(row(logits, static_cast<std::size_t>(position)));
    return {};
  }

  Result<void> chunks(const GoldenInput& input, std::size_t first_row) {
    const auto sequence = backend_.create_sequence();
    std::vector<float> logits;
    std::span<const TokenId> left = input.many;
    for (const std::int64_t length : input.chunks) {
      const auto part = left.first(static_cast<std::size_t>(length));
      left = left.subspan(part.size());
      if (const auto done = append(*sequence, part, logits); !done) return done.error();
      const auto at = std::find(input.positions.begin(), input.positions.end(), sequence->length() - 1);
      if (at == input.positions.end()) continue;
      const auto index = first_row + static_cast<std::size_t>(at - input.positions.begin());
      expect_same(row(logits, part.size() - 1), out_.rows[index], "chunk ending at " + std::to_string(sequence->length()));
    }
    if (input.chunks.empty()) return {};
    const auto again = std::span(input.many).last(static_cast<std::size_t>(input.chunks.back()));
    sequence->truncate(sequence->length() - input.chunks.back());
    if (const auto done = append(*sequence, again, logits); !done) return done.error();
    expect_same(row(logits, again.size() - 1), out_.rows.back(), "last chunk after a rollback");
    return {};
  }

  Result<void> greedy(const GoldenInput& input) {
    const auto sequence = backend_.create_sequence();
    std::vector<float> logits;
    if (const auto done = append(*sequence, input.some, logits); !done) return done.error();
    std::vector<float> last = row(logits, input.some.size() - 1);
    for (int step = 0;; ++step) {
      const auto best = arg_max(last);
      if (!best) return best.error();
      out_.greedy.push_back(*best);
      if (step + 1 >= input.greedy_steps) return {};
      if (const auto done = append(*sequence, std::span(&*best, 1), last); !done) return done.error();
    }
  }

 private:
  Backend& backend_;
  GoldenOutput& out_;
  std::size_t width_;
};

}  // namespace

Result<GoldenOutput> run_golden(Backend& backend, const GoldenInput& input) {
  GoldenOutput out;
  Runner runner(backend, out);
  const auto all_of = [](std::size_t n) {
    std::vector<std::int64_t> positions(n);
    for (std::size_t i = 0; i < n; ++i) positions[i] = static_cast<std::int64_t>(i);
    return positions;
  };
  if (const auto done = runner.one_call(input.one, all_of(input.one.size())); !done) return done.error();
  if (const auto done = runner.one_call(input.some, all_of(input.some.size())); !done) return done.error();
  const std::size_t first = out.rows.size();
  if (const auto done = runner.one_call(input.many, input.positions); !done) return done.error();
  if (const auto done = runner.chunks(input, first); !done) return done.error();
  if (const auto done = runner.greedy(input); !done) return done.error();
  return out;
}

Result<GoldenOutput> run_golden_embedding(Backend& backend, const WeightFile& file, const GoldenInput& input) {
  const auto pooling = read_pooling(file);
  if (!pooling) return pooling.error();
  const std::int64_t width = backend.config().width;
  GoldenOutput out;
  std::vector<float> states;
  for (const auto* tokens : {&input.one, &input.some, &input.many}) {
    const auto sequence = backend.create_sequence();
    std::vector<float> all(tokens->size() * static_cast<std::size_t>(width));
    const Extension extension[] = {{sequence.get(), *tokens, Output::all_hidden, all.data()}};
    if (const auto done = backend.forward(extension); !done) return done.error();
    out.rows.push_back(pool(*pooling, all, width));
    if (tokens == &input.some) states = std::move(all);
  }
  for (auto at = states.begin(); at != states.end(); at += width) out.rows.emplace_back(at, at + width);
  return out;
}

std::string npy_of(const std::vector<std::vector<float>>& rows) {
  const std::size_t columns = rows.empty() ? 0 : rows.front().size();
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows.size()) + ", " +
                       std::to_string(columns) + "), }";
  constexpr std::size_t kPrefix = 10, kAlignment = 64;
  header.append(kAlignment - 1 - (kPrefix + header.size()) % kAlignment, ' ');
  header += '\n';
  std::string text("\x93NUMPY\x01\x00", 8);
  text += static_cast<char>(header.size() & 0xff);
  text += static_cast<char>(header.size() >> 8);
  text += header;
  for (const auto& row : rows) text.append(reinterpret_cast<const char*>(row.data()), row.size() * sizeof(float));
  return text;
}

}  // namespace kontor::inference
