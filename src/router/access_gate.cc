#include "router/access_gate.h"

namespace penstock::router {

using Direction = FlowTable::Direction;

bool AccessGate::admits(const Packet& packet, TimePoint now) {
  if (!packet.source || packet.source == session_) return true;
  if (packet.answers != 0 && packet.answers == member_) return true;
  const auto view = parse_ip(packet.bytes());
  if (!view) return false;
  const auto flow = read_flow(packet.bytes(), *view);
  return flow && admits(*flow, packet.member, now);
}

bool AccessGate::admits_to_everybody(const Packet& packet, std::span<const Prefix> own, TimePoint now) {
  if (!packet.source) return true;
  const auto view = parse_ip(packet.bytes());
  if (!view) return false;
  auto flow = read_flow(packet.bytes(), *view);
  if (!flow) return false;
  for (const Prefix& address : own) {
    if (address.family() != view->family) continue;
    flow->key.to = AddressBits::of(address.address());
    return admits(*flow, packet.member, now);
  }
  return false;
}

bool AccessGate::admits(const FlowView& view, std::uint32_t sender, TimePoint now) {
  switch (view.role) {
    case FlowRole::message:
    case FlowRole::echo_request: {
      FlowTable::Flow* flow = find(view.key, now);
      if (flow != nullptr && flows_.member_of(*flow) != sender) {  // the address is somebody else's now
        flows_.erase(*flow);
        flow = nullptr;
      }
      if (flow == nullptr) {
        if (!permits(sender, view.key)) return false;
        flow = &flows_.open(view.key, sender, policy_->generation(), now);
      }
      flows_.seen(*flow, Direction::opener, view.tcp_flags, now);
      if (view.fragment) remember(view, sender, 0, now);
      return true;
    }
    case FlowRole::error: {
      // About one of the answers, which travelled the other way.
      const FlowTable::Flow* flow = find(view.quoted.reversed(), now);
      return (flow != nullptr && flows_.member_of(*flow) == sender) || permits(sender, view.key);
    }
    case FlowRole::later_fragment: return first_fragment(view, sender, now) != nullptr || permits(sender, view.key);
    case FlowRole::echo_reply:
    case FlowRole::other_control: return permits(sender, view.key);
  }
  return false;
}

void AccessGate::note_answer(Packet& packet, const IpView& view, TimePoint now) {
  if (flows_.empty()) return;
  if (const auto flow = read_flow(packet.bytes(), view)) packet.answers = answered_by(*flow, now);
}

// The member whom a packet of this session answers; 0: nobody.
std::uint32_t AccessGate::answered_by(const FlowView& view, TimePoint now) {
  switch (view.role) {
    case FlowRole::message:
    case FlowRole::echo_reply: {
      if ((view.tcp_flags & (kTcpSyn | kTcpAck)) == kTcpSyn) return 0;
      FlowTable::Flow* flow = find(view.key.reversed(), now);
      if (flow == nullptr) return 0;
      flows_.seen(*flow, Direction::answer, view.tcp_flags, now);
      const std::uint32_t opener = flows_.member_of(*flow);
      if (view.fragment) remember(view, member_, opener, now);
      return opener;
    }
    case FlowRole::error: {
      const FlowTable::Flow* flow = find(view.quoted, now);
      return flow != nullptr && view.key.to == view.quoted.from ? flows_.member_of(*flow) : 0;
    }
    case FlowRole::later_fragment: {
      const Datagram* datagram = first_fragment(view, member_, now);
      return datagram == nullptr ? 0 : datagram->answers;
    }
    case FlowRole::echo_request:
    case FlowRole::other_control: return 0;
  }
  return 0;
}

// A flow that the present rules allow.
FlowTable::Flow* AccessGate::find(const FlowKey& key, TimePoint now) {
  FlowTable::Flow* flow = flows_.find(key, now);
  if (flow == nullptr || flow->policy == policy_->generation()) return flow;
  if (permits(flows_.member_of(*flow), flow->key)) {
    flow->policy = policy_->generation();
    return flow;
  }
  flows_.erase(*flow);
  return nullptr;
}

// ---- fragments ----

namespace {

FlowKey without_ports(FlowKey key) {
  key.from_port = key.to_port = 0;
  return key;
}

}  // namespace

// Datagrams with the same place displace each other.
AccessGate::Datagram& AccessGate::place_of(const FlowView& flow) {
  const FlowKey key = without_ports(flow.key);
  auto words = key.words();
  words.back() |= flow.datagram;  // where the ports would be
  return datagrams_[sip_hash(policy_->flow_key(), words) % kDatagrams];
}

void AccessGate::remember(const FlowView& flow, std::uint32_t sender, std::uint32_t answers, TimePoint now) {
  if (datagrams_.empty()) datagrams_.resize(kDatagrams);
  place_of(flow) = {without_ports(flow.key), flow.datagram, sender, answers, policy_->generation(), now};
}

const AccessGate::Datagram* AccessGate::first_fragment(const FlowView& flow, std::uint32_t sender, TimePoint now) {
  if (datagrams_.empty()) return nullptr;
  const Datagram& datagram = place_of(flow);
  const bool same = datagram.policy == policy_->generation() && datagram.sender == sender &&
                    datagram.identification == flow.datagram && datagram.key == without_ports(flow.key) &&
                    now - datagram.passed < kFragmentLife;
  return same ? &datagram : nullptr;
}

}  // namespace penstock::router
