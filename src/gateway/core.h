// A gateway without its operating system: shards, registry, doors and exits, wired together.
//
//   sockets --accept()--> Door (shard 0, 1, ...) --> Link <--> Session <--> Router <--> TunExit or LocalHost, NatExit
//                           \--> Registry (shard 0) <--> StateFile
//
// process.h gives it real loops, a TUN device and listeners; tests give it manual ones and sockets in memory.
//
// Lifecycle   create, set_tls and set_credentials, restore, then accept(); stop(), then stop the loops, then destroy.
// Threads     shard 0's loop (the home loop), except where a function says otherwise; its construction may happen
//             before the loops run. Destroyed only when no loop runs any more.
// Ownership   borrows loops, randomness, device and state file, which outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "auth/authenticator.h"
#include "auth/lease_ticket.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "config/server_config.h"
#include "egress/local/local_host.h"
#include "egress/nat/nat_exit.h"
#include "egress/tun/tun_exit.h"
#include "gateway/names.h"
#include "ingress/websocket/door.h"
#include "ingress/websocket/handshake_limiter.h"
#include "ingress/websocket/warnings.h"
#include "router/shard.h"
#include "session/registry.h"
#include "session/state_file.h"
#include "tls/engine.h"
#include "tun/device.h"

namespace penstock::gateway {

class Core {
 public:
  // The internet in user space.
  struct Internet {
    egress::ExternalGateway& gateway;
    egress::ExternalPorts& ports;
    egress::Nat::Settings nat;
    egress::ExitPolicy policy;
  };
  struct Surroundings {
    std::vector<EventLoop*> loops;  // one a shard, at least one
    Random& random;                 // used by all loops: thread-safe where there are several
    session::StateFile& state;
    tun::Device* device = nullptr;  // null: vpn.tun off
    std::move_only_function<void(Error)> device_lost = [](const Error&) {};
    std::optional<Internet> internet;   // none: not in user space
    dns::NameListeners name_listeners;  // on the inner addresses, where there is a device
    // Connections that the listeners closed unserved for want of a descriptor.
    std::function<std::uint64_t()> shed = [] { return std::uint64_t{0}; };
  };

  // Refusal: addresses that do not fit together (the configuration's loader lets none through).
  static Result<std::unique_ptr<Core>> create(const ServerConfig& config, const auth::TicketSealer::Key& lease_key,
                                              Surroundings surroundings);
  ~Core();

  void set_tls(const std::shared_ptr<tls::ServerContext>& context);
  void set_credentials(auth::Authenticator authenticator) { registry_->set_authenticator(std::move(authenticator)); }
  // Which broadcasts and multicasts go to everybody, from now on.
  void set_discovery(const router::DiscoverySettings& settings);
  // Which clients reach which, from now on.
  void set_access(const LanConfig& lan);
  // Which addresses the limits per address do not count, from now on; those of them that had to wait are served at
  // once.
  void set_exempt(std::vector<Prefix> exempt) { limiter_->set_exempt(std::move(exempt)); }
  void restore() { registry_->restore(); }
  // Begins to read from the TUN device, and to translate.
  Result<void> start();
  // A connection that was accepted on the home loop: the shards take turns.
  void accept(std::unique_ptr<net::StreamSocket> socket, ingress::Arrival arrival = {});
  // Says goodbye on every link and saves the sessions; `done` runs when all links are closed, or after `patience`.
  void stop(Duration patience, Task done);

  session::Registry& registry() { return *registry_; }
  ingress::HandshakeLimiter& limiter() { return *limiter_; }
  const std::vector<std::unique_ptr<router::Shard>>& shards() const { return shards_; }
  // Null where none are served.
  Names* names() { return names_.get(); }
  // Null where there is no internet in user space.
  egress::NatExit* nat_exit() { return nat_exit_.get(); }
  // Links and handshakes of all doors. Only where one thread runs all loops (tests).
  std::size_t connections() const;
  // Of all shards.
  std::uint64_t drops(router::Drop reason) const;
  // How often each limit was met (docs/operations.md), by its name; all names every time, in one order.
  std::vector<std::pair<std::string_view, std::uint64_t>> limits() const;

 private:
  explicit Core(Surroundings surroundings) : around_(std::move(surroundings)) {}
  void await_closed(TimePoint deadline, Task done);

  Surroundings around_;
  std::vector<std::unique_ptr<router::Shard>> shards_;
  std::unique_ptr<egress::TunExit> tun_exit_;
  std::unique_ptr<egress::LocalHost> local_host_;
  std::unique_ptr<egress::NatExit> nat_exit_;
  std::unique_ptr<session::Registry> registry_;
  std::unique_ptr<Names> names_;
  std::unique_ptr<ingress::HandshakeLimiter> limiter_;
  std::unique_ptr<ingress::Warnings> warnings_;
  std::vector<std::unique_ptr<ingress::Door>> doors_;  // before those above in destruction: they use them
  std::unique_ptr<Timer> stop_timer_;
  std::size_t next_door_ = 0;
};

// The records of the configuration (and of tokens.json) as credentials.
std::vector<auth::Credential> credentials_of(const std::vector<TokenRecord>& records);
// What `lan` says about discovery, for a gateway whose subnet is `subnet`.
router::DiscoverySettings discovery_of(const LanConfig& lan, const ServerConfig::Vpn& vpn);

}  // namespace penstock::gateway
