// Guesses by looking up where the last tokens stood before.

#include "inference/prompt_lookup.hpp"

#include "tests/support/catch.hpp"

#include <vector>

using namespace kontor::inference;

namespace {

std::vector<TokenId> guessed(PromptLookup& lookup, std::size_t most) {
  const auto guess = lookup.guess(most);
  return {guess.begin(), guess.end()};
}

}  // namespace

TEST_CASE("a guess is what followed the latest earlier place with the same three, else two, last tokens") {
  PromptLookup lookup;
  CHECK(lookup.guess(4).empty());
  lookup.append(std::vector<TokenId>{1, 2, 3, 4, 5, 9, 2, 3, 7, 8, 6});
  CHECK(lookup.guess(4).empty());
  lookup.append(std::vector<TokenId>{2, 3});
  CHECK(guessed(lookup, 3) == std::vector<TokenId>{7, 8, 6});  // Two tokens; the later of two places.
  lookup.append(std::vector<TokenId>{4});
  CHECK(guessed(lookup, 2) == std::vector<TokenId>{5, 9});     // Three tokens.
  CHECK(guessed(lookup, 0).empty());
  lookup.append(std::vector<TokenId>{77});
  CHECK(lookup.guess(4).empty());
}

TEST_CASE("a guess that runs into its own end repeats itself") {
  PromptLookup lookup;
  lookup.append(std::vector<TokenId>{5, 1, 2, 1, 2, 1});
  CHECK(guessed(lookup, 5) == std::vector<TokenId>{2, 1, 2, 1, 2});
}

TEST_CASE("guesses grow while they hold, shrink when they fail, and pause longer after each failure in a row") {
  PromptLookup lookup;
  const std::size_t first = lookup.length();
  lookup.learn(first, first);
  CHECK(lookup.length() == 2 * first);
  for (int i = 0; i < 5; ++i) lookup.learn(lookup.length(), lookup.length());
  CHECK(lookup.length() == 16);
  lookup.learn(16, 3);
  CHECK(lookup.length() == 4);
  std::vector<int> pauses;
  for (int failure = 0; failure < 6; ++failure) {
    lookup.learn(lookup.length(), 0);
    int steps = 0;
    for (; lookup.length() == 0; ++steps) lookup.learn(0, 0);
    pauses.push_back(steps);
  }
  CHECK(pauses == std::vector<int>{4, 8, 16, 32, 64, 64});
  CHECK(lookup.length() == 2);
  lookup.learn(2, 1);
  lookup.learn(2, 0);
  int steps = 0;
  for (; lookup.length() == 0; ++steps) lookup.learn(0, 0);
  CHECK(steps == 4);
}
