#include "gateway/outside.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <utility>

#include "base/log.h"
#include "gateway/internet_settings.h"
#include "net/ping_socket.h"

namespace penstock::gateway {
namespace {

// The ports that the system gives out when a program asks for any.
std::size_t ports_to_choose_from() {
  std::size_t first = 32768;
  std::size_t last = 60999;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> first >> last;
  return last >= first ? last - first + 1 : 1;
}

// As many as leave descriptors for clients' links, and ports for the programs of this machine.
std::size_t most_sockets(std::uint64_t open_files) {
  return std::max<std::size_t>(16, std::min<std::size_t>(open_files / 2, ports_to_choose_from() / 8 * 7));
}

std::vector<std::uint16_t> tcp_ports_of(const std::vector<InternetConfig::Forward>& forwards) {
  std::vector<std::uint16_t> ports;
  for (const InternetConfig::Forward& forward : forwards)
    if (forward.protocol == PortProtocol::tcp) ports.push_back(forward.port);
  return ports;
}

std::string name_of(const std::optional<IpAddress>& address) { return address ? address->to_string() : "none"; }

}  // namespace

Outside::Outside(EventLoop& loop, Random& random, const ServerConfig& config, std::uint64_t open_files)
    : loop_(&loop),
      config_(config),
      internet_(config.internet),
      external4_(config.internet.public_ip ? config.internet.public_ip : net::outer_address(Family::ipv4)),
      external6_(net::outer_address(Family::ipv6)),
      route4_(net::outer_address(Family::ipv4).has_value()),
      route6_(external6_.has_value()),
      policy_(exit_policy_of(internet_, config.vpn, machine_, {})),
      gateway_(loop, random,
               {.external4 = external4_,
                .external6 = external6_,
                .udp = {},
                .may_send = [this](std::uint8_t protocol, const IpAddress& to,
                                   std::uint16_t port) { return policy_.check(protocol, to, port).allowed; },
                .most_sockets = most_sockets(open_files),
                .forwarded_tcp = tcp_ports_of(config.internet.forward)}) {}

Result<std::unique_ptr<Outside>> Outside::create(EventLoop& loop, Random& random, const ServerConfig& config,
                                                 std::uint64_t open_files) {
  std::unique_ptr<Outside> outside(new Outside(loop, random, config, open_files));
  PENSTOCK_TRY(outside->watch_, net::AddressWatch::create(loop, [self = outside.get()] { self->look_again(); }));
  PENSTOCK_TRY(outside->machine_, net::host_addresses());
  outside->renew_policy();
  if (const auto& own = config.internet.public_ip) {
    if (auto bound = net::UdpSocket::create(loop, {*own, 0}); !bound) {
      return fail(bound.error().code,
                  "internet.public_ip: " + own->to_string() + " is no address of this machine" +
                      (outside->machine_.empty() ? std::string()
                                                 : " (" + outside->machine_.front().address.to_string() + " is)") +
                      "; behind a router that translates, leave it out");
    }
  }
  for (const InternetConfig::Forward& rule : config.internet.forward) {
    Forward& forward = outside->forwards_.emplace_back();
    forward.rule = rule;
    PENSTOCK_TRY_VOID(outside->open(forward));
  }
  if (!outside->route4_ && !outside->route6_)
    log::warn("no route to the internet: clients get there as soon as this machine has one");
  return outside;
}

void Outside::renew_policy() {
  policy_ = exit_policy_of(internet_, config_.vpn, machine_, {});
  if (exit_ != nullptr) exit_->set_policy(policy_);
}

void Outside::set_rules(const InternetConfig& internet) {
  internet_.allow = internet.allow;
  internet_.deny = internet.deny;
  renew_policy();
}

// ---- forwards ----

const std::optional<IpAddress>& Outside::external_for(const Forward& forward) const {
  return forward.rule.to.address.is_v4() ? external4_ : external6_;
}

Result<void> Outside::open(Forward& forward) {
  const auto& external = external_for(forward);
  if (!external) {
    log::warn("internet.forward: there is no outer address of that family; the rule waits for one",
              {{"port", forward.rule.port}, {"to", forward.rule.to}});
    return {};
  }
  const Endpoint at{*external, forward.rule.port};
  if (forward.transport() == egress::Transport::tcp) {
    PENSTOCK_TRY(auto listener, egress::ForwardListener::create(*loop_, at));
    forward.socket.emplace<egress::ForwardListener>(std::move(listener));
  } else {
    auto socket = net::UdpSocket::create(*loop_, at);
    if (!socket) return fail(socket.error().code, "internet.forward: " + socket.error().message);
    forward.socket.emplace<net::UdpSocket>(std::move(*socket));
  }
  forward.at = external;
  return {};
}

void Outside::attach(Forward& forward) {
  const auto lead = [&](auto& socket) {
    forward.binding = exit_->forward(forward.transport(), socket.local(), forward.rule.to);
    gateway_.open_forward(std::move(socket), forward.binding);
  };
  if (auto* udp = std::get_if<net::UdpSocket>(&forward.socket)) lead(*udp);
  if (auto* tcp = std::get_if<egress::ForwardListener>(&forward.socket)) lead(*tcp);
  forward.socket.emplace<std::monostate>();
}

void Outside::attach(egress::NatExit& exit) {
  // Of the user that the process is by now.
  if (const auto pings = net::may_open_ping_sockets(); !pings)
    log::warn("clients cannot ping the internet", {{"error", pings.error().message}});
  log_outside("internet in user space");
  exit_ = &exit;
  for (Forward& forward : forwards_) attach(forward);
}

// ---- the machine ----

bool Outside::is_of_machine(const IpAddress& address) const {
  return std::ranges::find(machine_, address, &net::HostAddress::address) != machine_.end();
}

// A default route that goes for a moment is no reason to give up ports.
std::optional<IpAddress> Outside::chosen(const std::optional<IpAddress>& found,
                                         const std::optional<IpAddress>& before) const {
  return found || !before || !is_of_machine(*before) ? found : before;
}

void Outside::look_again() {
  auto machine = net::host_addresses();
  if (!machine) return log::warn("addresses of this machine", {{"error", machine.error().message}});
  machine_ = std::move(*machine);
  renew_policy();

  const auto before4 = external4_;
  const auto before6 = external6_;
  const auto found4 = net::outer_address(Family::ipv4);
  const auto found6 = net::outer_address(Family::ipv6);
  const bool other_routes = route4_ != found4.has_value() || route6_ != found6.has_value();
  route4_ = found4.has_value();
  route6_ = found6.has_value();
  if (!internet_.public_ip) external4_ = chosen(found4, before4);
  external6_ = chosen(found6, before6);
  for (const auto& before : {before4, before6})
    if (exit_ != nullptr && before && !is_of_machine(*before)) exit_->forget_external(*before);
  const bool moved = external4_ != before4 || external6_ != before6;
  if (moved) gateway_.set_external(external4_, external6_);
  if (moved || other_routes) log_outside("the way to the internet has changed");
  for (Forward& forward : forwards_) follow(forward);
}

void Outside::log_outside(std::string_view what) const {
  log::info(what, {{"external4", name_of(external4())},
                   {"external6", name_of(external6())},
                   {"sockets_at_most", gateway_.settings().most_sockets}});
}

// A socket stays where it was while there is no other address: should that come back, it is good again. Where a port
// cannot be had at the new address, what is there at the old one stays, and the next change is the next try.
void Outside::follow(Forward& forward) {
  const auto& external = external_for(forward);
  if (exit_ == nullptr || !external || forward.at == external) return;
  const bool tried = std::exchange(forward.tried, external) == external;
  if (auto opened = open(forward); !opened) {
    if (!tried) log::warn("a forward could not move to the new address", {{"error", opened.error().message}});
    return;
  }
  if (forward.binding) {
    exit_->remove_forward(forward.binding);
    gateway_.close_forward(forward.transport(), forward.binding);
  }
  attach(forward);
}

}  // namespace penstock::gateway
