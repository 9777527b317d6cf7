#include "tools/mcp/oauth.hpp"

#include "tools/base64.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

namespace kontor::tools::mcp {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

constexpr std::size_t kAnswerBytesMax = 256u << 10;

Error refused(const std::string& what) { return fail(Errc::denied, "authorization: " + what, "unauthorized"); }

bool lists(const Json& object, const char* key, std::string_view wanted) {
  const auto list = object.find(key);
  if (list == object.end() || !list->is_array()) return false;
  return std::any_of(list->begin(), list->end(), [&](const Json& item) { return item.is_string() && item.get<std::string>() == wanted; });
}

std::set<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

std::string value_of(const Fields& fields, std::string_view name) {
  for (const auto& [key, value] : fields) {
    if (key == name) return value;
  }
  return {};
}

/// "none" where allowed: a program on people's machines keeps no secret.
std::string chosen_method(const Json& metadata, bool has_secret) {
  if (!metadata.contains("token_endpoint_auth_methods_supported")) return has_secret ? "client_secret_basic" : "none";
  const std::vector<const char*> order = has_secret ? std::vector<const char*>{"client_secret_basic", "client_secret_post", "none"}
                                                    : std::vector<const char*>{"none", "client_secret_basic", "client_secret_post"};
  for (const char* method : order) {
    if (lists(metadata, "token_endpoint_auth_methods_supported", method)) return method;
  }
  return has_secret ? "client_secret_basic" : "none";
}

}  // namespace

OAuth::OAuth(Url server, OAuthSetup setup) : server_(std::move(server)), setup_(std::move(setup)) { load(); }

std::string OAuth::token() {
  const std::lock_guard lock(mutex_);
  return text_at(state_, "token");
}

Result<void> OAuth::authorize(const HttpHead& refusal, const std::string& used, const HttpLimits& limits) {
  const std::lock_guard flow(flow_mutex_);
  if (const std::string now = token(); !now.empty() && now != used) return {};
  const Challenge challenge = read_challenge(refusal.all("WWW-Authenticate"));
  auto found = discover_authorization(server_, challenge, limits);
  if (!found) return found.error();
  const std::string scope = wanted_scope(*found, challenge);
  const bool more_scope = refusal.status == 403;
  bool same_issuer = false, has_refresh = false;
  {
    const std::lock_guard lock(mutex_);
    same_issuer = text_at(state_, "issuer") == found->issuer;
    has_refresh = !text_at(state_, "refresh").empty();
  }
  if (same_issuer && has_refresh && !more_scope) {
    if (refresh(*found, limits)) return {};
  }
  if (!setup_.open_page) return refused(server_.origin() + " wants a person to allow the access; run `kontor tools list FILE` in a terminal once");
  return ask_person(*found, scope, limits);
}

std::string OAuth::wanted_scope(const Discovered& found, const Challenge& challenge) const {
  std::string base = setup_.scope;
  if (base.empty()) base = challenge.scope;
  if (base.empty()) {
    for (const auto& scope : found.resource_scopes) base += (base.empty() ? "" : " ") + scope;
  }
  auto words = words_of(base);
  if (challenge.error == "insufficient_scope") {
    // What was granted before stays; the server names only what it misses.
    for (const auto& word : words_of(text_at(state_, "scope"))) {
      if (words.insert(word).second) base += (base.empty() ? "" : " ") + word;
    }
  }
  if (lists(found.server, "scopes_supported", "offline_access") && words.insert("offline_access").second) base += (base.empty() ? "" : " ") + std::string("offline_access");
  return base;
}

