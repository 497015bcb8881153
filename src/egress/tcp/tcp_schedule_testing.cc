#include "egress/tcp/tcp_schedule_testing.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <sstream>

#include "egress/tcp/tcp_habits_testing.h"
#include "packet/super_packet.h"

namespace penstock::egress::testing {

using namespace std::chrono_literals;

namespace {

constexpr std::size_t kMostSteps = 3'000'000;

std::string clock_of(TimePoint now, TimePoint start) {
  return std::to_string(std::chrono::duration<double>(now - start).count()) + " s";
}

// Who has been busy for long has done all that mattered, and only looks after things.
Duration least_pause(std::size_t& turns) {
  ++turns;
  return turns < 200 ? Duration(100us) : turns < 500 ? Duration(50ms) : Duration(2s);
}

}  // namespace

void NearTheWrap::fill(MutableByteView out) {
  const bool near = out.size() == 4 && dice_.one_in(3);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint8_t>(dice_.next());
  // Of a 32-bit number in the order of this machine, all upper bits.
  if (near) out[2] = out[3] = 0xFF;
}

struct ScheduledWorld::Plan {
  Fate fate = Fate::orderly;
  bool from_outside = false;
  std::size_t up = 0;  // bytes
  std::size_t down = 0;
  Duration begins{};
  Duration connects{};  // after so long
  StreamError refusal = StreamError::refused;
  bool client_ends_last = false;
  bool server_ends_last = false;
  Duration breaks{};  // since it began
  Duration patience{};
  std::size_t client_piece = SIZE_MAX;  // at most, of what it offers
  std::size_t client_reads = SIZE_MAX;  // at most, of what it takes at a time; SIZE_MAX: at once
  std::size_t client_sleeps = 0;        // takes nothing for so many of its turns
  Duration client_pause{};
  std::size_t server_piece = SIZE_MAX;
  std::size_t server_hears = SIZE_MAX;
  std::size_t server_sleeps = 0;
  Duration server_pause{};
  ClientHabits habits;
};

struct ScheduledWorld::Conversation {
  Conversation(EventLoop& loop, Place& where, const Plan& chosen, std::uint64_t seed)
      : place(&where),
        plan(chosen),
        upwards(seed),
        downwards(seed + 1),
        client_turn(loop),
        breaking(loop),
        patience(loop) {}

  Place* place;
  Plan plan;
  Pattern upwards;
  Pattern downwards;
  std::unique_ptr<SimulatedClient> client;
  std::vector<HostStreams::Stream> streams;  // the first is meant, the others are ghosts of its SYNs
  std::map<HostStreams::Stream, std::unique_ptr<Timer>> server_turns;
  std::size_t client_turns = 0;
  std::size_t server_turns_taken = 0;
  std::size_t offered = 0;
  std::size_t said = 0;
  bool server_ended = false;
  Timer client_turn;
  Timer breaking;
  Timer patience;
};

struct ScheduledWorld::Place {
  TcpEnds ends;
  std::unique_ptr<Road> up;
  std::unique_ptr<Road> down;
  bool clean = false;
  bool cut = false;                                          // for longer than who opens a connection has patience
  std::vector<std::unique_ptr<Conversation>> conversations;  // the last is the one of now
  std::size_t to_come = 0;
  std::size_t closed = 0;
  std::size_t aborted = 0;
  std::unique_ptr<Timer> following;

