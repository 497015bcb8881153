// Ports out of thin air, and somebody inside who waits for nobody, for tests of what stands above and below them.
#pragma once

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/result.h"
#include "egress/nat/external_gateway.h"
#include "egress/nat/external_ports.h"

namespace penstock::egress {

// Hands out [first, last] of each address in turn and asserts that each is given back once, by whom it was given to,
// and that nobody speaks of one afterwards.
class StandInPorts final : public ExternalPorts {
 public:
  StandInPorts(std::vector<IpAddress> addresses, std::uint16_t first, std::uint16_t last)
      : addresses_(std::move(addresses)), first_(first), last_(last) {}

  std::expected<Endpoint, NoPort> acquire(Transport transport, Family family, Binding binding) override {
    if (refuse) return std::unexpected(NoPort::none);
    auto& [next, freed] = pools_[{transport, family}];
    std::vector<IpAddress> own;
    for (const IpAddress& address : addresses_) {
      if (address.family() == family) own.push_back(address);
    }
    const std::size_t ports = last_ - first_ + std::size_t{1};
    Endpoint found;
    if (next < own.size() * ports) {
      found = {own[next / ports], static_cast<std::uint16_t>(first_ + next % ports)};
      ++next;
    } else if (!freed.empty()) {
      found = freed.back();
      freed.pop_back();
    } else {
      return std::unexpected(NoPort::all_taken);
    }
    const bool fresh = held_.emplace(std::pair(transport, found), binding).second;
    PENSTOCK_ASSERT(fresh);
    return found;
  }
  void release(Transport transport, const Endpoint& external, Binding binding) override {
    const auto held = held_.find({transport, external});
    PENSTOCK_ASSERT(held != held_.end() && held->second == binding);
    held_.erase(held);
    pools_[{transport, external.address.family()}].second.push_back(external);
  }

  void ended(Transport transport, const Endpoint& external, const Endpoint& remote) override {
    PENSTOCK_ASSERT(transport == Transport::tcp);
    PENSTOCK_ASSERT(held_.contains({transport, external}) || forwards.contains(external));
    told.emplace_back(external, remote);
  }

  std::size_t held() const { return held_.size(); }
  bool refuse = false;
  std::set<Endpoint> forwards;                      // which are none of these
  std::vector<std::pair<Endpoint, Endpoint>> told;  // outer and remote ends of what ended

 private:
  std::vector<IpAddress> addresses_;
  std::uint16_t first_;
  std::uint16_t last_;
  std::map<std::pair<Transport, Family>, std::pair<std::size_t, std::vector<Endpoint>>> pools_;
  std::map<std::pair<Transport, Endpoint>, Binding> held_;
};

class StandInInside : public ExternalGateway::Inside {
 public:
  void closed(const Endpoint&, const Endpoint&) override {}
  std::size_t credit(const Endpoint&, Transport) override { return SIZE_MAX; }
  router::PortId wait_for_credit(const Endpoint&, Transport, router::CreditWaiter&) override { return {}; }
  void cancel_wait(router::PortId, router::CreditWaiter&) override {}

 protected:
  ~StandInInside() = default;
};

}  // namespace penstock::egress
