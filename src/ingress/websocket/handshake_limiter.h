// How much of the gateway strangers may take: handshakes under way, begun and failed, over all addresses and of each.
//
// Theory of operation
// -------------------
// A handshake holds a Ticket from its first packet to its login. There are `handshakes` tickets; when all are out, one
// is taken back: of those who have said nothing yet the oldest, and only if there are none of these the oldest of all.
// So a flood of silent connections, however fast, costs nobody a handshake who speaks as soon as it is connected, as
// every client does; and whoever holds many without going on loses them to whoever comes, and not the reverse.
//
// An address is one IPv4 address or one IPv6 /64, which is what one subscriber has. It is in one of three lists, or
// unknown, and then it costs nothing:
//
//   unknown --handshake--> BUSY --the last one ends--> RECENT --its tokens are back: 2 s--> unknown
//                          ^  \---- the same, but logins failed ----> FAILED --forgiven--> unknown
//                           \----------- next handshake -------------/
//
// RECENT and FAILED hold kMostIdle addresses together. Beyond, the oldest of RECENT is forgotten, else the oldest of
// FAILED: a flood of handshakes from many addresses washes away no failed login, which only failed logins from as many
// addresses can. BUSY is bounded by the tickets.
//
//   rate     a token bucket that holds two seconds' worth, kept as the time at which it is full again
//   failure  a leaky bucket from which one leaks every kForgiveness, kept as the time at which it is empty. Above
//            `failed_logins` every further failure blocks the address: for 1 s, then 2 s, 4 s, ... `max_retry_after`.
//            It holds no more failures than lead to the longest block, however many there were.
//   exempt   may be replaced at any time. What is exempt from then on is served at once, and its failures are
//            forgotten; what is no longer exempt is counted from its next handshake on.
//
// What strangers choose is looked up in balanced trees: there is no hash whose collisions they could choose too.
//
// Counting      a newcomer turned away and an eviction are counted here; what callers decide they count().
// Not counted   addresses in `exempt`, and peers without one (a Unix socket), count towards the total only.
// Ownership     outlives its tickets and what it posted.
// Threads       any, under one mutex: it is asked a few times for a connection and never for a packet.
#pragma once

#include <cstdint>
#include <expected>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/ip.h"
#include "ingress/websocket/limit.h"

namespace penstock::ingress {

class HandshakeLimiter {
 public:
  // docs/configuration.md, section `limits`.
  struct Settings {
    std::uint32_t handshakes = 2048;
    std::uint32_t handshakes_per_address = 64;
    std::uint32_t handshake_rate = 50;
    std::uint32_t failed_logins = 5;
    Duration max_retry_after = std::chrono::minutes(5);
    std::vector<Prefix> exempt;
  };

  static constexpr std::size_t kMostIdle = 32768;  // about 5 MiB
  static constexpr Duration kBurst = std::chrono::seconds(2);
  static constexpr Duration kForgiveness = std::chrono::seconds(60);
  static constexpr Duration kFirstBlock = std::chrono::seconds(1);

  // An address that has to wait.
  struct Blocked {
    IpAddress unit;          // where it is IPv6, the first of its /64
    Duration wait;           // from now on
    std::uint64_t failures;  // not forgiven yet; no more are counted than lead to the longest wait

    std::string name() const;  // "203.0.113.9", "2001:db8:1:2::/64"
  };

  // One handshake under way, until the ticket is destroyed. Belongs to the loop it was made for.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { release(); }

    // What runs on the loop when this handshake has to make room; never once the ticket is gone. It may destroy it.
    void on_evicted(Task task) { *evicted_ = std::move(task); }
    // The connection has begun: it does not make room any more while others are silent.
    void has_spoken();
    // From now on this is a handshake of `client`, whom a proxy has named. Refusals: as of enter().
    std::expected<void, Limit> claim(const IpAddress& client);

   private:
    friend class HandshakeLimiter;
    Ticket(HandshakeLimiter& limiter, EventLoop& loop, std::uint64_t number)
        : limiter_(&limiter), loop_(&loop), number_(number), evicted_(std::make_shared<Task>()) {}
    void release();

    HandshakeLimiter* limiter_ = nullptr;
    EventLoop* loop_ = nullptr;
    std::uint64_t number_ = 0;
    std::shared_ptr<Task> evicted_;  // asked by what the limiter posted whether it is still there
  };

  explicit HandshakeLimiter(Settings settings);
  HandshakeLimiter(const HandshakeLimiter&) = delete;
  HandshakeLimiter& operator=(const HandshakeLimiter&) = delete;

  // A connection has come to `loop`; nothing stands for a client whom only a proxy knows. Refusals:
  // handshakes_per_address, handshake_rate.
  std::expected<Ticket, Limit> enter(EventLoop& loop, const std::optional<IpAddress>& client);

  // Who has to wait (longer) because of it, if anybody.
  std::optional<Blocked> login_failed(const IpAddress& client, TimePoint now);
  // How long `client` has to wait before it may log in; zero if it need not.
  Duration blocked_for(const IpAddress& client, TimePoint now) const;

  // From now on these are exempt, and no others.
  void set_exempt(std::vector<Prefix> exempt);

  void count(Limit limit) { counters_.count(limit); }
  const LimitCounters& counters() const { return counters_; }

  // For people and tests.
  std::size_t handshakes() const;  // under way
  std::size_t known_addresses() const;
  std::size_t blocked_addresses(TimePoint now) const;
  // Those of them that have longest to wait, the longest first.
  std::vector<Blocked> blocked(TimePoint now, std::size_t most) const;

 private:
  struct Address {
    IpAddress unit;
    std::uint32_t handshakes = 0;  // under way
    TimePoint tokens_full_at;
    TimePoint forgiven_at;
    TimePoint blocked_until;
    std::list<Address>* list = nullptr;  // which of the three it is in
  };
  using AddressRef = std::list<Address>::iterator;
  // A ticket that is out.
  struct Handshake {
    EventLoop* loop = nullptr;
    std::weak_ptr<Task> evicted;
    std::optional<AddressRef> address;  // where it counts
  };

  std::optional<IpAddress> unit_of(const IpAddress& client) const;
  std::expected<std::optional<AddressRef>, Limit> begin(const IpAddress& client, TimePoint now);
  void end(const Handshake& handshake, TimePoint now);
  AddressRef address_of(const IpAddress& unit);
  void put_in_its_list(AddressRef address, TimePoint now);
  void forget_some(TimePoint now);
  void forget(AddressRef address);
  Duration block_after(std::uint64_t failures) const;
  static std::uint64_t failures_of(const Address& address, TimePoint now);

  const Settings settings_;
  std::uint64_t most_failures_ = 0;  // that the leaky bucket holds
  LimitCounters counters_;

  mutable std::mutex mutex_;  // of all below
  std::vector<Prefix> exempt_;
  std::map<std::uint64_t, Handshake> handshakes_;  // numbered in the order in which they came
  std::set<std::uint64_t> silent_;                 // of them, those that have said nothing yet
  std::uint64_t last_number_ = 0;
  std::list<Address> busy_;
  std::list<Address> recent_;  // the one that has been there longest first, as in failed_
  std::list<Address> failed_;
  std::map<IpAddress, AddressRef> by_unit_;
};

}  // namespace penstock::ingress
