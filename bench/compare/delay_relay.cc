// delay_relay: joins two interfaces and holds every frame for a while, each way: a long line between two namespaces.
//
//   left --recvmmsg--> [ ring of frames, oldest due first ] --sendmmsg--> right        and the same from right to left
//
// A packet socket on each interface; both must have their offloads off, so that a frame is what a wire would carry.
// A ring holds kSlots frames. What comes while it is full, is longer than a slot or cannot be sent is dropped and
// counted; the counts are printed as JSON on SIGTERM or SIGINT. One thread.

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace penstock::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kSlots = 16384;
constexpr std::size_t kSlotSize = 2048;
constexpr std::size_t kBatch = 64;
constexpr int kTurns = 8;
constexpr int kSocketBuffer = 16 << 20;

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

int open_interface(const std::string& name) {
  const int fd = ::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);  // hears nothing before bind
  if (fd < 0) fail("packet socket");
  const int on = 1;
  const unsigned index = ::if_nametoindex(name.c_str());
  if (index == 0) fail(name);
  // Without it each of our own frames would come back to be sent the other way.
  if (::setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0) fail("PACKET_IGNORE_OUTGOING");
  packet_mreq everything{};
  everything.mr_ifindex = static_cast<int>(index);
  everything.mr_type = PACKET_MR_PROMISC;
  if (::setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &everything, sizeof everything) != 0)
    fail("promiscuous mode");
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kSocketBuffer, sizeof kSocketBuffer);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBuffer, sizeof kSocketBuffer);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(index);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail("bind " + name);
  return fd;
}

// One direction: frames [sent_, received_) wait, each in the slot of its number.
class Way {
 public:
  Way(int from, int to, Clock::duration delay) : from_(from), to_(to), delay_(delay), slots_(kSlots) {}

  // A bounded number of turns, so that what is due does not wait behind a flood.
  void receive() {
    for (int turn = 0; turn < kTurns && receive_batch() > 0; ++turn) {
    }
  }

  void send_due(Clock::time_point now) {
    while (sent_ != received_ && slot(sent_).due <= now) send_batch(now);
  }

  // When it has something to do next.
  Clock::time_point next() const { return sent_ == received_ ? Clock::time_point::max() : slot(sent_).due; }

  nlohmann::ordered_json counts() const {
    tpacket_stats kernel{};
    socklen_t size = sizeof kernel;
    ::getsockopt(from_, SOL_PACKET, PACKET_STATISTICS, &kernel, &size);
    return {{"frames", frames_},
            {"dropped_full", full_},
            {"dropped_too_long", too_long_},
            {"dropped_unsent", unsent_},
            {"dropped_socket", kernel.tp_drops},
            {"most_waiting", most_waiting_}};
  }

 private:
  struct Slot {
    Clock::time_point due;
    std::size_t size = 0;
    std::array<std::byte, kSlotSize> bytes;
  };

  Slot& slot(std::uint64_t number) { return slots_[number % kSlots]; }
  const Slot& slot(std::uint64_t number) const { return slots_[number % kSlots]; }

  int receive_batch() {
    const std::size_t room = kSlots - (received_ - sent_);
    const std::size_t wanted = std::min(kBatch, room);
    if (room == 0) {
      const bool any = ::recv(from_, spare_.data(), spare_.size(), 0) >= 0;
      full_ += any ? 1 : 0;
      return any ? 1 : 0;
    }
    for (std::size_t i = 0; i < wanted; ++i) {
      parts_[i] = {slot(received_ + i).bytes.data(), kSlotSize};
      headers_[i] = {};
      headers_[i].msg_hdr.msg_iov = &parts_[i];
      headers_[i].msg_hdr.msg_iovlen = 1;
    }
    const int count = ::recvmmsg(from_, headers_.data(), static_cast<unsigned>(wanted), 0, nullptr);
    const auto due = Clock::now() + delay_;
    for (int i = 0; i < count; ++i) {
      const auto& header = headers_[static_cast<std::size_t>(i)];
      const bool torn = (header.msg_hdr.msg_flags & MSG_TRUNC) != 0;
      Slot& taken = slot(received_++);
      taken.due = due;
      taken.size = torn ? 0 : header.msg_len;
      too_long_ += torn ? 1 : 0;
    }
    most_waiting_ = std::max(most_waiting_, received_ - sent_);
    return count;
  }

