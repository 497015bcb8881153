// One event loop with everything that is its own: its router, its sessions, and the rings to the other loops.
//
//   shard 0                          shard 1
//   router --cross--> [ ring 0->1 ] --drain--> router.deliver --> port
//          <--drain-- [ ring 1->0 ] <--cross--
//
// A packet for a session of another loop crosses in a ring of owned buffers; nobody locks and nobody waits. A full ring
// drops (crossing_full).
//
// Lifecycle   make all shards, then connect() them, then run their loops; stop all loops before destroying any shard.
// Threads     everything but id() and loop() belongs to the shard's loop. Other threads reach it with loop().post().
#pragma once

#include <atomic>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/event_loop.h"
#include "router/ring.h"
#include "router/router.h"
#include "router/session.h"

namespace penstock::router {

class Shard {
 public:
  // What may be on its way from one shard to another: packets, and bytes of memory that they hold.
  static constexpr std::size_t kRingCapacity = 4096;
  static constexpr std::size_t kRingBytes = std::size_t{8} << 20;

  Shard(std::uint16_t index, EventLoop& loop);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // Lays the rings between all of `shards`, whose indices are 0, 1, ... in order.
  static void connect(const std::vector<std::unique_ptr<Shard>>& shards);

  std::uint16_t index() const { return index_; }
  EventLoop& loop() { return *loop_; }
  Router& router() { return router_; }

  // What goes to everybody from now on. After connect(), where there are several shards.
  void set_discovery(const DiscoverySettings& settings);

  // Who may reach whom among the sessions from now on; null: everybody everybody.
  void set_access_policy(std::shared_ptr<const AccessPolicy> policy);
  // All subnets behind clients, of whatever shard; tells the links.
  void set_sites(std::vector<Prefix> sites);
  const std::vector<Prefix>& sites() const { return sites_; }

  // A session without link; its PortId is what routes point at.
  PortId open_session(SessionSpec spec);
  // Null when it is gone.
  Session* session(PortId id);
  // Detaches it, ends its link with `reason` and destroys it. Nothing happens when it is gone.
  void close_session(PortId id, std::string_view reason);
  std::size_t sessions() const { return sessions_.size(); }

 private:
  struct Crossing {
    PortId to;
    Packet packet;
  };
  // From one other shard to this one.
  struct Lane {
    Ring<Crossing> ring{kRingCapacity};
    std::atomic<std::size_t> bytes{0};  // in the ring; both sides count
  };
  void cross(PortId to, PacketBatch& batch);
  void drain(Lane& lane);

  std::uint16_t index_;
  EventLoop* loop_;
  Router router_;
  PacketBatch run_;  // out of a lane, to one port; empty between two turns
  std::unordered_map<std::uint32_t, std::unique_ptr<Session>> sessions_;  // by slot
  std::vector<std::unique_ptr<Lane>> incoming_;                           // by the index of the shard that fills it
  std::vector<Shard*> shards_;
  std::shared_ptr<const AccessPolicy> access_policy_;  // with the sessions and the other shards
  std::vector<Prefix> sites_;
  std::shared_ptr<FloodBudget> flood_budget_ = std::make_shared<FloodBudget>();  // connect() gives all shards one
};

}  // namespace penstock::router
