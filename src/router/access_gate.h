// What reaches one session of an isolated LAN: what the rules allow, and what answers that.
//
//   alice --[ from her session: member, answers ]--> router --> [ bob's gate: admits()? ] --> bob
//   alice <--[ alice's gate: admits()? ]-- router <--[ note_answer() in bob's gate, answers ]-- bob
//
// Nothing crosses shards to decide. Bob's gate lives with bob's session and sees both directions: alice's packets as
// they are delivered and bob's as they are sent. It remembers what alice was allowed to begin (flow_table.h), and a
// packet of bob's that belongs to that carries alice's number as `answers` to her shard, where her gate lets it in
// because it is her number. What reaches an exit, and what comes from one, no gate has a say in.
//
// An answer is        a packet of the same two ends, TCP, UDP or protocol without ports, in the other direction (but no
//                     bare SYN: that begins something); the reply to an echo request; and, both ways, an ICMP error
//                     that quotes a packet of the conversation.
// Who is who          a flow belongs to a member, not to an address: whoever gets alice's address after her does
//                     not inherit her flows.
// Sites               are their owner: packets from and to a subnet behind a client carry the client's number. Prefixes
//                     in rules are compared with the addresses in the packet.
// Fragments           a later fragment has no ports. It goes the way of its first fragment, of which kDatagrams are
//                     remembered for kFragmentLife; one whose first fragment was not seen before it is held to the
//                     rules without ports.
// To everybody        (discovery.h) counts as sent to the receiver's own address, and so may be answered.
// A change of rules   applies to the next packet: each flow is held to them again when it is next used.
//
// Ownership   the session's; there is none where the LAN is not isolated.
// Threads     those of the session.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "packet/packet.h"
#include "router/access_policy.h"
#include "router/flow_table.h"

namespace penstock::router {

class AccessGate {
 public:
  static constexpr std::size_t kDatagrams = 64;
  static constexpr Duration kFragmentLife = std::chrono::seconds(30);

  // `member` is whose session `session` is. Neither `policy` nor `clock`, which outlives the gate, is null.
  AccessGate(std::shared_ptr<const AccessPolicy> policy, const Clock& clock, SessionId session, std::uint32_t member)
      : policy_(std::move(policy)), clock_(&clock), session_(session), member_(member), flows_(policy_->flow_key()) {}

  void set_policy(std::shared_ptr<const AccessPolicy> policy) { policy_ = std::move(policy); }
  TimePoint now() const { return clock_->now(); }

  // Whether `packet`, which was routed to the session, may be delivered to it.
  bool admits(const Packet& packet, TimePoint now);
  // The same of one that goes to everybody; `own` are the session's own addresses.
  bool admits_to_everybody(const Packet& packet, std::span<const Prefix> own, TimePoint now);
  // Of a packet that the session sends: says in it whom it answers, if anybody.
  void note_answer(Packet& packet, const IpView& view, TimePoint now);

  std::size_t flows() const { return flows_.size(); }

 private:
  // A datagram whose first fragment passed.
  struct Datagram {
    FlowKey key;  // without ports
    std::uint32_t identification = 0;
    std::uint32_t sender = 0;
    std::uint32_t answers = 0;
    std::uint32_t policy = 0;  // generation of the rules; 0: empty
    TimePoint passed;
  };

  bool admits(const FlowView& flow, std::uint32_t sender, TimePoint now);
  bool permits(std::uint32_t sender, const FlowKey& key) const { return policy_->permits(sender, member_, key); }
  FlowTable::Flow* find(const FlowKey& key, TimePoint now);
  std::uint32_t answered_by(const FlowView& flow, TimePoint now);
  Datagram& place_of(const FlowView& flow);
  void remember(const FlowView& flow, std::uint32_t sender, std::uint32_t answers, TimePoint now);
  const Datagram* first_fragment(const FlowView& flow, std::uint32_t sender, TimePoint now);

  std::shared_ptr<const AccessPolicy> policy_;  // with all gates
  const Clock* clock_;
  SessionId session_;
  std::uint32_t member_;
  FlowTable flows_;
  std::vector<Datagram> datagrams_;  // none until the first fragment comes, then kDatagrams of them
};

}  // namespace penstock::router
