// Two stream sockets joined in memory: the network of tests that run whole gateways and clients on ManualLoops.
//
//   auto [client, server] = memory_socket_pair(loop, loop);
//   auto [slow, far] = memory_socket_pair(a, b, {.capacity = 100, .max_read = 1, .max_write = 7});
//
// Each direction is a buffer of `capacity` bytes: write() answers nullopt when it is full, read() when it is empty.
// Ways to go wrong, callable on either end, at any time:
//
//   cut()       the cable is pulled: bytes on their way and all later ones vanish, nobody hears of it
//   reset()     both ends refuse from now on, as after a TCP reset
//   fail_at(n)  the n-th read or write from now, counted over both ends (n = 1: the next), resets instead; for sweeps
//               that break a handshake at every step. `io` shared between pairs makes them one sequence.
//
// Ownership  either end may be destroyed first; the other then reads to the end of the stream. Counters outlive both.
// Threads    one, also where the two ends are on different ManualLoops.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "base/bytes.h"
#include "base/event_loop.h"
#include "net/stream_socket.h"

namespace penstock::test {

// What was asked of sockets, and the fault that is planned for them.
struct MemoryIo {
  std::uint64_t operations = 0;  // reads and writes, also those that answered nullopt
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t fail_at = 0;  // the operation that resets its socket; 0: none
};

struct MemorySocketOptions {
  std::size_t capacity = 256 * 1024;
  std::size_t max_read = std::numeric_limits<std::size_t>::max();
  std::size_t max_write = std::numeric_limits<std::size_t>::max();
  std::array<Endpoint, 2> endpoints = {Endpoint{IpAddress::v4(0xC0000201), 50000},  // 192.0.2.1
                                       Endpoint{IpAddress::v4(0xC0000202), 443}};   // 192.0.2.2
  std::uint64_t rate = 0;                  // that the way is said to have, bytes a second; 0: nothing is said of it
  std::shared_ptr<MemoryIo> io = nullptr;  // made for the pair where it is null
};

class MemorySocket final : public net::StreamSocket {
 public:
  ~MemorySocket() override {
    Side& own = mine();
    own.open = false;
    own.ended = true;
    disarm();
    core_->notify();
  }

  Result<std::optional<std::size_t>> read(MutableByteView into) override {
    PENSTOCK_ASSERT(!into.empty() && mine().loop != nullptr);
    core_->count(&MemoryIo::reads);
    if (core_->broken) return refuse();
    Side& sender = theirs();
    if (sender.sent.empty()) {
      if (sender.ended && !core_->cut) return 0;
      return std::nullopt;
    }
    const std::size_t size = std::min({into.size(), sender.sent.size(), core_->options.max_read});
    std::copy_n(sender.sent.view().begin(), size, into.begin());
    sender.sent.consume(size);
    core_->options.io->bytes_read += size;
    core_->notify();
    return size;
  }

  Result<std::optional<std::size_t>> write(ByteView bytes) override {
    PENSTOCK_ASSERT(mine().loop != nullptr && !mine().ended);
    core_->count(&MemoryIo::writes);
    if (core_->broken) return refuse();
    if (bytes.empty()) return 0;
    if (!core_->cut && !theirs().open) {
      core_->reset();
      return refuse();
    }
    const std::size_t room = core_->options.capacity - mine().sent.size();
    if (room == 0) return std::nullopt;
    const std::size_t size = std::min({bytes.size(), room, core_->options.max_write});
    if (!core_->cut) mine().sent.append(bytes.first(size));
    core_->options.io->bytes_written += size;
    core_->notify();
    return size;
  }

  void when_readable(Task task) override { arm(mine().readable, std::move(task)); }
  void when_writable(Task task) override { arm(mine().writable, std::move(task)); }

  std::optional<net::Way> way() override {
    if (core_->options.rate == 0) return std::nullopt;
    return net::Way{.rate = core_->options.rate, .unsent = core_->sides[side_].sent.size()};
  }
  // As Linux has it: what is writable again by this takes as much as ever.
  void set_unsent_limit(std::size_t bytes) override { mine().unsent_limit = bytes; }

  void shutdown_write() override {
    mine().ended = true;
    core_->notify();
  }

  Endpoint local() const override { return core_->options.endpoints[side_]; }
  Endpoint peer() const override { return core_->options.endpoints[1 - side_]; }

  void detach() override { disarm(); }
  void adopt(EventLoop& loop) override {
    PENSTOCK_ASSERT(mine().loop == nullptr);
    mine().loop = &loop;
  }

