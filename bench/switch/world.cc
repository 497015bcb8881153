#include "bench/switch/world.h"

#include <utility>

#include "base/result.h"

namespace penstock::bench {

World::World(std::size_t sessions, std::size_t packet_size) : pattern_(packet_size) {
  pattern_[0] = 0x45;
  store_be16(&pattern_[2], static_cast<std::uint16_t>(packet_size));
  pattern_[8] = 64;
  pattern_[9] = 17;
  router::RouteTable routes;
  routes = routes.with(Prefix(IpAddress::v4(0x0A400000), 18), router::kNobody);
  for (std::uint32_t i = 0; i < sessions; ++i) {
    const Prefix own = Prefix::host(address_of(i));
    ports_.push_back(shard_.open_session({.id = {.slot = i, .generation = 1},
                                          .name = "member",
                                          .prefixes = {own},
                                          .queue_bytes = 1 << 20,
                                          .usage = std::make_shared<router::Usage>()}));
    links_.push_back(std::make_unique<WaitingLink>(*this, i));
    PENSTOCK_ASSERT(shard_.session(ports_.back())->attach(*links_.back(), 1, ""));
    routes = routes.with(own, ports_.back());
  }
  shard_.router().set_routes(std::move(routes));
}

// 10.64.0.2 and on, as a pool would give them out.
IpAddress World::address_of(std::uint32_t session) const { return IpAddress::v4(0x0A400002 + session); }

std::vector<Pair> World::random_pairs(std::size_t count, Random& random) const {
  const auto any = [&] { return static_cast<std::uint32_t>(random.next32() % ports_.size()); };
  std::vector<Pair> pairs(count);
  for (Pair& pair : pairs) pair = {any(), any()};
  return pairs;
}

void World::warm_up() {
  std::vector<Pair> all;
  for (std::uint32_t i = 0; i < ports_.size(); ++i) all.push_back({i, i});
  PENSTOCK_ASSERT(exchange(all) == all.size());
}

std::uint64_t World::exchange(const std::vector<Pair>& pairs) {
  std::uint64_t arrived = 0;
  for (const Pair& pair : pairs) {
    store_be32(&pattern_[12], address_of(pair.from).to_v4());
    store_be32(&pattern_[16], address_of(pair.to).to_v4());
    in_.push_back(Packet::copy_of(pattern_));
    shard_.router().from_session(*shard_.session(ports_[pair.from]), in_);
    for (const std::uint32_t woken : woken_) {
      shard_.session(ports_[woken])->take(out_, 128 * 1024);
      if (woken == pair.to) arrived += out_.size();
      out_.clear();
    }
    woken_.clear();
  }
  return arrived;
}

}  // namespace penstock::bench

std::uint64_t switch_packets(penstock::bench::World& world, const std::vector<penstock::bench::Pair>& pairs) {
  return world.exchange(pairs);
}
