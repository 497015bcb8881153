// nftables of the kernel, spoken to in nft's own language.
//
// A script is one transaction: the kernel takes all of it or nothing. A table with the flag `owner` belongs to the
// socket of the Nftables that added it: nobody else changes or flushes it, and it vanishes when that socket is closed,
// by whatever end of the process. libnftables keeps one socket for its life.
//
// No program is run. Files of /etc/iproute2 are read when one is made, and never again; scripts name everything by
// number or by what is in the table.
//
// Threads     one at a time; it speaks for the network namespace of the thread that made it.
// Blocking    for as long as the kernel takes: milliseconds, some tens of them for thousands of rules.
// Refusals    permission_denied without CAP_NET_ADMIN, or where the table is another process's; unavailable where the
//             kernel has no nftables; system_error with nft's own words for everything else.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"

struct nft_ctx;  // NOLINT(readability-identifier-naming): the library's

namespace penstock::egress {

class Nftables {
 public:
  static Result<std::unique_ptr<Nftables>> create();
  ~Nftables();
  Nftables(const Nftables&) = delete;
  Nftables& operator=(const Nftables&) = delete;

  // What it lists, as nft prints it.
  Result<std::string> run(const std::string& script);
  // The same in JSON (libnftables-json(5)).
  Result<std::string> run_for_json(const std::string& script);

 private:
  explicit Nftables(nft_ctx* context) : context_(context) {}

  nft_ctx* context_;
};

}  // namespace penstock::egress
