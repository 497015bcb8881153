// Where clients' packets meet the internet by way of the kernel: its rules and forwarding, kept up with the networks
// that the machine stands in.
//
// The kernel knows its own addresses; which networks are closed, and whether there is an IPv6 internet, is said to it.
// IPv6 that comes after the start is told of, and takes a restart (egress/kernel/kernel_nat.h).
//
// Ownership   the loop and the configuration outlive it.
// Threads     the home loop's.
// Not here    the rules themselves (egress/kernel/), user space (outside.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "config/server_config.h"
#include "egress/kernel/kernel_nat.h"
#include "net/outer_address.h"

namespace penstock::gateway {

class KernelInternet {
 public:
  // While the process may still do what egress/kernel/kernel_nat.h says; `interface` is the TUN's name. Refusals:
  // KernelNat's.
  static Result<std::unique_ptr<KernelInternet>> create(EventLoop& loop, const ServerConfig& config,
                                                        std::string interface);
  // For a gateway in another mode: puts back what a former process could not.
  static void restore_leftovers(const ServerConfig& config);
  KernelInternet(const KernelInternet&) = delete;
  KernelInternet& operator=(const KernelInternet&) = delete;

  // Other rules from now on; public_ip and forwards stay as they were.
  void set_rules(const InternetConfig& internet);
  egress::KernelNat& nat() { return *nat_; }

 private:
  KernelInternet(const ServerConfig& config, std::string interface);
  egress::KernelNatSettings settings() const;
  void look_again();
  void update(egress::KernelNatSettings settings);

  const ServerConfig& config_;
  std::string interface_;
  InternetConfig internet_;
  bool outer_ipv6_;
  bool told_of_ipv6_ = false;
  std::vector<Prefix> networks_;  // as the rules know them
  std::unique_ptr<egress::KernelNat> nat_;
  std::unique_ptr<net::AddressWatch> watch_;
};

}  // namespace penstock::gateway
