// Who a token belongs to.
//
// An Authenticator is an immutable snapshot of the configured credentials; a new configuration makes a new one, and
// sessions keep the Credential they began with until they are told otherwise.
//
// Threads   any number may read one Authenticator at once.
// Secrets   tokens are compared by their SHA-256, with every record and in constant time, so that how long a refusal
//           takes says nothing about any token. Neither tokens nor their hashes appear in messages.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "auth/credential.h"
#include "base/random.h"
#include "base/result.h"

namespace penstock::auth {

// A token for a new record: "pst_" and 32 random bytes in base64url. Shown once to whoever asked for it.
std::string new_token(Random& random);

class Authenticator {
 public:
  // Of all records: clients are told of them in one message.
  static constexpr std::size_t kMaxSites = 512;

  // Nobody may connect.
  Authenticator() = default;
  // invalid_argument, naming the record: a name that is empty, too long or there twice; a token or a fixed address that
  // two records share; a fixed address of the wrong family; sites that overlap, or more than kMaxSites of them.
  static Result<Authenticator> create(std::vector<Credential> credentials);

  // The credential of `token`; null for an unknown one.
  std::shared_ptr<const Credential> verify_token(std::string_view token) const;
  // The credential called `name`; null where there is none (any more).
  std::shared_ptr<const Credential> find(std::string_view name) const;
  std::size_t size() const { return by_name_.size(); }
  // Every credential once, by name.
  void for_each(const std::function<void(const Credential&)>& visit) const {
    for (const auto& [name, credential] : by_name_) visit(*credential);
  }

 private:
  std::map<std::string, std::shared_ptr<const Credential>, std::less<>> by_name_;
};

}  // namespace penstock::auth
