#include "dns/service/name_listeners.h"

#include <string>
#include <string_view>
#include <utility>

#include "net/port_holder.h"

namespace penstock::dns {
namespace {

// In place of the sockets' own advice, for the port is not one's to choose.
std::unexpected<Error> refuse(const Endpoint& at, std::string_view protocol, const Error& error) {
  const std::string where = "dns: cannot listen on " + at.to_string() + " (" + std::string(protocol) + "): ";
  if (error.code == ErrorCode::address_in_use) {
    // Who has the port by TCP usually has it by UDP.
    const auto holder = net::find_port_holder(at);
    const std::string who =
        holder ? holder->name + " (pid " + std::to_string(holder->pid) + ")"
               : "another program (as root, `ss -anp 'sport = :" + std::to_string(at.port) + "'` shows it)";
    return fail(error.code, where + "in use by " + who + ", maybe for all addresses: stop that, or keep it from " +
                                at.address.to_string());
  }
  return fail(error.code, where + error.message);
}

}  // namespace

Result<NameListeners> NameListeners::open(EventLoop& loop, std::span<const Endpoint> at) {
  NameListeners listeners;
  for (const Endpoint& endpoint : at) {
    PENSTOCK_TRY(Sockets sockets, open_one(loop, endpoint));
    listeners.sockets_.push_back(std::move(sockets));
  }
  return listeners;
}

Result<NameListeners::Sockets> NameListeners::open_one(EventLoop& loop, const Endpoint& at) {
  if (at.address.is_unspecified())
    return fail(ErrorCode::invalid_argument, "dns: cannot listen on " + at.to_string() +
                                                 ": names are for clients alone, give addresses of the VPN's");
  auto udp = net::UdpSocket::create(loop, at, {.gro = false, .gso = false});
  if (!udp) return refuse(at, "UDP", udp.error());
  auto tcp = net::TcpListener::create(loop, udp->local(), {}, "the DNS service");
  if (!tcp) return refuse(udp->local(), "TCP", tcp.error());
  return Sockets{std::make_unique<net::UdpSocket>(*std::move(udp)), *std::move(tcp)};
}

std::vector<Endpoint> NameListeners::local() const {
  std::vector<Endpoint> all;
  for (const Sockets& sockets : sockets_) all.push_back(sockets.udp->local());
  return all;
}

}  // namespace penstock::dns
