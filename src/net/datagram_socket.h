// A datagram socket of the operating system: what UdpSocket and PingSocket have in common. Bound, never connected,
// non-blocking, closed on exec.
//
// How errors come
// ---------------
// ICMP errors wait in a queue of their own (IP_RECVERR), with what they are about: take_errors(). Three things follow,
// and are settled here:
//   - The kernel tells of each also by failing the next call, whatever that was about. Such a call is made again; an
//     unrelated datagram is neither blamed nor lost.
//   - A waiting error makes the socket ready in both directions. Who waits for either and does not take the errors is
//     called for ever. So, after receive() or send(), and before waiting again:
//         if (socket.errors_waiting()) handle(socket.take_errors(arena));
//     which costs no system call where there is nothing to take.
//   - What this machine itself refuses (too big, no route, a firewall) is said by send() and not once more by
//     take_errors().
//
// Super-datagrams
// ---------------
// send() hands them to the kernel whole (UDP_SEGMENT), at most 64 segments at a time, and cuts them itself where that
// is switched off or the kernel would not: for good after EIO (a device that cannot sum, IPsec), from that size on
// after EINVAL (larger than the device's MTU, and to be fragmented). A super-datagram with a segment that is refused is
// refused as a whole, though segments before that one may be on their way.
//
// Always true  datagrams are sent in their order; all calls are of bounded length and allocate nothing, except for the
//              first when_readable() or when_writable().
// Ownership    it owns its descriptor. The loop outlives it. Movable; may be destroyed inside its callbacks.
// Threads      the loop's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"
#include "net/datagram.h"
#include "net/datagram_arena.h"
#include "net/file_descriptor.h"

namespace penstock::net {

class DatagramSocket {
 public:
  static constexpr std::size_t kMostSegments = 64;  // of a super-datagram in one piece: UDP_MAX_SEGMENTS of Linux 4.18
  static constexpr std::size_t kMostMessages = 64;  // a system call of send()
  static constexpr std::size_t kLargestPiece = 65507;  // 65535 less the headers of IPv4 and UDP

  DatagramSocket(DatagramSocket&&) noexcept = default;
  DatagramSocket& operator=(DatagramSocket&&) = delete;

  // Up to `most` datagrams that have arrived, in their order; a super-datagram counts as one. None: when_readable().
  std::span<Received> receive(DatagramArena& arena, std::size_t most = DatagramArena::kSlots);

  // Sends in order until all are taken or the socket is full. Sets each taken one's `refusal`.
  SendResult send(std::span<Outgoing> datagrams);

  // Whether take_errors() should be called: true wherever an error may wait, sometimes where none does.
  bool errors_waiting() const { return errors_waiting_; }
  // The oldest errors, as many as the arena holds. errors_waiting() stays true where there may be more.
  std::span<const SocketError> take_errors(DatagramArena& arena);

  // As of Watch. An error that waits is readiness too, see above.
  void when_readable(Task task) { watch().when_readable(std::move(task)); }
  void when_writable(Task task) { watch().when_writable(std::move(task)); }

  // With the port (of a ping socket: the identifier) the system chose, if 0 was asked for.
  const Endpoint& local() const { return local_; }

 protected:
  struct Kind {
    std::string_view name;       // "UDP port", for messages
    std::string_view free_ones;  // the setting that port 0 chooses from
    int protocol;                // IPPROTO_
  };
  struct BufferSizes {
    int receive = 0;  // bytes; 0: the system's
    int send = 0;
  };

  // `fd` is from open(). Super-datagrams with segments of `whole_below` and more are cut by send().
  DatagramSocket(EventLoop& loop, FileDescriptor fd, std::uint16_t whole_below);
  ~DatagramSocket() = default;

  // A socket bound to `at` with all options that both kinds have. Refusals: as UdpSocket::create says.
  static Result<FileDescriptor> open(const Kind& kind, const Endpoint& at, const BufferSizes& sizes);

 private:
  struct Burst;
  struct Position;

  Watch& watch();
  void fill(Burst& burst, std::span<const Outgoing> datagrams, const Position& from) const;
  void advance(Position& position, const Burst& burst, std::size_t messages, std::span<Outgoing> datagrams);
  void choose_fragmentation(bool dont_fragment);
  std::uint32_t path_mtu(const Outgoing& datagram) const;

  EventLoop* loop_;
  FileDescriptor fd_;
  std::uint16_t whole_below_;
  bool dont_fragment_ = true;  // what the socket is set to
  bool errors_waiting_ = false;
  std::unique_ptr<Watch> watch_;  // destroyed before fd_; made when first waited for
  Endpoint local_;
};

}  // namespace penstock::net
