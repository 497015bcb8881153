// The half of TcpConnection that sends: data both ways, acknowledgements, windows.
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/result.h"
#include "egress/tcp/tcp_connection.h"
#include "packet/super_packet.h"

namespace penstock::egress {
namespace {

constexpr std::size_t kPartsAWrite = 64;
constexpr std::size_t kMostRounding = 64 * 1024;
constexpr Duration kShortestRound = std::chrono::milliseconds(1);
constexpr Duration kChallengeInterval = std::chrono::milliseconds(100);  // RFC 5961 section 7

// RFC 9293 section 3.7.1: what the way to the client takes is for the router to say, which lowers it (packet/mss.h).
std::uint16_t own_mss(Family family) {
  return static_cast<std::uint16_t>(Packet::kMaxSize - (family == Family::ipv4 ? 40 : 60));
}

// The largest packet that is worth its buffer where `credit` bytes of memory are left; 0: none is.
std::size_t largest_packet(std::size_t credit) {
  for (const std::size_t size :
       {Packet::kMaxSize, std::size_t{16 * 1024} - Packet::kHeadroom, std::size_t{2048} - Packet::kHeadroom}) {
    if (credit >= Packet::footprint_of(size)) return size;
  }
  return 0;
}

}  // namespace

void TcpConnection::flush() {
  if (state_ == State::gone || state_ == State::connecting) return;
  if (state_ == State::open) {
    if (!failed_) write_to_server();
    // What the server said before it broke off still goes, as far as it may.
    send_data();
  }
  if (failed_ && state_ != State::time_wait) {
    ++shared_->counters.reset_by_server;
    return reset_client();
  }
  if (ack_ == Ack::now) {
    send_ack();
  } else if (ack_ == Ack::delayed && ack_at_ == TimePoint::max()) {
    ack_at_ = shared_->loop.now() + kAckDelay;
  }
  finish_if_both_ended();
  if (!gone()) arm();
}

// ---- to the server ----

void TcpConnection::write_to_server() {
  const std::size_t before = arrivals_.footprint();
  while (arrivals_.waiting() != 0 && !stream_full_) {
    std::array<ByteView, kPartsAWrite> parts;
    const std::size_t count = arrivals_.front(parts);
    std::size_t size = 0;
    for (std::size_t i = 0; i < count; ++i) size += parts[i].size();
    const auto written = shared_->streams.write(stream_, std::span(parts).first(count));
    if (written.error != StreamError::none) {
      failed_ = true;
      break;
    }
    arrivals_.written(written.bytes);
    if (written.bytes < size) stream_full_ = true;
  }
  shared_->hold(owner_, before, arrivals_.footprint());
  if (failed_) return;
  if (client_ended_ && !stream_ended_ && arrivals_.waiting() == 0) {
    shared_->streams.end(stream_);
    stream_ended_ = true;
  }
  if (client_ended_) return;
  grow_window(shared_->loop.now());
  // A client that may be waiting for it is told of a window that has become much larger.
  const Sequence next = arrivals_.next();
  if (distance(next, edge_) < limit_ / 2 &&
      distance(edge_, next + affordable()) >= std::min<std::uint32_t>(2U * mss_, limit_ / 4))
    ack_ = Ack::now;
}

std::uint32_t TcpConnection::affordable() const {
  std::uint32_t limit = limit_;
  if (arrivals_.waiting() != 0 && shared_->holds_too_much(owner_)) limit = std::min<std::uint32_t>(limit, 2U * mss_);
  const auto waiting = static_cast<std::uint32_t>(std::min<std::size_t>(arrivals_.waiting(), limit));
  return limit - waiting;
}

// Where a round trip brings more than half of the window, it is the window that holds the client back.
void TcpConnection::grow_window(TimePoint now) {
  const Duration round = std::max(round_trip_.smoothed(), kShortestRound);
  if (now - grown_at_ < round) return;
  const std::uint32_t came = arrivals_.next() - grown_from_;
  grown_from_ = arrivals_.next();
  grown_at_ = now;
  if (scaling_ok_ && arrivals_.waiting() == 0 && came > limit_ / 2) limit_ = std::min(limit_ * 2, kMostWindow);
}

void TcpConnection::open_window() {
  const Sequence next = arrivals_.next();
  const Sequence wished = next + affordable();
  // RFC 9293 section 3.8.6.2.2.
  if (distance(edge_, wished) >= std::min<std::uint32_t>(2U * mss_, limit_ / 2)) edge_ = wished;
  // It is told in steps, rounded up, since an edge that was told should hold. But who makes us tell it after each few
  // bytes would so get more and more: not beyond kMostRounding (RFC 7323 section 2.4 allows to round down).
  const std::uint32_t step = scaling_ok_ ? 1U << kWindowScale : 1U;
  const std::uint32_t rounded = (distance(next, edge_) + step - 1) / step * step;
  if (arrivals_.waiting() + rounded <= limit_ + kMostRounding) edge_ = next + rounded;
}

// ---- to the client ----

std::uint32_t TcpConnection::in_flight() const {
  const std::uint32_t bytes = board_.in_flight(una_, nxt_);
  // Of who has no SACK, each duplicate tells of a segment that has left (RFC 6582).
  const std::uint32_t left = sack_ok_ ? 0U : std::uint32_t{duplicates_} * mss_;
  return bytes > left ? bytes - left : 0U;
}

void TcpConnection::consume_acknowledged() {
  const Sequence end = server_ended_ ? earlier_of(una_, data_end_) : una_;
  if (const std::uint32_t bytes = distance(head_, end); bytes != 0) {
    shared_->streams.consume(stream_, bytes);
    head_ = end;
  }
}

void TcpConnection::send_data() {
  consume_acknowledged();
  if (waits_) return;
  if (una_ == nxt_ && more_) congestion_.restart_after(shared_->loop.now() - heard_at_, round_trip_.timeout());
  std::size_t credit = 0;
  bool asked = false;
  for (std::size_t sent = 0;;) {
    const auto chosen = choose();
    if (!chosen) break;
    if (sent >= kBytesATurn) return shared_->touch_later(cookie_);
    if (!std::exchange(asked, true)) {
      credit = shared_->clients.credit(ends_.client);
      const std::size_t left = credit - std::min(credit, shared_->out_footprint);
      // What has not left yet may be for others, and then nobody would tell when there is room.
      if (largest_packet(left) == 0 && largest_packet(credit) != 0) return shared_->touch_later(cookie_);
      credit = left;
    }
    if (largest_packet(credit) == 0) return wait_for_credit();
    const std::size_t bytes = peek_and_send(*chosen, credit);
    if (bytes == 0) break;
    sent += bytes;
  }
  if (failed_) return;
  if (fin_is_due() && usable_window() != 0) send_fin();
  if (una_ != nxt_) return;
  if (!has_something_for_client()) {
    resend_at_ = TimePoint::max();
    return;
  }
  // Nothing is under way that would be answered: its window is asked for.
  if (resend_at_ == TimePoint::max()) resend_at_ = shared_->loop.now() + round_trip_.timeout();
}

std::optional<TcpConnection::Chosen> TcpConnection::choose() {
  const std::uint32_t flight = in_flight();
  const std::uint32_t allowed = congestion_.window();
  const std::uint32_t room = allowed > flight ? allowed - flight : 0;
  if (const auto hole = board_.next_hole()) {
    // The first goes whatever is under way (RFC 6675 section 5, step 4.3).
    if (room < mss_ && hole->first != una_) {
      window_limits_ = true;
      return std::nullopt;
    }
    const std::uint32_t size = std::min(hole->end - hole->first, std::max<std::uint32_t>(room, mss_));
    return Chosen{hole->first, size, true};
  }
  window_limits_ = false;
  if (!more_) return std::nullopt;
  const std::uint32_t usable = usable_window();
  if (room < std::min<std::uint32_t>(usable, mss_) && flight != 0) {
    window_limits_ = true;
    return std::nullopt;
  }
  const std::uint32_t size = std::min(usable, std::max<std::uint32_t>(room, mss_));
  window_limits_ = room <= usable;
  // RFC 9293 section 3.8.6.2.1.
  if (size == 0 || (size < mss_ && una_ != nxt_ && size < largest_window_ / 2)) return std::nullopt;
  return Chosen{nxt_, size > mss_ ? size - size % mss_ : size, false};
}

std::size_t TcpConnection::peek_and_send(const Chosen& chosen, std::size_t& credit) {
  const std::uint32_t data = server_ended_ ? std::min(chosen.size, distance(chosen.first, data_end_)) : chosen.size;
  if (data == 0) {
    send_fin();
    return 1;
  }
  const std::size_t headers = headers_size();
  const std::size_t largest = largest_packet(credit) - headers;
  const std::size_t segments = std::min<std::size_t>(largest / mss_, kMaxTcpSegments);
  const std::size_t a_packet = segments == 0 ? largest : segments * mss_;

  std::array<MutableByteView, TcpShared::kPacketsAPeek> views;
  std::size_t count = 0;
  std::size_t wanted = 0;
  for (std::size_t left = credit; count < views.size() && wanted < data; ++count) {
    const std::size_t size = std::min(a_packet, data - wanted);
    const std::size_t footprint = Packet::footprint_of(headers + size);
    if (count != 0 && left < footprint) break;
    left -= std::min(left, footprint);
    Packet& blank = shared_->blank[count];
    if (blank.empty()) blank = Packet::with_size(Packet::kMaxSize);
    views[count] = blank.mutable_bytes().subspan(headers, size);
    wanted += size;
  }
  const auto peeked = shared_->streams.peek(stream_, chosen.first - head_, std::span(views).first(count));
  if (peeked.error != StreamError::none) {
    failed_ = true;
    more_ = false;
    return 0;
  }
  if (!chosen.again && !server_ended_) {
    if (peeked.bytes < wanted || peeked.ended) more_ = false;
    if (peeked.ended) {
      server_ended_ = true;
      data_end_ = chosen.first + static_cast<Sequence>(peeked.bytes);
    }
  }
  if (!chosen.again && !more_ && !server_ended_) widen(chosen.first + static_cast<Sequence>(peeked.bytes));
  if (peeked.bytes == 0) return 0;

  const Sequence end = chosen.first + static_cast<Sequence>(peeked.bytes);
  const bool with_fin =
      server_ended_ && end == data_end_ && (chosen.again ? chosen.size > peeked.bytes : usable_window() > peeked.bytes);
  Sequence first = chosen.first;
  for (std::size_t i = 0, left = peeked.bytes; left != 0; ++i) {
    const std::size_t size = std::min(left, views[i].size());
    left -= size;
    std::uint8_t flags = kTcpAck;
    if (left == 0 && peeked.bytes < wanted) flags |= kTcpPsh;
    if (left == 0 && with_fin) flags |= kTcpFin | kTcpPsh;
    emit(shared_->blank[i], size, first, flags);
    credit -= std::min(credit, shared_->out.back().footprint());
    first += static_cast<Sequence>(size);
  }
  note_sent(chosen.first, with_fin ? end + 1 : end, chosen.again);
  if (with_fin && !std::exchange(fin_sent_, true)) closed_first_ = !client_ended_;
  return peeked.bytes;
}

// The socket is empty up to `end`, but for what the client has not acknowledged: where that is much of what the server
// may send at once, it is the socket that holds it back, and not the client.
void TcpConnection::widen(Sequence end) {
  const std::uint32_t kept = end - una_;
  if (kept <= widened_ / 2 || widened_ >= kMostWindow) return;
  while (kept > widened_ / 2 && widened_ < kMostWindow) widened_ *= 2;
  shared_->streams.widen(stream_, widened_);
}

void TcpConnection::emit(Packet& blank, std::size_t size, Sequence first, std::uint8_t flags) {
  const std::size_t headers = headers_size();
  Packet packet;
  if (Packet::footprint_of(headers + size) < blank.footprint()) {
    packet = Packet::with_size(headers + size);
    std::memcpy(&packet.mutable_bytes()[headers], &std::as_const(blank).bytes()[headers], size);
  } else {
    packet = std::move(blank);
    packet.truncate(headers + size);
  }
  write_tcp_headers(packet, header(first, flags), mss_);
  push(std::move(packet));
}

void TcpConnection::note_sent(Sequence first, Sequence end, bool again) {
  const TimePoint now = shared_->loop.now();
  if (again) {
    board_.sent_again(end);
    shared_->counters.retransmitted += (end - first + mss_ - 1) / mss_;
    timed_at_ = {};
    if (first == una_) resend_at_ = now + round_trip_.timeout();
    return;
  }
  if (una_ == nxt_) {
    // What asked for its window needs to be asked no more.
    retries_ = 0;
    round_trip_.settle();
    resend_at_ = now + round_trip_.timeout();
  }
  nxt_ = end;
  if (timed_at_ != TimePoint{}) return;
  timed_at_ = now;
  timed_end_ = end;
}

void TcpConnection::send_fin() {
  push(tcp_packet(header(data_end_, kTcpFin | kTcpAck)));
  note_sent(data_end_, data_end_ + 1, std::exchange(fin_sent_, true));
  if (nxt_ == data_end_ + 1 && !fin_acknowledged_ && recovery_ == Recovery::none) closed_first_ = !client_ended_;
}

// ---- without data ----

std::size_t TcpConnection::headers_size() const {
  TcpHeader plain{.from = ends_.server, .to = ends_.client};
  if (stamps_ok_) plain.options.timestamps.emplace();
  return tcp_headers_size(plain);
}

TcpHeader TcpConnection::header(Sequence sequence, std::uint8_t flags) {
  TcpHeader made{.from = ends_.server, .to = ends_.client, .sequence = sequence, .flags = flags};
  if (stamps_ok_) made.options.timestamps = TcpTimestamps{now_stamp(), recent_stamp_};
  if ((flags & kTcpAck) == 0) return made;
  open_window();
  const Sequence next = arrivals_.next();
  made.acknowledgement = next;
  const std::uint32_t offered = distance(next, edge_);
  made.window = static_cast<std::uint16_t>(scaling_ok_ ? offered >> kWindowScale : std::min(offered, 0xFFFFU));
  ack_ = Ack::none;
  ack_at_ = TimePoint::max();
  unacknowledged_ = 0;
  acknowledged_ = next;
  return made;
}

// Its window is not scaled (RFC 7323 section 2.2).
void TcpConnection::send_syn() {
  const bool answers = state_ == State::syn_received;
  TcpHeader syn{.from = ends_.server, .to = ends_.client, .sequence = iss_, .flags = kTcpSyn};
  syn.window = 0xFFFF;
  syn.options.mss = own_mss(ends_.client.address.family());
  syn.options.sack_permitted = sack_ok_;
  if (scaling_ok_) syn.options.window_scale = kWindowScale;
  if (stamps_ok_) syn.options.timestamps = TcpTimestamps{now_stamp(), answers ? recent_stamp_ : 0};
  if (answers) {
    syn.flags |= kTcpAck;
    syn.acknowledgement = arrivals_.next();
    edge_ = later_of(edge_, arrivals_.next() + 0xFFFF);
  }
  push(tcp_packet(syn));
  const TimePoint now = shared_->loop.now();
  // Karn: what was sent twice tells nothing.
  timed_at_ = nxt_ == iss_ ? now : TimePoint{};
  timed_end_ = nxt_ = iss_ + 1;
  if (resend_at_ == TimePoint::max() || now >= resend_at_) resend_at_ = now + round_trip_.timeout();
}

void TcpConnection::send_ack() {
  TcpHeader made = header(nxt_, kTcpAck);
  if (sack_ok_ && arrivals_.has_gaps()) {
    const std::size_t room = stamps_ok_ ? TcpOptions::kMostSacks - 1 : TcpOptions::kMostSacks;
    made.options.sack_count = static_cast<std::uint8_t>(arrivals_.sacks(std::span(made.options.sacks).first(room)));
  }
  push(tcp_packet(made));
}

// What the client has long had: it must answer (RFC 9293 sections 3.8.4 and 3.8.6.1).
void TcpConnection::send_probe() { push(tcp_packet(header(una_ - 1, kTcpAck))); }

// Says where the connection stands, but is not drawn into an exchange of nothing.
void TcpConnection::challenge() {
  const TimePoint now = shared_->loop.now();
  if (now - challenged_at_ < kChallengeInterval) return;
  challenged_at_ = now;
  ack_ = Ack::now;
}

// RFC 9293 section 3.10.7.1.
void TcpConnection::answer_with_reset(const TcpView& segment) {
  TcpHeader reset{.from = ends_.server, .to = ends_.client, .flags = kTcpRst};
  if ((segment.flags & kTcpAck) != 0) {
    reset.sequence = segment.acknowledgement;
  } else {
    reset.flags |= kTcpAck;
    reset.acknowledgement = segment.sequence + length_of(segment);
  }
  push(tcp_packet(reset));
}

}  // namespace penstock::egress
