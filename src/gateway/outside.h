// Where clients' packets meet the internet in user space: the gateway's sockets on the address of this machine, the
// ports that lead to clients, and the policy, kept up with what becomes of the machine's addresses.
//
//   create()   as root, if it is: ports of forwards may be low ones      attach()   the exit is there, forwards work
//   addresses change --> policy names them; another outer address: new conversations begin there, those of an address
//                        that has gone are forgotten, forwards move
//
// Ownership   outlives the exit that it was attached to; the loop outlives it.
// Threads     the home loop's.
// Not here    translation (egress/nat/), nftables (internet.mode: kernel).
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "base/event_loop.h"
#include "base/random.h"
#include "config/server_config.h"
#include "egress/nat/exit_policy.h"
#include "egress/nat/nat_exit.h"
#include "egress/nat/socket_gateway.h"
#include "egress/tcp/forward_listener.h"
#include "net/host_addresses.h"
#include "net/outer_address.h"
#include "net/udp_socket.h"

namespace penstock::gateway {

class Outside {
 public:
  // `open_files` is what the process may have. Refusals: internet.public_ip that is no address of this machine, a port
  // of internet.forward that cannot be had.
  static Result<std::unique_ptr<Outside>> create(EventLoop& loop, Random& random, const ServerConfig& config,
                                                 std::uint64_t open_files);
  Outside(const Outside&) = delete;
  Outside& operator=(const Outside&) = delete;

  egress::SocketGateway& gateway() { return gateway_; }
  const egress::SocketGateway& gateway() const { return gateway_; }
  const egress::ExitPolicy& policy() const { return policy_; }
  void attach(egress::NatExit& exit);
  // Other rules from now on; public_ip and forwards stay as they were.
  void set_rules(const InternetConfig& internet);

  // What packets leave by. None: no way there.
  std::optional<IpAddress> external4() const { return route4_ ? external4_ : std::nullopt; }
  std::optional<IpAddress> external6() const { return route6_ ? external6_ : std::nullopt; }

 private:
  struct Forward {
    InternetConfig::Forward rule;
    std::variant<std::monostate, net::UdpSocket, egress::ForwardListener> socket;  // until it is attached
    egress::Binding binding;         // from then on; none where it could not be had
    std::optional<IpAddress> at;     // where it was opened last
    std::optional<IpAddress> tried;  // where that was tried last

    egress::Transport transport() const {
      return rule.protocol == PortProtocol::tcp ? egress::Transport::tcp : egress::Transport::udp;
    }
  };

  Outside(EventLoop& loop, Random& random, const ServerConfig& config, std::uint64_t open_files);
  const std::optional<IpAddress>& external_for(const Forward& forward) const;
  Result<void> open(Forward& forward);
  void attach(Forward& forward);
  void follow(Forward& forward);
  void log_outside(std::string_view what) const;
  void look_again();
  void renew_policy();
  // The address to leave by from now on: the one found, or the one before while the machine has it.
  std::optional<IpAddress> chosen(const std::optional<IpAddress>& found, const std::optional<IpAddress>& before) const;
  bool is_of_machine(const IpAddress& address) const;

  EventLoop* loop_;
  const ServerConfig& config_;
  InternetConfig internet_;
  std::vector<net::HostAddress> machine_;
  std::optional<IpAddress> external4_;
  std::optional<IpAddress> external6_;
  bool route4_ = false;  // whether one leads to the internet now
  bool route6_ = false;
  egress::ExitPolicy policy_;
  egress::SocketGateway gateway_;
  std::vector<Forward> forwards_;
  egress::NatExit* exit_ = nullptr;
  std::unique_ptr<net::AddressWatch> watch_;
};

}  // namespace penstock::gateway
