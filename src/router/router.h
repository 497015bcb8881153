// Decides where each packet goes. One a shard; the only place where doors and exits meet.
//
//   session --> [ parse -> source guard -> meter ] --+
//                                                    +--> [ route table ] --> a port of this shard
//   exit    --> [ parse ] ---------------------------+           |
//                                                                +--> another shard (crossing), or a counted Drop
//
// Packets of one batch that go to the same port in a row stay one batch, so a transfer costs one virtual call a batch.
//
// Always true   a packet that enters is sent to exactly one port or counted under exactly one Drop
//               (RouterTest: EveryPacketIsDeliveredOrCounted). What came from an exit never goes back to that exit.
// Ownership     ports are borrowed: whoever adds one removes it before it dies.
// Threads       its shard's loop only. The counters may be read by anybody.
// Not here      who may join (session/), queues and pacing (the ports), NAT (an exit).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "packet/ip_view.h"
#include "packet/packet.h"
#include "router/drop.h"
#include "router/port.h"
#include "router/port_id.h"
#include "router/route_table.h"
#include "router/session.h"

namespace penstock::router {

// Where routes of the VPN subnet point to until a session takes an address: such packets die as no_session instead of
// following the default route out.
inline constexpr PortId kNobody{.shard = 0xFFFF, .slot = 0, .generation = 1};

class Router {
 public:
  // Takes packets for a port of another shard; leaves `batch` empty.
  using Cross = std::function<void(PortId to, PacketBatch& batch)>;

  Router(std::uint16_t shard, Cross cross) : shard_(shard), cross_(std::move(cross)) {}

  // A port of this shard gets a name; the name of a removed port finds nothing, whoever has the slot afterwards.
  PortId add_port(Port& port);
  void remove_port(PortId id);
  // Null where there is no such port (any more).
  Port* port(PortId id) const;

  void set_routes(RouteTable routes) { routes_ = std::move(routes); }
  const RouteTable& routes() const { return routes_; }

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
  void route(const IpView& view, Packet&& packet, PortId came_from);
  void flush();

  std::uint16_t shard_;
  Cross cross_;
  RouteTable routes_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  DropCounters drops_;
  IpAddress last_unmatched_;

  // The run of packets to one port that is being gathered.
  PortId run_to_;
  PacketBatch run_;
};

}  // namespace penstock::router
