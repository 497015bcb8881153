// Turns host names into addresses, away from the loop's thread.
//
// The system's getaddrinfo() blocks, for tens of seconds where a name server is silent, and cannot be interrupted.
// SystemResolver therefore gives each lookup a detached thread that shares nothing with the rest but a small state
// that outlives both sides: a lookup can be abandoned, and the resolver destroyed, while the thread still hangs.
//
// Ownership  dropping a Lookup cancels it: its callback never runs afterwards. The loop outlives the resolver.
// Threads    the loop's; callbacks run there, never inside resolve().
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"

namespace penstock::net {

class Resolver {
 public:
  // The addresses, best first (RFC 6724), never none.
  // Refusals: not_found (no such name, or no address of this family), unavailable (no answer), exhausted.
  using Done = std::move_only_function<void(Result<std::vector<IpAddress>>)>;

  class Lookup {
   public:
    virtual ~Lookup() = default;
  };

  virtual ~Resolver() = default;
  // One family a lookup, so that a slow answer for one does not hold up the other.
  virtual std::unique_ptr<Lookup> resolve(const std::string& host, Family family, Done done) = 0;
};

class SystemResolver final : public Resolver {
 public:
  // Threads that may hang at once; further lookups are refused until one returns.
  static constexpr int kMostThreads = 16;

  explicit SystemResolver(EventLoop& loop);
  ~SystemResolver() override;
  SystemResolver(const SystemResolver&) = delete;
  SystemResolver& operator=(const SystemResolver&) = delete;

  std::unique_ptr<Lookup> resolve(const std::string& host, Family family, Done done) override;

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;  // also held by the threads that have not returned
};

}  // namespace penstock::net
