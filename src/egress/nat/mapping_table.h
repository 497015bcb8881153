// Who speaks to whom through a translator: mappings of inner ends to outer ones, and under each the flows to others.
//
//   owner (a session) --> mappings: inner end <--> outer end --> flows: with which remote end, since when silent
//
// A mapping stands for an inner end whomever it speaks to (endpoint-independent, RFC 4787 section 4.1), so it is one
// for many flows; it lives as long as one of them does. A flow is what lets a remote end answer (section 5), and what
// time and bounds are counted by.
//
// Time        a flow that is silent for its timeout is over, at once for find_flow(), and taken away by expire(): a
//             wheel of one-second slots, in which a packet moves nothing; a flow whose slot comes and that spoke
//             meanwhile goes to a later one.
// Bounds      flows in all and of each owner. Who is at its own bound loses its own flow that has been silent for
//             longest. At the bound of all it is the owner who has most flows that loses one so, the opener before
//             others with as many; where all outer ends are taken, some more, until one is free. So nobody loses a flow
//             to somebody who has more of them.
// TCP         the end of each of its flows is told to ExternalPorts::ended(), once, unless that itself said so
//             (end_flow()), and with the destructor at the latest. So their remote ends are true, not those of a wider
//             filter.
// Memory      64 bytes a mapping, 64 a flow, 32 an owner, and 4 to 8 for each of their buckets: some 150 bytes
//             for a client's conversation with one other, 184 with 100 000 of them (bench/micro), since tables double
//             as they fill. They go when they are empty.
// Cost        a keyed hash and the steps of one chain for each look-up. Only growing allocates.
// Threads     one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "egress/nat/external_ports.h"
#include "packet/packet.h"
#include "router/address_bits.h"
#include "router/sip_hash.h"

namespace penstock::egress {

class MappingTable {
 public:
  static constexpr std::size_t kMostFlows = std::size_t{1} << 20;
  using Index = std::uint32_t;
  static constexpr Index kNone = 0xFFFFFFFF;

  struct Bounds {
    std::size_t flows = 262'144;         // in all, at most kMostFlows
    std::size_t flows_of_owner = 8'192;  // of one session
  };

  // An address and a port, of one transport and family: what is looked up.
  struct End {
    router::AddressBits address;
    std::uint16_t port = 0;
    Transport transport = Transport::udp;
    Family family = Family::ipv4;

    static End of(const Endpoint& endpoint, Transport transport) {
      return {router::AddressBits::of(endpoint.address), endpoint.port, transport, endpoint.address.family()};
    }
    Endpoint endpoint() const;
    friend bool operator==(const End&, const End&) = default;
  };

  struct Mapping {
    router::AddressBits inner;
    router::AddressBits external;
    std::uint16_t inner_port = 0;
    std::uint16_t external_port = 0;
    Transport transport = Transport::udp;
    Family family = Family::ipv4;
    bool is_static = false;  // a forward: lives without flows
    std::uint32_t generation = 0;
    Index owner = kNone;
    Index first_flow = kNone;

    End inner_end() const { return {inner, inner_port, transport, family}; }
    End external_end() const { return {external, external_port, transport, family}; }

   private:
    friend class MappingTable;
    Index next_inner_ = kNone;  // in its bucket's chain, or in the free list
    Index next_external_ = kNone;
  };
  static_assert(sizeof(Mapping) == 64);

  struct Flow {
    router::AddressBits remote;
    TimePoint last_seen;
    std::uint16_t remote_port = 0;
    std::uint16_t timeout_seconds = 0;

    Index mapping = kNone;

   private:
    friend class MappingTable;
    Index next_ = kNone;  // in its bucket's chain, or in the free list
    Index next_of_mapping_ = kNone;
    Index previous_of_mapping_ = kNone;  // kNone: the first
    Index older_ = kNone;
    Index newer_ = kNone;
    Index next_in_slot_ = kNone;
    Index previous_in_slot_ = kNone;  // kNone: the first
    std::uint16_t slot_ = 0;
  };
  static_assert(sizeof(Flow) == 64);

  // `ports` outlives this.
  MappingTable(const router::SipKey& key, const Bounds& bounds, ExternalPorts& ports, TimePoint now);
  ~MappingTable();
  MappingTable(const MappingTable&) = delete;
  MappingTable& operator=(const MappingTable&) = delete;

  // Null where there is none. Pointers and references are good until the next call that opens or takes away.
  const Mapping* find_inner(const End& inner) const;
  const Mapping* find_external(const End& external) const;
  const Mapping* find(Binding binding) const;
  Binding binding_of(const Mapping& mapping) const { return {index_of(mapping), mapping.generation}; }
  SessionId owner_of(const Mapping& mapping) const;  // none of a static one without flows
  // Of `mapping`, with `remote`, and not over.
  Flow* find_flow(const Mapping& mapping, const End& remote, TimePoint now);

