// Sampling on the device draws what Sampler draws from the row of logits: same tokens, same probabilities, bit by bit.

#include "inference/shortlist.hpp"

#include "inference/constraint.hpp"
#include "inference/local_model.hpp"
#include "tests/gpu/backends.hpp"
#include "tests/support/catch.hpp"

#include <cmath>
#include <iostream>
#include <limits>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

enum class Rows { peaked, flat, ties, nan, infinite, nothing };

std::vector<float> logits_of(Rows kind, std::size_t vocabulary, std::uint64_t seed) {
  std::vector<float> row(vocabulary);
  for (std::size_t i = 0; i < vocabulary; ++i) {
    const double u = random_uniform(seed, i);
    switch (kind) {
      case Rows::flat: row[i] = static_cast<float>(u); break;
      case Rows::ties: row[i] = static_cast<float>(std::floor(u * 6)) - 3.0f; break;
      case Rows::nothing: row[i] = -kInfinity; break;
      default: row[i] = static_cast<float>(3 * std::log(1 / (u + 1e-9)) - 5); break;
    }
    if (kind == Rows::ties && row[i] == 0 && i % 2 == 0) row[i] = -0.0f;
  }
  if (kind == Rows::nan) row[vocabulary * 2 / 3] = std::numeric_limits<float>::quiet_NaN();
  if (kind == Rows::infinite) row[vocabulary / 2] = kInfinity;
  return row;
}

/// Every third token is allowed; one word allows nothing.
std::vector<std::uint32_t> some_mask(std::size_t vocabulary) {
  std::vector<std::uint32_t> mask((vocabulary + 31) / 32);
  for (std::size_t i = 0; i < vocabulary; i += 3) mask[i / 32] |= 1u << (i % 32);
  if (mask.size() > 2) mask[1] = 0;
  return mask;
}

struct Prepared {
  std::vector<float> logits;
  std::vector<std::uint32_t> mask;
};

/// The device's answers to all rows at once, as CudaDecoder asks for them.
std::vector<cuda::ShortlistResult> on(cuda::Device& device, const std::vector<Prepared>& rows) {
  const auto vocabulary = static_cast<std::int64_t>(rows.front().logits.size()), count = static_cast<std::int64_t>(rows.size());
  const std::int64_t words = (vocabulary + 31) / 32, pieces = cuda::shortlist_pieces(vocabulary), chunks = cuda::shortlist_chunks(vocabulary);
  const auto room = [&](std::int64_t bytes) {
    auto buffer = device.allocate(static_cast<std::uint64_t>(bytes));
    REQUIRE(buffer.has_value());
    return std::move(*buffer);
  };
  const auto logits = room(count * vocabulary * 4), masks = room(count * words * 4), masked = room(count * 4);
  const auto a = room(count * pieces * cuda::kShortlistLength * 8), b = room(count * pieces * cuda::kShortlistLength * 8);
  const auto seen = room(count * pieces * static_cast<std::int64_t>(sizeof(cuda::ShortlistSeen))), sums = room(count * 2 * chunks * 8 * 4);
  const auto results = room(count * static_cast<std::int64_t>(sizeof(cuda::ShortlistResult)));
  std::vector<std::int32_t> has(rows.size());
  for (std::int64_t r = 0; r < count; ++r) {
    const Prepared& row = rows[static_cast<std::size_t>(r)];
    device.copy_in(logits.as<float>() + r * vocabulary, row.logits.data(), row.logits.size() * 4);
    has[static_cast<std::size_t>(r)] = !row.mask.empty();
    if (!row.mask.empty()) device.copy_in(masks.as<std::uint32_t>() + r * words, row.mask.data(), row.mask.size() * 4);
  }
  device.copy_in(masked.data(), has.data(), has.size() * 4);
  cuda::ShortlistWork work;
  work.vocabulary = vocabulary;
  work.pieces = pieces;
  work.chunks = chunks;
  work.mask_words = words;
  work.masked = masked.as<const std::int32_t>();
  work.masks = masks.as<const std::uint32_t>();
  work.lists[0] = a.as<std::uint64_t>();
  work.lists[1] = b.as<std::uint64_t>();
  work.seen = seen.as<cuda::ShortlistSeen>();
  work.sums = sums.as<float>();
  work.results = results.as<cuda::ShortlistResult>();
  cuda::find_shortlists(logits.as<const float>(), count, work, device.stream());
  std::vector<cuda::ShortlistResult> out(rows.size());
  device.copy_out(out.data(), results.data(), out.size() * sizeof(cuda::ShortlistResult));
  REQUIRE(device.wait().has_value());
  return out;
}

