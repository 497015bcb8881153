// The exit to the internet: a port of the router, behind which packets are translated in this process.
//
//   router --send()--> [ together -> whole? -> may it? -> hop limit -> Nat ] --> ExternalGateway
//   router <--from_exit-- [ Nat <- hop limit <- together ] <------------------- ExternalGateway
//
// Together     datagrams of one conversation that came in one batch go on as a super-packet (packet/coalesce.h), both
//              ways: what a packet costs here, in sockets, queues and devices hardly depends on its size.
// Whole        fragments are put together first (packet/reassembly.h): only the first has ports.
// May it       the policy (exit_policy.h) is asked before anything is remembered. What goes to an outer end of ours is
//              refused by internet.deny alone: it comes back in, and the filter of its owner decides.
// Spoofed      whoever comes from outside has no address from inside: what is routed elsewhere than here (subnets,
//              sites, the gateway's inner address) is no source of theirs. The system drops its own and loopback's.
// Hop limit    this is the router between the members and the internet, so one is taken off each way.
// No connection  what is TCP of a connection that nobody knows is answered with a RST in the name of whom it was for
//              (RFC 9293 section 3.10.7.1), so that its sender need not find out by waiting: to members, and to whoever
//              speaks to a forward. To outer ends of others it is dropped in silence (RFC 5382 REQ-4).
// Credit       of a client is that of the port behind the route to its inner end, where that is on this shard.
// ICMP         whoever is refused is told so, as a router would (router/icmp_errors.h): forbidden, time exceeded, no
//              outer end left, a protocol that is not translated.
//
// Owner of all that is remembered is the session that sent; forget() when it ends.
//
// Threads      its shard's loop.
// Ownership    borrows shard, gateway and ports, which outlive it; removes itself from the router when destroyed.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/event_loop.h"
#include "egress/nat/exit_policy.h"
#include "egress/nat/external_gateway.h"
#include "egress/nat/nat.h"
#include "packet/coalesce.h"
#include "packet/reassembly.h"
#include "router/icmp_errors.h"
#include "router/port.h"
#include "router/port_id.h"
#include "router/shard.h"

namespace penstock::egress {

class NatExit final : public router::Port, private ExternalGateway::Inside {
 public:
  static constexpr std::size_t kCredit = 1024 * 1024;
  static constexpr Duration kExpiry = std::chrono::seconds(1);

  struct Settings {
    Nat::Settings nat;
    Reassembler::Limits fragments;
    // In whose name members are told what was refused: the gateway's inner addresses.
    std::optional<IpAddress> inner4;
    std::optional<IpAddress> inner6;
  };
  struct Keys {
    router::SipKey table;
    FlowHashKey fragments;
  };
  // What became of packets that went no further, in segments: as clients sent them, and as they came from outside.
  struct Counters {
    std::array<std::uint64_t, kDeniedReasons> denied{};
    std::uint64_t not_translatable = 0;
    std::uint64_t malformed = 0;
    std::uint64_t no_port = 0;
    std::uint64_t no_outside = 0;
    std::uint64_t unasked = 0;  // to nobody, or from somebody who was not spoken to; errors about what nobody said
    std::uint64_t spoofed = 0;  // from outside, with an address from inside
    std::uint64_t hop_limit = 0;
    std::uint64_t flow_rate = 0;      // of clients that begin too much
    std::uint64_t no_connection = 0;  // TCP of connections that nobody knows
  };

  NatExit(router::Shard& shard, const Settings& settings, const Keys& keys, ExitPolicy policy, ExternalGateway& gateway,
          ExternalPorts& ports);
  ~NatExit() override;

  router::PortId id() const { return id_; }
  Result<void> start();

  void send(PacketBatch& batch) override;
  std::size_t credit() const override { return kCredit; }

  // For packets from now on; conversations that are under way end where it forbids them.
  void set_policy(ExitPolicy policy);
  Binding forward(Transport transport, const Endpoint& external, const Endpoint& inner) {
    return nat_.forward(transport, external, inner);
  }
  void remove_forward(Binding forward) { nat_.remove_forward(forward); }
  void forget_external(const IpAddress& external) { nat_.forget_external(external); }
  void forget(SessionId session) { nat_.forget(session); }
  // The gateway goes: connections that it ends are reset, while members can still be told.
  void end_connections() { gateway_->end_connections(); }
  // It has a link again: what waits for it need wait no longer.
  void reached(SessionId session);

  const Nat& nat() const { return nat_; }
  const Counters& counters() const { return counters_; }
  const Reassembler::Losses& fragment_losses() const { return fragments_.losses(); }

 private:
  void put_together(Packet&& one);
  void send_one(Packet&& packet, const IpView& view, TimePoint now);
  Denied judge(const Packet& packet, const IpView& view, const std::optional<TranslationView>& at) const;
  bool may_come_back(const Packet& packet, const IpView& view) const;
  void from_outside(PacketBatch& batch) override;
  void closed(const Endpoint& external, const Endpoint& remote) override { nat_.end_flow(external, remote); }
  std::size_t credit(const Endpoint& external, Transport transport) override;
  router::PortId wait_for_credit(const Endpoint& external, Transport transport, router::CreditWaiter& waiter) override;
  void cancel_wait(router::PortId port, router::CreditWaiter& waiter) override;
  router::PortId way_to(const Endpoint& external, Transport transport) const;
  router::Port* port_here(router::PortId id) const;
  bool is_from_inside(const IpView& view) const;
  void come_in(Packet&& packet, const IpView& view);
  void reset(const Packet& packet, const IpView& view);
  void count(NatDrop drop, std::uint64_t packets);
  void tell(std::optional<Packet> error);
  void flush();
  void expire();

  router::Shard* shard_;
  ExitPolicy policy_;
  ExternalGateway* gateway_;
  router::PortId id_;
  Nat nat_;
  Coalescer coalescer_{GsoKinds{Offload::Gso::udp4, Offload::Gso::udp6}};
  Reassembler fragments_;
  router::IcmpErrors errors_;
  std::vector<OutboundPacket> outbound_;
  PacketBatch inbound_;  // for members: from outside, and what they are told
  Timer expiry_;
  Counters counters_;
};

}  // namespace penstock::egress
