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

TEST_CASE("an embedder is a model of the file that can embed", "[check][memory]") {
  const auto check = [](const std::string& memory, const std::string& tool = "", const std::string& model = "") {
    const auto checked = kontor::agent::check_text("kontor: 1\nname: x\nmodels: {tape: {replay: t.jsonl}, near: {path: near.gguf" + model + "}, far: {endpoint: http://e.example/v1, model: e}}\n" +
                                                       "agents: {a: {model: tape, instruction: i, memory: {recall: 1" + memory + "}}}\ntools: {notes: {use: builtin.memory" + tool + "}}\n",
                                                   "a.yaml", ".");
    if (!checked.diagnostics.empty()) return checked.diagnostics.front().kind + " " + std::to_string(checked.diagnostics.front().line);
    return "ok '" + checked.spec->agents.front().memory_embedder + "'";
  };
  CHECK(check("") == "ok ''");
  CHECK(check(", embedder: near", ", embedder: far") == "ok 'near'");
  CHECK(check(", embedder: nearby") == "unknown-model 4");
  CHECK(check(", embedder: tape") == "conflict 4");
  CHECK(check(", embedder: 1") == "wrong-type 4");
  CHECK(check("", ", embedder: tape") == "conflict 5");
  CHECK(check("", ", embedder: other") == "unknown-model 5");
  CHECK(check("", "", ", embedding: {query: 'query: ', document: ''}") == "ok ''");
  CHECK(check("", "", ", embedding: {queries: x}") == "unknown-key 3");
}

TEST_CASE("mistakes that everybody makes once are answered with what to write", "[check]") {
  const auto message = [](const std::string& text) {
    const auto checked = kontor::agent::check_text("kontor: 1\nname: x\n" + text, "a.yaml", ".");
    return checked.diagnostics.empty() ? std::string() : checked.diagnostics.front().message;
  };
  CHECK(message("workflow: [{wait: ${inputs.pause}}]\n") == "',' or '}' was expected here; inside brackets an expression stands in quotes: \"${...}\"");
  CHECK(message("workflow: [{wait: $1 {}}]\n") == "',' or '}' was expected here");
  CHECK(message("models: {m: {path: m.gguf}}\nagents: {a: {model: m, instruction: b, output: {schema: {type: object}}}}\n") ==
        "'schema' needs the path of a file or folder, not a mapping");
  CHECK(message("models: {m: m.gguf}\nagents: {a: {model: m, instruction: b}}\n") == "'m' needs a mapping, {path: ...}, not a text");
  CHECK(message("agents: [{model: m}]\n") == "'agents' needs a mapping from names (NAME: {...}), not a list");
  const std::string step = "tools: {t: {use: builtin.time}}\nworkflow: [{tool: t.now}, {";
  CHECK(message(step + "tool: t.now, args: {}}]\n") == "unknown key 'args' here (did you mean 'with'?)");
  CHECK(message(step + "if: \"${true}\", then: []}]\n") == "unknown key 'if' here (did you mean 'switch'?)");
  CHECK(message("models: {m: {path: m.gguf}}\nagents: {a: {model: m, prompt: b}}\n") == "unknown key 'prompt' here (did you mean 'instruction'?)");
  CHECK(message("models: {m: {path: 7}}\nagents: {a: {model: m, instruction: b}}\n") ==
        "'path' needs the path of a file or folder (in quotes when it looks like a number or true/false), not a whole number");
}
