#include "egress/tcp/tcp_script_testing.h"

#include <algorithm>

namespace penstock::egress::testing {

namespace {

// RFC 9293 section 3.7.1.
constexpr std::uint16_t kDefaultMss4 = 536;
constexpr std::uint16_t kDefaultMss6 = 1220;

std::size_t options_size(const TcpOptions& options) {
  return (options.timestamps ? 12U : 0U) + (options.sack_count == 0 ? 0U : 4U + 8U * options.sack_count);
}

// The ports of the TCP header at the front of `bytes`.
Ports ports_at(ByteView bytes) { return {.source = load_be16(&bytes[0]), .destination = load_be16(&bytes[2])}; }

}  // namespace

// ---- the world ----

void TcpWorld::closed(const TcpEnds& ends) {
  log("! closed " + ends.client.to_string());
  gone.push_back(ends);
}

void TcpWorld::to_clients(PacketBatch& batch) {
  for (Packet& packet : batch) {
    const auto view = parse_ip(packet.bytes());
    ASSERT_TRUE(view);
    const bool icmp = view->protocol == kProtocolIcmp || view->protocol == kProtocolIcmp6;
    const ByteView rest = packet.bytes().subspan(view->header_size);
    // An error quotes what the client said: the ports are the other way round.
    const std::size_t quote = icmp ? 8 + (view->family == Family::ipv4 ? 20U : 40U) : 0;
    ASSERT_GE(rest.size(), quote + 8);
    Ports ports = ports_at(rest.subspan(quote));
    if (icmp) std::swap(ports.source, ports.destination);
    const auto found = std::ranges::find_if(clients, [&](const ScriptClient* client) {
      return client->ends.client == Endpoint{view->destination, ports.destination} &&
             client->ends.server.port == ports.source && (icmp || client->ends.server.address == view->source);
    });
    if (found == clients.end()) {
      ADD_FAILURE() << "a packet for nobody: " << view->destination.to_string() << " " << ports.destination;
      continue;
    }
    if (credit_ != SIZE_MAX) {
      // What is small may go unasked: acknowledgements, resets.
      EXPECT_TRUE(packet.size() <= 200 || packet.footprint() <= credit_) << "more than the queue has room for";
      credit_ -= std::min(credit_, packet.footprint());
    }
    (*found)->arrives(std::move(packet));
  }
  batch.clear();
}

// ---- the client says ----

void ScriptClient::sends(std::uint8_t flags, const Says& says) {
  const bool syn = (flags & kSyn) != 0;
  const std::uint32_t seq = says.seq.value_or(syn ? 0 : s_.next);
  const std::uint32_t ack = (flags & kAck) != 0 ? says.ack.value_or(s_.received) : 0;
  const std::string payload = says.text.empty() ? pattern(seq - (syn ? 0 : 1), says.data) : says.text;

  TcpHeader header{.from = ends.client, .to = ends.server, .sequence = first_ + seq, .flags = flags};
  if ((flags & kAck) != 0) header.acknowledgement = server_first_ + ack;
  header.window = says.window.value_or(window);
  header.options.mss = says.mss;
  header.options.window_scale = says.scale;
  header.options.sack_permitted = says.sack;
  header.options.timestamps = says.stamps;
  if (!says.stamps && !says.unstamped && (says.ts || (s_.ts && !syn)))
    header.options.timestamps = TcpTimestamps{.value = stamp(), .echo = s_.their_stamp.value_or(0)};
  for (const SackBlock& block : says.sacks)
    header.options.sacks.at(header.options.sack_count++) = {server_first_ + block.first, server_first_ + block.end};

  Seen shown{.flags = flags, .seq = seq, .ack = ack, .window = header.window, .options = header.options};
  shown.data = payload;
  for (std::size_t i = 0; i < says.sacks.size(); ++i) shown.options.sacks.at(i) = says.sacks[i];
  world_.log("< " + to_text(shown));

  if (syn) {
    s_.mss = says.mss.value_or(ends.client.address.is_v4() ? kDefaultMss4 : kDefaultMss6);
    s_.offered_scale = says.scale;
    s_.offered_ts = header.options.timestamps.has_value();
    s_.offered_sack = says.sack;
    // As the second to offer, it knows now what holds.
    if ((flags & kAck) != 0) {
      s_.our_scale = s_.offered_scale.value_or(0);
      if (!s_.offered_scale) s_.their_scale = 0;
      s_.ts = s_.offered_ts;
    }
  }
  if (!before(shown.end(), s_.next) && (flags & kRst) == 0) s_.next = shown.end();
  if ((flags & kAck) != 0) {
    const std::uint32_t edge = ack + (std::uint32_t{header.window} << (syn ? 0 : std::min<int>(s_.our_scale, 14)));
    s_.edge = before(s_.edge, edge) ? edge : s_.edge;
  }

  const std::size_t front = tcp_headers_size(header);
  Packet packet = Packet::with_size(front + payload.size());
  std::ranges::copy(payload, packet.mutable_bytes().begin() + static_cast<std::ptrdiff_t>(front));
  write_tcp_headers(packet, header, kSegment);
  const IpView view = parse_ip(packet.bytes()).value();
  store_be16(packet.mutable_bytes().subspan(view.header_size + 18).data(), says.urgent);
  // As with a device that has no offloads; super-packets come from one that has.
  if (packet.offload.gso == Offload::Gso::none) finish_checksum(packet);
  const HostStreams::Stream last = world_.streams.last();
  world_.terminator.from_client(std::move(packet), view);
  world_.settle();
  if (syn && world_.streams.last() != last) stream = world_.streams.last();
}

void ScriptClient::opens(const Says& offer, Where at) {
  sends(kSyn, offer);
  if (stream == HostStreams::kNone || !world_.streams.open.contains(stream)) return fail(at, "nobody is connected to");
  world_.streams.accept(stream);
  world_.settle();
  expects(kSyn | kAck, {.seq = 0, .ack = 1}, at);
  sends(kAck);
  drain();
}

// ---- the client sees ----

Seen ScriptClient::expects(std::uint8_t flags, const Wants& wants, Where at) {
  if (seen_.empty()) {
    fail(at, "wanted " + to_text(flags, wants) + ", saw nothing");
    return {};
  }
  Seen seen = take();
  if (!fits(seen, flags, wants)) fail(at, "wanted " + to_text(flags, wants) + ", saw " + to_text(seen));
  return seen;
}

std::vector<Seen> ScriptClient::expects_data(std::uint32_t seq, std::size_t size, Where at) {
  std::vector<Seen> segments;
  std::uint32_t from = seq;
  while (from - seq < size && !seen_.empty()) {
    Seen seen = take();
    if (seen.data.empty()) continue;
    if (seen.seq != from) fail(at, "wanted data from " + std::to_string(from) + " on, saw " + to_text(seen));
    from = seen.end() - (seen.has(kFin) ? 1 : 0);
    segments.push_back(std::move(seen));
  }
  if (from - seq != size)
    fail(at, "wanted " + std::to_string(size) + " bytes from " + std::to_string(seq) + ", saw " +
                 std::to_string(from - seq));
  return segments;
}

void ScriptClient::expects_ack(std::uint32_t ack, Duration soon, Where at) {
  const TimePoint until = world_.loop.now() + soon;
  std::string last = "nothing";
  for (;;) {
    while (!seen_.empty()) {
      const Seen seen = take();
      if (seen.has(kAck) && !seen.has(kRst) && seen.ack == ack) return;
      last = to_text(seen);
    }
    const auto next = world_.loop.next_timer();
    if (!next || *next > until) break;
    world_.after(*next - world_.loop.now());
  }
  fail(at, "wanted ack " + std::to_string(ack) + ", saw last " + last);
}

double ScriptClient::waits(Duration most) {
  const TimePoint began = world_.loop.now();
  while (seen_.empty()) {
    const auto next = world_.loop.next_timer();
    if (!next || *next > began + most) {
      world_.after(began + most - world_.loop.now());
      break;
    }
    world_.after(*next - world_.loop.now());
  }
  return std::chrono::duration<double>(world_.loop.now() - began).count();
}

void ScriptClient::arrives(Packet packet) {
  const IpView view = parse_ip(packet.bytes()).value();
  if (view.protocol != kProtocolTcp) {
    const ByteView icmp = packet.bytes().subspan(view.header_size);
    seen_.push_back({.icmp = std::pair(icmp[0], icmp[1])});
    // The quote names the segment: its sequence number is among the eight bytes that there always are (RFC 792).
    const std::size_t quoted = 8 + (view.family == Family::ipv4 ? 20U : 40U);
    if (quoted + 8 <= icmp.size()) seen_.back().seq = load_be32(&icmp[quoted + 4]) - first_;
    world_.log("> " + to_text(seen_.back()));
    return;
  }
  const auto at = transport_of(packet.bytes(), view);
  ASSERT_TRUE(at);
  EXPECT_TRUE(check_offload(packet.bytes(), view, packet.offload));
  EXPECT_TRUE(has_good_checksums(packet, *at));
  packets.push_back(packet.clone());
  PacketBatch segments;
  segment(std::move(packet), segments);
  for (const Packet& one : segments) arrives_segment(one);
}

void ScriptClient::arrives_segment(const Packet& packet) {
  const IpView view = parse_ip(packet.bytes()).value();
  const auto tcp = parse_tcp(packet.bytes(), view);
  ASSERT_TRUE(tcp);
  if ((tcp->flags & kSyn) != 0 && !std::exchange(server_known_, true)) {
    server_first_ = tcp->sequence;
    if (s_.edge == 0) s_.edge = 1;
  }
  Seen seen{.flags = tcp->flags,
            .seq = tcp->sequence - server_first_,
            .ack = (tcp->flags & kAck) != 0 ? tcp->acknowledgement - first_ : 0,
            .window = tcp->window,
            .options = tcp->options};
  for (SackBlock& block : seen.options.sacks) block = {block.first - first_, block.end - first_};
  seen.data = as_text(packet.bytes().subspan(tcp->payload, tcp->payload_size));
  world_.log("> " + to_text(seen));
  check(seen);
  seen_.push_back(std::move(seen));
}

void ScriptClient::check(const Seen& seen) {
  SCOPED_TRACE("of " + to_text(seen));
  const TcpOptions& options = seen.options;
  EXPECT_TRUE(seen.has(kAck) || seen.has(kRst) || seen.has(kSyn)) << "RFC 9293 section 3.1: ACK is always set";
  if (seen.has(kRst)) return;

  if (seen.has(kSyn)) {
    EXPECT_TRUE(seen.data.empty());
    if (seen.has(kAck)) {
      // RFC 7323 sections 2.2 and 3.2, RFC 2018 section 2: what was not offered is not answered.
      EXPECT_TRUE(s_.offered_scale || !options.window_scale);
      EXPECT_TRUE(s_.offered_ts || !options.timestamps);
      EXPECT_TRUE(s_.offered_sack || !options.sack_permitted);
      s_.ts = options.timestamps.has_value();
      s_.our_scale = options.window_scale ? s_.offered_scale.value_or(0) : 0;
    }
    s_.their_scale = std::min<std::uint8_t>(options.window_scale.value_or(0), 14);
  } else {
    EXPECT_FALSE(options.mss || options.window_scale || options.sack_permitted) << "options of a SYN alone";
    EXPECT_EQ(options.timestamps.has_value(), s_.ts) << "RFC 7323 section 3.2";
  }
  if (options.timestamps) {
    EXPECT_FALSE(s_.their_stamp && before(options.timestamps->value, *s_.their_stamp)) << "timestamps go back";
    s_.their_stamp = options.timestamps->value;
  }

  if (seen.has(kAck)) {
    EXPECT_FALSE(before(s_.next, seen.ack)) << "acknowledges what was not sent";
    EXPECT_FALSE(s_.their_ack && before(seen.ack, *s_.their_ack)) << "acknowledges less than before";
    s_.their_ack = seen.ack;
    const int scale = seen.has(kSyn) ? 0 : s_.their_scale;
    const std::uint32_t edge = seen.ack + (std::uint32_t{seen.window} << scale);
    EXPECT_TRUE(s_.their_edge < edge + (1U << scale))
        << "the window's right edge went back from " << s_.their_edge << " to " << edge;
    s_.their_edge = std::max(s_.their_edge, edge);
  }
  for (const SackBlock& block : seen.sacks()) {
    EXPECT_TRUE(s_.offered_sack) << "RFC 2018 section 2";
    EXPECT_TRUE(before(block.first, block.end) && !before(s_.next, block.end)) << "RFC 2018 section 3";
  }

  if (seen.data.empty()) return;
  EXPECT_LE(seen.data.size() + options_size(options), s_.mss) << "RFC 6691: options count";
  EXPECT_GE(seen.seq, 1U);
  const std::uint32_t end = seen.seq + static_cast<std::uint32_t>(seen.data.size());
  EXPECT_LE(end, s_.edge + (seen.data.size() == 1 ? 1 : 0)) << "beyond the client's window";
  EXPECT_LE(end - 1, s_.said) << "more than the server said";
  EXPECT_TRUE(seen.data == pattern(seen.seq - 1, seen.data.size())) << "other bytes than the server said";
}

}  // namespace penstock::egress::testing
