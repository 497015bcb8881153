// A terminator with clients in front of it and servers behind it, whose whole life follows from one number.
//
//   SimulatedClient --Road--> [ TcpTerminator ] --FakeStreams--> server (here)
//                   <--Road--                   <--
//
// play() lets it live until nothing happens any more, and says what was wrong: bytes that are not those that were said,
// ends that nobody was told of, anything left over, whatever a TCP may not do (tcp_audit_testing.h).
//
// Time      virtual; more than kLongest of it is a hang.
// Threads   one.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "egress/tcp/fake_streams_testing.h"
#include "egress/tcp/simulation_testing.h"
#include "egress/tcp/tcp_client_testing.h"
#include "egress/tcp/tcp_terminator.h"
#include "test/support/manual_loop.h"

namespace penstock::egress::testing {

// The sequence numbers that a terminator chooses are near the wrap rather often.
class NearTheWrap final : public Random {
 public:
  explicit NearTheWrap(Dice dice) : dice_(dice) {}
  void fill(MutableByteView out) override;

 private:
  Dice dice_;
};

class ScheduledWorld final : private TcpTerminator::Clients {
 public:
  static constexpr Duration kLongest = std::chrono::hours(6);

  // `trace`: to standard error goes what happens.
  explicit ScheduledWorld(std::uint64_t seed, bool trace = false);
  ~ScheduledWorld();

  // Once. Nothing is wrong where nothing is returned.
  std::vector<std::string> play();
  std::string describe() const;

  struct Totals {
    std::uint64_t up = 0;  // bytes that arrived
    std::uint64_t down = 0;
    std::uint64_t conversations = 0;
    std::uint64_t orderly = 0;
    std::uint64_t retransmitted = 0;  // by the terminator
    std::uint64_t lost = 0;
    std::uint64_t ghosts = 0;
  };
  const Totals& totals() const { return totals_; }

 private:
  enum class Fate : std::uint8_t {
    orderly,
    client_resets,
    server_resets,
    client_vanishes,
    refused,  // later, for any reason
    refused_at_once,
    aborted,          // by who owns the terminator
    client_refuses,   // what comes from outside
    client_is_silent  // to that
  };
  struct Plan;
  struct Conversation;
  struct Place;  // where conversations with the same ends follow each other

  // TcpTerminator::Clients
  void to_clients(PacketBatch& batch) override;
  std::size_t credit(const Endpoint& client) override;
  router::PortId wait_for_credit(const Endpoint& client, router::CreditWaiter& waiter) override;
  void cancel_wait(router::PortId port, router::CreditWaiter& waiter) override;
  void closed(const TcpEnds& ends) override;

  void lay_out();
  Plan some_plan(bool first, bool may_come_from_outside);
  void start(Place& place);
  void client_lives(Conversation& one);
  void server_lives(Conversation& one, HostStreams::Stream stream);
  void server_says(Conversation& one, HostStreams::Stream stream);
  bool may_follow(const Place& place) const;
  void break_off(Conversation& one);
  void notice_streams();
  void from_client(Packet&& packet);
  void refill();
  void tell_waiters();
  void look_back();
  void look_back_at(const Place& place, const Conversation& one);
  void complain(const std::string& what);
  void say(const char* direction, const Packet& packet) const;

  test::ManualLoop loop_;
  std::uint64_t seed_;
  bool trace_;
  Dice dice_;
  NearTheWrap random_;
  FakeStreams streams_{loop_};
  TcpTerminator::Settings settings_;
  std::unique_ptr<TcpTerminator> terminator_;
  std::vector<std::unique_ptr<Place>> places_;
  HostStreams::Stream noticed_ = 0;
  bool instant_ = false;     // packets arrive while they are sent
  bool one_by_one_ = false;  // flush() after each
  bool flush_is_due_ = false;
  bool limited_ = false;  // by credit
  std::size_t most_credit_ = 0;
  std::size_t credit_ = SIZE_MAX;
  Duration refilled_every_{};
  std::size_t refilled_by_ = 0;
  TimePoint no_credit_from_;
  TimePoint no_credit_until_;
  Timer refilling_{loop_};
  std::list<router::CreditWaiter*> waiters_;
  std::vector<std::string> complaints_;
  Totals totals_;
};

}  // namespace penstock::egress::testing
