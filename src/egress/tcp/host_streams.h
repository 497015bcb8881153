// The outer halves of terminated connections: stream sockets of this machine, as a TCP that keeps nothing itself needs
// them.
//
//   TcpTerminator --connect, peek, consume, write, end, close--> HostStreams --ready()--> TcpTerminator
//
// What a server sends stays in its socket until the client has acknowledged it: peek() copies out of it at an offset,
// consume() takes away. So data that is lost on the way to the client is peeked again, and the socket's own window is
// what slows the server down.
//
//   CONNECTING --ready(writable)--> OPEN --close()--> gone
//              \--ready(), error()--> FAILED --close()--> gone
//
// Readiness   is told once when it begins (edge-triggered): whoever is told goes on until nothing is to be had (would
//             block), or remembers that there is more.
// Threads     one loop's. No call tells Events inside of it.
// Ownership   whoever connects, or is handed a stream, closes it.
#pragma once

#include <cstdint>
#include <expected>
#include <span>

#include "base/bytes.h"
#include "base/ip.h"

namespace penstock::egress {

// Why a stream could not be had, or is no more.
enum class StreamError : std::uint8_t {
  none,
  refused,     // nobody listens there (ECONNREFUSED)
  host,        // no way to that host (EHOSTUNREACH, EHOSTDOWN)
  network,     // no route (ENETUNREACH, ENETDOWN, EADDRNOTAVAIL)
  prohibited,  // this machine's rules forbid it (EACCES, EPERM), or a router's (ICMP says so as EHOSTUNREACH alone)
  timed_out,   // nobody answered (ETIMEDOUT)
  reset,       // by the peer (ECONNRESET, EPIPE)
  exhausted,   // descriptors, memory, ports (EMFILE, ENFILE, ENOBUFS, ENOMEM, EAGAIN of connect())
};

class HostStreams {
 public:
  using Stream = std::int32_t;  // names an open one
  static constexpr Stream kNone = -1;

  class Events {
   public:
    struct Ready {
      bool readable = false;  // there is something to peek, or the end
      bool writable = false;  // there is room again, or it is connected
      bool failed = false;    // error() says why
      bool ended = false;     // the peer will send no more than what has arrived
    };
    // `cookie` is what the stream was made with.
    virtual void ready(std::uint64_t cookie, Ready what) = 0;
    // All that was ready in this turn has been told.
    virtual void turn_ends() = 0;

   protected:
    ~Events() = default;
  };

  struct Peeked {
    std::size_t bytes = 0;
    bool ended = false;  // nothing follows these, ever
    StreamError error = StreamError::none;
  };
  struct Written {
    std::size_t bytes = 0;  // less than asked: it is full, and ready(writable) is told once it is not
    StreamError error = StreamError::none;
  };

  virtual ~HostStreams() = default;

  // Begins to connect, for the client `from`. Refusals that are known at once are errors here; later ones are told by
  // ready(failed).
  virtual std::expected<Stream, StreamError> connect(const Endpoint& from, const Endpoint& to,
                                                     std::uint64_t cookie) = 0;
  // Tells of a stream that is connected already, and came from elsewhere (a forward's listener), from now on.
  virtual void adopt(Stream stream, std::uint64_t cookie) = 0;
  // Why connecting failed, or what became of it; `none` where it is well. Asking takes the error away.
  virtual StreamError error(Stream stream) = 0;
  // Copies what has arrived from `offset` on, counted from what was not yet consumed, into `into`, in their order.
  // `offset` is at most what was peeked before. 0 bytes, not ended and no error: nothing more there now.
  virtual Peeked peek(Stream stream, std::size_t offset, std::span<const MutableByteView> into) = 0;
  // Takes `bytes` away that were peeked.
  virtual void consume(Stream stream, std::size_t bytes) = 0;
  virtual Written write(Stream stream, std::span<const ByteView> bytes) = 0;
  // Has the peer send up to `bytes` before they are consumed, where the system lets it.
  virtual void widen(Stream stream, std::size_t bytes) = 0;
  // No more is written (FIN).
  virtual void end(Stream stream) = 0;
  // `abort`: the peer is told that it was broken off (RST), and what was written may be lost.
  virtual void close(Stream stream, bool abort) = 0;
};

}  // namespace penstock::egress