Result<OAuth::Registered> OAuth::client_for(const Discovered& found, const std::string& redirect_uri, const HttpLimits& limits) {
  if (!setup_.client_id.empty()) return Registered{setup_.client_id, setup_.client_secret, chosen_method(found.server, !setup_.client_secret.empty()), redirect_uri};
  const bool documents = found.server.contains("client_id_metadata_document_supported") && found.server.at("client_id_metadata_document_supported") == Json(true);
  if (documents && !setup_.metadata_url.empty()) return Registered{setup_.metadata_url, {}, "none", redirect_uri};
  {
    // Registrations belong to the issuer that gave them.
    const std::lock_guard lock(mutex_);
    const Json& kept = object_at(object_at(state_, "clients"), found.issuer.c_str());
    if (!text_at(kept, "id").empty() && text_at(kept, "redirect_uri") == redirect_uri) {
      return Registered{text_at(kept, "id"), text_at(kept, "secret"), text_at(kept, "method"), redirect_uri};
    }
  }
  const std::string endpoint = text_at(found.server, "registration_endpoint");
  if (endpoint.empty()) return refused(found.issuer + " registers no clients; set oauth_client_id (and oauth_client_secret) in `config:`");
  auto url = parse_url(endpoint);
  if (!url) return url.error();
  const Json wish{{"client_name", "Kontor"}, {"redirect_uris", Json::array({redirect_uri})}, {"grant_types", Json::array({"authorization_code", "refresh_token"})},
                  {"response_types", Json::array({"code"})}, {"token_endpoint_auth_method", chosen_method(found.server, false)}, {"application_type", "native"}};
  HttpLimits bounded = limits;
  bounded.body_bytes = kAnswerBytesMax;
  auto answer = http_fetch(HttpRequest{"POST", *url, {{"Content-Type", "application/json"}, {"Accept", "application/json"}}, wish.dump()}, bounded);
  if (!answer) return answer.error();
  auto given = parse_json(answer->body, JsonLimits{32, kAnswerBytesMax, true});
  if (answer->head.status / 100 != 2 || !given || text_at(*given, "client_id").empty()) {
    return refused(found.issuer + " did not register Kontor as a client (" + std::to_string(answer->head.status) + " " + (given ? text_at(*given, "error_description").substr(0, 200) : "") + ")");
  }
  Registered client{text_at(*given, "client_id"), text_at(*given, "client_secret"), text_at(*given, "token_endpoint_auth_method"), redirect_uri};
  if (client.method.empty()) client.method = chosen_method(found.server, !client.secret.empty());
  const std::lock_guard lock(mutex_);
  state_["clients"][found.issuer] = Json{{"id", client.id}, {"secret", client.secret}, {"method", client.method}, {"redirect_uri", redirect_uri}};
  return client;
}