  Conversation& now() const { return *conversations.back(); }
};

ScheduledWorld::ScheduledWorld(std::uint64_t seed, bool trace)
    : seed_(seed), trace_(trace), dice_(seed * 0x100 + 0x5EED), random_(dice_.fork()) {
  settings_.most_connections = 64;
  settings_.most_time_wait = dice_.one_in(10) ? 1 : 64;
  if (!dice_.one_in(4)) settings_.keepalive = dice_.between(Duration(20s), Duration(400s));
  if (dice_.one_in(10)) settings_.held_bytes_of_client = dice_.size(100'000);
  instant_ = dice_.one_in(20);
  one_by_one_ = dice_.one_in(4);
  limited_ = dice_.one_in(5);
  Clients& clients = *this;
  terminator_ = std::make_unique<TcpTerminator>(loop_, random_, settings_, streams_, clients);
  streams_.set_events(terminator_->events());
  lay_out();
}

ScheduledWorld::~ScheduledWorld() {
  terminator_.reset();
  places_.clear();
  loop_.discard();
}

void ScheduledWorld::lay_out() {
  if (limited_) {
    most_credit_ = dice_.between(80'000, 600'000);
    credit_ = dice_.up_to(most_credit_);
    refilled_every_ = dice_.between(Duration(1ms), Duration(200ms));
    refilled_by_ = dice_.between(2'000, most_credit_);
    no_credit_from_ = loop_.now() + dice_.up_to(Duration(3s));
    no_credit_until_ = no_credit_from_ + (dice_.one_in(2) ? Duration(0) : dice_.up_to(Duration(40s)));
  }
  const std::size_t count = dice_.one_in(4) ? dice_.between(2, 4) : 1;
  const bool v6 = dice_.one_in(4);
  for (std::size_t i = 0; i < count; ++i) {
    auto place = std::make_unique<Place>();
    Place* const at = place.get();
    const auto number = static_cast<std::uint16_t>(i);
    const auto address = [](const char* text) { return IpAddress::parse(text).value(); };
    at->ends = {.client = {address(v6 ? "fd00::2" : "10.0.0.2"), static_cast<std::uint16_t>(40000 + number)},
                .server = {address(v6 ? "2001:db8::1" : "192.0.2.1"), static_cast<std::uint16_t>(80 + number)}};
    Weather up = some_weather(dice_, loop_.now());
    Weather down = some_weather(dice_, loop_.now());
    up.rate = 0;  // these clients avoid no congestion, and look for no MTU
    up.mtu = SIZE_MAX;
    if (v6 && down.mtu != SIZE_MAX) down.mtu = std::max<std::size_t>(down.mtu, 1280);
    at->clean = dice_.one_in(5);
    if (at->clean) up = down = {.delay = up.delay, .cut_apart = up.cut_apart, .put_together = up.put_together};
    at->cut = up.cut_until > loop_.now() || down.cut_until > loop_.now();
    at->up =
        std::make_unique<Road>(loop_, dice_.fork(), up, [this](Packet&& packet) { from_client(std::move(packet)); });
    const Duration told_after = down.delay + up.delay;
    const auto mtu = static_cast<std::uint32_t>(std::min<std::size_t>(down.mtu, 65535));
    at->down = std::make_unique<Road>(
        loop_, dice_.fork(), down,
        [this, at](Packet&& packet) {
          say("      arrives", packet);
          at->now().client->receive(packet);
        },
        [this, at, told_after, mtu](const Packet& packet) {
          const auto segment = parse_tcp(packet.bytes(), parse_ip(packet.bytes()).value());
          loop_.start_timer(loop_.now() + told_after, [this, at, mtu, sequence = segment->sequence] {
            terminator_->undeliverable(at->ends, sequence, mtu);
            terminator_->flush();
          });
        });
    at->to_come = dice_.one_in(5) ? dice_.between(2, 3) : 1;
    at->following = std::make_unique<Timer>(loop_);
    places_.push_back(std::move(place));
  }
  for (auto& place : places_) {
    Place* const at = place.get();
    at->following->start(dice_.up_to(Duration(200ms)), [this, at] { start(*at); });
  }
}

ScheduledWorld::Plan ScheduledWorld::some_plan(bool first, bool may_come_from_outside) {
  static constexpr std::array kBroken{Fate::client_resets, Fate::server_resets,   Fate::client_vanishes,
                                      Fate::refused,       Fate::refused_at_once, Fate::aborted};
  static constexpr std::array kRefusals{StreamError::refused,    StreamError::host,      StreamError::network,
                                        StreamError::prohibited, StreamError::timed_out, StreamError::reset,
                                        StreamError::exhausted};
  Plan plan;
  plan.habits = some_habits(dice_);
  plan.habits.reuses = !first;
  plan.habits.time_wait = 200s;  // outlives what cuts there are, and the retransmissions behind them
  if (dice_.one_in(3)) plan.fate = kBroken[dice_.up_to(kBroken.size() - 1)];
  // Which all are, or none.
  if (plan.fate == Fate::refused_at_once && places_.size() > 1) plan.fate = Fate::refused;
  if (plan.fate == Fate::aborted && !first) plan.fate = Fate::client_resets;
  plan.from_outside = may_come_from_outside && dice_.one_in(6);
  if (plan.from_outside) {
    if (plan.fate == Fate::refused) plan.fate = Fate::client_refuses;
    if (plan.fate == Fate::refused_at_once) plan.fate = Fate::client_is_silent;
  }
  const std::size_t most = dice_.one_in(25) ? 400'000 : 6'000;
  plan.up = dice_.size(most);
  // A window of some bytes lets some bytes through each time.
  plan.down = std::min(dice_.size(most), plan.habits.capacity * 100);
  plan.begins = dice_.up_to(Duration(500ms));
  if (!dice_.one_in(3)) plan.connects = dice_.up_to(dice_.one_in(8) ? Duration(8s) : Duration(300ms));
  plan.refusal = kRefusals[dice_.up_to(kRefusals.size() - 1)];
  if (plan.fate == Fate::refused && dice_.one_in(4)) {
    plan.connects = 130s;
    plan.refusal = StreamError::timed_out;
  }
  switch (dice_.up_to(3)) {
    case 0: plan.client_ends_last = true; break;
    case 1: plan.server_ends_last = true; break;
    default: break;
  }
  plan.breaks = dice_.up_to(dice_.one_in(3) ? Duration(20s) : Duration(2s));
  plan.patience = dice_.between(Duration(60s), Duration(200s));
  const auto piece = [this](std::size_t all) { return dice_.one_in(3) ? SIZE_MAX : 1 + all / dice_.between(1, 20); };
  const auto pause = [this] { return dice_.up_to(dice_.one_in(10) ? Duration(2s) : Duration(20ms)); };
  plan.client_piece = piece(plan.up);
  plan.client_reads = piece(plan.down);
  plan.client_sleeps = plan.client_reads == SIZE_MAX || dice_.one_in(2) ? 0 : dice_.up_to(50);
  plan.client_pause = pause();
  plan.server_piece = piece(plan.down);
  plan.server_hears = piece(plan.up);
  plan.server_sleeps = plan.server_hears == SIZE_MAX || dice_.one_in(2) ? 0 : dice_.up_to(50);
  plan.server_pause = pause();
  return plan;
}

// ---- conversations ----

void ScheduledWorld::start(Place& place) {
  const bool first = place.conversations.empty();
  Plan plan = some_plan(first, first && !place.cut);
  if (plan.from_outside) place.to_come = 1;
  // As RFC 6528 has it: behind what was there before. Or anywhere else, but not among it.
  const auto among = [&place](std::uint32_t number) {
    return place.now().client->next_sequence() - number < (1U << 21);
  };
  if (!first && (!dice_.one_in(3) || among(plan.habits.initial_sequence))) {
    plan.habits.initial_sequence =
        place.now().client->next_sequence() + 1 + static_cast<std::uint32_t>(dice_.size(1U << 20));
  }
  if (plan.fate == Fate::refused_at_once) {
    streams_.refuses_at_once = plan.refusal;
  } else {
    streams_.refuses_at_once.reset();
  }
  --place.to_come;
  ++totals_.conversations;
  auto made = std::make_unique<Conversation>(loop_, place, plan, dice_.next());
  Conversation& one = *made;
  one.client = std::make_unique<SimulatedClient>(loop_, dice_.fork(), place.ends.client, place.ends.server, plan.habits,
                                                 one.upwards, one.downwards, [this, &place](PacketBatch& batch) {
                                                   if (!instant_) return place.up->send(batch);
                                                   for (Packet& packet : batch) from_client(std::move(packet));
                                                   batch.clear();
                                                 });
  place.conversations.push_back(std::move(made));
  if (trace_) std::fprintf(stderr, "-- %s: %s\n", place.ends.client.to_string().c_str(), describe().c_str());
  if (plan.from_outside) {
    if (plan.fate == Fate::client_is_silent) {
      one.client->vanish();
    } else if (plan.fate != Fate::client_refuses) {
      one.client->listen();
    }
    const HostStreams::Stream stream = streams_.incoming(place.ends.server);
    one.streams.push_back(stream);
    noticed_ = streams_.last();
    if (!terminator_->open(place.ends, stream)) complain("open() says no");
    server_lives(one, stream);
  } else {
    one.client->connect();
  }
  if (plan.client_reads == SIZE_MAX) one.client->read(SIZE_MAX);
  client_lives(one);
  if (plan.fate != Fate::orderly) {
    one.breaking.start(plan.breaks, [this, &one] { break_off(one); });
    one.patience.start(plan.patience, [this, &one] {
      streams_.refuses_at_once.reset();
      one.client->abort();
    });
  }
}

void ScheduledWorld::break_off(Conversation& one) {
  switch (one.plan.fate) {
    case Fate::client_resets: return one.client->abort();
    case Fate::client_vanishes: return one.client->vanish();
    case Fate::server_resets:
      if (!one.streams.empty() && streams_.open.contains(one.streams[0]) && streams_.at(one.streams[0]).connected) {
        streams_.reset_by_server(one.streams[0]);
      }
      return;
    case Fate::aborted: {
      const std::size_t before = terminator_->connections();
      terminator_->abort(one.place->ends);
      one.place->aborted += before - terminator_->connections();
      return;
    }
    default: return;
  }
}

void ScheduledWorld::client_lives(Conversation& one) {
  using Phase = SimulatedClient::Phase;
  SimulatedClient& client = *one.client;
  Plan& plan = one.plan;
  if (client.phase() == Phase::gone || client.phase() == Phase::time_wait) {
    if (client.phase() == Phase::time_wait) client.read(SIZE_MAX);
  } else {
    if (one.offered < plan.up) {
      const std::size_t more =
          std::min(plan.up - one.offered, dice_.between(1, std::min<std::size_t>(plan.client_piece, 1U << 20)));
      one.offered += more;
      client.offer(more);
    }
    if (one.offered == plan.up && (!plan.client_ends_last || client.heard_end())) client.end();
    if (plan.client_reads != SIZE_MAX) {
      if (plan.client_sleeps != 0) {
        --plan.client_sleeps;
      } else {
        client.read(dice_.between(1, plan.client_reads));
      }
    }
  }
  // What it was told before it was gone is read all the same.
  const bool done = client.phase() == Phase::gone;
  if (done) client.read(SIZE_MAX);
  Place& place = *one.place;
  if (&place.now() == &one && place.to_come != 0) {
    if (may_follow(place)) {
      place.following->start(dice_.up_to(Duration(300ms)),
                             [this, &place] { may_follow(place) ? start(place) : client_lives(place.now()); });
    } else {
      one.client_turn.start(dice_.up_to(plan.client_pause) + least_pause(one.client_turns),
                            [this, &one] { client_lives(one); });
    }
    return;
  }
  if (done) return;
  one.client_turn.start(dice_.up_to(plan.client_pause) + least_pause(one.client_turns),
                        [this, &one] { client_lives(one); });
}

// The same ends are free again for the client, and nothing of the conversation before is still under way.
bool ScheduledWorld::may_follow(const Place& place) const {
  const auto phase = place.now().client->phase();
  // What is in TIME-WAIT does not know yet that its last word was heard. And where a slow server still has to take what
  // was said, a new connection has to wait: not for longer than its client has patience.
  bool over = true;
  bool soon = true;
  for (const auto& one : place.conversations) {
    for (const HostStreams::Stream stream : one->streams) {
      if (!streams_.open.contains(stream)) continue;
      over = false;
      if (one->plan.server_pause > 300ms || !streams_.open.at(stream).connected) soon = false;
    }
  }
  return (over || (phase == SimulatedClient::Phase::gone && soon)) && phase >= SimulatedClient::Phase::time_wait &&
         place.up->under_way() == 0 && place.down->under_way() == 0 && !place.now().breaking.running();
}

void ScheduledWorld::notice_streams() {
  while (noticed_ < streams_.last()) {
    const HostStreams::Stream stream = ++noticed_;
    const auto found = streams_.open.find(stream);
    if (found == streams_.open.end()) continue;
    const auto place =
        std::ranges::find_if(places_, [&](const auto& each) { return each->ends.server == found->second.to; });
    if (place == places_.end()) {
      complain("it connects to where nobody wanted to");
      continue;
    }
    Conversation& one = (*place)->now();
    if (one.plan.from_outside) complain("it connects to who has connected");
    one.streams.push_back(stream);
    if (one.streams.size() > 1) ++totals_.ghosts;
    auto& turn = one.server_turns[stream];
    turn = std::make_unique<Timer>(loop_);
    turn->start(one.plan.connects, [this, &one, stream] {
      if (!streams_.open.contains(stream)) return;
      if (one.plan.fate == Fate::refused) return streams_.refuse(stream, one.plan.refusal);
      streams_.accept(stream);
      server_lives(one, stream);
    });
  }
}

void ScheduledWorld::server_lives(Conversation& one, HostStreams::Stream stream) {
  const auto found = streams_.open.find(stream);
  if (found == streams_.open.end()) return;
  if (one.plan.server_hears != SIZE_MAX) {
    if (found->second.room == SIZE_MAX) found->second.room = dice_.size(2000);
    if (one.plan.server_sleeps != 0) {
      --one.plan.server_sleeps;
    } else {
      streams_.set_room(stream, found->second.room + dice_.up_to(one.plan.server_hears));
    }
  }
  if (stream == one.streams[0]) {
    server_says(one, stream);
  } else if (found->second.ended && !found->second.server_ended) {
    streams_.end_of_server(stream);
  }
  auto& turn = one.server_turns[stream];
  if (!turn) turn = std::make_unique<Timer>(loop_);
  turn->start(dice_.up_to(one.plan.server_pause) + least_pause(one.server_turns_taken),
              [this, &one, stream] { server_lives(one, stream); });
}

void ScheduledWorld::server_says(Conversation& one, HostStreams::Stream stream) {
  const FakeStreams::One& there = streams_.at(stream);
  if (there.error != StreamError::none) return;
  if (one.said < one.plan.down) {
    const std::size_t more =
        std::min(one.plan.down - one.said, dice_.between(1, std::min<std::size_t>(one.plan.server_piece, 1U << 20)));
    std::vector<std::uint8_t> bytes(more);
    one.downwards.fill(one.said, bytes);
    one.said += more;
    streams_.say(stream, bytes);
  }
  if (one.said == one.plan.down && !one.server_ended && (!one.plan.server_ends_last || there.ended)) {
    one.server_ended = true;
    streams_.end_of_server(stream);
  }
}

// ---- packets ----

void ScheduledWorld::from_client(Packet&& packet) {
  const auto view = parse_ip(std::as_const(packet).bytes());
  if (!view || !check_offload(std::as_const(packet).bytes(), *view, packet.offload)) {
    return complain("a packet of a client is none");
  }
  say("  it is given", packet);
  terminator_->from_client(std::move(packet), *view);
  notice_streams();
  if (one_by_one_ && !instant_) return terminator_->flush();
  if (std::exchange(flush_is_due_, true)) return;
  loop_.post([this] {
    flush_is_due_ = false;
    terminator_->flush();
    notice_streams();
  });
}

void ScheduledWorld::to_clients(PacketBatch& batch) {
  notice_streams();
  if (batch.empty()) complain("an empty batch");
  std::map<Place*, PacketBatch> sorted;
  for (Packet& packet : batch) {
    const auto view = parse_ip(std::as_const(packet).bytes());
    if (!view) {
      complain("it sends what is no packet");
      continue;
    }
    if (limited_) credit_ -= std::min(credit_, packet.footprint());
    if (view->protocol != kProtocolTcp) continue;  // why there is no server: these clients do not listen to that
    const auto segment = parse_tcp(std::as_const(packet).bytes(), *view);
    const Endpoint client{view->destination, segment ? segment->destination : std::uint16_t{0}};
    const auto found = std::ranges::find_if(places_, [&](const auto& each) { return each->ends.client == client; });
    if (found == places_.end() || (*found)->conversations.empty()) {
      complain("a packet to nobody");
      continue;
    }
    Place& place = **found;
    Conversation& one = place.now();
    say("it says", packet);
    one.client->audit(packet);
    if ((segment->flags & (kTcpSyn | kTcpAck)) == (kTcpSyn | kTcpAck)) {
      const auto connected = [this](HostStreams::Stream stream) {
        const auto at = streams_.open.find(stream);
        return at != streams_.open.end() && at->second.connected;
      };
      const auto has_server = [&](const auto& each) { return std::ranges::any_of(each->streams, connected); };
      if (std::ranges::none_of(place.conversations, has_server)) complain("a SYN-ACK before there is a server");
    }
    if (instant_) {
      one.client->receive(packet);
    } else {
      sorted[&place].push_back(std::move(packet));
    }
  }
  batch.clear();
  for (auto& [place, packets] : sorted) place->down->send(packets);
  if (limited_ && !refilling_.running()) refilling_.start(refilled_every_, [this] { refill(); });
}

void ScheduledWorld::closed(const TcpEnds& ends) {
  if (trace_) std::fprintf(stderr, "%12s closed\n", clock_of(loop_.now(), test::ManualLoop().now()).c_str());
  const auto found = std::ranges::find_if(places_, [&](const auto& each) { return each->ends == ends; });
  if (found == places_.end()) return complain("ends are closed that nobody opened");
  ++(*found)->closed;
}

// ---- credit ----

std::size_t ScheduledWorld::credit(const Endpoint& /*client*/) {
  if (!limited_) return SIZE_MAX;
  const TimePoint now = loop_.now();
  return now >= no_credit_from_ && now < no_credit_until_ ? 0 : credit_;
}

void ScheduledWorld::refill() {
  credit_ = std::min(most_credit_, credit_ + refilled_by_);
  tell_waiters();
  if (credit_ < most_credit_ || !waiters_.empty()) refilling_.start(refilled_every_, [this] { refill(); });
}

void ScheduledWorld::tell_waiters() {
  for (std::size_t turns = waiters_.size(); turns > 0 && !waiters_.empty() && credit({}) > 0; --turns) {
    router::CreditWaiter* const waiter = waiters_.front();
    waiters_.pop_front();
    waiter->on_credit();
  }
}

router::PortId ScheduledWorld::wait_for_credit(const Endpoint& /*client*/, router::CreditWaiter& waiter) {
  if (!limited_) complain("it waits for credit that is there");
  waiters_.push_back(&waiter);
  if (!refilling_.running()) refilling_.start(refilled_every_, [this] { refill(); });
  return {.shard = 0, .slot = 7, .generation = 1};
}

void ScheduledWorld::cancel_wait(router::PortId port, router::CreditWaiter& waiter) {
  if (port.slot != 7) complain("it cancels a wait where it did not wait");
  std::erase(waiters_, &waiter);
}

// ---- the end ----

std::vector<std::string> ScheduledWorld::play() {
  const TimePoint begin = loop_.now();
  std::size_t steps = 0;
  while (complaints_.empty()) {
    steps += loop_.run_until_idle();
    const auto next = loop_.next_timer();
    if (!next) break;
    if (*next - begin > kLongest || steps > kMostSteps) {
      complain(steps > kMostSteps ? "it never comes to rest" : "it hangs");
      break;
    }
    if (terminator_->connections() > settings_.most_connections) complain("more connections than may be");
    loop_.advance(*next - loop_.now());
    ++steps;
  }
  look_back();
  return complaints_;
}

void ScheduledWorld::look_back() {
  if (terminator_->connections() != 0) complain("connections are left: " + std::to_string(terminator_->connections()));
  if (terminator_->timers() != 0) complain("timers are left: " + std::to_string(terminator_->timers()));
  if (loop_.timers() != 0) complain("timers of the loop are left");
  if (!streams_.open.empty()) complain("streams are left: " + std::to_string(streams_.open.size()));
  if (!waiters_.empty()) complain("somebody waits for credit");
  std::uint64_t broken = 0;
  for (const auto& place : places_) {
    std::size_t made = 0;
    bool refused_at_once = false;
    for (const auto& one : place->conversations) {
      look_back_at(*place, *one);
      made += one->streams.size();
      refused_at_once = refused_at_once || one->plan.fate == Fate::refused_at_once;
    }
    broken += place->up->counters().broken;
    totals_.lost += place->up->counters().lost + place->down->counters().lost;
    // A connection in TIME-WAIT that another takes the place of is not told of.
    const std::size_t replaced = place->conversations.size() - 1;
    if (!refused_at_once && (place->closed > made || place->closed + place->aborted + replaced < made)) {
      complain("of " + std::to_string(made) + " connections " + std::to_string(place->closed) + " were told of");
    }
  }
  const TcpTerminator::Counters& counters = terminator_->counters();
  totals_.retransmitted = counters.retransmitted;
  const bool calm = !limited_ && std::ranges::all_of(places_, [](const auto& place) {
    return place->clean && std::ranges::all_of(place->conversations, [](const auto& one) {
             const ClientHabits& habits = one->plan.habits;
             return one->plan.fate == Fate::orderly && habits.capacity >= 65535 && habits.acknowledges_within <= 40ms;
           });
  });
  if (calm && counters.retransmitted != 0) complain("something was sent again though nothing was lost");
  if (counters.malformed != broken) {
    complain(std::to_string(counters.malformed) + " counted as malformed, not " + std::to_string(broken));
  }
}

void ScheduledWorld::look_back_at(const Place& place, const Conversation& one) {
  const SimulatedClient& client = *one.client;
  const std::string whose = place.ends.client.to_string() + ": ";
  for (const std::string& each : client.complaints()) complain(whose + each);
  const bool orderly = one.plan.fate == Fate::orderly;
  for (const HostStreams::Stream stream : one.streams) {
    const auto found = streams_.closed.find(stream);
    if (found == streams_.closed.end()) continue;
    const auto& heard = found->second.heard;
    if (one.upwards.matching(0, heard) != heard.size()) complain(whose + "the server heard what was not said");
    if (heard.size() > one.offered) complain(whose + "the server heard more than was said");
    if (stream == one.streams[0]) totals_.up += heard.size();
    if (!orderly) continue;
    if (stream != one.streams[0]) {
      if (!heard.empty()) complain(whose + "a ghost heard something");
      continue;
    }
    if (heard.size() != one.plan.up) {
      complain(whose + "the server heard " + std::to_string(heard.size()) + " of " + std::to_string(one.plan.up));
    }
    if (!found->second.ended) complain(whose + "the server was not told of the end");
    if (found->second.aborted) complain(whose + "the server's stream was broken off");
    if (found->second.unread != 0) complain(whose + "something was not taken from the server");
  }
  totals_.down += client.received();
  if (client.received() > one.said) complain(whose + "the client heard more than was said");
  if (client.heard_end() && !one.server_ended && one.streams.size() < 2) complain(whose + "an end that was not said");
  if (!orderly) return;
  ++totals_.orderly;
  if (one.streams.empty()) complain(whose + "no server was asked");
  if (client.received() != one.plan.down) {
    complain(whose + "the client heard " + std::to_string(client.received()) + " of " + std::to_string(one.plan.down));
  }
  if (!client.heard_end()) complain(whose + "the client was not told of the end");
  // What asks again after its end, where TIME-WAIT had to make room, is told that nobody is there.
  const bool made_room = settings_.most_time_wait == 1 && client.why() == SimulatedClient::Why::reset_by_peer;
  if (client.why() != SimulatedClient::Why::ended && !made_room)
    complain(whose + "it did not end well: " + client.describe());
}

void ScheduledWorld::complain(const std::string& what) {
  if (complaints_.size() < 20) complaints_.push_back(clock_of(loop_.now(), test::ManualLoop().now()) + ": " + what);
  if (trace_) std::fprintf(stderr, "!! %s\n", complaints_.back().c_str());
}

std::string ScheduledWorld::describe() const {
  std::ostringstream text;
  text << "seed " << seed_ << (instant_ ? ", instant" : "") << (limited_ ? ", limited" : "");
  for (const auto& place : places_) {
    for (const auto& one : place->conversations) {
      const Plan& plan = one->plan;
      text << "\n  fate " << static_cast<int>(plan.fate) << (plan.from_outside ? " from outside" : "") << ", up "
           << plan.up << ", down " << plan.down << ", broken off after "
           << std::chrono::duration<double>(plan.breaks).count() << " s, said " << one->said
           << (one->server_ended ? " and the end" : "") << ", streams " << one->streams.size() << ", mss "
           << plan.habits.mss.value_or(0) << ", scale "
           << (plan.habits.window_scale ? std::to_string(*plan.habits.window_scale) : "none") << ", capacity "
           << plan.habits.capacity << (plan.habits.sack ? ", SACK" : "")
           << (plan.habits.timestamps ? ", timestamps" : "") << "\n    " << one->client->describe();
    }
  }
  return text.str();
}

void ScheduledWorld::say(const char* direction, const Packet& packet) const {
  if (!trace_) return;
  const auto view = parse_ip(packet.bytes());
  const auto segment = view ? parse_tcp(packet.bytes(), *view) : std::nullopt;
  if (!segment) return;
  std::string flags;
  for (const auto& [bit, letter] : {std::pair(kTcpSyn, 'S'), {kTcpFin, 'F'}, {kTcpRst, 'R'}, {kTcpAck, '.'}}) {
    if ((segment->flags & bit) != 0) flags += letter;
  }
  std::string sacks;
  for (std::size_t i = 0; i < segment->options.sack_count; ++i) {
    sacks +=
        ' ' + std::to_string(segment->options.sacks[i].first) + '-' + std::to_string(segment->options.sacks[i].end);
  }
  std::fprintf(stderr, "%12s %-12s %u>%u [%s] seq %u+%zu ack %u win %u%s%s\n",
               clock_of(loop_.now(), test::ManualLoop().now()).c_str(), direction, unsigned{segment->source},
               unsigned{segment->destination}, flags.c_str(), segment->sequence, segment->payload_size,
               segment->acknowledgement, unsigned{segment->window}, sacks.empty() ? "" : " sack", sacks.c_str());
}

}  // namespace penstock::egress::testing
