// Looks at every packet of a TCP as it leaves it, in the order of sending, for what its peer may never see, whatever
// the network does: the rules of RFC 9293, 7323, 2018 and 6691 that can be told from outside.
//
// Places   are positions in a stream of sequence numbers without a wrap: 0 is the SYN, byte i stands at 1 + i, the FIN
//          behind the last one.
// Former   where the same ends had a connection before, its last packets are not looked at.
// Threads  one loop's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/ip.h"
#include "egress/tcp/simulation_testing.h"
#include "packet/packet.h"
#include "packet/tcp_segment.h"

namespace penstock::egress::testing {

// The place of `sequence` that is nearest to `near`.
inline std::int64_t place_of(std::uint32_t sequence, std::uint32_t origin, std::int64_t near) {
  return near + static_cast<std::int32_t>(sequence - origin - static_cast<std::uint32_t>(near));
}

// What the auditing end has said so far, which is what its peer has to keep to.
struct AuditFacts {
  Endpoint self{};
  Endpoint peer{};
  bool opens = false;         // it sends the first SYN
  bool reuses = false;        // there was a connection with these ends before
  std::uint32_t origin = 0;   // its initial sequence number
  std::int64_t sent = 0;      // its first place that it never sent
  std::int64_t edge = 0;      // the first place of its peer that it never had room for
  std::uint16_t mss = 0;      // of its SYN; 0: none
  bool window_scale = false;  // these too
  bool sack = false;
  bool timestamps = false;
  bool duplicate_sacks = false;  // the peer may speak of what came twice (RFC 2883)
  std::uint32_t first_timestamp = 0;
  std::uint32_t last_timestamp = 0;
};

class TcpAudit {
 public:
  TcpAudit(const AuditFacts& facts, Pattern expected) : facts_(&facts), expected_(expected) {}

  void see(const Packet& packet);

  const std::vector<std::string>& complaints() const { return complaints_; }
  std::uint64_t segments() const { return segments_; }
  std::uint64_t resets() const { return resets_; }
  // The peer has said SYN twice with different numbers: it takes this for another connection.
  bool another() const { return another_; }

 private:
  void see_syn(const TcpView& segment);
  void see_one(const Packet& packet, const TcpView& segment);
  void see_options(const TcpView& segment);
  void see_acknowledgement(const TcpView& segment);
  void see_data(const Packet& packet, const TcpView& segment);
  void complain(const std::string& what, const TcpView& segment);

  const AuditFacts* facts_;
  Pattern expected_;
  std::optional<std::uint32_t> origin_;  // the peer's initial sequence number
  std::uint8_t scale_ = 0;
  bool timestamps_ = false;
  bool sack_ = false;
  bool another_ = false;
  std::optional<TcpOptions> syn_options_;
  std::int64_t sent_ = 1;            // the first place it never sent
  std::int64_t acknowledged_ = 0;    // of ours
  std::int64_t edge_ = 0;            // its window's, in our places
  std::optional<std::int64_t> end_;  // where its FIN stands
  std::optional<std::uint32_t> timestamp_;
  std::uint64_t segments_ = 0;
  std::uint64_t resets_ = 0;
  std::vector<std::string> complaints_;
};

}  // namespace penstock::egress::testing
