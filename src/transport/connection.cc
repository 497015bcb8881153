#include "transport/connection.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace penstock::transport {
namespace {

// Turns are kept short so that one busy peer does not hold up the others on the loop.
constexpr int kReadsPerTurn = 4;
// What one turn delivers, in packets; the message that exceeds it is the last. A control message is parsed, and often
// answered with a write of its own.
constexpr int kWorkPerTurn = 4096;
constexpr int kTextWork = 64;
// RFC 6455 section 7.4.1.
constexpr std::uint16_t kPolicy = 1008;
// How long a closing connection may take to hand over its last words.
constexpr Duration kLinger = std::chrono::seconds(2);

std::string seconds_text(Duration duration) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(duration).count()) + " s";
}

}  // namespace

Connection::Connection(EventLoop& loop, ReadBuffer& buffer, std::unique_ptr<net::StreamSocket> socket, Channel channel,
                       Timing timing, Handler& handler)
    : loop_(&loop),
      buffer_(&buffer),
      socket_(std::move(socket)),
      channel_(std::move(channel)),
      timing_(timing),
      handler_(&handler),
      peer_(socket_->peer()),
      last_received_(loop.now()),
      last_progress_(loop.now()),
      last_ping_(loop.now()),
      timer_(std::make_unique<Timer>(loop)) {}

Connection::~Connection() {
  *alive_ = false;
  if (warm_place_ != nullptr) *warm_place_ = {};
}

void Connection::start(ByteView received) {
  if (auto started = channel_.start(); !started) return lose(std::move(started).error());
  schedule_tick();
  if (received.empty()) {
    flush();
    return await_turn();
  }
  work_left_ = kWorkPerTurn;
  last_received_ = loop_->now();
  in_turn_ = true;
  take(received);
  end_turn();
}

bool Connection::writable() const {
  return !closing_ && !closed_ && !write_armed_ && channel_.state() == Channel::State::open &&
         channel_.output_size() == 0;
}

void Connection::await_turn() {
  if (closed_) return;
  if (!messages_wait_) return socket_->when_readable([this] { read_turn(); });
  loop_->post([this, alive = alive_] {
    if (*alive) read_turn();
  });
}

void Connection::read_turn() {
  if (closed_) return;  // while the turn was waited for
  work_left_ = kWorkPerTurn;
  in_turn_ = true;
  read_some();
  end_turn();
}

void Connection::end_turn() {
  // Whatever ended the turn, what was received before belongs to the handler.
  handler_->on_turn_end();
  in_turn_ = false;
  if (closed_) return;
  // Not only when nothing else waits to be sent: a busy direction must not make us look dead.
  if (pong_waits_ && channel_.output_size() <= kMaxBacklog) {
    pong_waits_ = false;
    if (!closing_) after_send(channel_.send_pong(as_bytes(pong_payload_)));
  }
  flush();
  settle();
  await_turn();
}

void Connection::read_some() {
  if (messages_wait_ && !take({})) return;
  for (int reads = 0; reads < kReadsPerTurn && !messages_wait_; ++reads) {
    const auto got = socket_->read({buffer_->bytes.get(), ReadBuffer::kSize});
    if (!got) return finish(got.error());
    if (!*got) return;
    if (**got == 0) return finish({ErrorCode::closed, "the peer closed the connection"});
    if (closing_) continue;  // what comes after the end is read only to be rid of it
    last_received_ = loop_->now();
    if (!take({buffer_->bytes.get(), **got}) || closed_) return;
    if (**got < ReadBuffer::kSize) return;  // a short read: there is nothing more for now
  }
}

// Bytes from the network, or none, for what was left of the turn before. False: the conversation is over.
bool Connection::take(ByteView bytes) {
  auto received = channel_.receive(bytes);
  const bool goes_on = deliver();
  // What was refused says more than the end of TLS that often comes along with it.
  if (!received) {
    lose(std::move(received).error());
  } else if (goes_on && !messages_wait_ && channel_.peer_closed()) {
    lose({ErrorCode::closed, "the peer ended the TLS session"});
  } else if (goes_on && channel_.output_size() > 2 * kMaxBacklog) {
    give_up_on_reader();
  }
  return !closing_;
}

