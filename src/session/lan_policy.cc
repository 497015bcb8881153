#include "session/lan_policy.h"

#include <utility>

#include "base/log.h"

namespace penstock::session {

bool LanPolicy::set_credentials(const auth::Authenticator& authenticator, const router::AddressPool& pool) {
  members_.clear();
  std::map<Prefix, std::string> sites;
  const auto overlaps_lan = [&pool](const Prefix& site) {
    return site.overlaps(pool.subnet()) || (pool.subnet6() && site.overlaps(*pool.subnet6()));
  };
  authenticator.for_each([&](const auth::Credential& credential) {
    members_.push_back({member(credential.name), credential.name, credential.groups});
    for (const Prefix& site : credential.sites) {
      if (overlaps_lan(site)) {
        log::warn("site not routed: it overlaps the VPN's own subnet", {{"client", credential.name}, {"site", site}});
      } else {
        sites.emplace(site, credential.name);
      }
    }
  });
  return std::exchange(sites_, sites) != sites;
}

std::shared_ptr<const router::AccessPolicy> LanPolicy::make_access_policy() {
  if (!rules_) return nullptr;
  auto policy = std::make_shared<const router::AccessPolicy>(*rules_, members_, ++generation_, flow_key_);
  for (const std::string& name : policy->unknown_names())
    log::warn("lan.allow names neither a client nor a group", {{"name", name}});
  return policy;
}

std::uint32_t LanPolicy::member(const std::string& name) {
  return numbers_.try_emplace(name, static_cast<std::uint32_t>(numbers_.size() + 1)).first->second;
}

std::vector<Prefix> LanPolicy::sites() const {
  std::vector<Prefix> all;
  all.reserve(sites_.size());
  for (const auto& [site, name] : sites_) all.push_back(site);
  return all;
}

std::vector<Prefix> LanPolicy::sites_of(std::string_view name) const {
  std::vector<Prefix> own;
  for (const auto& [site, owner] : sites_) {
    if (owner == name) own.push_back(site);
  }
  return own;
}

}  // namespace penstock::session