  void cut() {
    core_->cut = true;
    for (Side& side : core_->sides) side.sent.clear();
    core_->notify();
  }
  void reset() { core_->reset(); }
  void fail_at(std::uint64_t n) { core_->options.io->fail_at = core_->options.io->operations + n; }

  std::shared_ptr<const MemoryIo> io() const { return core_->options.io; }
  // Written here and not yet read there.
  std::size_t in_flight() const { return core_->sides[side_].sent.size(); }
  bool peer_is_open() const { return core_->sides[1 - side_].open; }

 private:
  friend std::pair<std::unique_ptr<MemorySocket>, std::unique_ptr<MemorySocket>> memory_socket_pair(
      EventLoop& a, EventLoop& b, MemorySocketOptions options);

  struct Side {
    EventLoop* loop = nullptr;  // null while detached or destroyed
    std::uint32_t stay = 0;     // counts detach(): what was posted during an earlier stay on a loop is void
    Task readable;
    Task writable;
    ByteQueue sent;
    bool ended = false;
    bool open = true;
    std::size_t unsent_limit = std::numeric_limits<std::size_t>::max();
  };

  struct Core : std::enable_shared_from_this<Core> {
    MemorySocketOptions options;
    std::array<Side, 2> sides;
    bool cut = false;
    bool broken = false;

    void count(std::uint64_t MemoryIo::* kind) {
      MemoryIo& io = *options.io;
      ++(io.*kind);
      if (++io.operations == io.fail_at) reset();
    }
    void reset() {
      broken = true;
      notify();
    }
    bool is_readable(std::size_t side) const {
      const Side& sender = sides[1 - side];
      return broken || !sender.sent.empty() || (sender.ended && !cut);
    }
    bool is_writable(std::size_t side) const {
      const Side& own = sides[side];
      return broken || own.sent.size() < std::min(options.capacity, own.unsent_limit) ||
             (!sides[1 - side].open && !cut);
    }
    // Posts what is armed and ready. Ready is asked again when the post runs: it may have been read meanwhile. What is
    // captured is no more than a Task holds without memory of its own.
    void notify() {
      for (std::uint32_t side = 0; side < 2; ++side) {
        Side& at = sides[side];
        if (at.loop == nullptr) continue;
        if ((at.readable && is_readable(side)) || (at.writable && is_writable(side))) {
          at.loop->post([core = shared_from_this(), side, stay = at.stay] { core->deliver(side, stay); });
        }
      }
    }
    void deliver(std::uint32_t side, std::uint32_t stay) {
      Side& at = sides[side];
      Task readable;
      Task writable;
      if (at.stay == stay && is_readable(side)) readable.swap(at.readable);
      if (readable) readable();
      // The first may have destroyed or detached the socket.
      if (at.stay == stay && is_writable(side)) writable.swap(at.writable);
      if (writable) writable();
    }
  };

  MemorySocket(std::shared_ptr<Core> core, std::size_t side) : core_(std::move(core)), side_(side) {}

  Side& mine() { return core_->sides[side_]; }
  Side& theirs() { return core_->sides[1 - side_]; }

  void arm(Task& slot, Task task) {
    PENSTOCK_ASSERT(mine().loop != nullptr);
    slot.swap(task);
    core_->notify();
  }
  void disarm() {
    Side& own = mine();
    own.loop = nullptr;
    ++own.stay;
    const Task readable = std::exchange(own.readable, {});
    const Task writable = std::exchange(own.writable, {});
  }
  std::unexpected<Error> refuse() const {
    return fail(ErrorCode::closed, "connection with " + peer().to_string() + ": Connection reset by peer");
  }

  std::shared_ptr<Core> core_;  // both ends and the deliveries under way
  std::size_t side_;
};

inline std::pair<std::unique_ptr<MemorySocket>, std::unique_ptr<MemorySocket>> memory_socket_pair(
    EventLoop& a, EventLoop& b, MemorySocketOptions options = {}) {
  auto core = std::make_shared<MemorySocket::Core>();
  core->options = std::move(options);
  if (!core->options.io) core->options.io = std::make_shared<MemoryIo>();
  core->sides[0].loop = &a;
  core->sides[1].loop = &b;
  std::unique_ptr<MemorySocket> first(new MemorySocket(core, 0));
  std::unique_ptr<MemorySocket> second(new MemorySocket(std::move(core), 1));
  return {std::move(first), std::move(second)};
}

}  // namespace penstock::test
