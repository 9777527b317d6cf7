// Rules for the keys of single built-ins.

#include "agent/spec/spec.hpp"

#include "tests/support/catch.hpp"

namespace {

/// "kind line:column" of the first diagnostic, or "".
std::string first(const std::string& tools) {
  const auto checked = kontor::agent::check_text("kontor: 1\nname: x\nsecrets: {smtp: {from: env:PW}}\nworkflow: [{wait: 1s}]\ntools:\n  " + tools + "\n", "a.yaml", ".");
  if (checked.diagnostics.empty()) return {};
  const auto& found = checked.diagnostics.front();
  return found.kind + " " + std::to_string(found.line) + ":" + std::to_string(found.column);
}

}  // namespace

TEST_CASE("a password of builtin.mail is a secret, and whoever may be written to is named", "[check]") {
  const std::string mail = "mail: {use: builtin.mail, from: a@b.example";
  CHECK(first(mail + "}") == "");
  CHECK(first(mail + ", server: mail.b.example, recipients: [b.example], config: {user: a, password: '{{secret:smtp}}'}}") == "");
  CHECK(first(mail + ", server: mail.b.example}") == "missing-key 6:3");
  CHECK(first("mail: {use: builtin.mail}") == "missing-key 6:3");
  CHECK(first(mail + ", config: {user: a, password: hunter2}}").starts_with("unsafe-setting 6:"));
  CHECK(first(mail + ", config: {user: a, password: '{{secret:smtp}} {{secret:smtp}}'}}").starts_with("unsafe-setting 6:"));
  CHECK(first(mail + ", config: {user: a, password: '{{secret:other}}'}}").starts_with("unknown-secret 6:"));
  CHECK(first(mail + ", tls: maybe}").starts_with("unknown-value 6:"));
}
