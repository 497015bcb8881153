// Many connections that ask, one that asks often, and the server that answers them.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstring>
#include <deque>
#include <iostream>
#include <map>

#include "bench/nat/tcp_load.h"

namespace penstock::bench {
namespace {

using namespace std::chrono_literals;

constexpr auto kLongest = 10s;  // to connect them all
constexpr auto kHold = 30s;     // for whoever looks at what is held
constexpr std::size_t kEvents = 256;
constexpr std::size_t kListener = std::size_t{1} << 32U;  // in the name of a descriptor: it listens

// The smallest that `part` of them do not exceed, in milliseconds.
double percentile(std::vector<double>& seconds, double part) {
  if (seconds.empty()) return 0;
  std::sort(seconds.begin(), seconds.end());
  const auto rank = static_cast<std::size_t>(std::ceil(part * static_cast<double>(seconds.size())));
  return seconds[std::max<std::size_t>(rank, 1) - 1] * 1e3;
}

void add_delays(Json& json, std::vector<double>& seconds) {
  json["p50_ms"] = percentile(seconds, 0.5);
  json["p99_ms"] = percentile(seconds, 0.99);
  json["most_ms"] = percentile(seconds, 1);
}

class Poll {
 public:
  void add(int fd, std::uint32_t events, std::size_t name) {
    epoll_event wanted{};
    wanted.events = events;
    wanted.data.u64 = name;
    if (::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &wanted) != 0) fail("epoll_ctl");
  }
  // Those that are ready within that time.
  template <typename Handler>
  void wait(Clock::duration longest, Handler handle) {
    const int ready = ::epoll_wait(fd_.get(), events_.data(), kEvents, static_cast<int>(longest / 1ms));
    for (int i = 0; i < ready; ++i) {
      const epoll_event& event = events_[static_cast<std::size_t>(i)];
      handle(static_cast<std::size_t>(event.data.u64), event.events);
    }
  }

 private:
  Descriptor fd_{::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"};
  std::array<epoll_event, kEvents> events_{};
};

// Many connections, each of which asks for one answer.
class Callers {
 public:
  Callers(const Plan& plan, bool keep) : plan_(plan), keep_(keep), request_(plan.request, 'x') {}

  void run() {
    const Clock::time_point began = Clock::now();
    while (opened_ < plan_.count || under_way() > 0) {
      while (opened_ < plan_.count && under_way() < plan_.parallel) open();
      if (under_way() == 0) continue;
      if (Clock::now() > began + kLongest) {
        failures_["too late"] += plan_.count - opened_ + under_way();
        break;
      }
      poll_.wait(100ms, [this](std::size_t name, std::uint32_t events) { on_event(callers_[name], events); });
    }
    seconds_ = Seconds(Clock::now() - began).count();
  }

  // How many are still answered. As many at a time as were opened: it is no flood that is to be seen here. Those that
  // were answered are closed.
  std::size_t ask_again() {
    const Clock::time_point latest = Clock::now() + kLongest;
    std::size_t waiting = 0;
    std::size_t alive = 0;
    auto next = callers_.begin();
    while ((next != callers_.end() || waiting > 0) && Clock::now() < latest) {
      for (; next != callers_.end() && waiting < plan_.parallel; ++next)
        if (next->fd >= 0 && ::send(next->fd, request_.data(), request_.size(), MSG_NOSIGNAL) > 0) {
          next->asked_again = true;
          ++waiting;
        }
      poll_.wait(100ms, [&](std::size_t name, std::uint32_t) {
        Caller& caller = callers_[name];
        if (caller.fd < 0) return;
        const ssize_t got = hear(caller);
        if (got < 0 && errno == EAGAIN) return;
        ::close(std::exchange(caller.fd, -1));
        if (std::exchange(caller.asked_again, false)) --waiting;
        if (got > 0) ++alive;
      });
    }
    return alive;
  }

  Json json() {
    Json json{{"role", "client"}, {"connections", delays_.size()}, {"seconds", seconds_}, {"failures", failures_}};
    add_delays(json, delays_);
    json["cpu_seconds"] = cpu_seconds();
    return json;
  }

 private:
  struct Caller {
    int fd = -1;
    Clock::time_point began;
    bool asked = false;
    bool asked_again = false;
  };

  std::size_t under_way() const { return opened_ - ended_; }

  void open() {
    Caller caller{.began = Clock::now()};
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const sockaddr_in to = address_of(plan_, opened_++);
    if (fd < 0 || (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS)) {
      ++ended_;
      ++failures_[std::strerror(errno)];
      if (fd >= 0) ::close(fd);
      return;
    }
    caller.fd = fd;
    callers_.push_back(caller);
    poll_.add(fd, EPOLLIN | EPOLLOUT | EPOLLET, callers_.size() - 1);
  }

