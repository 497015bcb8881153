// The client: connects, logs in, carries packets, and comes back, for ever.
//
//   CONNECTING --auth_response--> CONNECTED
//       ^    \                        |
//       |     +--- failed ---+        | lost
//       |                    v        v
//       +--- backoff over -- WAITING <-+
//
// The interface stays up while there is no connection, with the addresses it has, so programs on this machine see a
// network that is slow for a while and not one that is gone. Each login brings it to what the gateway says; what is so
// already stays untouched, and an MTU that somebody set by hand is left alone.
//
// How it comes back   by its lease, if it has one, which the gateway resumes at once and without the token; if that is
//                     refused, by its token and the address it had. A client that was told that another one replaced
//                     it (session kReplaced) only tries its lease, rarely: the two must not take turns.
// Liveness            a ping every third of reconnect.dead_after; nothing received for dead_after means lost.
// Several gateways    are tried in their order, one after the other; the wait comes after the last one has failed. One
//                     that asks to be left alone (429 or 503 with Retry-After) is, up to kLongestAskedWait, and the
//                     others are tried meanwhile.
// Packets             the interface is always emptied into a queue of kQueueBytes that is fair among flows and lets
//                     none of them stand (packet/flow_queue.h), so that a ping passes an upload. Super-packets go whole
//                     to a gateway that takes them, and what comes in small is put together for the interface.
// Bounds              while there is no connection packets are dropped. Drops of every kind are counted. What a
//                     gateway says is logged so many times a minute (gateway_log.h).
// Ownership           borrows everything it is given. Destroying it closes the connection without a word; stop() is the
//                     way to say goodbye first.
// Threads             its loop's.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/random.h"
#include "client/core/backoff.h"
#include "client/core/dialler.h"
#include "client/core/gateway_log.h"
#include "client/core/proxy_choice.h"
#include "client/core/tunnel.h"
#include "config/client_config.h"
#include "net/connect.h"
#include "packet/coalesce.h"
#include "packet/flow_queue.h"
#include "packet/paced_writes.h"
#include "protocol/batch.h"
#include "protocol/messages.h"
#include "tls/engine.h"
#include "transport/connection.h"

namespace penstock::client {

enum class State : std::uint8_t { connecting, connected, waiting, stopped };
std::string_view to_string(State state);

// What `penstock status` shows.
struct Status {
  State state = State::connecting;
  std::string gateway;  // the URL in use or tried last
  std::string proxy;    // that it is asked through, "proxy.example.org:3128"; empty: none
  std::optional<Endpoint> outer;
  std::optional<IpAddress> address;
  std::optional<IpAddress> address6;
  std::optional<Prefix> subnet;
  std::optional<IpAddress> server_ip;
  int mtu = 0;  // the interface's own
  std::optional<Duration> connected_for;
  std::optional<Duration> retry_in;
  std::string last_error;
  std::uint64_t up_packets = 0;
  std::uint64_t up_bytes = 0;
  std::uint64_t down_packets = 0;
  std::uint64_t down_bytes = 0;
  std::uint64_t attempts = 0;   // to connect
  std::uint64_t successes = 0;  // logins
  // After the first login: how often it was tried again, with success, and with the session got back.
  std::uint64_t reconnect_attempts = 0;
  std::uint64_t reconnects = 0;
  std::uint64_t resumed = 0;
  std::uint64_t dropped_not_connected = 0;
  std::uint64_t dropped_queue_full = 0;
  std::uint64_t dropped_queue_delay = 0;
  std::uint64_t dropped_too_big = 0;
  std::uint64_t dropped_interface = 0;
  std::uint64_t dropped_malformed = 0;

