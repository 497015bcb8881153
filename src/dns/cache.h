// Answers that were heard from upstream, for as long as they are true.
//
//   store() --> KEPT --lifetime over, or least lately used when there is no room--> forgotten
//                 +--find()--> Hit: the records and their age, for write() to count the TTLs down by
//
// What is kept, and how long
//   an answer             with a record of the type that was asked for at the end of its chain of CNAMEs: the least
//                         TTL of all its records, at most kMaxTtl
//   no such name or data  with an SOA (RFC 2308 section 5): the lesser of that and the SOA's TTL and minimum, at most
//                         kMaxNegativeTtl
//   a server's failure    kFailureTtl (RFC 2308 section 7.1, RFC 9520 section 3.2)
// What is not: truncated answers, those of other codes, referrals, and whatever has no time to live.
//
// Always true   an answer is given only to the question that it was an answer to, name, type, class, DO and CD: what it
//               says beside that about other names is never looked up. So an upstream can lie about nothing that it was
//               not asked.
// Bounds        entries and bytes (of keys, records and what they stand in); one entry has at most an eighth of those.
// Cost          a tree of comparisons, of names that strangers choose: none is worse than the logarithm.
// Threads       one.
#pragma once

#include <list>
#include <map>
#include <optional>
#include <string>

#include "base/clock.h"
#include "dns/message.h"

namespace penstock::dns {

// How long an answer may be kept, in seconds; 0 for one that may not.
std::uint32_t lifetime_of(const Message& answer);
// What the TTLs of an answer are held to when it is passed on: the gateway's own limits. Those of a negative answer are
// not longer than it may be kept, so that nobody keeps it for longer.
std::uint32_t ttl_cap_of(const Message& answer);

// What must be the same for one answer to serve two questions.
struct CacheKey {
  Question question;
  bool dnssec_ok = false;
  bool checking_disabled = false;
  friend auto operator<=>(const CacheKey&, const CacheKey&) = default;
};

class Cache {
 public:
  static constexpr std::uint32_t kMaxTtl = 24 * 3600;
  static constexpr std::uint32_t kMaxNegativeTtl = 3600;
  static constexpr std::uint32_t kFailureTtl = 5;

  struct Limits {
    std::size_t entries = 10'000;
    std::size_t bytes = std::size_t{8} * 1024 * 1024;
  };
  struct Hit {
    std::uint16_t rcode;
    const Records* records;  // until the next store() or clear()
    std::uint32_t ttl_cap;   // for write()
    std::uint32_t age;
  };

  explicit Cache(Limits limits) : limits_(limits) {}

  std::optional<Hit> find(const CacheKey& key, TimePoint now);
  // Keeps a copy of the records of `answer` if it may be kept and there is room for it, in place of an earlier one.
  void store(const CacheKey& key, const Message& answer, TimePoint now);
  void clear();

  std::size_t entries() const { return entries_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  using Used = std::list<const CacheKey*>;  // keys of entries_, the least lately used first
  struct Entry {
    Records records;
    TimePoint stored;
    std::uint32_t lifetime = 0;
    std::uint32_t ttl_cap = 0;
    std::uint16_t rcode = 0;
    std::size_t size = 0;
    Used::iterator place;
  };

  void erase(const CacheKey& key);

  Limits limits_;
  std::map<CacheKey, Entry> entries_;
  Used used_;
  std::size_t bytes_ = 0;
};

}  // namespace penstock::dns
