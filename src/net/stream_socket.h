// A connected, ordered stream of bytes: what TLS, WebSocket and the relays run over. No operating system in sight.
//
// Real ones come from net/listener.h (accepted) and net/connect.h (dialled); tests use test/support/memory_socket.h.
//
//   OPEN --shutdown_write()--> HALF CLOSED --~StreamSocket()--> gone
//     \--- read() or write() refuses ---> BROKEN (every later call refuses too)
//   OPEN --detach()--> DETACHED --adopt(loop)--> OPEN, on that loop
//
// Always true  read() and write() never block, and never call back. A callback never runs inside the call that
//              registered it, nor after the socket was destroyed or detached.
// Ownership    whoever holds it owns the connection; destroying it closes at once (what write() took is still sent).
// Threads      those of the loop it is on. DETACHED it belongs to no loop and may be handed to another thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"

namespace penstock::net {

struct Way {
  std::uint64_t rate = 0;  // what it takes, in bytes a second; 0: not known yet
  std::size_t unsent = 0;  // bytes that were written and wait for their first turn on it
};

class StreamSocket {
 public:
  StreamSocket() = default;
  StreamSocket(const StreamSocket&) = delete;
  StreamSocket& operator=(const StreamSocket&) = delete;
  virtual ~StreamSocket() = default;

  // How many bytes were put at the front of `into` (which must not be empty). nullopt: none now, see when_readable().
  // 0: the peer has ended its side. Refusals: closed (reset), timed_out, unavailable.
  virtual Result<std::optional<std::size_t>> read(MutableByteView into) = 0;
  // How many bytes were taken from the front of `bytes`. nullopt: none now, see when_writable(). Refusals as read().
  virtual Result<std::optional<std::size_t>> write(ByteView bytes) = 0;

  // One-shot, as Watch (base/event_loop.h): the task runs when the matching call would not answer nullopt; arming
  // again replaces it. Ended and broken sockets are readable and writable.
  virtual void when_readable(Task task) = 0;
  virtual void when_writable(Task task) = 0;

  // The way to the peer, as far as the system knows it. Cheap, but a system call. What it shows may change how the
  // socket sends (congestion_control.h).
  virtual std::optional<Way> way() { return std::nullopt; }
  // From now on the socket becomes writable again (when_writable) only when fewer than `bytes` are unsent. That it
  // takes more before is the system's affair: it fills what it has begun, 64 KiB or so.
  virtual void set_unsent_limit(std::size_t /*bytes*/) {}

  // Tells the peer that no more bytes will come; reading goes on.
  virtual void shutdown_write() = 0;

  // Both ends as the operating system names them; an IPv4 peer of a dual-stack listener is shown as IPv4.
  virtual Endpoint local() const = 0;
  virtual Endpoint peer() const = 0;

  // Takes the socket off its loop and forgets armed callbacks, so that another loop can adopt it. After detach() only
  // adopt() and the destructor may be called. adopt() belongs on the thread of the new loop.
  virtual void detach() = 0;
  virtual void adopt(EventLoop& loop) = 0;
};

}  // namespace penstock::net
