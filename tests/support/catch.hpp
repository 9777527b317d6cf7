#pragma once
// One include for Catch2 version 2 (Debian 12) and 3 (later distributions).

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <string>

namespace kontor::test {

/// Adds the cases of a corpus to the totals that the test program prints, beside Catch2's own test cases.
void count_cases(const std::string& corpus, int passed, int failed, int skipped = 0);

/// Path of a file below tests/corpora, or of the checkout itself.
inline std::string corpus_path(const std::string& name) { return std::string(KONTOR_SOURCE_DIR) + "/tests/corpora/" + name; }

/// Folder of reference data that is not part of the project (golden models, vocabularies), or "" when it is not at
/// hand: $KONTOR_SHARED, else ../shared beside the checkout. Tests that need it report their cases as skipped.
std::string shared_dir();

}  // namespace kontor::test