// Hands every whole message to the handler. False: the conversation is over.
bool Connection::deliver() {
  if (!open_announced_ && channel_.state() == Channel::State::open) {
    open_announced_ = true;
    socket_->set_unsent_limit(burst_);
    schedule_tick();  // from now on pings are due too
    handler_->on_open();
  }
  messages_wait_ = false;
  while (!closing_) {
    if (work_left_ <= 0) {
      messages_wait_ = true;
      break;
    }
    auto next = channel_.next();
    if (!next) {
      lose(std::move(next).error());
      return false;
    }
    if (!*next) break;
    const websocket::Message& message = **next;
    work_left_ -= message.kind == websocket::Opcode::text ? kTextWork : 1;
    if (log::enabled(log::Level::debug))
      log::debug(
          "frame received",
          {{"outer", peer_}, {"opcode", static_cast<unsigned>(message.kind)}, {"bytes", message.payload.size()}});
    switch (message.kind) {
      case websocket::Opcode::binary:
        busy_ = true;
        if (const std::size_t packets = handler_->on_binary(message.masked()); packets > 1)
          work_left_ -= static_cast<int>(packets - 1);
        break;
      case websocket::Opcode::text: handler_->on_text(as_text(message.payload)); break;
      case websocket::Opcode::ping:
        pong_payload_.assign(as_text(message.payload));
        pong_waits_ = true;
        break;
      case websocket::Opcode::pong: handler_->on_pong(); break;
      case websocket::Opcode::close: {
        const std::string_view words = as_text(message.payload);
        ending_.close_code = message.close_code;
        lose({ErrorCode::closed, "the peer closed the connection (code " + std::to_string(message.close_code) +
                                     (words.empty() ? ")" : "): " + std::string(words))});
        return false;
      }
      case websocket::Opcode::continuation: break;  // never leaves the decoder
    }
  }
  return !closing_;
}

void Connection::send_text(std::string_view text) {
  if (closing_ || closed_) return;
  if (channel_.output_size() == 0) waiting_ = 0;
  if (++waiting_ > max_waiting_ || channel_.output_size() > kMaxBacklog) return give_up_on_reader();
  after_send(channel_.send_text(text));
}

void Connection::give_up_on_reader() {
  constexpr std::string_view kReason = "the peer does not read its control messages";
  channel_.close(kPolicy, kReason);
  lose({ErrorCode::exhausted, std::string(kReason)});
}

void Connection::send_packets(std::span<const Packet> packets, const protocol::Format& format) {
  if (closing_ || closed_) return;
  busy_ = true;
  after_send(channel_.send_packets(packets, format));
}

void Connection::send_ping() {
  if (closing_ || closed_ || channel_.state() != Channel::State::open) return;
  last_ping_ = loop_->now();
  after_send(channel_.send_ping());
}

void Connection::after_send(const Result<void>& sent) {
  if (!sent) return lose(sent.error());
  flush();
  if (!in_turn_) settle();
}

void Connection::close(std::uint16_t code, std::string_view reason) {
  if (closing_ || closed_) return;
  channel_.close(code, reason);
  lose({ErrorCode::closed, std::string(reason)});
}

// The conversation is over, but its last words may still be on their way out.
void Connection::lose(Error error) {
  if (closing_ || closed_) return;
  closing_ = true;
  closing_since_ = loop_->now();
  ending_.error = std::move(error);
  flush();
  if (!closed_) schedule_tick();
}

void Connection::flush() {
  if (closed_ || write_armed_) return;
  ByteQueue& output = channel_.output();
  while (!output.empty()) {
    const auto wrote = socket_->write(output.view());
    if (!wrote) return finish(wrote.error());
    if (!*wrote) return await_room();
    last_progress_ = loop_->now();
    output.consume(**wrote);
  }
  // Of a slow way the system would take much more than is good.
  if (burst_ < kMaxBurst && !closing_ && measure_way() >= burst_) return await_room();
  if (closing_ && !shut_down_) {
    shut_down_ = true;
    socket_->shutdown_write();  // then the peer's end of stream, or kLinger, ends it
  }
}

void Connection::await_room() {
  write_armed_ = true;
  measure_way();
  socket_->when_writable([this] {
    write_armed_ = false;
    flush();
    if (writable()) handler_->on_writable();
    flush();
    settle();
  });
}