  std::uint64_t dropped() const {
    return dropped_not_connected + dropped_queue_full + dropped_queue_delay + dropped_too_big + dropped_interface +
           dropped_malformed;
  }
};

// Keeps the lease between runs of the program. It is a secret.
class LeaseStore {
 public:
  virtual ~LeaseStore() = default;
  virtual std::string load() = 0;  // empty: none
  virtual void save(const std::string& lease) = 0;
};

struct Surroundings {
  EventLoop& loop;
  Random& random;
  net::Resolver& resolver;
  net::SocketFactory& sockets;
  Tunnel& tunnel;
  LeaseStore& lease;
  std::shared_ptr<tls::ClientContext> tls;  // null: without TLS, in tests
  std::string software;                     // "penstock/0.1.0 linux"
  ProxyEnvironment proxy_environment = {};
};

class Client final : public transport::Connection::Handler, private PacedWrites::Device {
 public:
  static constexpr std::size_t kQueueBytes = 4 * 1024 * 1024;
  // What is read from the interface in one turn: packets, and bytes.
  static constexpr std::size_t kTunnelBatch = 256;
  static constexpr std::size_t kTunnelBytes = 256 * 1024;
  static constexpr std::size_t kMaxMessage = protocol::kBatchBytes;
  // RFC 8200 section 5.
  static constexpr int kLeastIpv6Mtu = 1280;
  // A gateway that says when to come back is obeyed up to this.
  static constexpr Duration kLongestAskedWait = std::chrono::minutes(10);
  // In a row, until pushed and configured routes are withdrawn, lest they cut off the way back.
  static constexpr int kFailuresUntilRoutesGo = 3;

  Client(const ClientConfig& config, Surroundings surroundings);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void start();
  // Closes the connection in an orderly way and stays stopped; `done` runs when that is over.
  void stop(Task done);
  // Called once, from the loop, when going on is impossible: the interface is gone.
  void on_failure(std::move_only_function<void(Error)> callback) { failed_ = std::move(callback); }
  Status status() const;

 private:
  void attempt();
  void connected(Result<std::unique_ptr<net::StreamSocket>> socket);
  void log_in();
  void logged_in(const protocol::AuthResponse& response);
  void login_refused(const std::string& error);
  Result<void> apply(const protocol::AuthResponse& response);
  void retry(const std::string& error);
  void wait(Duration delay, const std::string& error);
  void heed_retry_after(const websocket::UpgradeResponse& refusal);
  bool may_be_tried(std::size_t url) const { return not_before_[url] <= around_.loop.now(); }
  void drop_connection();
  void withdraw_routes();

  void on_open() override { log_in(); }
  void on_text(std::string_view text) override;
  std::size_t on_binary(MaskedView bytes) override;
  void on_turn_end() override;
  void on_writable() override { pump(); }
  void on_closed(const transport::Ending& ending) override;

  std::size_t take_batch(MaskedView message);
  void take_packet(ByteView bytes, const Offload& offload);
  void write_now(Packet& packet) override;
  void lost_waiting(const FlowQueue::Losses& losses) override;
  void count_losses();
  void arm_tunnel();
  void tunnel_turn();
  bool read_tunnel();
  void pump();

  ClientConfig config_;
  Surroundings around_;
  transport::ReadBuffer buffer_;
  GatewayLog gateway_log_;
  Dialler dialler_;
  Backoff backoff_;
  Timer retry_timer_;
  Timer login_deadline_;
  Timer pump_again_;
  std::unique_ptr<transport::Connection> connection_;
  std::move_only_function<void(Error)> failed_;
  Task stopped_;

  State state_ = State::waiting;
  std::size_t next_url_ = 0;
  std::vector<TimePoint> not_before_;  // for each URL: it asked not to be tried before
  std::optional<ProxyChoice> proxy_;   // of the present attempt
  std::string lease_;
  bool tried_lease_ = false;
  std::optional<std::string> refusal_;  // of the login on the present connection
  bool replaced_ = false;
  int failures_ = 0;  // since the last login
  bool stopping_ = false;
  Duration wait_at_least_{};
  std::optional<protocol::AuthResponse> settings_;  // of the last successful login
  std::optional<TunnelSettings> tunnel_settings_;
  TimePoint connected_since_;
  TimePoint retry_at_;
  std::optional<protocol::Receive> receive_;  // what we take; none: we speak plain v1
  protocol::Format format_;                   // what the gateway takes
  FlowQueue queue_;
  Coalescer coalescer_;
  PacedWrites to_tunnel_;
  PacketBatch from_tunnel_;
  PacketBatch sending_;
  PacketBatch scratch_;
  PacketBatch received_;
  Status counters_;  // only what counts up, and last_error
};

}  // namespace penstock::client
