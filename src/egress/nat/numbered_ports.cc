#include "egress/nat/numbered_ports.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/result.h"

namespace penstock::egress {

NumberedPorts::NumberedPorts(const Settings& settings, Random& random) : random_(&random) {
  for (const Transport transport : {Transport::udp, Transport::tcp, Transport::echo}) {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      Pool& pool = pools_[index_of(transport, family)];
      pool.range = transport == Transport::udp   ? settings.udp
                   : transport == Transport::tcp ? settings.tcp
                                                 : settings.echo;
      PENSTOCK_ASSERT(pool.range.first <= pool.range.last);
      for (const IpAddress& address : settings.addresses) {
        if (address.family() != family) continue;
        PENSTOCK_ASSERT(std::ranges::find(pool.addresses, address) == pool.addresses.end());
        pool.addresses.push_back(address);
      }
    }
  }
}

void NumberedPorts::Pool::fill() {
  filled = true;
  free.resize(addresses.size() * ports());
  std::iota(free.begin(), free.end(), std::uint32_t{0});
  holders.resize(free.size());
}

Endpoint NumberedPorts::Pool::endpoint_of(std::uint32_t number) const {
  return {addresses[number / ports()], static_cast<std::uint16_t>(range.first + number % ports())};
}

std::optional<std::uint32_t> NumberedPorts::Pool::number_of(const Endpoint& endpoint) const {
  const auto address = std::ranges::find(addresses, endpoint.address);
  if (address == addresses.end() || endpoint.port < range.first || endpoint.port > range.last) return std::nullopt;
  const auto index = static_cast<std::size_t>(address - addresses.begin());
  return static_cast<std::uint32_t>(index * ports() + (endpoint.port - range.first));
}

std::expected<Endpoint, NoPort> NumberedPorts::acquire(Transport transport, Family family, Binding binding) {
  PENSTOCK_ASSERT(binding);
  Pool& pool = pools_[index_of(transport, family)];
  if (!pool.filled) pool.fill();
  if (pool.free.empty()) return std::unexpected(pool.addresses.empty() ? NoPort::none : NoPort::all_taken);
  // Of 2^32 chances each of the free has as many, or one more.
  const auto chosen = static_cast<std::size_t>(std::uint64_t{random_->next32()} * pool.free.size() >> 32);
  std::swap(pool.free[chosen], pool.free.back());
  const std::uint32_t number = pool.free.back();
  pool.free.pop_back();
  PENSTOCK_ASSERT(!pool.holders[number]);
  pool.holders[number] = binding;
  return pool.endpoint_of(number);
}

void NumberedPorts::release(Transport transport, const Endpoint& external, Binding binding) {
  Pool& pool = pools_[index_of(transport, external.address.family())];
  const auto number = pool.number_of(external);
  PENSTOCK_ASSERT(binding && number && pool.filled && pool.holders[*number] == binding);
  pool.holders[*number] = {};
  pool.free.push_back(*number);
}

std::size_t NumberedPorts::held(Transport transport, Family family) const {
  const Pool& pool = pools_[index_of(transport, family)];
  return pool.holders.size() - pool.free.size();
}

}  // namespace penstock::egress