Shortlist list_of(const cuda::ShortlistResult& from, const Prepared& row, const Sampling& settings) {
  Shortlist list;
  list.settings = settings;
  list.mask = row.mask;
  for (int k = 0; k < cuda::kShortlistLength && from.ids[k] >= 0; ++k) list.best.push_back({from.logits[k], from.ids[k]});
  list.finite = from.bad == 0 && !list.best.empty();
  list.total = from.total;
  list.all_top = from.all_top;
  list.all_total = from.all_total;
  list.filled = true;
  return list;
}

std::vector<Sampling> all_settings() {
  std::vector<Sampling> all;
  const auto add = [&](float temperature, int top_k, float top_p, float min_p) {
    Sampling s;
    s.temperature = temperature;
    s.top_k = top_k;
    s.top_p = top_p;
    s.min_p = min_p;
    s.seed = 1000 + all.size();
    REQUIRE(suits_shortlist(s));
    all.push_back(s);
  };
  add(0, 0, 0.95f, 0);
  add(0.6f, 0, 0.95f, 0);
  add(1.3f, 0, 0.5f, 0.02f);
  add(0.8f, 40, 1.0f, 0);
  add(0.8f, 64, 0.9f, 0.05f);
  add(1.0f, 1, 0.1f, 0);
  add(1.0f, 0, 1.0f, 0.1f);
  return all;
}

}  // namespace

TEST_CASE("a shortlist gives Sampler's draws bit by bit, or says that it is not enough", "[shortlist]") {
  const auto device = test::make_device();
  if (!device) return test::count_cases("gpu shortlists", 0, 0, 1);
  int passed = 0, failed = 0, from_list = 0, from_row = 0;
  // Three levels of merging; one piece and a rest; fewer than a list; fewer than the lanes of a sum.
  for (const std::size_t vocabulary : {std::size_t{151936}, std::size_t{4099}, std::size_t{61}, std::size_t{5}}) {
    std::vector<Prepared> rows;
    for (const Rows kind : {Rows::peaked, Rows::flat, Rows::ties, Rows::nan, Rows::infinite, Rows::nothing})
      for (const bool masked : {false, true})
        rows.push_back({logits_of(kind, vocabulary, rows.size()), masked ? some_mask(vocabulary) : std::vector<std::uint32_t>()});
    rows.push_back({logits_of(Rows::peaked, vocabulary, 9), std::vector<std::uint32_t>((vocabulary + 31) / 32)});  // Nothing is allowed.
    const auto results = on(*device, rows);
    for (const Sampling& settings : all_settings()) {
      Sampler reference(settings);
      TokenChooser chooser(settings);
      for (std::size_t r = 0; r < rows.size(); ++r) {
        const Shortlist list = list_of(results[r], rows[r], settings);
        for (int draw = 0; draw < 3; ++draw) {
          const auto expected = reference.sample(rows[r].logits, {}, rows[r].mask);
          const bool row_again = !list.enough() || draw == 1;  // Both kinds of draws take turns: they share the random numbers.
          (row_again ? from_row : from_list) += 1;
          const auto got = row_again ? chooser.sample(rows[r].logits, {}, rows[r].mask) : chooser.sample(list);
          // A rest of less than eight logits goes through exp in double, whose last bit a device may round otherwise.
          const double off = vocabulary % 8 == 0 ? 0 : 1e-14;
          const bool same = expected.has_value() == got.has_value() &&
                            (expected ? expected->id == got->id && std::fabs(expected->probability - got->probability) <= off * expected->probability
                                      : expected.error().kind == got.error().kind);
          (same ? passed : failed) += 1;
          if (!same && failed < 10)
            std::cout << "vocabulary " << vocabulary << " row " << r << " settings " << settings.seed << ": "
                      << (expected ? std::to_string(expected->id) : expected.error().kind) << " / " << (got ? std::to_string(got->id) : got.error().kind) << "\n";
        }
      }
    }
  }
  test::count_cases("gpu shortlists", passed, failed);
  CHECK(failed == 0);
  CHECK(from_list > from_row / 2);  // Not all by way of the row.
}

