// What became of queries and replies. A new one is added at the end, with its name.
//
// Every query that is taken is counted once: answered from where (local, cached, joined, asked) or not at all (the
// refusals). Below these stands what went between the gateway and its upstreams.
//
// Threads   one DNS service a shard; its loop is the only writer, anybody may read.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::dns {

enum class Count : std::uint8_t {
  local,   // answered from the gateway's own names
  cached,  // answered from the cache
  joined,  // waits for the answer to the same question of somebody else
  asked,   // sent to an upstream

  not_a_query,       // too short, or an answer: dropped
  malformed,         // FORMERR
  opcode,            // NOTIMP: not a QUERY
  edns_version,      // BADVERS
  not_internet,      // REFUSED: class other than IN
  any_refused,       // REFUSED: type ANY (RFC 8482)
  meta_refused,      // REFUSED: transfers, and types that are no data (RFC 6895 section 3.1)
  not_recursive,     // REFUSED: no recursion desired, and not a name of ours: the cache is not for looking into
  no_upstream,       // REFUSED: there is none
  over_rate,         // the client asks too often: dropped, over a stream REFUSED
  client_in_flight,  // REFUSED: too many of the client's queries wait
  in_flight,         // REFUSED: too many queries wait
  repeated,          // dropped: the same query of the same client waits already

  sent,           // queries to upstreams
  sent_stream,    // of these by TCP
  answers,        // good replies
  strange,        // replies that are not to what was asked: wrong server, id or question
  case_lost,      // replies that have the question in another case
  edns_lost,      // replies of servers that do not know EDNS
  truncated,      // replies that did not fit
  server_failed,  // replies that are no answer: SERVFAIL, REFUSED, malformed and the like
  unreachable,    // a socket that could not be had or failed
  timed_out,      // queries to upstreams without reply in their time
  failed,         // questions that no upstream answered
};
inline constexpr std::size_t kCounts = static_cast<std::size_t>(Count::failed) + 1;

constexpr std::string_view to_string(Count count) {
  constexpr std::array<std::string_view, kCounts> kNames{
      "local",         "cached",       "joined",           "asked",       "not_a_query",  "malformed",
      "opcode",        "edns_version", "not_internet",     "any_refused", "meta_refused", "not_recursive",
      "no_upstream",   "over_rate",    "client_in_flight", "in_flight",   "repeated",     "sent",
      "sent_stream",   "answers",      "strange",          "case_lost",   "edns_lost",    "truncated",
      "server_failed", "unreachable",  "timed_out",        "failed"};
  return kNames[static_cast<std::size_t>(count)];
}

class Counters {
 public:
  void count(Count what) {
    auto& counter = counters_[static_cast<std::size_t>(what)];
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  std::uint64_t of(Count what) const {
    return counters_[static_cast<std::size_t>(what)].load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<std::uint64_t>, kCounts> counters_{};
};

}  // namespace penstock::dns