Result<Json> OAuth::ask_token(const Discovered& found, const Registered& client, Fields fields, const HttpLimits& limits) {
  auto url = parse_url(text_at(found.server, "token_endpoint"));
  if (!url) return url.error();
  Headers headers{{"Content-Type", "application/x-www-form-urlencoded"}, {"Accept", "application/json"}};
  fields.emplace_back("resource", found.resource);
  if (client.method == "client_secret_basic") {
    headers.emplace_back("Authorization", "Basic " + base64(url_encoded(client.id) + ":" + url_encoded(client.secret)));
  } else {
    fields.emplace_back("client_id", client.id);
    if (client.method == "client_secret_post") fields.emplace_back("client_secret", client.secret);
  }
  HttpLimits bounded = limits;
  bounded.body_bytes = kAnswerBytesMax;
  auto answer = http_fetch(HttpRequest{"POST", *url, headers, form_encoded(fields)}, bounded);
  if (!answer) return answer.error();
  auto given = parse_json(answer->body, JsonLimits{32, kAnswerBytesMax, true});
  const bool good = answer->head.status == 200 && given && !text_at(*given, "access_token").empty();
  if (!good) {
    const std::string why = given ? text_at(*given, "error") + " " + text_at(*given, "error_description") : std::string();
    return refused(found.issuer + " gave no token (" + std::to_string(answer->head.status) + " " + why.substr(0, 200) + ")");
  }
  std::string type = text_at(*given, "token_type");
  std::transform(type.begin(), type.end(), type.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (!type.empty() && type != "bearer") return refused(found.issuer + " gave a token of the type " + type.substr(0, 32) + ", which is not known here");
  return given;
}

Result<void> OAuth::refresh(const Discovered& found, const HttpLimits& limits) {
  std::string refresh_token, scope;
  Registered client;
  {
    const std::lock_guard lock(mutex_);
    refresh_token = text_at(state_, "refresh");
    scope = text_at(state_, "scope");
    const Json& kept = object_at(state_, "client");
    client = {text_at(kept, "id"), text_at(kept, "secret"), text_at(kept, "method"), {}};
  }
  auto answer = ask_token(found, client, {{"grant_type", "refresh_token"}, {"refresh_token", refresh_token}}, limits);
  if (!answer) return answer.error();
  keep(found, *answer, scope);
  return {};
}

Result<void> OAuth::ask_person(const Discovered& found, const std::string& scope, const HttpLimits& limits) {
  std::uint16_t port = 0;
  {
    const std::lock_guard lock(mutex_);
    if (const auto url = parse_url(text_at(object_at(object_at(state_, "clients"), found.issuer.c_str()), "redirect_uri"))) port = url->port;
  }
  auto opened = RedirectListener::open(port);
  auto other = !opened && port != 0 ? RedirectListener::open(0) : Result<RedirectListener>(fail(Errc::internal, ""));
  RedirectListener* listener = opened ? &*opened : other ? &*other : nullptr;
  if (!listener) return opened.error();
  auto client = client_for(found, listener->uri(), limits);
  if (!client) return client.error();
  const std::string verifier = random_text(48), state = random_text(16);
  Fields query{{"response_type", "code"}, {"client_id", client->id}, {"redirect_uri", listener->uri()}, {"code_challenge", base64_url(sha256_bytes(verifier))},
               {"code_challenge_method", "S256"}, {"state", state}, {"resource", found.resource}};
  if (!scope.empty()) query.emplace_back("scope", scope);
  const std::string page = text_at(found.server, "authorization_endpoint");
  setup_.open_page(page + (page.find('?') == std::string::npos ? "?" : "&") + form_encoded(query));
  HttpLimits patience = limits;
  patience.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(setup_.person_timeout_ms);
  auto back = listener->wait(patience);
  if (!back) return back.error();
  if (value_of(*back, "state") != state) return refused("what came back does not belong to this request");
  // Before anything else of it is believed: who says it?
  const std::string issuer = value_of(*back, "iss");
  const bool promised = found.server.contains("authorization_response_iss_parameter_supported") && found.server.at("authorization_response_iss_parameter_supported") == Json(true);
  if (issuer.empty() ? promised : issuer != found.issuer) return refused("the answer is not from " + found.issuer + " but from '" + issuer.substr(0, 200) + "'");
  if (const std::string error = value_of(*back, "error"); !error.empty()) return refused("it was not allowed: " + (error + " " + value_of(*back, "error_description")).substr(0, 300));
  const std::string code = value_of(*back, "code");
  if (code.empty()) return refused("no code came back");
  patience.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  auto answer = ask_token(found, *client, {{"grant_type", "authorization_code"}, {"code", code}, {"redirect_uri", listener->uri()}, {"code_verifier", verifier}}, patience);
  if (!answer) return answer.error();
  {
    const std::lock_guard lock(mutex_);
    state_["client"] = Json{{"id", client->id}, {"secret", client->secret}, {"method", client->method}};
  }
  keep(found, *answer, scope);
  return {};
}

void OAuth::keep(const Discovered& found, const Json& answer, const std::string& scope) {
  const std::lock_guard lock(mutex_);
  state_["token"] = text_at(answer, "access_token");
  if (const std::string refresh_token = text_at(answer, "refresh_token"); !refresh_token.empty()) state_["refresh"] = refresh_token;
  else if (text_at(state_, "issuer") != found.issuer) state_.erase("refresh");
  state_["issuer"] = found.issuer;
  const std::string granted = text_at(answer, "scope");
  state_["scope"] = granted.empty() ? scope : granted;
  save();
}

void OAuth::load() {
  if (setup_.token_file.empty()) return;
  std::ifstream file(setup_.token_file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  auto kept = parse_json(text, JsonLimits{16, kAnswerBytesMax, true});
  // Tokens are for the server that they were given for.
  if (kept && kept->is_object() && text_at(*kept, "server") == server_.text()) state_ = std::move(*kept);
}

void OAuth::save() const {
  if (setup_.token_file.empty()) return;
  Json kept = state_;
  kept["server"] = server_.text();
  const std::string text = kept.dump(2, ' ', false, Json::error_handler_t::replace) + "\n", temporary = setup_.token_file + ".new";
  const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return;  // Without the file the next start asks again.
  const bool written = ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(file);
  std::error_code code;
  if (written) std::filesystem::rename(temporary, setup_.token_file, code);
}

}  // namespace kontor::tools::mcp