  void on_event(Caller& caller, std::uint32_t events) {
    if (caller.fd < 0) return;
    if (!caller.asked) {
      if (::send(caller.fd, request_.data(), request_.size(), MSG_NOSIGNAL) < 0) return end(caller, errno);
      caller.asked = true;
      if ((events & EPOLLIN) == 0) return;
    }
    const ssize_t got = hear(caller);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return end(caller, got == 0 ? ECONNABORTED : errno);
    ++ended_;
    delays_.push_back(Seconds(Clock::now() - caller.began).count());
    if (!keep_) ::close(std::exchange(caller.fd, -1));
  }

  ssize_t hear(const Caller& caller) { return ::recv(caller.fd, room_.data(), room_.size(), 0); }

  void end(Caller& caller, int error) {
    ++ended_;
    ++failures_[std::strerror(error)];
    ::close(std::exchange(caller.fd, -1));
  }

  const Plan& plan_;
  bool keep_;
  std::string request_;
  Poll poll_;
  std::deque<Caller> callers_;
  std::size_t opened_ = 0;
  std::size_t ended_ = 0;  // answered or failed
  std::vector<double> delays_;
  std::map<std::string, std::size_t> failures_;
  std::array<char, 16384> room_{};
  double seconds_ = 0;
};

}  // namespace

[[noreturn]] void answer_all(const std::vector<Descriptor>& listeners, const Plan& plan) {
  Poll poll;
  for (const Descriptor& listener : listeners)
    poll.add(listener.get(), EPOLLIN, kListener + static_cast<std::size_t>(listener.get()));
  std::map<int, std::size_t> begun;  // of a request that has not arrived whole
  const std::vector<char> answer(plan.answer, 'x');
  std::array<char, 16384> room{};
  const auto hear = [&](int fd) {
    const ssize_t got = ::recv(fd, room.data(), room.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      begun.erase(fd);
      ::close(fd);
      return;
    }
    std::size_t& bytes = begun[fd];
    bytes += static_cast<std::size_t>(got);
    for (; bytes >= plan.request; bytes -= plan.request)
      static_cast<void>(::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL));
  };
  while (true) {
    poll.wait(kPatience, [&](std::size_t name, std::uint32_t) {
      if (name < kListener) return hear(static_cast<int>(name));
      const int accepted = ::accept4(static_cast<int>(name - kListener), nullptr, nullptr, SOCK_CLOEXEC);
      if (accepted < 0) return;
      set_patience(accepted);
      poll.add(accepted, EPOLLIN, static_cast<std::size_t>(accepted));
    });
  }
}

Json connect_all(const Plan& plan) {
  Callers callers(plan, false);
  callers.run();
  return callers.json();
}

Json hold(const Plan& plan) {
  sigset_t ending;
  ::sigemptyset(&ending);
  ::sigaddset(&ending, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &ending, nullptr);
  Callers callers(plan, true);
  callers.run();
  std::cout << "held" << std::endl;
  const timespec longest{.tv_sec = kHold.count(), .tv_nsec = 0};
  ::sigtimedwait(&ending, nullptr, &longest);
  const std::size_t alive = callers.ask_again();
  Json json = callers.json();
  json["alive"] = alive;
  return json;
}

Json ask_at_a_pace(const Plan& plan) {
  const Descriptor socket = connected(plan);
  const std::string request(plan.request, 'x');
  const auto total = static_cast<std::size_t>(plan.rate * plan.seconds);
  std::deque<Clock::time_point> asked;
  std::vector<double> delays;
  std::array<char, 65536> room{};
  std::size_t sent = 0;
  std::size_t arrived = 0;  // of an answer that is not whole
  const Clock::time_point began = Clock::now();
  Clock::time_point last = began;
  while (delays.size() < total) {
    Clock::time_point now = Clock::now();
    const Clock::time_point due = began + lasting(static_cast<double>(sent) / plan.rate);
    if (sent < total && now >= due) {
      if (::send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) fail("send");
      asked.push_back(now);
      last = now;
      ++sent;
      continue;
    }
    if (now > last + kPatience) break;
    const auto until = std::chrono::duration_cast<std::chrono::nanoseconds>(
        sent < total ? std::min<Clock::duration>(due - now, kPatience) : Clock::duration(kPatience));
    const timespec longest{.tv_sec = until / 1s, .tv_nsec = (until % 1s).count()};
    pollfd wanted{.fd = socket.get(), .events = POLLIN, .revents = 0};
    if (::ppoll(&wanted, 1, &longest, nullptr) <= 0) continue;
    const ssize_t got = ::recv(socket.get(), room.data(), room.size(), 0);
    if (got < 0) fail("recv");
    if (got == 0) break;
    last = now = Clock::now();
    for (arrived += static_cast<std::size_t>(got); arrived >= plan.answer && !asked.empty(); arrived -= plan.answer) {
      delays.push_back(Seconds(now - asked.front()).count());
      asked.pop_front();
    }
  }
  Json json{{"role", "client"}, {"requests", sent}, {"answered", delays.size()}};
  add_delays(json, delays);
  return json;
}

}  // namespace penstock::bench
