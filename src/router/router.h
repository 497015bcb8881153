// Decides where each packet goes. One a shard; the only place where doors and exits meet.
//
//   session --> [ parse -> source guard -> meter ] --+
//                                                    +--> [ route table ] --> a port of this shard
//   exit    --> [ parse ] ---------------------------+           |
//                                                                +--> another shard (crossing), or a counted Drop
//
// Broadcasts and multicasts are not routed: discovery.h judges them, and what it lets through is offered to all ports
// of all shards (Port::flood); a session takes a copy unless it is the sender, an exit unless it came from an exit.
//
// Packets of one batch that go to the same port in a row stay one batch, so a transfer costs one virtual call a batch.
//
// Always true   a packet that enters is sent to exactly one port, offered to all, or counted under exactly one Drop
//               (RouterTest: EveryPacketIsDeliveredOrCounted). What came from an exit never goes back to that exit.
// Ownership     ports are borrowed: whoever adds one removes it before it dies.
// Threads       its shard's loop only. The counters may be read by anybody.
// Not here      who may join (session/), queues and pacing (the ports), NAT (an exit).
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "packet/ip_view.h"
#include "packet/packet.h"
#include "router/discovery.h"
#include "router/drop.h"
#include "router/port.h"
#include "router/port_id.h"
#include "router/route_table.h"
#include "router/session.h"

namespace penstock::router {

// Where routes of the VPN subnet point to until a session takes an address: such packets die as no_session instead of
// following the default route out.
inline constexpr PortId kNobody{.shard = 0xFFFF, .slot = 0, .generation = 1};

// Everybody on the LAN, on whatever shard: not a port, but what discovery.h lets through is routed there as one batch.
inline constexpr PortId kEverybody{.shard = 0xFFFE, .slot = 0xFFFFFFFF, .generation = 1};
// The part of it that is on one shard: what crosses is addressed so, once a packet, and copied over there.
constexpr PortId everybody_on(std::uint16_t shard) { return {shard, kEverybody.slot, kEverybody.generation}; }

class Router {
 public:
  // Takes packets for a port of another shard; leaves `batch` empty.
  using Cross = std::function<void(PortId to, PacketBatch& batch)>;
  // Runs a task in a later turn of the loop.
  using Post = std::function<void(Task)>;
  // To how many ports a packet for everybody goes in one turn: each costs its link a write of about 10 us, and who
  // talks to one other should not wait for more than a few milliseconds of them.
  static constexpr std::size_t kFloodSlice = 256;

  Router(std::uint16_t shard, Cross cross, Post post)
      : shard_(shard), cross_(std::move(cross)), post_(std::move(post)) {}

  // A port of this shard gets a name; the name of a removed port finds nothing, whoever has the slot afterwards.
  PortId add_port(Port& port);
  void remove_port(PortId id);
  // Null where there is no such port (any more).
  Port* port(PortId id) const;

  void set_routes(RouteTable routes) { routes_ = std::move(routes); }
  const RouteTable& routes() const { return routes_; }

  // Broadcasts and multicasts are judged by `discovery` from now on; `shards` is how many the gateway has. Until then
  // none goes on.
  void set_discovery(Discovery discovery, std::size_t shards) {
    discovery_ = std::move(discovery);
    shards_ = shards;
  }

  // Both leave `batch` empty.
  void from_session(Session& session, PacketBatch& batch);
  // `exit` is the port that the packets came in by, or none.
  void from_exit(PortId exit, PacketBatch& batch);
  // What another shard routed to a port of this one.
  void deliver(PortId to, PacketBatch& batch);

  DropCounters& drops() { return drops_; }
  const DropCounters& drops() const { return drops_; }
  // The last address of the VPN subnet that nobody had, for the log's summary.
  const IpAddress& last_unmatched() const { return last_unmatched_; }

 private:
  struct Slot {
    Port* port = nullptr;
    std::uint32_t generation = 0;
  };
  struct Flood {
    PacketBatch packets;
    std::size_t next_slot = 0;
  };
  void route(const IpView& view, Packet&& packet, PortId came_from);
  // `allowed`: the sender's address is one to be heard by everybody.
  void route_to_everybody(const IpView& view, Packet&& packet, bool allowed, TokenBucket& sender);
  void gather(PortId to, Packet&& packet);
  void flush();
  void deliver_to_everybody(PacketBatch& batch);
  // To every port of this shard, one slice a turn; one batch after the other.
  void flood(PacketBatch& batch);
  void flood_slice();

  std::uint16_t shard_;
  Cross cross_;
  Post post_;
  RouteTable routes_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  DropCounters drops_;
  IpAddress last_unmatched_;
  Discovery discovery_;
  std::size_t shards_ = 1;
  TokenBucket exits_;  // those of this shard together are one sender
  std::deque<Flood> floods_;

  // The run of packets to one port that is being gathered.
  PortId run_to_;
  PacketBatch run_;
};

}  // namespace penstock::router
