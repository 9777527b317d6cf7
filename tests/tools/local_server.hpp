#pragma once
// A real HTTP(S) server on loopback for tests, and certificates for it.

#include "tests/support/catch.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace kontor::tools {

/// A key and a certificate for the names, signed by itself, written to `file`.
inline SSL_CTX* make_tls(const std::string& file, const std::string& names) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  X509_NAME* name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("kontor test"), -1, -1, 0);
  X509_set_issuer_name(certificate, name);
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  for (const auto& [id, value] : {std::pair(NID_subject_alt_name, names), std::pair(NID_basic_constraints, std::string("critical,CA:TRUE"))}) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509_sign(certificate, key, EVP_sha256());
  FILE* out = std::fopen(file.c_str(), "w");
  PEM_write_X509(out, certificate);
  std::fclose(out);
  SSL_CTX* tls = SSL_CTX_new(TLS_server_method());
  SSL_CTX_use_certificate(tls, certificate);
  SSL_CTX_use_PrivateKey(tls, key);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return tls;
}

/// A socket that listens on a free port of 127.0.0.1.
inline int listen_here(int& port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(listen(listener, 16) == 0);
  REQUIRE(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port = ntohs(address.sin_port);
  return listener;
}

/// An HTTP server on 127.0.0.1 that answers each connection with what `answer` makes of the request's bytes.
class LocalServer {
 public:
  explicit LocalServer(std::function<std::string(const std::string&)> answer, SSL_CTX* tls = nullptr) : answer_(std::move(answer)), tls_(tls) {
    socket_ = listen_here(port);
    thread_ = std::jthread([this](std::stop_token stop) { serve(stop); });
  }
  ~LocalServer() {
    thread_.request_stop();
    shutdown(socket_, SHUT_RDWR);
    thread_.join();
    close(socket_);
    if (tls_) SSL_CTX_free(tls_);
  }
  std::string url(const std::string& path, const std::string& host = "127.0.0.1") const { return (tls_ ? "https://" : "http://") + host + ":" + std::to_string(port) + path; }
  std::vector<std::string> seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }
  int port = 0;

 private:
  void serve(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      const int client = accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) return;
      const timeval patience{2, 0};
      setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      if (tls_ == nullptr) {
        exchange([&](char* data, std::size_t size) { return recv(client, data, size, 0); }, [&](const std::string& text) { (void)!send(client, text.data(), text.size(), MSG_NOSIGNAL); });
      } else {
        SSL* ssl = SSL_new(tls_);
        SSL_set_fd(ssl, client);
        if (SSL_accept(ssl) == 1) exchange([&](char* data, std::size_t size) -> ssize_t { return SSL_read(ssl, data, static_cast<int>(size)); }, [&](const std::string& text) { SSL_write(ssl, text.data(), static_cast<int>(text.size())); });
        SSL_shutdown(ssl);
        SSL_free(ssl);
      }
      close(client);
    }
  }
  template <class Read, class Write>
  void exchange(const Read& read, const Write& write) {
    std::string request;
    char data[4096];
    for (;;) {
      const std::size_t head = request.find("\r\n\r\n");
      if (head != std::string::npos) {
        const std::size_t length = request.find("Content-Length: ");
        if (length == std::string::npos || request.size() >= head + 4 + std::stoul(request.substr(length + 16))) break;
      }
      const ssize_t count = read(data, sizeof data);
      if (count <= 0) return;
      request.append(data, static_cast<std::size_t>(count));
    }
    {
      const std::lock_guard lock(mutex_);
      seen_.push_back(request);
    }
    write(answer_(request));
  }

  std::function<std::string(const std::string&)> answer_;
  SSL_CTX* tls_;
  int socket_ = -1;
  mutable std::mutex mutex_;
  std::vector<std::string> seen_;
  std::jthread thread_;
};

inline std::string answer(const std::string& body, const std::string& headers = "Content-Type: text/plain\r\n", const std::string& status = "200 OK") {
  return "HTTP/1.1 " + status + "\r\n" + headers + "Content-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" + body;
}

}  // namespace kontor::tools
