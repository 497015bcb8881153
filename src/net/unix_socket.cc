#include "net/unix_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "net/unix_address.h"

namespace penstock::net {
namespace {

constexpr int kBacklog = 64;
constexpr auto kPause = std::chrono::milliseconds(100);  // when no descriptor is left
constexpr std::size_t kMostAnswerBytes = 64 * 1024 * 1024;

std::unexpected<Error> with_way_out(std::unexpected<Error> refusal) {
  // What the system says names no way out; the rest of the refusals do.
  const ErrorCode code = refusal.error().code;
  if (code != ErrorCode::address_in_use && code != ErrorCode::invalid_argument)
    refusal.error().message += "; set status_socket to a path in a directory that this user may write in";
  return refusal;
}

}  // namespace

// One question and its answer.
class StatusSocket::Connection {
 public:
  Connection(StatusSocket& server, FileDescriptor fd)
      : server_(server), fd_(std::move(fd)), watch_(server.loop_.watch(fd_.get())), deadline_(server.loop_) {
    deadline_.start(kPatience, [this] { close(); });
    watch_->when_readable([this] { read(); });
  }

 private:
  void read() {
    std::array<char, 1024> block{};
    for (;;) {
      const ssize_t size = ::recv(fd_.get(), block.data(), block.size(), 0);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN) return watch_->when_readable([this] { read(); });
      if (size < 0) return close();
      request_.append(block.data(), static_cast<std::size_t>(size));
      const auto end = request_.find('\n');
      if (std::min(end, request_.size()) > kMostRequestBytes) return close();
      if (end == std::string::npos && size != 0) continue;
      request_.resize(std::min(end, request_.size()));
      if (request_.ends_with('\r')) request_.pop_back();
      answer_ = server_.handler_(request_);
      deadline_.start(kPatience, [this] { close(); });
      return write();
    }
  }

  void write() {
    while (written_ < answer_.size()) {
      const ssize_t size = ::send(fd_.get(), answer_.data() + written_, answer_.size() - written_, MSG_NOSIGNAL);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN) return watch_->when_writable([this] { write(); });
      if (size < 0) break;
      written_ += static_cast<std::size_t>(size);
    }
    close();
  }

  void close() { server_.drop(this); }  // destroys this connection

  StatusSocket& server_;
  FileDescriptor fd_;
  std::unique_ptr<Watch> watch_;  // destroyed before fd_
  Timer deadline_;
  std::string request_;
  std::string answer_;
  std::size_t written_ = 0;
};

Result<std::unique_ptr<StatusSocket>> StatusSocket::create(EventLoop& loop, const std::string& path, Handler handler) {
  namespace fs = std::filesystem;
  if (const fs::path directory = fs::path(path).parent_path(); !directory.empty()) {
    std::error_code error;
    fs::create_directories(directory, error);  // 0777 less the umask, which is 022 for every service
    if (error) return with_way_out(fail_errno("cannot make the directory " + directory.string(), error.value()));
  }
  auto listening = UnixPath::listen(path, kBacklog);
  if (!listening) return with_way_out(std::unexpected(std::move(listening).error()));
  return std::unique_ptr<StatusSocket>(
      new StatusSocket(loop, std::move(listening->fd), std::move(listening->file), std::move(handler)));
}

StatusSocket::StatusSocket(EventLoop& loop, FileDescriptor fd, UnixPath file, Handler handler)
    : loop_(loop),
      fd_(std::move(fd)),
      file_(std::move(file)),
      watch_(loop.watch(fd_.get())),
      pause_(loop),
      handler_(std::move(handler)) {
  watch_->when_readable([this] { accept_some(); });
}

StatusSocket::~StatusSocket() = default;

void StatusSocket::accept_some() {
  for (;;) {
    FileDescriptor fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (!fd && errno != EAGAIN) return pause_.start(kPause, [this] { accept_some(); });
    if (!fd) return watch_->when_readable([this] { accept_some(); });
    if (connections_.size() < kMostConnections) {
      connections_.push_back(std::make_unique<Connection>(*this, std::move(fd)));
    }
  }
}

void StatusSocket::drop(Connection* connection) {
  const auto found = std::ranges::find_if(connections_, [&](const auto& held) { return held.get() == connection; });
  PENSTOCK_ASSERT(found != connections_.end());
  connections_.erase(found);
}

namespace {

// Waits until `fd` is ready for `events` or `deadline` has passed.
Result<void> wait_for(int fd, short events, TimePoint deadline, const std::string& path) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - SystemClock().now()).count();
    pollfd asked{.fd = fd, .events = events, .revents = 0};
    const int ready = left <= 0 ? 0 : ::poll(&asked, 1, static_cast<int>(std::min<long>(left, 1'000'000)));
    if (ready > 0) return {};
    if (ready == 0) return fail(ErrorCode::timed_out, "the process that serves " + path + " does not answer");
    if (errno != EINTR) return fail_errno(path, errno);
  }
}

Result<FileDescriptor> connect_to(const std::string& path) {
  PENSTOCK_TRY(const sockaddr_un address, unix_address(path));
  FileDescriptor fd = unix_stream();
  if (!fd) return fail_errno("socket", errno);
  if (::connect(fd.get(), generic(address), sizeof address) == 0) return fd;
  switch (errno) {
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
      return fail(ErrorCode::unavailable,
                  "nothing is running that serves " + path + " (has the service been started?)");
    case EACCES:
    case EPERM:
      return fail(ErrorCode::permission_denied,
                  "may not open " + path + ": run this as root or as a member of its group");
    case EAGAIN:
      // A Unix socket whose backlog is full never becomes writable (unix(7)): there is nothing to wait for.
      return fail(ErrorCode::timed_out, "the process that serves " + path + " has too many questions waiting");
    default: return fail_errno(path, errno);
  }
}

}  // namespace

Result<std::string> ask_status(const std::string& path, std::string_view request, Duration timeout) {
  if (request.find('\n') != std::string_view::npos || request.size() > StatusSocket::kMostRequestBytes) {
    return fail(ErrorCode::protocol_error,
                "a request is one line of at most " + std::to_string(StatusSocket::kMostRequestBytes) + " bytes");
  }
  const TimePoint deadline = SystemClock().now() + timeout;
  PENSTOCK_TRY(const FileDescriptor fd, connect_to(path));

  std::string line(request);
  line += '\n';
  for (std::size_t sent = 0; sent < line.size();) {
    const ssize_t size = ::send(fd.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (size >= 0) {
      sent += static_cast<std::size_t>(size);
    } else if (errno == EAGAIN) {
      PENSTOCK_TRY_VOID(wait_for(fd.get(), POLLOUT, deadline, path));
    } else if (errno != EINTR) {
      return fail_errno(path, errno);
    }
  }

  std::string answer;
  std::array<char, 16384> block{};
  for (;;) {
    const ssize_t size = ::recv(fd.get(), block.data(), block.size(), 0);
    if (size == 0) return answer;
    if (size > 0) {
      answer.append(block.data(), static_cast<std::size_t>(size));
      if (answer.size() > kMostAnswerBytes) {
        return fail(ErrorCode::protocol_error, "the answer from " + path + " has no end");
      }
    } else if (errno == EAGAIN) {
      PENSTOCK_TRY_VOID(wait_for(fd.get(), POLLIN, deadline, path));
    } else if (errno != EINTR) {
      return fail_errno(path, errno);
    }
  }
}

}  // namespace penstock::net
