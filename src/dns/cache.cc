#include "dns/cache.h"

#include <algorithm>

namespace penstock::dns {
namespace {

// Whether there is a record of the type asked for at the end of the chain of CNAMEs that begins at the question.
bool answers_question(const Message& answer) {
  constexpr int kMaxChain = 16;
  const Records& records = answer.records;
  Name target = answer.question.name;
  for (int i = 0; i < kMaxChain; ++i) {
    const Record* alias = nullptr;
    for (const Record& record : records.all()) {
      if (record.section != Section::answer || !std::ranges::equal(records.name_of(record), target.wire())) continue;
      if (record.type == answer.question.type) return true;
      if (record.type == type::kCname) alias = &record;
    }
    if (alias == nullptr) return false;
    target = Name::from_wire(records.rdata_of(*alias));
  }
  return false;
}

}  // namespace

std::uint32_t lifetime_of(const Message& answer) {
  const std::uint16_t code = answer.header.rcode;
  if (answer.header.truncated) return 0;
  if (code == rcode::kServFail) return Cache::kFailureTtl;
  const auto least = answer.records.minimal_ttl();
  if (!least) return 0;
  if (code == rcode::kNoError && answers_question(answer)) return std::min(*least, Cache::kMaxTtl);
  if (code != rcode::kNoError && code != rcode::kNxDomain) return 0;
  const auto negative = answer.records.negative_ttl();
  return negative ? std::min({*negative, *least, Cache::kMaxNegativeTtl}) : 0;
}

std::uint32_t ttl_cap_of(const Message& answer) {
  const bool failed = answer.header.rcode != rcode::kNoError;
  if (failed || !answers_question(answer)) return std::min(lifetime_of(answer), Cache::kMaxNegativeTtl);
  return Cache::kMaxTtl;
}

std::optional<Cache::Hit> Cache::find(const CacheKey& key, TimePoint now) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return std::nullopt;
  Entry& entry = found->second;
  const auto age = std::chrono::duration_cast<std::chrono::seconds>(now - entry.stored);
  if (age.count() >= entry.lifetime) {
    erase(key);
    return std::nullopt;
  }
  used_.splice(used_.end(), used_, entry.place);
  return Hit{.rcode = entry.rcode,
             .records = &entry.records,
             .ttl_cap = entry.ttl_cap,
             .age = static_cast<std::uint32_t>(age.count())};
}

void Cache::store(const CacheKey& key, const Message& answer, TimePoint now) {
  erase(key);
  const std::uint32_t lifetime = lifetime_of(answer);
  if (lifetime == 0) return;

  Entry entry;
  entry.records = answer.records;
  entry.records.shrink();
  entry.stored = now;
  entry.lifetime = lifetime;
  entry.ttl_cap = ttl_cap_of(answer);
  entry.rcode = answer.header.rcode;
  // The nodes of the tree and the list have pointers of their own.
  entry.size = sizeof(CacheKey) + sizeof(Entry) + 8 * sizeof(void*) + key.question.name.wire().size() + 1 +
               entry.records.memory();
  if (limits_.entries == 0 || entry.size > limits_.bytes / 8) return;
  while (entries_.size() >= limits_.entries || bytes_ + entry.size > limits_.bytes) erase(*used_.front());
  bytes_ += entry.size;
  const auto added = entries_.emplace(key, std::move(entry)).first;
  added->second.place = used_.insert(used_.end(), &added->first);
}

void Cache::clear() {
  used_.clear();
  entries_.clear();
  bytes_ = 0;
}

void Cache::erase(const CacheKey& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  bytes_ -= found->second.size;
  used_.erase(found->second.place);
  entries_.erase(found);
}

}  // namespace penstock::dns
