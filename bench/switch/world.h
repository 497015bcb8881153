// Sessions on one shard and what moves packets among them, without sockets, TLS and time.
//
// A turn is what ingress/websocket/link.cc makes of one packet that came in: a copy of its bytes into a Packet, the
// lookup of its session, the router, and the receiver's link, woken, taking it out of the session's queue.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/random.h"
#include "router/shard.h"
#include "test/support/manual_loop.h"

namespace penstock::bench {

struct Pair {
  std::uint32_t from = 0;
  std::uint32_t to = 0;
};

class World {
 public:
  World(std::size_t sessions, std::size_t packet_size);

  std::size_t sessions() const { return ports_.size(); }
  std::vector<Pair> random_pairs(std::size_t count, Random& random) const;
  // Each session receives once: whatever is made on first use is there afterwards.
  void warm_up();
  // One packet for each pair, one turn each. Returns how many arrived.
  std::uint64_t exchange(const std::vector<Pair>& pairs);

 private:
  class WaitingLink final : public router::SessionLink {
   public:
    explicit WaitingLink(World& world, std::uint32_t index) : world_(&world), index_(index) {}
    void packets_waiting() override { world_->woken_.push_back(index_); }
    void end(std::string_view) override {}
    void probe(Duration, std::move_only_function<void(bool)> answer) override { answer(true); }

   private:
    World* world_;
    std::uint32_t index_;
  };
  IpAddress address_of(std::uint32_t session) const;

  test::ManualLoop loop_;
  router::Shard shard_{0, loop_};
  std::vector<std::unique_ptr<WaitingLink>> links_;
  std::vector<router::PortId> ports_;
  std::vector<std::uint8_t> pattern_;
  std::vector<std::uint32_t> woken_;
  PacketBatch in_;
  PacketBatch out_;
};

}  // namespace penstock::bench

// By name for `valgrind --tool=callgrind --toggle-collect=switch_packets`: World::exchange() and nothing else.
extern "C" std::uint64_t switch_packets(penstock::bench::World& world, const std::vector<penstock::bench::Pair>& pairs);
