#include "egress/tcp/tcp_client_testing.h"

#include <algorithm>
#include <sstream>

#include "base/result.h"
#include "packet/checksum.h"
#include "packet/super_packet.h"

namespace penstock::egress::testing {
namespace {

constexpr std::size_t kTimestampsSize = 12;
constexpr std::size_t kSacksSize = 36;  // at most
constexpr std::uint8_t kScale = 14;

bool is_intact(const Packet& packet) {
  const auto view = parse_ip(packet.bytes());
  if (!view) return false;
  const auto at = transport_of(packet.bytes(), *view);
  if (!at) return false;
  if (packet.offload.needs_checksum) return check_offload(packet.bytes(), *view, packet.offload);
  const ByteView tcp = packet.bytes().subspan(view->header_size);
  const std::uint32_t pseudo = pseudo_header_sum(view->source, view->destination, kProtocolTcp, tcp.size());
  return checksum_finish(checksum_add(tcp, pseudo)) == 0;
}

bool older(std::uint32_t a, std::uint32_t b) { return static_cast<std::int32_t>(a - b) < 0; }

}  // namespace

SimulatedClient::SimulatedClient(EventLoop& loop, Dice dice, const Endpoint& self, const Endpoint& peer,
                                 const ClientHabits& habits, Pattern sends, Pattern expects, Output output)
    : loop_(&loop),
      dice_(dice),
      habits_(habits),
      facts_{.self = self,
             .peer = peer,
             .reuses = habits.reuses,
             .origin = habits.initial_sequence,
             .mss = habits.mss.value_or(0),
             .window_scale = habits.window_scale.has_value(),
             .sack = habits.sack,
             .timestamps = habits.timestamps,
             .first_timestamp = habits.first_timestamp,
             .last_timestamp = habits.first_timestamp},
      audit_(facts_, expects),
      sends_(sends),
      expects_(expects),
      output_(std::move(output)),
      retransmission_(loop),
      acknowledgement_(loop),
      waiting_(loop) {}

// ---- its application ----

void SimulatedClient::connect() {
  PENSTOCK_ASSERT(phase_ == Phase::idle);
  facts_.opens = true;
  phase_ = Phase::syn_sent;
  send_syn();
  flush();
}

void SimulatedClient::listen() {
  PENSTOCK_ASSERT(phase_ == Phase::idle);

  phase_ = Phase::listen;
}

void SimulatedClient::offer(std::size_t bytes) {
  PENSTOCK_ASSERT(!ended_);
  offered_ += static_cast<std::int64_t>(bytes);
  push();
  flush();
}

void SimulatedClient::end() {
  if (std::exchange(ended_, true)) return;
  push();
  flush();
}

void SimulatedClient::abort() {
  if (phase_ == Phase::gone) return;
  if (phase_ == Phase::open || phase_ == Phase::syn_received) {
    out_.push_back(tcp_packet(header(kTcpRst | kTcpAck, std::max(una_, highest_))));
  }
  go(Why::reset);
  flush();
}

void SimulatedClient::vanish() {
  vanished_ = true;
  go(Why::no_answer);
  out_.clear();
}

void SimulatedClient::read(std::size_t bytes) {
  if (bytes == SIZE_MAX) reads_all_ = true;
  const std::int64_t there = arrived_ - (heard_end_ ? 1 : 0);
  const std::int64_t least = static_cast<std::int64_t>(segment_size());
  if (taken_ >= there) return;
  taken_ += std::min(there - taken_, static_cast<std::int64_t>(std::min<std::size_t>(bytes, 1U << 30)));
  // RFC 9293 section 3.8.6.2.2: a window that has grown by little is not told of, unless that is its habit. What its
  // field cannot say would look like the same acknowledgement again.
  const int shift = scale_ ? std::min(*habits_.window_scale, kScale) : 0;
  const std::int64_t edge = arrived_ + (std::min<std::int64_t>(room() >> shift, 0xFFFF) << shift);
  const std::int64_t worth = std::min<std::int64_t>(least, static_cast<std::int64_t>(habits_.capacity / 2));
  const std::int64_t unit = std::int64_t{1} << shift;
  const std::int64_t more = edge - told_edge_;
  if (phase_ == Phase::open && more >= unit && (habits_.tells_every_window || more >= worth)) {
    acknowledge();
    flush();
  }
}

bool SimulatedClient::at_rest() const {
  return !retransmission_.running() && !acknowledgement_.running() && !waiting_.running();
}

std::uint64_t SimulatedClient::acknowledged() const {
  return static_cast<std::uint64_t>(std::clamp<std::int64_t>(una_ - 1, 0, offered_));
}

std::vector<std::string> SimulatedClient::complaints() const {
  std::vector<std::string> every = complaints_;
  every.insert(every.end(), audit_.complaints().begin(), audit_.complaints().end());
  return every;
}

std::string SimulatedClient::describe() const {
  std::ostringstream text;
  text << facts_.self.to_string() << ": phase " << static_cast<int>(phase_) << " (why " << static_cast<int>(why_)
       << "), offered " << offered_ << (ended_ ? " and the end" : "") << ", unacknowledged from " << una_ << ", next "
       << next_ << ", sent " << facts_.sent << ", peer's edge " << peer_edge_ << ", arrived " << arrived_ << ", read "
       << taken_ << (heard_end_ ? " and the end" : "") << ", told edge " << told_edge_ << ", islands "
       << islands_.size() << ", tries " << tries_;
  return text.str();
}

// ---- what comes ----

void SimulatedClient::receive(const Packet& packet) {
  if (vanished_) return;
  if (!is_intact(packet)) {
    ++bad_checksums_;
    return;
  }
  receive_one(packet);
  if (reads_all_) read(SIZE_MAX);
  push();
  if (must_acknowledge_ && phase_ != Phase::gone) acknowledge();
  must_acknowledge_ = false;
  flush();
  if (changed) changed();
}

void SimulatedClient::receive_one(const Packet& packet) {
  const IpView view = parse_ip(packet.bytes()).value();
  const auto segment = parse_tcp(packet.bytes(), view);
  if (!segment || view.source != facts_.peer.address || view.destination != facts_.self.address ||
      segment->source != facts_.peer.port || segment->destination != facts_.self.port) {
    return;
  }
  switch (phase_) {
    case Phase::idle:
    case Phase::gone:
      if (auto answer = tcp_reset_for(packet, view)) out_.push_back(std::move(*answer));
      return;
    case Phase::listen:
      if ((segment->flags & (kTcpSyn | kTcpAck | kTcpRst)) == kTcpSyn) {
        receive_in_listen(*segment);
      } else if (auto answer = tcp_reset_for(packet, view)) {
        out_.push_back(std::move(*answer));
      }
      return;
    case Phase::syn_sent: return receive_in_syn_sent(*segment);
    default: return receive_in_connection(packet, *segment);
  }
}

void SimulatedClient::receive_in_listen(const TcpView& segment) {
  peer_origin_ = segment.sequence;
  arrived_ = 1;
  agree_on(segment.options);
  peer_edge_ = 1;  // of a SYN's window nothing is used before the connection is open
  phase_ = Phase::syn_received;
  send_syn();
}

void SimulatedClient::receive_in_syn_sent(const TcpView& segment) {
  const bool answer = (segment.flags & kTcpAck) != 0;
  const bool acceptable = answer && segment.acknowledgement == facts_.origin + 1;
  if ((segment.flags & kTcpRst) != 0) {
    if (acceptable) go(Why::reset_by_peer);
    return;
  }
  // RFC 9293 section 3.10.7.3: it is half-open, or of the connection before.
  if (answer && !acceptable) return reset(segment.acknowledgement);
  if (!answer || (segment.flags & kTcpSyn) == 0) return;
  peer_origin_ = segment.sequence;
  arrived_ = 1;
  una_ = next_ = 1;
  agree_on(segment.options);
  peer_edge_ = 1 + segment.window;
  become_open();
  must_acknowledge_ = true;
}

void SimulatedClient::agree_on(const TcpOptions& options) {
  peer_mss_ = options.mss.value_or(facts_.self.address.is_v4() ? std::uint16_t{536} : std::uint16_t{1220});
  scale_ = habits_.window_scale && options.window_scale;
  peer_scale_ = scale_ ? std::min(*options.window_scale, kScale) : std::uint8_t{0};
  sack_ = habits_.sack && options.sack_permitted;
  timestamps_ = habits_.timestamps && options.timestamps;
  if (timestamps_) echo_ = options.timestamps->value;
}

void SimulatedClient::become_open() {
  phase_ = Phase::open;
  established_ = true;
  tries_ = 0;
  retransmission_.cancel();
}

void SimulatedClient::receive_in_connection(const Packet& packet, const TcpView& segment) {
  const std::int64_t first = place_of(segment.sequence, peer_origin_, arrived_);
  const bool fin = (segment.flags & kTcpFin) != 0;
  const bool syn = (segment.flags & kTcpSyn) != 0;
  const bool rst = (segment.flags & kTcpRst) != 0;
  const auto size = static_cast<std::int64_t>(segment.payload_size) + (fin ? 1 : 0) + (syn ? 1 : 0);
  const std::int64_t edge = std::max(told_edge_, arrived_);

  if (rst) {
    // RFC 5961 section 3.2, and RFC 1337: nobody shortens TIME-WAIT.
    if (phase_ == Phase::time_wait) return;
    if (first == arrived_) return go(Why::reset_by_peer);
    if (first > arrived_ && first < edge) must_acknowledge_ = true;
    return;
  }
  // RFC 7323 section 5.3, R1 to R3.
  if (timestamps_ && segment.options.timestamps && !syn) {
    if (older(segment.options.timestamps->value, echo_)) {
      must_acknowledge_ = true;
      return;
    }
    if (first <= last_acknowledged_) echo_ = segment.options.timestamps->value;
  }
  // RFC 9293 section 3.10.7.4, the first check: something of it is within the window.
  const bool bare_fin_at_edge = fin && habits_.takes_fin_without_room && first == arrived_ && size == 1;
  const bool empty_window = edge == arrived_;
  bool acceptable = false;
  if (size == 0) {
    // At the edge too: a sender that has filled the window stands there.
    acceptable = first >= arrived_ && first <= edge;
  } else {
    acceptable = !empty_window && first < edge && first + size > arrived_;
  }
  if (syn) {
    must_acknowledge_ = true;
    if (phase_ == Phase::syn_received && first == 0 && (segment.flags & kTcpAck) == 0) {
      must_acknowledge_ = false;
      send_syn();
    }
    return;
  }
  if (!acceptable && !bare_fin_at_edge) {
    must_acknowledge_ = true;
    // RFC 2883 section 4: what came twice.
    if (size > 0 && first + size <= arrived_ && first >= 1) {
      twice_ = SackBlock{.first = segment.sequence, .end = segment.sequence + static_cast<std::uint32_t>(size)};
    }
    // An acknowledgement in it holds nevertheless, as most take it.
    if (first + size < arrived_ - (1 << 20) || first > edge) return;
    if (size == 0 && first < arrived_) must_acknowledge_ = true;
  }
  if ((segment.flags & kTcpAck) == 0) return;
  if (!take_acknowledgement(segment)) return;
  if (phase_ == Phase::gone || (!acceptable && !bare_fin_at_edge)) return;
  if (size != 0) take_data(packet, segment, first);
  leave_if_done();
}

// False where the segment is not to be looked at any further.
bool SimulatedClient::take_acknowledgement(const TcpView& segment) {
  const std::int64_t acknowledged = place_of(segment.acknowledgement, facts_.origin, una_);
  if (phase_ == Phase::syn_received) {
    if (acknowledged != 1 && (acknowledged < 1 || acknowledged > facts_.sent)) {
      reset(segment.acknowledgement);
      return false;
    }
    una_ = next_ = 1;
    become_open();
  }
  if (acknowledged > facts_.sent) {
    must_acknowledge_ = true;
    return false;
  }
  const std::int64_t edge = acknowledged + (std::int64_t{segment.window} << peer_scale_);
  const bool same = acknowledged == una_ && segment.payload_size == 0 && edge <= peer_edge_ &&
                    (segment.flags & kTcpFin) == 0 && una_ < facts_.sent;
  peer_edge_ = std::max(peer_edge_, edge);
  for (std::size_t i = 0; sack_ && i < segment.options.sack_count; ++i) {
    const std::int64_t first = place_of(segment.options.sacks[i].first, facts_.origin, una_);
    const std::int64_t end = place_of(segment.options.sacks[i].end, facts_.origin, una_);
    if (first < end && first > acknowledged && end <= facts_.sent) {
      std::int64_t& known = sacked_[first];
      known = std::max(known, end);
    }
  }
  if (acknowledged > una_) {
    una_ = acknowledged;
    next_ = std::max(next_, una_);
    tries_ = 0;
    repeats_ = 0;
    std::erase_if(sacked_, [this](const auto& block) { return block.second <= una_; });
    retransmission_.cancel();
    // What follows the hole that was mended is missing too, or has been sacked.
    if (una_ < recover_ && habits_.fast_retransmit) retransmit_from(una_);
  } else if (same && ++repeats_ == 3 && habits_.fast_retransmit && una_ >= recover_) {
    recover_ = facts_.sent;
    retransmit_from(una_);
  }
  if (una_ == facts_.sent || peer_edge_ <= next_) tries_ = std::min(tries_, 5U);  // whoever answers lives
  leave_if_done();
  return true;
}

void SimulatedClient::take_data(const Packet& packet, const TcpView& segment, std::int64_t first) {
  const std::int64_t edge = std::max(told_edge_, arrived_);
  std::int64_t begin = std::max(first, arrived_);
  const std::int64_t end = std::min(first + static_cast<std::int64_t>(segment.payload_size), edge);
  const bool fin = (segment.flags & kTcpFin) != 0;
  const std::int64_t fin_at = first + static_cast<std::int64_t>(segment.payload_size);
  const std::int64_t before = arrived_;
  if (begin < end) {
    const ByteView bytes = packet.bytes().subspan(segment.payload + static_cast<std::size_t>(begin - first),
                                                  static_cast<std::size_t>(end - begin));
    if (expects_.matching(static_cast<std::uint64_t>(begin - 1), bytes) != bytes.size() && complaints_.size() < 20) {
      complaints_.push_back("what arrived at place " + std::to_string(begin) + " does not belong there");
    }
    join(begin, end);
  }
  if (fin && (fin_at < edge || habits_.takes_fin_without_room)) peer_end_ = fin_at;
  if (peer_end_ && arrived_ == *peer_end_ && !heard_end_) {
    ++arrived_;
    heard_end_ = true;
    ours_first_ = ended_ && facts_.sent > fin_place();
    must_acknowledge_ = true;
  }
  if (fin) must_acknowledge_ = true;
  if (first != before || !islands_.empty() || arrived_ == before) must_acknowledge_ = true;  // RFC 5681 section 4.2
  if (phase_ == Phase::time_wait) must_acknowledge_ = true;
  if (must_acknowledge_ || ++unacknowledged_ >= habits_.acknowledges_every) {
    must_acknowledge_ = true;
  } else if (!acknowledgement_.running()) {
    acknowledgement_.start(dice_.up_to(habits_.acknowledges_within), [this] {
      acknowledge();
      flush();
    });
  }
}

void SimulatedClient::join(std::int64_t first, std::int64_t end) {
  if (first <= arrived_) {
    arrived_ = std::max(arrived_, end);
  } else {
    auto at = islands_.lower_bound(first);
    if (at != islands_.begin() && std::prev(at)->second >= first) --at;
    std::int64_t low = first;
    std::int64_t high = end;
    while (at != islands_.end() && at->first <= high) {
      low = std::min(low, at->first);
      high = std::max(high, at->second);
      std::erase(recent_, at->first);
      at = islands_.erase(at);
    }
    islands_[low] = high;
    recent_.push_front(low);
  }
  while (!islands_.empty() && islands_.begin()->first <= arrived_) {
    arrived_ = std::max(arrived_, islands_.begin()->second);
    std::erase(recent_, islands_.begin()->first);
    islands_.erase(islands_.begin());
  }
}

void SimulatedClient::leave_if_done() {
  if (phase_ != Phase::open || !heard_end_ || !end_acknowledged()) return;
  if (!ours_first_) {
    // The acknowledgement of their FIN may still be owed.
    if (must_acknowledge_) acknowledge();
    return go(Why::ended);
  }
  phase_ = Phase::time_wait;
  must_acknowledge_ = true;
  why_ = Why::ended;
  retransmission_.cancel();
  waiting_.start(habits_.time_wait, [this] { go(Why::ended); });
}

void SimulatedClient::go(Why why) {
  if (phase_ == Phase::gone) return;
  phase_ = Phase::gone;
  why_ = why;
  retransmission_.cancel();
  acknowledgement_.cancel();
  waiting_.cancel();
  if (changed) changed();
}

// ---- what goes ----

std::uint32_t SimulatedClient::timestamp() const {
  const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(loop_->now().time_since_epoch()).count();
  return habits_.first_timestamp + static_cast<std::uint32_t>(passed - 3'600'000'000);
}

std::int64_t SimulatedClient::room() const {
  const std::int64_t free = taken_ + static_cast<std::int64_t>(habits_.capacity) - arrived_ + (heard_end_ ? 1 : 0);
  return std::max<std::int64_t>(0, free);
}

std::uint16_t SimulatedClient::window_field(bool syn) {
  const int shift = !syn && scale_ ? std::min(*habits_.window_scale, kScale) : 0;
  std::int64_t field = std::min<std::int64_t>(room() >> shift, 0xFFFF);
  // The edge never goes back: what scaling takes away is given nevertheless.
  const std::int64_t told = std::max<std::int64_t>(0, told_edge_ - arrived_);
  if (field << shift < told) field = std::min<std::int64_t>((told + (std::int64_t{1} << shift) - 1) >> shift, 0xFFFF);
  told_edge_ = std::max(told_edge_, arrived_ + (field << shift));
  facts_.edge = std::max(facts_.edge, told_edge_);
  return static_cast<std::uint16_t>(field);
}

TcpHeader SimulatedClient::header(std::uint8_t flags, std::int64_t place) {
  const bool syn = (flags & kTcpSyn) != 0;
  TcpHeader made{.from = facts_.self,
                 .to = facts_.peer,
                 .sequence = facts_.origin + static_cast<std::uint32_t>(place),
                 .flags = flags};
  if ((flags & kTcpAck) != 0) {
    made.acknowledgement = peer_origin_ + static_cast<std::uint32_t>(arrived_);
    made.window = window_field(syn);
    last_acknowledged_ = arrived_;
    unacknowledged_ = 0;
    acknowledgement_.cancel();
  } else {
    made.window = static_cast<std::uint16_t>(std::min<std::size_t>(habits_.capacity, 0xFFFF));
    // A place that their answer counts from: their SYN stands at 0.
    told_edge_ = std::max<std::int64_t>(told_edge_, 1 + made.window);
    facts_.edge = told_edge_;
  }
  const bool answer = syn && (flags & kTcpAck) != 0;
  if (syn) {
    made.options.mss = habits_.mss;
    if (!answer || scale_) made.options.window_scale = habits_.window_scale;
    made.options.sack_permitted = answer ? sack_ : habits_.sack;
  }
  if (syn && !answer ? habits_.timestamps : timestamps_) {
    made.options.timestamps = TcpTimestamps{.value = timestamp(), .echo = (flags & kTcpAck) != 0 ? echo_ : 0};
    facts_.last_timestamp = timestamp();
  }
  if (!syn && sack_ && (flags & kTcpRst) == 0) {
    const std::size_t most = timestamps_ ? 3 : 4;
    auto& count = made.options.sack_count;
    if (habits_.duplicate_sacks && twice_) made.options.sacks[count++] = *twice_;
    twice_.reset();
    for (const std::int64_t first : recent_) {
      if (count == most) break;
      made.options.sacks[count++] = {.first = peer_origin_ + static_cast<std::uint32_t>(first),
                                     .end = peer_origin_ + static_cast<std::uint32_t>(islands_.at(first))};
    }
  }
  return made;
}

void SimulatedClient::send_syn() {
  const bool answer = phase_ == Phase::syn_received;
  const std::uint8_t flags = answer ? kTcpSyn | kTcpAck : kTcpSyn;
  out_.push_back(tcp_packet(header(flags, 0)));
  facts_.sent = std::max<std::int64_t>(facts_.sent, 1);
  next_ = 1;
  const Duration wait =
      std::min<Duration>(std::chrono::seconds(1) * (1 << std::min(tries_, 5U)), habits_.longest_timeout);
  retransmission_.start(wait, [this] {
    if (++tries_ > std::min(habits_.tries, 12U)) return go(Why::no_answer);
    send_syn();
    flush();
  });
}

void SimulatedClient::acknowledge() {
  if (phase_ != Phase::open && phase_ != Phase::time_wait) return;
  must_acknowledge_ = false;
  out_.push_back(tcp_packet(header(kTcpAck, std::max(una_, highest_))));
}

void SimulatedClient::reset(std::uint32_t sequence) {
  TcpHeader made = header(kTcpRst, 0);
  made.sequence = sequence;
  made.window = 0;
  made.options = {};
  out_.push_back(tcp_packet(made));
}

std::size_t SimulatedClient::segment_size() const {
  const std::size_t mss = std::max<std::size_t>(peer_mss_, 64);
  return mss - (timestamps_ ? kTimestampsSize : 0) - (sack_ && !islands_.empty() ? kSacksSize : 0);
}

void SimulatedClient::transmit(std::int64_t first, std::int64_t end, bool super) {
  PENSTOCK_ASSERT(first >= 1 && first < end && end <= all());
  const bool fin = ended_ && end == all();
  const std::int64_t data_end = fin ? fin_place() : end;
  const auto size = static_cast<std::size_t>(data_end - first);
  std::uint8_t flags = kTcpAck;
  if (fin) flags |= kTcpFin;
  if (data_end == 1 + offered_ && size != 0) flags |= kTcpPsh;
  if (habits_.urgent && !super && dice_.one_in(8)) flags |= kTcpUrg;
  twice_.reset();  // segment_size() has left no room for it
  const TcpHeader made = header(flags, first);
  const std::size_t headers = tcp_headers_size(made);
  Packet packet = Packet::with_size(headers + size);
  sends_.fill(static_cast<std::uint64_t>(first - 1), packet.mutable_bytes().subspan(headers));
  write_tcp_headers(packet, made, super ? segment_size() : std::max<std::size_t>(size, 1));
  out_.push_back(std::move(packet));
  if (first < facts_.sent) ++retransmitted_;
  facts_.sent = std::max(facts_.sent, end);
  must_acknowledge_ = false;
}

// One segment of what is neither acknowledged nor sacked, from `place` on.
void SimulatedClient::retransmit_from(std::int64_t place) {
  std::int64_t end = facts_.sent;
  for (const auto& [first, last] : sacked_) {
    if (place >= first && place < last) place = last;
    if (first > place) {
      end = std::min(end, first);
      break;
    }
  }
  std::size_t most = segment_size();
  if (habits_.cuts_anew) most = dice_.between(1, most);
  end = std::min({end, facts_.sent, all(), place + static_cast<std::int64_t>(most)});
  if (place < end) transmit(place, end, false);
}

void SimulatedClient::push() {
  if (phase_ != Phase::open) return;
  const auto size = static_cast<std::int64_t>(segment_size());
  const std::int64_t limit = std::min({all(), peer_edge_, una_ + static_cast<std::int64_t>(habits_.flight) * size});
  while (next_ < limit) {
    // What was sacked needs not be sent again.
    const auto behind = sacked_.upper_bound(next_);
    if (behind != sacked_.begin() && std::prev(behind)->second > next_) {
      next_ = std::prev(behind)->second;
      continue;
    }
    std::int64_t burst = size * static_cast<std::int64_t>(dice_.between(1, habits_.burst));
    if (behind != sacked_.end()) burst = std::min(burst, behind->first - next_);
    const std::int64_t end = std::min(limit, next_ + std::min<std::int64_t>(burst, 60'000));
    transmit(next_, end, end - next_ > size);
    next_ = end;
    highest_ = std::max(highest_, end);
  }
  watch_over();
}

void SimulatedClient::watch_over() {
  const bool unacknowledged = una_ < facts_.sent;
  const bool shut = next_ < all() && peer_edge_ <= next_;
  if (!unacknowledged && !shut) return retransmission_.cancel();
  if (retransmission_.running()) return;
  const Duration wait =
      std::min<Duration>(habits_.timeout * (std::int64_t{1} << std::min(tries_, 10U)), habits_.longest_timeout);
  retransmission_.start(wait, [this] {
    if (++tries_ > habits_.tries) return go(Why::no_answer);
    if (una_ < std::min(facts_.sent, peer_edge_)) {
      on_timeout();
    } else {
      on_persist();
    }
    watch_over();
    flush();
  });
}

void SimulatedClient::on_timeout() {
  repeats_ = 0;
  recover_ = facts_.sent;
  sacked_.clear();  // RFC 2018 section 8: the receiver may have thought better of it
  if (habits_.goes_back) {
    const std::int64_t end = std::min({facts_.sent, una_ + static_cast<std::int64_t>(segment_size()), all()});
    transmit(una_, end, false);
    next_ = end;
  } else {
    retransmit_from(una_);
  }
}

// The window is shut: one byte asks (RFC 9293 section 3.8.6.1).
void SimulatedClient::on_persist() {
  if (habits_.probes_with_old_byte && una_ > 1) {
    out_.push_back(tcp_packet(header(kTcpAck, una_ - 1)));
  } else if (una_ < all()) {
    transmit(una_, una_ + 1, false);
  }
}

void SimulatedClient::flush() {
  if (!out_.empty()) output_(out_);
  PENSTOCK_ASSERT(out_.empty());
}

}  // namespace penstock::egress::testing
