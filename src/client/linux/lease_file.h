// The lease on disk (mode 0600), so that a client that was restarted gets its session back.
//
// One line: who the lease was given to (a hash of token and gateways), a space, the lease. A lease of another identity
// counts as none, so a changed token is a new client.
#pragma once

#include <string>

#include "client/core/client.h"

namespace penstock::client {

class LeaseFile final : public LeaseStore {
 public:
  LeaseFile(std::string path, const ClientConfig& config);
  // A file that cannot be read is a warning and no lease; one that cannot be written is a warning.
  std::string load() override;
  void save(const std::string& lease) override;

 private:
  std::string path_;
  std::string identity_;
};

}  // namespace penstock::client
