#include "egress/tcp/tcp_connection.h"

#include <utility>

#include "base/result.h"
#include "packet/icmp.h"
#include "packet/super_packet.h"

namespace penstock::egress {
namespace {

constexpr std::uint16_t kSmallestMss = 64;  // what a client asks for below it is not believed
constexpr Duration kSilence = std::chrono::seconds(2);
// What a connection takes of what is next where its client holds too much, in bytes.
constexpr std::size_t kLittle = 16 * 1024 - Packet::kHeadroom;
constexpr std::size_t kStampsSize = 12;  // of the option, padded

std::size_t plain_headers(Family family) { return family == Family::ipv4 ? 40 : 60; }

// RFC 9293 section 3.7.1, RFC 8200 section 8.3: of who names none.
std::uint16_t default_mss(Family family) { return family == Family::ipv4 ? 536 : 1220; }

}  // namespace

TcpConnection::TcpConnection(TcpShared& shared, const TcpEnds& ends, std::uint64_t cookie)
    : shared_(&shared),
      ends_(ends),
      cookie_(cookie),
      iss_(shared.random.next32()),
      una_(iss_),
      nxt_(iss_),
      head_(iss_ + 1),
      congestion_(536),
      stamp_offset_(shared.random.next32()),
      heard_at_(shared.loop.now()) {}

TcpConnection::~TcpConnection() {
  if (!gone()) abort();
}

// ---- how it begins ----

void TcpConnection::begin(const TcpView& syn, std::optional<Sequence> above) {
  if (above) {
    iss_ = una_ = nxt_ = *above + 1 + (iss_ >> 2);
    head_ = iss_ + 1;
  }
  irs_ = syn.sequence;
  arrivals_.start(irs_ + 1);
  acknowledged_ = edge_ = irs_ + 1;
  take_options(syn.options);
  window_ = largest_window_ = syn.window;
  const auto stream = shared_->streams.connect(ends_.client, ends_.server, cookie_);
  if (!stream) return could_not_connect(stream.error());
  stream_ = *stream;
}

void TcpConnection::begin(HostStreams::Stream stream) {
  stream_ = stream;
  from_outside_ = true;
  state_ = State::syn_sent;
  sack_ok_ = stamps_ok_ = scaling_ok_ = true;  // offered
  shared_->streams.adopt(stream, cookie_);
  send_syn();
  arm();
}

void TcpConnection::take_options(const TcpOptions& options) {
  const Family family = ends_.client.address.family();
  std::size_t mss = std::max(options.mss.value_or(default_mss(family)), kSmallestMss);
  mss = std::min(mss, Packet::kMaxSize - plain_headers(family));
  sack_ok_ = options.sack_permitted;
  stamps_ok_ = options.timestamps.has_value();
  scaling_ok_ = options.window_scale.has_value();
  scale_ = std::min<std::uint8_t>(options.window_scale.value_or(0), 14);
  if (stamps_ok_) {
    mss -= kStampsSize;
    recent_stamp_ = options.timestamps->value;
  }
  if (!scaling_ok_) limit_ = 0xFFFF;
  offered_mss_ = mss_ = static_cast<std::uint16_t>(mss);
  congestion_ = Congestion(mss_);
}

void TcpConnection::ready(HostStreams::Events::Ready what) {
  if (state_ == State::connecting) {
    if (!what.writable && !what.failed) return;
    const StreamError error = shared_->streams.error(stream_);
    if (error != StreamError::none) return could_not_connect(error);
    if (!what.writable) return could_not_connect(StreamError::refused);
    connected();
  }
  if (what.readable || what.ended) more_ = more_ || !server_ended_;
  if (what.writable) stream_full_ = false;
  if (what.failed) failed_ = true;
}

void TcpConnection::connected() {
  state_ = State::syn_received;
  ++shared_->counters.opened;
  send_syn();
}

// Says what the network would have said to the client.
void TcpConnection::could_not_connect(StreamError error) {
  const auto say = [&](Unreachable why) {
    TcpHeader syn{.from = ends_.client, .to = ends_.server, .sequence = irs_, .flags = kTcpSyn};
    Packet offending = tcp_packet(syn);
    finish_checksum(offending);
    const auto view = parse_ip(std::as_const(offending).bytes());
    PENSTOCK_ASSERT(view);
    if (auto packet = unreachable(*view, std::as_const(offending).bytes(), ends_.client.address, why))
      push(std::move(*packet));
  };
  auto& counters = shared_->counters;
  switch (error) {
    case StreamError::timed_out: ++counters.timed_out; break;
    case StreamError::exhausted:
      ++counters.exhausted;
      say(Unreachable::network);
      break;
    case StreamError::host:
      ++counters.refused;
      say(Unreachable::host);
      break;
    case StreamError::network:
      ++counters.refused;
      say(Unreachable::network);
      break;
    case StreamError::prohibited:
      ++counters.refused;
      say(Unreachable::prohibited);
      break;
    default:
      ++counters.refused;
      push(tcp_packet(
          {.from = ends_.server, .to = ends_.client, .acknowledgement = irs_ + 1, .flags = kTcpRst | kTcpAck}));
  }
  leave();
}

void TcpConnection::established() {
  const TimePoint now = shared_->loop.now();
  state_ = State::open;
  retries_ = 0;
  una_ = iss_ + 1;
  resend_at_ = TimePoint::max();
  if (timed_at_ != TimePoint{}) round_trip_.sample(now - timed_at_);
  timed_at_ = {};
  round_trip_.settle();
  board_.start(una_);
  grown_from_ = arrivals_.next();
  grown_at_ = now;
}

// ---- what comes from the client ----

void TcpConnection::receive(Packet&& packet, const TcpView& segment) {
  if (!owner_) owner_ = packet.source;
  switch (state_) {
    case State::gone: return;
    case State::connecting:
      if ((segment.flags & kTcpRst) == 0 || (segment.sequence != irs_ && segment.sequence != irs_ + 1)) return;
      ++shared_->counters.reset_by_client;
      return leave();
    case State::syn_sent: return receive_in_syn_sent(segment);
    case State::time_wait: return receive_in_time_wait(segment);
    case State::syn_received:
      // The SYN-ACK was lost, or is under way.
      if ((segment.flags & (kTcpSyn | kTcpAck | kTcpRst)) == kTcpSyn && segment.sequence == irs_) return send_syn();
      break;
    case State::open: break;
  }
  if (!passes_timestamps(segment)) return;
  const TimePoint now = shared_->loop.now();
  // Heard of again after a silence: what it misses need not wait for as long once more, and there is patience again.
  if (retries_ > 1 && una_ != nxt_ && now - heard_at_ >= kSilence) {
    retries_ = 1;
    round_trip_.settle();
    resend_at_ = std::min(resend_at_, now + round_trip_.timeout());
  }
  heard_at_ = now;
  if (una_ == nxt_) retries_ = 0;
  // Who closed without having read resets by the number that its FIN had.
  if ((segment.flags & kTcpRst) != 0 && client_ended_ && segment.sequence + 1 == arrivals_.next())
    return receive_reset(segment);
  if (!is_acceptable(segment)) {
    ++shared_->counters.out_of_window;
    if ((segment.flags & kTcpRst) != 0) return;
    // What probes a closed window acknowledges all the same (RFC 9293 section 3.10.7.4).
    if (state_ == State::open && edge_ == arrivals_.next() && segment.sequence == edge_ &&
        (segment.flags & (kTcpAck | kTcpSyn)) == kTcpAck)
      take_acknowledgement(segment);
    return length_of(segment) != 0 ? void(ack_ = Ack::now) : challenge();
  }
  if (stamps_ok_ && segment.options.timestamps && !is_after(segment.sequence, acknowledged_))
    recent_stamp_ = segment.options.timestamps->value;
  if ((segment.flags & kTcpRst) != 0) return receive_reset(segment);
  if ((segment.flags & kTcpSyn) != 0) return challenge();
  if ((segment.flags & kTcpAck) == 0) return;
  if (state_ == State::syn_received) {
    if (segment.acknowledgement != nxt_) return answer_with_reset(segment);
    established();
    window_sequence_ = segment.sequence - 1;
    window_acknowledgement_ = segment.acknowledgement;
  }
  if (!take_acknowledgement(segment)) return;
  take_payload(std::move(packet), segment);
}

void TcpConnection::receive_in_syn_sent(const TcpView& segment) {
  const bool acknowledges = (segment.flags & kTcpAck) != 0;
  if (acknowledges && segment.acknowledgement != iss_ + 1) {
    if ((segment.flags & kTcpRst) == 0) answer_with_reset(segment);
    return;
  }
  if ((segment.flags & kTcpRst) != 0) {
    if (!acknowledges) return;
    ++shared_->counters.reset_by_client;
    return leave();
  }
  if ((segment.flags & kTcpSyn) == 0) return;
  if (!acknowledges) {
    answer_with_reset(segment);
    return leave();
  }
  heard_at_ = shared_->loop.now();
  irs_ = segment.sequence;
  arrivals_.start(irs_ + 1);
  acknowledged_ = edge_ = irs_ + 1;
  take_options(segment.options);
  window_ = largest_window_ = segment.window;
  window_sequence_ = segment.sequence;
  window_acknowledgement_ = segment.acknowledgement;
  ++shared_->counters.accepted;
  established();
  ack_ = Ack::now;
}

bool TcpConnection::may_begin_anew(const TcpView& syn) const {
  if (state_ != State::time_wait || (syn.flags & (kTcpSyn | kTcpAck | kTcpRst | kTcpFin)) != kTcpSyn) return false;
  if (stamps_ok_ && syn.options.timestamps && is_after(syn.options.timestamps->value, recent_stamp_)) return true;
  return is_after(syn.sequence, arrivals_.next());
}

void TcpConnection::receive_in_time_wait(const TcpView& segment) {
  // RFC 1337: a RST does not end it.
  if ((segment.flags & kTcpRst) != 0) return;
  if ((segment.flags & kTcpFin) != 0) resend_at_ = shared_->loop.now() + kTimeWait;
  // A last ACK is not answered: who waits out its time on the other side would answer that.
  if (length_of(segment) != 0) {
    ack_ = Ack::now;
  } else if (segment.sequence != arrivals_.next()) {
    challenge();
  }
}

// RFC 9293 section 3.10.7.4. While nothing is offered, what has a length is not acceptable.
bool TcpConnection::is_acceptable(const TcpView& segment) const {
  const std::uint32_t length = length_of(segment);
  const Sequence next = arrivals_.next();
  if (length == 0) return !is_before(segment.sequence, next) && !is_after(segment.sequence, edge_);
  return edge_ != next && is_before(segment.sequence, edge_) && is_after(segment.sequence + length, next);
}

// PAWS, RFC 7323 section 5.3; and section 3.2 of what has lost the option.
bool TcpConnection::passes_timestamps(const TcpView& segment) {
  if (!stamps_ok_ || (segment.flags & kTcpRst) != 0) return true;
  // A SYN has those of another connection, if any: it must be told that this one is there.
  if (!segment.options.timestamps) return (segment.flags & kTcpSyn) != 0;
  if (!is_before(segment.options.timestamps->value, recent_stamp_)) return true;
  ++shared_->counters.out_of_window;
  length_of(segment) != 0 ? void(ack_ = Ack::now) : challenge();
  return false;
}

// RFC 5961 section 3.2.
void TcpConnection::receive_reset(const TcpView& segment) {
  if (segment.sequence + (client_ended_ ? 1U : 0U) != arrivals_.next() && segment.sequence != arrivals_.next())
    return challenge();
  // Both have said all, and what the server has no room for yet is on its way: there is nothing left to break off.
  if (client_ended_ && fin_acknowledged_) return;
  ++shared_->counters.reset_by_client;
  leave();
}

// False: what came with it is not looked at.
bool TcpConnection::take_acknowledgement(const TcpView& segment) {
  const Sequence acknowledgement = segment.acknowledgement;
  if (is_after(acknowledgement, nxt_)) {
    challenge();
    return false;
  }
  if (is_before(acknowledgement, una_)) {
    if (una_ - acknowledgement <= std::max<std::uint32_t>(largest_window_, 0xFFFF)) return true;
    challenge();  // RFC 5961 section 5.2
    return false;
  }
  const std::uint32_t window = std::uint32_t{segment.window} << scale_;
  const bool duplicate = acknowledgement == una_ && una_ != nxt_ && length_of(segment) == 0 && window == window_;
  // And of what acknowledges more than ever, though it is data that was sent again: its numbers are old, its window is
  // not.
  if (is_after(acknowledgement, una_) || is_before(window_sequence_, segment.sequence) ||
      (window_sequence_ == segment.sequence && !is_after(window_acknowledgement_, acknowledgement))) {
    window_ = window;
    largest_window_ = std::max(largest_window_, window);
    window_sequence_ = segment.sequence;
    window_acknowledgement_ = acknowledgement;
  }
  if (window_ == 0) retries_ = 0;  // it lives
  const bool sacks = sack_ok_ && segment.options.sack_count != 0;
  const std::uint32_t outstanding = nxt_ - una_;
  if (acknowledgement != una_) acknowledged(acknowledgement, segment);
  const bool news =
      sacks && board_.sacked(std::span(segment.options.sacks).first(segment.options.sack_count), una_, nxt_);
  look_for_losses(duplicate, news, outstanding);
  return true;
}

void TcpConnection::acknowledged(Sequence acknowledgement, const TcpView& segment) {
  const TimePoint now = shared_->loop.now();
  // Answered before it was sent again: nothing was lost but time (RFC 3522 section 3.2).
  if (recovery_ == Recovery::timeout && retries_ != 0 && stamps_ok_ && segment.options.timestamps &&
      is_before(segment.options.timestamps->echo, resent_stamp_)) {
    congestion_.undo();
    board_.lose_nothing(acknowledgement);
    recovery_ = Recovery::none;
  }
  const Duration sample = round_trip_of(segment, now);
  const std::uint32_t bytes = acknowledgement - una_;
  una_ = acknowledgement;
  starved_ = false;
  retries_ = 0;
  duplicates_ = 0;
  round_trip_.settle();
  board_.acknowledged(una_);
  if (fin_sent_ && una_ == data_end_ + 1) fin_acknowledged_ = true;
  if (recovery_ != Recovery::none && !is_before(una_, recovery_point_)) {
    recovery_ = Recovery::none;
  } else if (recovery_ == Recovery::fast && !sack_ok_) {
    board_.lose_first(una_, mss_, nxt_);  // RFC 6582 section 3.2, step 5
  } else if (recovery_ != Recovery::fast) {
    congestion_.acked(bytes, sample, window_limits_, una_, nxt_, now);
  }
  restart_resend_timer();
}

// Zero: it tells nothing. What is timed was sent once (Karn); timestamps tell of the rest.
Duration TcpConnection::round_trip_of(const TcpView& segment, TimePoint now) {
  Duration sample{};
  if (timed_at_ != TimePoint{} && !is_before(segment.acknowledgement, timed_end_)) {
    sample = now - std::exchange(timed_at_, TimePoint{});
  } else if (stamps_ok_ && segment.options.timestamps && segment.options.timestamps->echo != 0) {
    const std::uint32_t milliseconds = now_stamp() - segment.options.timestamps->echo;
    if (milliseconds > 600'000) return {};
    sample = std::chrono::milliseconds(milliseconds);
  }
  // RFC 7323 appendix G.
  if (sample != Duration{}) round_trip_.sample(sample, 1 + (nxt_ - una_) / (2U * mss_));
  return sample;
}

void TcpConnection::look_for_losses(bool duplicate, bool news, std::uint32_t outstanding) {
  if (una_ == nxt_) return;
  if (duplicate && duplicates_ < 0xFF) ++duplicates_;
  if (sack_ok_) {
    if (news) board_.find_lost(mss_);
    if (recovery_ == Recovery::none && board_.anything_lost(una_)) enter_recovery(outstanding);
  } else if (duplicates_ == Scoreboard::kDuplicates && recovery_ == Recovery::none) {
    board_.lose_first(una_, mss_, nxt_);
    enter_recovery(outstanding);
  }
}

void TcpConnection::enter_recovery(std::uint32_t outstanding) {
  recovery_ = Recovery::fast;
  recovery_point_ = nxt_;
  congestion_.lost(outstanding, shared_->loop.now());
}

void TcpConnection::take_payload(Packet&& packet, const TcpView& segment) {
  if (client_ended_) return;
  const Sequence end = segment.sequence + static_cast<Sequence>(segment.payload_size);
  const Sequence first_expected = arrivals_.next();
  const std::size_t size = std::min<std::size_t>(segment.payload_size, distance(segment.sequence, edge_));
  if (size != 0) {
    const bool had_gaps = arrivals_.has_gaps();
    const bool taken = hold(segment.sequence, std::move(packet), segment.payload, size);
    const std::uint32_t advanced = arrivals_.next() - first_expected;
    unacknowledged_ += advanced;
    // What fills a gap is not delayed either (RFC 5681 section 4.2).
    const bool in_order = taken && advanced == segment.payload_size && !had_gaps;
    if (!in_order || unacknowledged_ >= 2U * mss_) {
      ack_ = Ack::now;
    } else if (ack_ == Ack::none) {
      ack_ = Ack::delayed;
    }
  }
  if ((segment.flags & kTcpFin) != 0 && !is_after(end + 1, edge_)) {
    fin_waits_ = true;
    fin_at_ = end;
    ack_ = Ack::now;
  }
  if (fin_waits_ && fin_at_ == arrivals_.next()) {
    fin_waits_ = false;
    client_ended_ = true;
    arrivals_.skip_fin();
    ack_ = Ack::now;
  }
}

bool TcpConnection::hold(Sequence first, Packet&& packet, std::size_t at, std::size_t size) {
  const bool too_much = shared_->holds_too_much(owner_);
  if (too_much && arrivals_.waiting() != 0 && !stream_full_ && !failed_) write_to_server();
  const std::size_t before = arrivals_.footprint();
  bool taken = false;
  if (!too_much) {
    taken = arrivals_.put(first, std::move(packet), at, size);
  } else if (!is_after(first, arrivals_.next()) && arrivals_.waiting() == 0) {
    // Without what is next nothing that is held could ever go.
    const ByteView bytes = std::as_const(packet).bytes().subspan(at, std::min(size, kLittle));
    taken = arrivals_.put(first, Packet::copy_of(bytes), 0, bytes.size());
  }
  shared_->hold(owner_, before, arrivals_.footprint());
  return taken;
}

// A router on the way, or the client's host, could not deliver what begins there (RFC 1191, RFC 8201; RFC 5461 of what
// is not believed).
void TcpConnection::undeliverable(Sequence sequence, std::uint32_t mtu) {
  if (is_before(sequence, una_) || !is_before(sequence, nxt_)) return;
  if (mtu == 0) {
    if (state_ != State::syn_sent) return;
    ++shared_->counters.refused;
    return leave();
  }
  const Family family = ends_.client.address.family();
  mtu = std::max<std::uint32_t>(mtu, family == Family::ipv4 ? 576 : 1280);
  const std::size_t mss = mtu - plain_headers(family) - (stamps_ok_ ? kStampsSize : 0);
  if (state_ != State::open || mss >= mss_) return;
  mss_ = static_cast<std::uint16_t>(mss);
  congestion_.set_mss(mss_);
  timed_at_ = {};
  board_.lose_all(una_, nxt_, false);
}

// What timers have sent meanwhile was lost, and when they are due next says nothing of the way that there is now.
void TcpConnection::reached() {
  // The way may be a wider one.
  if (mss_ != offered_mss_) congestion_.set_mss(mss_ = offered_mss_);
  if (retries_ == 0 && !starved_) return;
  starved_ = false;
  round_trip_.settle();
  if (state_ == State::syn_received || state_ == State::syn_sent) {
    resend_at_ = TimePoint::max();
    return send_syn();
  }
  if (state_ != State::open) return;
  retries_ = 0;
  if (una_ != nxt_) return retransmission_timeout(shared_->loop.now());
  resend_at_ = TimePoint::max();
  if (has_something_for_client()) send_probe();
}

// ---- how it ends ----

void TcpConnection::finish_if_both_ended() {
  if (state_ != State::open || !stream_ended_ || !fin_acknowledged_) return;
  release_stream(false);
  if (!closed_first_) return leave();
  state_ = State::time_wait;
  resend_at_ = shared_->loop.now() + kTimeWait;
  ack_at_ = TimePoint::max();
  stop_waiting();
  board_.start(una_);
}

void TcpConnection::reset_client() {
  push(tcp_packet(header(nxt_, state_ == State::syn_sent ? kTcpRst : kTcpRst | kTcpAck)));
  leave();
}

void TcpConnection::end() {
  if (state_ == State::open || state_ == State::syn_received || state_ == State::syn_sent) return reset_client();
  leave();
}

void TcpConnection::abort() { leave(); }

void TcpConnection::leave() {
  state_ = State::gone;
  release_stream(true);
  stop_waiting();
  shared_->wheel.remove(*this);
  shared_->hold(owner_, arrivals_.footprint(), 0);
  arrivals_.clear();
}

void TcpConnection::release_stream(bool abort) {
  if (stream_ == HostStreams::kNone) return;
  shared_->streams.close(std::exchange(stream_, HostStreams::kNone), abort);
}

void TcpConnection::wait_for_credit() {
  if (std::exchange(waits_, true)) return;
  waits_at_ = shared_->clients.wait_for_credit(ends_.client, *this);
}

void TcpConnection::stop_waiting() {
  if (std::exchange(waits_, false)) shared_->clients.cancel_wait(waits_at_, *this);
}

void TcpConnection::on_credit() {
  waits_ = false;
  // What was on its way when the client went away did not arrive.
  if (std::exchange(starved_, false) && una_ != nxt_) retransmission_timeout(shared_->loop.now());
  shared_->touch(cookie_);
  shared_->flush();
}

// ---- time ----

std::uint32_t TcpConnection::now_stamp() const {
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(shared_->loop.now().time_since_epoch()).count();
  return static_cast<std::uint32_t>(milliseconds) + stamp_offset_;
}

void TcpConnection::restart_resend_timer() {
  resend_at_ = una_ == nxt_ ? TimePoint::max() : shared_->loop.now() + round_trip_.timeout();
}

void TcpConnection::arm() {
  TimePoint at = std::min(resend_at_, ack_at_);
  if (state_ == State::open && resend_at_ == TimePoint::max())
    at = std::min(at, heard_at_ + shared_->settings.keepalive + kProbeInterval * retries_);
  if (at != TimePoint::max()) shared_->wheel.set(*this, at);
}

void TcpConnection::on_timer(TimePoint now) {
  if (now >= ack_at_) {
    ack_at_ = TimePoint::max();
    if (ack_ == Ack::delayed) ack_ = Ack::now;
  }
  if (now >= resend_at_) resend(now);
  if (state_ == State::open && resend_at_ == TimePoint::max() &&
      now >= heard_at_ + shared_->settings.keepalive + kProbeInterval * retries_) {
    if (shared_->clients.credit(ends_.client) == 0) {
      heard_at_ = now;  // it is away, and asked once it is back
      return;
    }
    if (retries_ == kMostProbes) {
      ++shared_->counters.timed_out;
      return reset_client();
    }
    ++retries_;
    send_probe();
  }
}

void TcpConnection::resend(TimePoint now) {
  if (state_ == State::time_wait) return leave();
  if (state_ != State::open) {
    if (++retries_ == kMostSyns) {
      ++shared_->counters.timed_out;
      return leave();
    }
    round_trip_.back_off();
    return send_syn();
  }
  if (shared_->clients.credit(ends_.client) == 0) {
    // Nobody's fault, and nobody's patience.
    starved_ = una_ != nxt_;
    resend_at_ = now + round_trip_.timeout();
    return wait_for_credit();
  }
  if (retries_ == kMostRetries) {
    ++shared_->counters.timed_out;
    return reset_client();
  }
  if (una_ != nxt_) return retransmission_timeout(now);
  // Its window is closed.
  ++retries_;
  round_trip_.back_off();
  resend_at_ = now + round_trip_.timeout();
  send_probe();
}

void TcpConnection::retransmission_timeout(TimePoint now) {
  const bool again = recovery_ == Recovery::timeout && retries_ != 0;
  ++retries_;
  congestion_.timed_out(nxt_ - una_, again, now);
  board_.lose_all(una_, nxt_, again);
  recovery_ = Recovery::timeout;
  recovery_point_ = nxt_;
  duplicates_ = 0;
  timed_at_ = {};
  if (!again) resent_stamp_ = now_stamp();
  round_trip_.back_off();
  resend_at_ = now + round_trip_.timeout();
}

}  // namespace penstock::egress
