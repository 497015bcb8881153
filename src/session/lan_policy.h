// What the configuration says about the LAN between clients: who counts as whom in access rules, which rules there are,
// and which subnets lie behind whom.
//
// The registry asks it and tells the shards. A member's number stays its own as long as the process runs, also when its
// credential goes and comes back: packets on their way and remembered flows carry it.
//
// Threads     the home loop.
// Not here    what rules mean for a packet (router/access_policy.h), who may log in (registry.h).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "auth/authenticator.h"
#include "base/random.h"
#include "router/access_policy.h"
#include "router/address_pool.h"

namespace penstock::session {

class LanPolicy {
 public:
  explicit LanPolicy(Random& random) : flow_key_{random.next64(), random.next64()} {}

  // The clients that there are from now on. True where the sites are others than before. One that overlaps the LAN's
  // own subnets is left out with a warning.
  bool set_credentials(const auth::Authenticator& authenticator, const router::AddressPool& pool);
  // Nothing: everybody reaches everybody.
  void set_rules(std::optional<std::vector<router::AccessRule>> rules) { rules_ = std::move(rules); }

  // The present rules for the present clients, another value each time; null: everybody reaches everybody.
  std::shared_ptr<const router::AccessPolicy> make_access_policy();
  // The number of the member that a credential's name stands for.
  std::uint32_t member(const std::string& name);

  // All of them, in order.
  std::vector<Prefix> sites() const;
  // Those behind the client of this name.
  std::vector<Prefix> sites_of(std::string_view name) const;

 private:
  router::SipKey flow_key_;
  std::optional<std::vector<router::AccessRule>> rules_;
  std::uint32_t generation_ = 0;
  std::map<std::string, std::uint32_t> numbers_;
  std::vector<router::AccessMember> members_;
  std::map<Prefix, std::string> sites_;  // with the client's name
};

}  // namespace penstock::session
