#pragma once
// Where a value came from. Labels are assigned by source, never guessed from text, and whatever is made from labelled
// values carries their labels.

namespace kontor::tools {

struct Labels {
  bool untrusted = false;  ///< Text from outside: documents, mail, other people's systems.
  bool secret = false;     ///< From a tool that works with a secret.

  Labels& operator|=(const Labels& other) {
    untrusted = untrusted || other.untrusted;
    secret = secret || other.secret;
    return *this;
  }
  friend Labels operator|(Labels a, const Labels& b) { return a |= b; }
  friend bool operator==(const Labels&, const Labels&) = default;
};

}  // namespace kontor::tools
