#include "tools/mcp/serve_stdio.hpp"

#include "base/stream_reader.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

namespace kontor::tools::mcp {
namespace {

constexpr int kPollMs = 200;
constexpr int kParallelMax = 64;
constexpr int kLastAnswersMs = 5000;
constexpr std::size_t kReadBytes = 64u << 10;

/// What the threads of one connection share; the last one frees it.
struct Connection {
  explicit Connection(int output) : output(output) {}
  const int output;
  std::mutex mutex;
  std::atomic<bool> broken{false};
  std::atomic<int> running{0};
  std::shared_ptr<Session> session = std::make_shared<Session>("stdio");

  void send(std::string message) {
    message += '\n';
    const std::lock_guard lock(mutex);
    std::string_view rest = message;
    while (!rest.empty() && !broken) {
      const ssize_t count = ::write(output, rest.data(), rest.size());
      if (count > 0) rest.remove_prefix(static_cast<std::size_t>(count));
      else if (count < 0 && errno == EAGAIN) {
        pollfd writable{output, POLLOUT, 0};
        ::poll(&writable, 1, kPollMs);
      } else if (count < 0 && errno != EINTR) broken = true;
    }
  }
};

void work_on(Dispatcher& dispatcher, const std::shared_ptr<Connection>& connection, Message message) {
  const auto outcome = dispatcher.handle(message, *connection->session, [&](const std::string& text) { connection->send(text); },
                                         [&] { return connection->broken.load(); });
  if (!outcome.message.empty()) connection->send(outcome.message);
}

void take(Dispatcher& dispatcher, const std::shared_ptr<Connection>& connection, std::string_view line) {
  auto message = parse_message(line);
  if (!message) {
    const bool syntax = message.error().kind != "not_a_message";
    return connection->send(write_error(nullptr, {syntax ? kParseError : kInvalidRequest, message.error().describe()}));
  }
  // Answers, notifications and the handshake in the order in which they come; requests side by side.
  if (message->kind != Message::Kind::request || message->method == "initialize") return work_on(dispatcher, connection, std::move(*message));
  if (connection->running >= kParallelMax) {
    return connection->send(write_error(message->id, {kInternalError, "more than " + std::to_string(kParallelMax) + " requests at once"}));
  }
  ++connection->running;
  std::thread([&dispatcher, connection, request = std::move(*message)]() mutable {
    work_on(dispatcher, connection, std::move(request));
    --connection->running;
  }).detach();
}

}  // namespace

Result<void> serve_stdio(Dispatcher& dispatcher, int input, int output, const std::stop_token& stop) {
  auto connection = std::make_shared<Connection>(output);
  LineReader lines(kMessageBytesMax);
  std::string buffer(kReadBytes, '\0');
  Result<void> end;
  while (!stop.stop_requested() && !connection->broken) {
    pollfd from{input, POLLIN, 0};
    if (::poll(&from, 1, kPollMs) <= 0) continue;
    const ssize_t count = ::read(input, buffer.data(), buffer.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) {
      // Who closes its end behind the last request still wants the answers; what takes longer is cancelled.
      for (int waited = 0; waited < kLastAnswersMs && connection->running > 0 && !connection->broken && !stop.stop_requested(); waited += 10)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      break;
    }
    end = lines.feed(std::string_view(buffer.data(), static_cast<std::size_t>(count)), [&](std::string_view line) {
      take(dispatcher, connection, line);
      return true;
    });
    if (!end) break;
  }
  connection->broken = true;
  connection->session->cancel_all();
  for (int i = 0; i < 500 && connection->running > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return end;
}

}  // namespace kontor::tools::mcp
