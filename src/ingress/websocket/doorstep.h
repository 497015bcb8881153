// A connection that has not begun yet: what it says first decides whom it is counted as and what it is answered in.
//
//   WAITING --bytes--> [ PROXY header, where a proxy may send one ] --> [ a whole ClientHello ] --> becomes a Handshake
//      |                     |                                            |
//      +-- deadline, end, evicted -- malformed, its client has enough ----+--> gone, without a word
//                                 \- from one that is not trusted: the log says how to change that
//
// There is no TLS, no parser and no buffer before the first byte, and no TLS before the client's first message is here
// whole and is of a sensible size, since it is a TLS library's habit to make room for as much as the peer says is to
// come. So two thousand half-open connections cost two thousand sockets, and a slow one costs what it has sent.
//
// Always true   at most kMostSaid bytes are kept; nothing is ever sent.
// Ownership     the Door's; what it knows goes on to the Handshake.
// Threads       its Door's.
#pragma once

#include <memory>
#include <string_view>

#include "ingress/websocket/door.h"
#include "ingress/websocket/handshake_limiter.h"
#include "ingress/websocket/proxy_header.h"

namespace penstock::ingress {

// Somebody at the door, and what is known of them.
struct Visitor {
  std::unique_ptr<net::StreamSocket> socket;
  HandshakeLimiter::Ticket ticket;
  Endpoint outer;           // the client, or a proxy that may still say whom it speaks for
  bool proxy = false;       // its word on that is believed, and so nothing was counted for its address
  bool plain_http = false;  // TLS is ended by somebody in front
  TimePoint deadline;       // for the login
  ByteQueue said;           // received and not yet understood
};

class Doorstep {
 public:
  // Of a real client's ClientHello; with hybrid key shares it has about 2 KiB.
  static constexpr std::size_t kMaxClientHello = 16 * 1024;
  static constexpr std::size_t kMostSaid = 16 + ProxyHeaderParser::kMaxLength + 9 + kMaxClientHello;

  Doorstep(Door& door, Visitor visitor) : door_(&door), visitor_(std::move(visitor)), deadline_(door.shard_->loop()) {}
  void start();

 private:
  void listen();
  void read();
  Result<bool> has_begun();
  Result<void> meet_proxy(const ProxyHeader& header);
  Error refuse_proxy(Error error);
  void leave(std::string_view reason);

  Door* door_;
  Visitor visitor_;
  std::unique_ptr<ProxyHeaderParser> proxy_header_;  // while one may come
  Timer deadline_;
};

}  // namespace penstock::ingress
