#include "egress/tcp/tcp_audit_testing.h"

#include <algorithm>
#include <sstream>

#include "packet/checksum.h"
#include "packet/super_packet.h"

namespace penstock::egress::testing {
namespace {

constexpr std::size_t kMostComplaints = 20;
constexpr std::size_t kTcpHeader = 20;

bool is_sound(const Packet& packet, std::string& why) {
  const ByteView bytes = packet.bytes();
  const auto view = parse_ip(bytes);
  if (!view) return why = "no IP packet", false;
  const auto at = transport_of(bytes, *view);
  if (!at || at->protocol != kProtocolTcp) return why = "no TCP packet", false;
  if (!check_offload(bytes, *view, packet.offload)) return why = "its offload cannot be true", false;
  if (view->ttl == 0) return why = "a hop limit of 0", false;
  if (view->family == Family::ipv4 && (load_be16(&bytes[6]) & 0x4000) == 0) return why = "it may be fragmented", false;
  if (segments_of(packet) > kMaxTcpSegments) return why = "too many segments in one", false;
  PacketBatch segments;
  segment(packet.clone(), segments);
  for (const Packet& one : segments) {
    const IpView ip = parse_ip(one.bytes()).value();
    const ByteView tcp = one.bytes().subspan(ip.header_size);
    const bool header_good = ip.family == Family::ipv6 || internet_checksum(one.bytes().first(ip.header_size)) == 0;
    const std::uint32_t pseudo = pseudo_header_sum(ip.source, ip.destination, kProtocolTcp, tcp.size());
    if (!header_good || checksum_finish(checksum_add(tcp, pseudo)) != 0) return why = "a bad checksum", false;
  }
  return true;
}

}  // namespace

void TcpAudit::complain(const std::string& what, const TcpView& segment) {
  if (complaints_.size() >= kMostComplaints) return;
  std::ostringstream text;
  text << what << " (segment " << segments_ << ": flags " << int{segment.flags} << ", sequence " << segment.sequence;
  if (origin_) text << " = place " << place_of(segment.sequence, *origin_, sent_);
  text << ", " << segment.payload_size << " bytes, acknowledges place "
       << place_of(segment.acknowledgement, facts_->origin, acknowledged_) << ", window " << segment.window
       << "; we sent up to " << facts_->sent << ", have room up to " << facts_->edge << ", it sent up to " << sent_
       << ')';
  complaints_.push_back(text.str());
}

void TcpAudit::see(const Packet& packet) {
  ++segments_;
  std::string why;
  if (!is_sound(packet, why)) return complain(why, {});
  const IpView view = parse_ip(packet.bytes()).value();
  const TcpView segment = parse_tcp(packet.bytes(), view).value();
  if (view.source != facts_->peer.address || segment.source != facts_->peer.port ||
      view.destination != facts_->self.address || segment.destination != facts_->self.port) {
    return complain("not between these ends", segment);
  }
  see_one(packet, segment);
}

void TcpAudit::see_one(const Packet& packet, const TcpView& segment) {
  if ((segment.flags & kTcpRst) != 0) {
    ++resets_;
    if ((segment.flags & (kTcpSyn | kTcpFin)) != 0) complain("RST with SYN or FIN", segment);
    if (segment.payload_size != 0) complain("RST with data", segment);
    return;
  }
  if ((segment.flags & kTcpSyn) != 0) return see_syn(segment);
  if (!origin_ || another_) {
    if (!origin_ && !facts_->reuses) complain("it speaks before its SYN", segment);
    return;
  }
  see_options(segment);
  see_acknowledgement(segment);
  see_data(packet, segment);
}

void TcpAudit::see_syn(const TcpView& segment) {
  if (another_) return;
  const bool answer = (segment.flags & kTcpAck) != 0;
  if (answer && segment.acknowledgement != facts_->origin + 1) {
    // The answer to a SYN that was sent by the connection before.
    if (!facts_->reuses) complain("a SYN-ACK that does not acknowledge our SYN", segment);
    return;
  }
  if (origin_ && segment.sequence != *origin_) {
    another_ = true;
    return;
  }
  if (segment.payload_size != 0) complain("SYN with data", segment);
  if ((segment.flags & (kTcpFin | kTcpUrg)) != 0) complain("SYN with FIN or URG", segment);
  if (facts_->opens && !answer) complain("a SYN to who has sent one", segment);
  const TcpOptions& options = segment.options;
  if (answer && facts_->opens) {
    if (facts_->sent < 1) complain("a SYN-ACK before our SYN", segment);
    if (options.window_scale && !facts_->window_scale) complain("window scale without our having offered it", segment);
    if (options.sack_permitted && !facts_->sack) complain("SACK without our having offered it", segment);
    if (options.timestamps && !facts_->timestamps) complain("timestamps without our having offered them", segment);
  }
  if (options.window_scale && *options.window_scale > 14) complain("a window scale above 14", segment);
  if (syn_options_ && (syn_options_->mss != options.mss || syn_options_->window_scale != options.window_scale ||
                       syn_options_->sack_permitted != options.sack_permitted ||
                       syn_options_->timestamps.has_value() != options.timestamps.has_value())) {
    complain("a SYN again with other options", segment);
  }
  if (!origin_) {
    origin_ = segment.sequence;
    syn_options_ = options;
    scale_ = facts_->window_scale && options.window_scale ? *options.window_scale : std::uint8_t{0};
    timestamps_ = facts_->timestamps && options.timestamps;
    sack_ = facts_->sack && options.sack_permitted;
  }
  if (options.timestamps) {
    if (timestamp_ && static_cast<std::int32_t>(options.timestamps->value - *timestamp_) < 0) {
      complain("a timestamp goes back", segment);
    }
    timestamp_ = options.timestamps->value;
  }
  if (answer) {
    acknowledged_ = std::max<std::int64_t>(acknowledged_, 1);
    edge_ = std::max<std::int64_t>(edge_, 1 + segment.window);  // never scaled
  }
}

void TcpAudit::see_options(const TcpView& segment) {
  const TcpOptions& options = segment.options;
  if (options.mss || options.window_scale || options.sack_permitted) complain("an option of a SYN", segment);
  if (options.timestamps.has_value() != timestamps_) {
    complain(timestamps_ ? "timestamps are missing" : "timestamps that were not agreed on", segment);
  } else if (timestamps_) {
    if (timestamp_ && static_cast<std::int32_t>(options.timestamps->value - *timestamp_) < 0) {
      complain("a timestamp goes back", segment);
    }
    timestamp_ = options.timestamps->value;
    const std::uint32_t echo = options.timestamps->echo - facts_->first_timestamp;
    if (echo > facts_->last_timestamp - facts_->first_timestamp) {
      complain("it echoes a timestamp that we never sent", segment);
    }
  }
  if (options.sack_count == 0) return;
  if (!sack_) return complain("SACK that was not agreed on", segment);
  const std::int64_t acknowledged = place_of(segment.acknowledgement, facts_->origin, acknowledged_);
  for (std::size_t i = 0; i < options.sack_count; ++i) {
    const std::int64_t first = place_of(options.sacks[i].first, facts_->origin, acknowledged);
    const std::int64_t end = place_of(options.sacks[i].end, facts_->origin, acknowledged);
    if (first >= end) complain("an empty SACK block", segment);
    if (end > facts_->sent) complain("SACK of what we never sent", segment);
    if (i == 0 && facts_->duplicate_sacks) continue;
    if (first <= acknowledged) complain("SACK of what is acknowledged", segment);
  }
}

void TcpAudit::see_acknowledgement(const TcpView& segment) {
  if ((segment.flags & kTcpAck) == 0) return complain("no ACK", segment);
  if ((segment.flags & kTcpUrg) != 0) complain("URG", segment);
  const std::int64_t acknowledged = place_of(segment.acknowledgement, facts_->origin, acknowledged_);
  if (acknowledged > facts_->sent) return complain("it acknowledges what we never sent", segment);
  if (acknowledged < acknowledged_) complain("an acknowledgement goes back", segment);
  acknowledged_ = std::max(acknowledged_, acknowledged);
  const std::int64_t edge = acknowledged + (std::int64_t{segment.window} << scale_);
  if (edge < edge_) complain("its window's right edge goes back by " + std::to_string(edge_ - edge), segment);
  edge_ = std::max(edge_, edge);
}

void TcpAudit::see_data(const Packet& packet, const TcpView& segment) {
  const std::int64_t first = place_of(segment.sequence, *origin_, sent_);
  const std::int64_t end = first + static_cast<std::int64_t>(segment.payload_size);
  const bool fin = (segment.flags & kTcpFin) != 0;
  if (first > sent_) complain("it leaves out what it never sent", segment);
  if (segment.payload_size != 0) {
    const ByteView bytes = packet.bytes().subspan(segment.payload, segment.payload_size);
    // A byte in front of the stream's first, or one that was acknowledged, asks whether we live (RFC 9293 section
    // 3.8.4): it may be anything.
    const bool asks = segment.payload_size == 1 && first < sent_;
    if (first < 1 && !asks) {
      complain("data in front of its first byte", segment);
    } else if (!asks && expected_.matching(static_cast<std::uint64_t>(first - 1), bytes) != bytes.size()) {
      complain("not the bytes that belong there", segment);
    }
    const bool probe = segment.payload_size == 1 && first == facts_->edge;
    if (end > facts_->edge && !probe) complain("data beyond our window", segment);
    const std::size_t header = packet.bytes()[0] >> 4 == 4 ? 20 : 40;
    const std::size_t most = facts_->mss != 0 ? facts_->mss : header == 20 ? 536 : 1220;
    if (largest_segment_of(packet) > header + kTcpHeader + most) complain("larger than our MSS", segment);
  }
  // The FIN itself may stand at the edge: what cannot take it passes it over.
  if (fin && end > facts_->edge) complain("FIN beyond our window", segment);
  if (end_ && (first > *end_ + 1 || (segment.payload_size != 0 && end > *end_)))
    complain("data behind its FIN", segment);
  if (fin) {
    if (end_ && *end_ != end) complain("its FIN moves", segment);
    if (end < sent_ && !end_) complain("FIN in front of what it sent", segment);
    end_ = end;
  }
  sent_ = std::max(sent_, end + (fin ? 1 : 0));
}

}  // namespace penstock::egress::testing
