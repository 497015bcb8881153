// HostStreams of the real machine: TCP sockets that are bound to its outer addresses, and the ends of Unix socket
// pairs.
//
//   sockets --edges--> an epoll of their own --one Watch--> turn(): ready(), ready(), ... , turn_ends()
//
// All streams of a loop are one descriptor to that loop. A turn is one epoll_wait(); what it has no room for comes in
// the next. A Stream is the number of its descriptor.
//
//   free --connect()--> CONNECTING --ready(writable)--> OPEN --ready(failed), peek(), write()--> FAILED
//   free --adopt()--> OPEN     \--ready(failed)--> FAILED          each of these but free --close()--> free
//
// Closed          of a stream that was closed nothing more is told, also where its number is another's already in the
//                 same turn: what epoll hands out are number and generation, and the cookie lies here.
// Failed          told for an error of the socket, not for two ends that were ended in peace. The error stays: error(),
//                 and in the end peek() and write(), answer with it for as long as the stream is not closed.
//                 What had arrived before a reset can still be peeked and consumed; the error comes in place of the
//                 end.
// Peeking         fewer bytes than there is room for: there are no more now. The kernel itself begins at the offset
//                 (SO_PEEK_OFF: Unix sockets, TCP over IPv4 since Linux 6.9, over IPv6 a little later) and moves its
//                 mark with what is peeked and consumed, so that in the usual order of calls nobody has to set it.
//                 Without that, what lies before is copied away each time, and more than kMostPassedOver of it is not
//                 passed over: then nothing more is seen, until a consume() after which ready(readable) is told again.
// Death           a connection that nobody closed is reset, also where the process is killed: a peer that reads until
// the
//                 end shall not take that for one.
// Urgent          data is data like all other (SO_OOBINLINE).
// Memory          24 bytes for each number up to the highest descriptor that was a stream, 64 KiB that all share, and
//                 what the kernel takes. Nothing is allocated once a number that high was had.
// Threads         its loop's.
// Ownership       the loop and Events outlive it, and Events do not destroy it. What is not closed is closed with it.
// Not here        listening (forward_listener.h).
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "egress/tcp/host_streams.h"
#include "net/file_descriptor.h"

namespace penstock::egress {

inline constexpr std::size_t kStreamErrors = 8;

class SocketStreams final : public HostStreams {
 public:
  // What one turn of the loop tells of.
  static constexpr int kEventsPerTurn = 256;
  // What peek() copies away at most to get to its offset, where the kernel does not begin there.
  static constexpr std::size_t kMostPassedOver = std::size_t{2} << 20;

  enum class PeekOffset : std::uint8_t { off, automatic };

  struct Settings {
    // The addresses of this machine that sockets are bound to; a family without one has no way out.
    std::optional<IpAddress> external4 = std::nullopt;
    std::optional<IpAddress> external6 = std::nullopt;
    std::size_t most_streams = 16'384;  // adopted ones among them; each takes a descriptor
    // Asked right before each connection; none: all may be made.
    std::function<bool(const Endpoint& to)> may_connect;
    PeekOffset peek_offset = PeekOffset::automatic;
  };
  struct Counters {
    std::uint64_t connects = 0;  // begun
    std::uint64_t adopted = 0;
    // Connections that did not come about, at once or later, by StreamError.
    std::array<std::uint64_t, kStreamErrors> not_connected{};
  };

  // Refusal: exhausted, no descriptor.
  static Result<std::unique_ptr<SocketStreams>> create(EventLoop& loop, const Settings& settings);
  ~SocketStreams() override;

  // Whom it tells. Before the first stream.
  void set_events(Events& events) { events_ = &events; }
  // What connect() binds to from now on.
  void set_external(const std::optional<IpAddress>& v4, const std::optional<IpAddress>& v6);

  void set_most_streams(std::size_t most) { settings_.most_streams = most; }

  // Also `prohibited` by Settings::may_connect, `exhausted` where there are most_streams, and `network` where the
  // family has no outer address.
  std::expected<Stream, StreamError> connect(const Endpoint& from, const Endpoint& to, std::uint64_t cookie) override;
  // A connected socket of TCP, or an end of a Unix socket pair. Not held to most_streams: the descriptor is there
  // already. Where the kernel will not watch it, it is told of as failed, in a later turn.
  void adopt(Stream stream, std::uint64_t cookie) override;
  // Makes no system call.
  StreamError error(Stream stream) override { return entry(stream).error; }
  Peeked peek(Stream stream, std::size_t offset, std::span<const MutableByteView> into) override;
  void consume(Stream stream, std::size_t bytes) override;
  Written write(Stream stream, std::span<const ByteView> bytes) override;
  // Up to half of net.ipv4.tcp_rmem's largest; never less than before. Nothing for Unix sockets.
  void widen(Stream stream, std::size_t bytes) override;
  void end(Stream stream) override;
  void close(Stream stream, bool abort) override;

  std::size_t streams() const { return count_; }
  const Counters& counters() const { return counters_; }
  // Whether the kernel itself begins to peek at an offset.
  bool peeks_at_offsets(Family family) const { return peeks_at_[family == Family::ipv4 ? 0 : 1]; }

  static StreamError meaning_of(int errno_value);

 private:
  enum class Kind : std::uint8_t { tcp4, tcp6, local };  // the places of peeks_at_

  // What is known of a descriptor.
  struct Entry {
    std::uint64_t cookie = 0;
    std::uint32_t generation = 0;  // 0: no stream
    std::int32_t mark = -1;        // where the kernel peeks next (SO_PEEK_OFF); -1: it always begins at the first byte
    std::uint32_t widened = 0;     // the most that widen() was asked for
    StreamError error = StreamError::none;
    Kind kind = Kind::tcp4;
    bool connecting : 1 = false;
    bool ended : 1 = false;   // the peer's FIN has arrived, behind all that it sent
    bool urgent : 1 = false;  // urgent data came: reading stops at it, though more may follow
    bool hidden : 1 = false;  // there was more than peek() could get at
  };
  static_assert(sizeof(Entry) == 24);

  SocketStreams(EventLoop& loop, const Settings& settings, net::FileDescriptor epoll);
  Entry& entry(Stream stream);
  static std::uint64_t name_of(Stream stream, const Entry& entry);
  bool watch(Stream stream, const Entry& entry, int operation);
  void enter(Stream stream, std::uint64_t cookie, Kind kind, bool connecting);
  std::unexpected<StreamError> not_connected(StreamError error);
  bool peek_begins_at(Stream stream, Entry& entry, std::size_t offset);
  void remember(Entry& entry, int errno_value);
  void turn();
  void tell(Stream stream, Entry& entry, std::uint32_t events);
  void tell_unwatched(Stream stream, std::uint32_t generation);
  void arm() {
    watch_->when_readable([this] { turn(); });
  }

  EventLoop* loop_;
  Settings settings_;
  Events* events_ = nullptr;
  net::FileDescriptor epoll_;
  std::unique_ptr<Watch> watch_;
  std::vector<Entry> entries_;  // by descriptor
  std::size_t count_ = 0;
  std::uint32_t generation_ = 0;  // of the youngest
  std::array<bool, 3> peeks_at_{};
  std::unique_ptr<std::uint8_t[]> discarded_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // asked by posted tasks
  Counters counters_;
};

}  // namespace penstock::egress