TEST_CASE("penalties and plain temperature are left to the host", "[shortlist]") {
  Sampling s;
  CHECK(suits_shortlist(s));
  s.repeat_penalty = 1.1f;
  CHECK(!suits_shortlist(s));
  s.penalty_last_n = 0;
  CHECK(suits_shortlist(s));
  s.top_p = 1.0f;
  CHECK(!suits_shortlist(s));
  s.top_k = 65;
  CHECK(!suits_shortlist(s));
}

namespace {

/// Counts what generations got; with `rows_only`, hides that the device makes shortlists.
class Counting final : public Backend {
 public:
  Counting(std::unique_ptr<Backend> inner, bool rows_only) : inner_(std::move(inner)), rows_only_(rows_only) {}
  const ModelConfig& config() const override { return inner_->config(); }
  std::string device() const override { return inner_->device(); }
  std::unique_ptr<Sequence> create_sequence() override { return inner_->create_sequence(); }
  std::uint64_t page_bytes() const override { return inner_->page_bytes(); }
  std::string arithmetic() const override { return inner_->arithmetic(); }
  Result<KvPageRef> load_page(std::span<const std::byte> content) override { return inner_->load_page(content); }
  Result<void> forward(std::span<const Extension> extensions) override {
    auto done = inner_->forward(extensions);
    for (const Extension& e : extensions) lists += e.shortlist && e.shortlist->filled;
    return done;
  }
  std::uint64_t weight_bytes_per_token() const override { return inner_->weight_bytes_per_token(); }
  bool shortlists() const override { return !rows_only_ && inner_->shortlists(); }
  int threads() const override { return 1; }
  void set_threads(int) override {}

  int lists = 0;

 private:
  std::unique_ptr<Backend> inner_;
  bool rows_only_;
};

/// Every other token, the first word never.
class EvenTokens final : public TokenConstraint {
 public:
  explicit EvenTokens(std::size_t vocabulary) : mask_((vocabulary + 31) / 32, 0x55555555u) { mask_[0] = 0; }
  std::span<const std::uint32_t> mask() override { return mask_; }
  std::span<const TokenId> forced() override { return {}; }
  Result<void> accept(TokenId token) override {
    if (token % 2 != 0 || token < 32) return fail(Errc::usage, "not allowed", "constraint_violated");
    return {};
  }
  bool finished() const override { return false; }
  std::unique_ptr<TokenConstraint> fork() const override { return std::make_unique<EvenTokens>(*this); }

 private:
  std::vector<std::uint32_t> mask_;
};

}  // namespace

TEST_CASE("generations from shortlists are those from rows of logits", "[shortlist]") {
  const std::string shared = test::shared_dir();
  if (shared.empty()) return test::count_cases("gpu generations", 0, 0, 1);
  const auto file = WeightFile::open(shared + "/golden/models/qbase.q8_0.gguf");
  REQUIRE(file.has_value());
  int passed = 0;
  for (const bool masked : {false, true})
    for (const float temperature : {0.0f, 0.7f}) {
      std::vector<std::vector<TokenId>> outputs;
      int lists[2] = {};
      for (const bool rows_only : {true, false}) {
        auto opened = test::on_device(*file, Compute::native, true);
        if (!opened) return test::count_cases("gpu generations", 0, 0, 1);
        auto counting = std::make_unique<Counting>(std::move(*opened), rows_only);
        Counting& counter = *counting;
        auto engine = Engine::create(*file, std::move(counting));
        REQUIRE(engine.has_value());
        LocalModel model(*engine);
        GenerateRequest request;
        request.prompt = {{"the invoice is due"}};
        request.max_tokens = 12;
        request.guess = false;
        request.sampling.temperature = temperature;
        request.sampling.top_p = 0.6f;
        request.sampling.seed = 5;
        if (masked) request.constraint = std::make_shared<EvenTokens>(static_cast<std::size_t>((*engine)->config().vocabulary));
        const auto made = model.generate(request, nullptr);
        REQUIRE(made.has_value());
        outputs.push_back(made->tokens);
        lists[rows_only] = counter.lists;
      }
      CHECK(outputs[0] == outputs[1]);
      CHECK(outputs[0].size() > 2);
      CHECK(lists[1] == 0);
      CHECK(lists[0] > 0);
      ++passed;
    }
  test::count_cases("gpu generations", passed, 0);
}