  void send_batch(Clock::time_point now) {
    std::size_t count = 0;
    std::uint64_t number = sent_;
    for (; count < kBatch && number != received_ && slot(number).due <= now; ++number) {
      Slot& frame = slot(number);
      if (frame.size == 0) continue;
      parts_[count] = {frame.bytes.data(), frame.size};
      headers_[count] = {};
      headers_[count].msg_hdr.msg_iov = &parts_[count];
      headers_[count].msg_hdr.msg_iovlen = 1;
      ++count;
    }
    const int done = count == 0 ? 0 : ::sendmmsg(to_, headers_.data(), static_cast<unsigned>(count), 0);
    const auto gone = static_cast<std::size_t>(std::max(done, 0));
    frames_ += gone;
    unsent_ += count - gone;
    sent_ = number;
  }

  int from_, to_;
  Clock::duration delay_;
  std::vector<Slot> slots_;
  std::uint64_t received_ = 0, sent_ = 0;
  std::array<iovec, kBatch> parts_{};
  std::array<mmsghdr, kBatch> headers_{};
  std::array<std::byte, kSlotSize> spare_{};
  std::uint64_t frames_ = 0, full_ = 0, too_long_ = 0, unsent_ = 0, most_waiting_ = 0;
};

int run(int argc, char** argv) {
  std::string left_name, right_name;
  double milliseconds = 20;
  CLI::App app("joins two interfaces and holds every frame for a while, each way");
  app.add_option("--left", left_name)->required();
  app.add_option("--right", right_name)->required();
  app.add_option("--milliseconds", milliseconds, "how long, each way")->check(CLI::Range(0.0, 10000.0));
  CLI11_PARSE(app, argc, argv);

  sigset_t endings;
  ::sigemptyset(&endings);
  ::sigaddset(&endings, SIGTERM);
  ::sigaddset(&endings, SIGINT);
  ::sigprocmask(SIG_BLOCK, &endings, nullptr);
  const int ending = ::signalfd(-1, &endings, SFD_CLOEXEC);
  if (ending < 0) fail("signalfd");
  ::prctl(PR_SET_TIMERSLACK, 1UL);

  const int left = open_interface(left_name), right = open_interface(right_name);
  const auto delay =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(milliseconds));
  const auto rightwards = std::make_unique<Way>(left, right, delay);
  const auto leftwards = std::make_unique<Way>(right, left, delay);
  std::cerr << "relaying" << std::endl;

  std::array<pollfd, 3> sources{{{left, POLLIN, 0}, {right, POLLIN, 0}, {ending, POLLIN, 0}}};
  while ((sources[2].revents & POLLIN) == 0) {
    rightwards->receive();
    leftwards->receive();
    const auto now = Clock::now();
    rightwards->send_due(now);
    leftwards->send_due(now);
    const auto next = std::min(rightwards->next(), leftwards->next());
    const auto pause = std::max(next - Clock::now(), Clock::duration::zero());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(pause);
    const timespec timeout{seconds.count(), std::chrono::nanoseconds(pause - seconds).count()};
    ::ppoll(sources.data(), sources.size(), next == Clock::time_point::max() ? nullptr : &timeout, nullptr);
  }
  std::cout << nlohmann::ordered_json{{"rightwards", rightwards->counts()}, {"leftwards", leftwards->counts()}}
            << std::endl;
  return 0;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  try {
    return penstock::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "delay_relay: " << error.what() << "\n";
    return 1;
  }
}
