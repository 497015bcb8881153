// Many clients of one gateway in one process, and the packets that they send each other.
//
// Logins   `concurrency` handshakes are under way at any time until all members are in.
// Traffic  `members` of them, chosen at random, stand in a circle, each sends to the next and keeps `window` packets on
//          the way: what arrives is answered with the next one by its sender, so nothing is lost and the gateway, not
//          the clock, sets the pace. Each packet names its flow and its number; one that comes to the wrong member, or
//          out of order, is counted.
// Delays   for those the clock sets the pace, far below what the gateway can do: each millisecond some members, chosen
//          at random, send one packet. Each packet carries when it was sent.
//
// Threads  one; every function returns when what it names is done.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/random.h"
#include "bench/swarm/member.h"
#include "bench/swarm/observed.h"
#include "net/asio_loop.h"
#include "tls/engine.h"

namespace penstock::bench {

inline constexpr std::size_t kMaxMessage = 64 * 1024 + 256;
inline constexpr std::uint16_t kNormalClosure = 1000;

struct Settings {
  Endpoint gateway;
  std::string path = "/";
  std::string pin;
  std::string token;
  std::string software;  // empty: as a plain v1 client
  std::size_t members = 1000;
  std::size_t concurrency = 64;
  Duration patience = std::chrono::minutes(5);  // for all logins together
  transport::Connection::Timing timing{.ping_interval = std::chrono::seconds(20),
                                       .silence_limit = std::chrono::minutes(10)};
};

struct Logins {
  std::size_t ready = 0;
  std::size_t failed = 0;
  std::string first_failure;
  double seconds = 0;
  double gateway_cpu = 0;
};

struct Traffic {
  std::size_t members = 0;
  std::size_t packet_size = 0;
  std::size_t window = 0;
  double seconds = 0;
  std::uint64_t packets = 0;
  std::uint64_t misplaced = 0;
  std::uint64_t lost = 0;  // still not there long after the last was sent
  double gateway_cpu = 0;
};

struct Delays {
  std::uint64_t packets = 0;
  double median = 0;  // seconds from one member's send to the other's receipt
  double p99 = 0;
  double most = 0;
  std::uint64_t lost = 0;
};

class Swarm {
 public:
  Swarm(Settings settings, const Observed& gateway, std::shared_ptr<tls::ClientContext> tls);

  Logins log_in();
  void idle(Duration duration);
  // Measures for `duration` after a short start.
  Traffic exchange(std::size_t members, std::size_t packet_size, std::size_t window, Duration duration);
  // `per_second` packets of all members together, for `duration` after a short start.
  Delays pace(std::size_t packet_size, std::size_t per_second, Duration duration);
  std::size_t ready() const { return ready_; }

  // For the members.
  net::AsioLoop& loop() { return loop_; }
  transport::ReadBuffer& buffer() { return buffer_; }
  Random& random() { return random_; }
  tls::ClientContext& tls() { return *tls_; }
  const Settings& settings() const { return settings_; }
  void joined(Member& member);
  void left(Member& member, const std::string& reason);
  void arrived(Member& member, ByteView packet);
  void has_queued(Member& member) { queued_.push_back(&member); }
  void turn_ended();

 private:
  struct Flow {
    Member* from = nullptr;
    Member* to = nullptr;
    std::uint32_t sent = 0;
    std::uint32_t received = 0;
  };
  void connect_more();
  void count_failure(const std::string& reason);
  void make_flows(std::size_t members, std::size_t packet_size);
  std::uint64_t await_arrivals();
  void send_next(std::uint32_t flow);
  Packet make_packet(std::uint32_t flow) const;

  Settings settings_;
  const Observed* gateway_;
  std::shared_ptr<tls::ClientContext> tls_;
  net::AsioLoop loop_;
  transport::ReadBuffer buffer_;
  // Masks and pairs need not be secret here, and cheap ones leave the processor to the gateway.
  SeededRandom random_{1};
  std::deque<Member> members_;
  std::size_t started_ = 0;
  std::size_t ready_ = 0;
  Logins logins_;

  std::vector<Flow> flows_;
  std::size_t packet_size_ = 0;
  bool sending_ = false;
  bool answering_ = false;  // what arrives, with the next
  std::vector<Duration> delays_;
  bool noting_delays_ = false;
  std::uint64_t arrived_ = 0;
  std::uint64_t misplaced_ = 0;
  std::vector<Member*> queued_;
};

}  // namespace penstock::bench
