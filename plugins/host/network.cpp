#include "plugins/host/network.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

namespace kontor::plugins {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kQuestionBytesMax = 512;
constexpr std::int64_t kTimeoutMsMax = 60'000;

bool same(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [&](char x, char y) { return lower(x) == lower(y); });
}

/// One address; blocks until the deadline.
int connect_to(const addrinfo& address, SteadyClock::time_point deadline) {
  const int socket = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket < 0) return -errno;
  int error = 0;
  if (::connect(socket, address.ai_addr, address.ai_addrlen) != 0) {
    error = errno;
    if (error == EINPROGRESS) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyClock::now()).count();
      pollfd writable{socket, POLLOUT, 0};
      const int ready = left > 0 ? ::poll(&writable, 1, static_cast<int>(left)) : 0;
      socklen_t size = sizeof error;
      if (ready <= 0) error = ETIMEDOUT;
      else if (::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    }
  }
  if (error != 0) {
    ::close(socket);
    return -error;
  }
  ::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) & ~O_NONBLOCK);
  return socket;
}

std::string numeric(const addrinfo& address) {
  char text[NI_MAXHOST] = {};
  return ::getnameinfo(address.ai_addr, address.ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0 ? text : "";
}

/// A whole number and, when there is one, a descriptor.
bool send_answer(int socket, int status, int descriptor) {
  iovec data{&status, sizeof status};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof status);
}

}  // namespace

bool is_declared_host(const std::vector<std::string>& hosts, std::string_view name, std::uint16_t port) {
  const std::string with_port = std::string(name) + ":" + std::to_string(port);
  return !name.empty() && std::any_of(hosts.begin(), hosts.end(), [&](const auto& host) { return same(host, name) || same(host, with_port); });
}

int connect_declared(const std::vector<std::string>& hosts, const tools::Egress& egress, const std::string& name, std::uint16_t port, std::int64_t timeout_ms) {
  if (!is_declared_host(hosts, name, port) || !egress.permit_name(name, name, port)) return -EACCES;
  const auto deadline = SteadyClock::now() + std::chrono::milliseconds(std::clamp<std::int64_t>(timeout_ms, 1, kTimeoutMsMax));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(name.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return -EHOSTUNREACH;
  int result = -EHOSTUNREACH;
  for (const addrinfo* one = found; one != nullptr && result < 0; one = one->ai_next) result = egress.permit_address(name, name, numeric(*one), port) ? connect_to(*one, deadline) : -EACCES;
  ::freeaddrinfo(found);
  return result;
}

int ask_for_connection(int socket, const std::string& name, std::uint16_t port, std::int64_t timeout_ms) {
  const std::string question = std::to_string(port) + " " + std::to_string(timeout_ms) + " " + name;
  if (question.size() > kQuestionBytesMax) return -ENAMETOOLONG;
  if (::send(socket, question.data(), question.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(question.size())) return -ENETDOWN;
  int status = 0, descriptor = -1;
  iovec data{&status, sizeof status};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t count = 0;
  do count = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (count < 0 && errno == EINTR);
  if (count != static_cast<ssize_t>(sizeof status)) return -ENETDOWN;
  if (status < 0) return status;
  const cmsghdr* head = CMSG_FIRSTHDR(&message);
  if (head == nullptr || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) return -ENETDOWN;
  std::memcpy(&descriptor, CMSG_DATA(head), sizeof descriptor);
  return descriptor;
}

NetworkProxy::NetworkProxy(int socket, std::vector<std::string> hosts, tools::Egress egress)
    : socket_(socket), hosts_(std::move(hosts)), egress_(std::move(egress)), thread_([this] { serve(); }) {}

NetworkProxy::~NetworkProxy() {
  ::shutdown(socket_, SHUT_RDWR);
  thread_.join();
  ::close(socket_);
}

void NetworkProxy::serve() const {
  char question[kQuestionBytesMax];
  for (;;) {
    const ssize_t count = ::recv(socket_, question, sizeof question, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    const std::string_view text(question, static_cast<std::size_t>(count));
    const auto first = text.find(' '), second = text.find(' ', first + 1);
    std::uint16_t port = 0;
    std::int64_t timeout_ms = 0;
    int result = -EINVAL;
    if (first != std::string_view::npos && second != std::string_view::npos) {
      std::from_chars(text.data(), text.data() + first, port);
      std::from_chars(text.data() + first + 1, text.data() + second, timeout_ms);
      result = connect_declared(hosts_, egress_, std::string(text.substr(second + 1)), port, timeout_ms);
    }
    const bool sent = send_answer(socket_, result < 0 ? result : 0, result);
    if (result >= 0) ::close(result);
    if (!sent) return;
  }
}

}  // namespace kontor::plugins