// Asked when the socket takes no more, or soon will not: then the way is what limits us, and not a lack of packets.
// Returns what the system has not sent yet.
std::size_t Connection::measure_way() {
  const auto way = socket_->way();
  if (!way) return 0;
  const TimePoint now = loop_->now();
  if (now - measured_ < kRateLife) return way->unsent;
  measured_ = now;
  constexpr auto kPerSecond = static_cast<std::uint64_t>(std::chrono::seconds(1) / kBurstTime);
  const std::size_t burst =
      way->rate == 0 ? kMaxBurst : std::clamp<std::size_t>(way->rate / kPerSecond, kLeastBurst, kMaxBurst);
  // Small changes are not worth a system call.
  const bool alike = burst > burst_ - burst_ / 4 && burst < burst_ + burst_ / 4 && burst != kMaxBurst;
  if (!alike && burst != burst_) {
    burst_ = burst;
    socket_->set_unsent_limit(burst);
  }
  return way->unsent;
}

void Connection::schedule_tick() {
  TimePoint next = last_received_ + timing_.silence_limit;
  if (closing_) {
    next = closing_since_ + kLinger;
  } else {
    if (channel_.state() == Channel::State::open) next = std::min(next, last_ping_ + timing_.ping_interval);
    if (write_armed_) next = std::min(next, last_progress_ + timing_.silence_limit);
  }
  timer_->start_at(std::max(next, loop_->now()), [this] { tick(); });
}

void Connection::tick() {
  const TimePoint now = loop_->now();
  if (closing_) {
    if (now - closing_since_ >= kLinger) return finish(ending_.error);
  } else if (now - last_received_ >= timing_.silence_limit) {
    return finish({ErrorCode::timed_out, "nothing was received for " + seconds_text(timing_.silence_limit)});
  } else if (write_armed_ && now - last_progress_ >= timing_.silence_limit) {
    return finish({ErrorCode::timed_out, "the peer took no bytes for " + seconds_text(timing_.silence_limit)});
  } else if (now - last_ping_ >= timing_.ping_interval) {
    last_ping_ = now;
    if (channel_.output_size() == 0) send_ping();
    if (closed_) return;
    if (!std::exchange(busy_, false)) cool_down();
  }
  schedule_tick();
}

// After a turn: keeps the buffers if there is a place among the loop's warm connections, else gives them back while
// they are at hand. One place is looked at, so that this costs the same with any number of connections.
void Connection::settle() {
  if (closed_) return;
  const TimePoint now = std::max(last_received_, last_progress_);
  if (warm_place_ != nullptr) {
    warm_place_->used = now;
    return;
  }
  WarmPlaces::Place& place = buffer_->warm.next();
  if (place.holder != nullptr && now - place.used < WarmPlaces::kPatience) return release_buffers();
  if (place.holder != nullptr) place.holder->cool_down();
  place = {this, now};
  warm_place_ = &place;
}

void Connection::cool_down() {
  if (warm_place_ != nullptr) *std::exchange(warm_place_, nullptr) = {};
  if (!in_turn_) release_buffers();  // in a turn a message may lie in one
}

void Connection::release_buffers() {
  channel_.release_idle_memory();
  if (!closed_) handler_->on_idle();
}

// The socket goes away now; the owner hears of it in a turn of its own.
void Connection::finish(Error error) {
  if (closed_) return;
  closed_ = true;
  if (!closing_) ending_.error = std::move(error);
  timer_->cancel();
  socket_.reset();
  loop_->post([this, alive = alive_] {
    if (*alive) handler_->on_closed(ending_);
  });
}

void Connection::detach() {
  *alive_ = false;  // what is posted on the old loop has nothing to say any more
  cool_down();
  timer_.reset();
  if (socket_) socket_->detach();
  write_armed_ = false;
  handler_ = nullptr;
}

void Connection::resume(EventLoop& loop, ReadBuffer& buffer, Timing timing, Handler& handler) {
  loop_ = &loop;
  buffer_ = &buffer;
  timing_ = timing;
  handler_ = &handler;
  alive_ = std::make_shared<bool>(true);
  timer_ = std::make_unique<Timer>(loop);
  if (closed_) {
    loop.post([this, alive = alive_] {
      if (*alive) handler_->on_closed(ending_);
    });
    return;
  }
  socket_->adopt(loop);
  flush();
  await_turn();
  if (!closed_) schedule_tick();
}

}  // namespace penstock::transport
