// Connects to a host by name, over whichever of its addresses answers first (happy eyeballs, RFC 8305).
//
//   IDLE --connect()--> RESOLVING --> RACING --> IDLE, and the callback has the socket or the reason
//
// Both families are looked up at once. IPv6 goes first; if IPv4 is there and IPv6 is not, it is given kResolutionDelay
// to arrive (section 3). Then the addresses are tried in turns of family (section 4), the next one kAttemptDelay after
// the last or as soon as it has failed (section 5). The first to connect wins and the others are closed.
//
// Always true  the callback runs exactly once for each connect(), unless that is cancelled; never inside connect().
// Ownership    destroying the Connector, or connecting again, cancels everything under way: no callback.
//              The callback itself may do either.
// Threads      the loop's.
// Not here     the system's sockets (tcp.h), name lookups (resolver.h), retrying (client/core).
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"
#include "net/resolver.h"
#include "net/stream_socket.h"

namespace penstock::net {

// Begins single connections. The system's is TcpSocketFactory (tcp.h).
class SocketFactory {
 public:
  using Done = std::move_only_function<void(Result<std::unique_ptr<StreamSocket>>)>;

  // One connection being made; destroying it gives up: its callback never runs afterwards.
  class Attempt {
   public:
    virtual ~Attempt() = default;
  };

  virtual ~SocketFactory() = default;
  // Calls `done` once, never inside this call. The message of a refusal is only the reason ("Connection refused").
  virtual std::unique_ptr<Attempt> connect(EventLoop& loop, const Endpoint& to, Done done) = 0;
};

class Connector {
 public:
  static constexpr auto kResolutionDelay = std::chrono::milliseconds(50);
  static constexpr auto kAttemptDelay = std::chrono::milliseconds(250);

  using Done = SocketFactory::Done;

  Connector(EventLoop& loop, Resolver& resolver, SocketFactory& sockets);
  ~Connector();
  Connector(const Connector&) = delete;
  Connector& operator=(const Connector&) = delete;

  // `host` is a name or an address (an IPv6 address with or without brackets). Refusals name the host, each address
  // that was tried and its reason; timed_out once `within` has passed.
  void connect(const std::string& host, std::uint16_t port, Duration within, Done done);
  void cancel();

 private:
  struct Race {
    Endpoint to;
    std::unique_ptr<SocketFactory::Attempt> attempt;  // null once it has failed
    std::string reason;
  };
  struct FamilyLookup {
    std::unique_ptr<Resolver::Lookup> lookup;
    bool pending = false;
    std::deque<IpAddress> candidates;
    Error error;
  };

  FamilyLookup& of(Family family) { return families_[family == Family::ipv6 ? 0 : 1]; }
  void look_up(Family family);
  void resolved(Family family, Result<std::vector<IpAddress>> addresses);
  void try_next();
  void failed(std::size_t race, Error error);
  void fail_if_nothing_is_left();
  void deadline_passed(Duration within);
  void finish(Result<std::unique_ptr<StreamSocket>> result);
  std::string tried() const;

  EventLoop& loop_;
  Resolver& resolver_;
  SocketFactory& sockets_;
  Timer deadline_;
  Timer resolution_delay_;
  Timer attempt_delay_;

  std::string host_;
  std::uint16_t port_ = 0;
  Done done_;
  std::array<FamilyLookup, 2> families_;  // IPv6, IPv4
  Family turn_ = Family::ipv6;
  std::vector<Race> races_;
  ErrorCode last_code_ = ErrorCode::unavailable;
};

}  // namespace penstock::net
