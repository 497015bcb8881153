#include "auth/authenticator.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/digest.h"

namespace penstock::auth {
namespace {

constexpr std::size_t kLongestName = 255;  // a lease ticket has one byte for it

std::unexpected<Error> refuse(const Credential& credential, const std::string& why) {
  return fail(ErrorCode::invalid_argument, "credential \"" + credential.name + "\": " + why);
}

// Which record has a value that only one may have.
template <typename Value>
using Owners = std::map<Value, std::string>;

// The record that has `value` already; otherwise it is `name`'s from now on.
template <typename Value>
const std::string* other_owner(Owners<Value>& owners, const Value& value, const std::string& name) {
  const auto [owner, is_new] = owners.emplace(value, name);
  return is_new ? nullptr : &owner->second;
}

// In order, what a prefix overlaps stands right behind it.
Result<void> check_sites(const std::map<std::string, std::shared_ptr<const Credential>, std::less<>>& by_name) {
  std::vector<std::pair<Prefix, const Credential*>> sites;
  for (const auto& [name, credential] : by_name)
    for (const Prefix& site : credential->sites) sites.emplace_back(site, credential.get());
  if (sites.size() > Authenticator::kMaxSites) {
    return fail(ErrorCode::invalid_argument, "there are " + std::to_string(sites.size()) + " sites, and at most " +
                                                 std::to_string(Authenticator::kMaxSites) + " are possible");
  }
  std::ranges::sort(sites, {}, [](const auto& site) { return site.first; });
  for (std::size_t i = 1; i < sites.size(); ++i) {
    const auto& [site, owner] = sites[i];
    const auto& [before, other] = sites[i - 1];
    if (site.overlaps(before)) {
      return refuse(*owner, "the site " + site.to_string() + " overlaps " + before.to_string() + ", a site of \"" +
                                other->name + "\"");
    }
  }
  return {};
}

}  // namespace

std::string new_token(Random& random) {
  std::array<std::uint8_t, 32> secret;
  random.fill(secret);
  return "pst_" + base64url_encode(secret);
}

Result<Authenticator> Authenticator::create(std::vector<Credential> credentials) {
  Authenticator authenticator;
  Owners<Digest256> tokens;
  Owners<IpAddress> addresses;
  for (Credential& credential : credentials) {
    if (credential.name.empty()) return fail(ErrorCode::invalid_argument, "a credential has no name");
    if (credential.name.size() > kLongestName)
      return refuse(credential, "the name is longer than " + std::to_string(kLongestName) + " bytes");
    if (authenticator.by_name_.contains(credential.name)) return refuse(credential, "the name is there twice");
    if (const auto* other = other_owner(tokens, credential.token_sha256, credential.name))
      return refuse(credential, "\"" + *other + "\" has the same token");
    if (credential.address && !credential.address->is_v4())
      return refuse(credential, "the fixed address " + credential.address->to_string() + " is not IPv4");
    if (credential.address6 && !credential.address6->is_v6())
      return refuse(credential, "the fixed address " + credential.address6->to_string() + " is not IPv6");
    for (const auto& fixed : {credential.address, credential.address6}) {
      if (!fixed) continue;
      if (const auto* other = other_owner(addresses, *fixed, credential.name))
        return refuse(credential, "\"" + *other + "\" has the fixed address " + fixed->to_string() + " too");
    }
    std::string name = credential.name;
    authenticator.by_name_.emplace(std::move(name), std::make_shared<const Credential>(std::move(credential)));
  }
  PENSTOCK_TRY_VOID(check_sites(authenticator.by_name_));
  return authenticator;
}

std::shared_ptr<const Credential> Authenticator::verify_token(std::string_view token) const {
  const Digest256 given = sha256(as_bytes(token));
  const std::shared_ptr<const Credential>* found = nullptr;
  // To the end, also when found.
  for (const auto& [name, credential] : by_name_) {
    if (constant_time_equal(given, credential->token_sha256)) found = &credential;
  }
  return found == nullptr ? nullptr : *found;
}

std::shared_ptr<const Credential> Authenticator::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

}  // namespace penstock::auth