  // A mapping of `inner`, which has none yet, together with its first flow. Null where no outer end is to be had,
  // and last_refusal() says why.
  Flow* open(SessionId owner, const End& inner, const End& remote, Duration timeout, TimePoint now);
  // Another flow of a mapping, which find_flow() found none of with `remote`. `owner` is the mapping's, if it has one.
  // Null where room for it was made of the mapping itself.
  Flow* open_flow(const Mapping& mapping, SessionId owner, const End& remote, Duration timeout, TimePoint now);
  // A mapping that stays without flows, and belongs to nobody then; its outer end is none of ExternalPorts' and
  // free. What was mapped for `inner` goes; another static one there must not be.
  Binding add_static(const End& inner, const End& external);
  // With all its flows.
  void remove_static(Binding binding);
  // A packet of `flow` passes.
  void seen(Flow& flow, TimePoint now);
  // Where it is shorter than before, what is over is taken away later.
  void set_timeout(Flow& flow, Duration timeout) { flow.timeout_seconds = seconds_of(timeout); }
  // Whoever stands outside says that it is over, so that is not told. False where there is none.
  bool end_flow(const Mapping& mapping, const End& remote);
  // Takes it away as if it were over: whoever has its outer end is told.
  void break_off(const Mapping& mapping, const End& remote);
  // Likewise each flow of which `over(mapping, remote end)` is true. Looks at all.
  template <typename Over>
  void break_off_where(Over over) {
    for (std::size_t i = 0; i < flows_.size(); ++i) {
      if (flows_[i].mapping == kNone) continue;
      const Mapping& mapping = mappings_[flows_[i].mapping];
      if (over(mapping, End{flows_[i].remote, flows_[i].remote_port, mapping.transport, mapping.family}))
        take_away(flows_[i]);
    }
  }
  // All that has its outer end at `external`, an address that is gone, but static ones. Looks at each mapping.
  void close_external(const IpAddress& external);
  // All that a session has, because it has ended.
  void close_all(SessionId owner);

  // Takes away what is over, at most `most` steps of it; true: there is more to do now.
  bool expire(TimePoint now, std::size_t most = 4096);

  std::size_t mappings() const { return mapping_count_; }
  std::size_t flows() const { return flow_count_; }
  std::size_t flows_of(SessionId owner) const;
  // Calls `see` with the mapping and the remote end of each flow of `owner`; it changes nothing here.
  template <typename See>
  void for_each_flow(SessionId owner, See see) const {
    const Index index = find_owner(owner);
    if (index == kNone) return;
    for (Index i = owners_[index].oldest; i != kNone; i = flows_[i].newer_) {
      const Mapping& mapping = mappings_[flows_[i].mapping];
      see(mapping, End{flows_[i].remote, flows_[i].remote_port, mapping.transport, mapping.family});
    }
  }
  std::uint64_t displaced() const { return displaced_; }
  NoPort last_refusal() const { return last_refusal_; }
  std::size_t memory() const;

 private:
  static constexpr std::size_t kSlots = 512;
  struct Owner {
    SessionId session;
    std::uint32_t flows = 0;
    Index oldest = kNone;
    Index newest = kNone;
    Index next = kNone;  // in its bucket's chain, or in the free list
    Index before = kNone;
    Index after = kNone;  // of the owners with as many flows
  };

  static std::uint16_t seconds_of(Duration timeout) {
    return static_cast<std::uint16_t>(std::chrono::ceil<std::chrono::seconds>(timeout).count());
  }
  static bool is_over(const Flow& flow, TimePoint now) {
    return now - flow.last_seen >= std::chrono::seconds(flow.timeout_seconds);
  }
  std::int64_t tick_of(TimePoint time) const { return std::chrono::floor<std::chrono::seconds>(time - start_).count(); }
  Index index_of(const Mapping& mapping) const { return static_cast<Index>(&mapping - mappings_.data()); }
  Index index_of(const Flow& flow) const { return static_cast<Index>(&flow - flows_.data()); }
  std::uint64_t hash_of(const End& end) const;
  std::uint64_t hash_of(Index mapping, const router::AddressBits& remote, std::uint16_t port) const;

  Flow* flow_with(Index mapping, const End& remote);
  Flow* add_flow(Index mapping, const End& remote, Duration timeout, TimePoint now);
  void tell_end_of(const Flow& flow);
  void take_away(Flow& flow);
  void remove_flow(Flow& flow);
  void remove_mapping(Index mapping);
  Index take_mapping();
  void put_back(Index mapping);
  Mapping& fill(Index index, const End& inner, const End& external);
  void make_room(SessionId opener);
  Index who_has_most(Index preferred) const;
  void displace_mapping(SessionId opener);
  void grow_mappings();
  void grow_flows();
  void grow_owners();
  void give_back_if_empty();
  void link_newest(Flow& flow, Owner& owner);
  void unlink(Flow& flow, Owner& owner);
  void enter_slot(Flow& flow);
  void leave_slot(Flow& flow);

  Index find_owner(SessionId session) const;
  Index owner_for(SessionId session);
  void remove_owner(Index owner);
  void set_count(Index owner, std::uint32_t flows);
  std::size_t owner_bucket(SessionId session) const { return session.slot & (owner_buckets_.size() - 1); }

  router::SipKey key_;
  Bounds bounds_;
  ExternalPorts* ports_;
  TimePoint start_;
  std::int64_t done_tick_ = -1;  // expire() has seen to all slots up to here
  std::array<Index, kSlots> slots_;

  std::vector<Mapping> mappings_;
  std::vector<Index> by_inner_;
  std::vector<Index> by_external_;
  Index free_mapping_ = kNone;
  std::size_t mapping_count_ = 0;
  std::uint32_t generation_ = 0;

  std::vector<Flow> flows_;
  std::vector<Index> flow_buckets_;
  Index free_flow_ = kNone;
  std::size_t flow_count_ = 0;

  std::vector<Owner> owners_;
  std::vector<Index> owner_buckets_;
  Index free_owner_ = kNone;
  std::vector<Index> with_count_;  // [n]: the first of the owners with n flows
  std::uint32_t most_ = 0;         // the largest n that anybody has
  std::uint64_t displaced_ = 0;
  NoPort last_refusal_ = NoPort::none;
};

}  // namespace penstock::egress
