#include "dns/forwarder.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace penstock::dns {

Forwarder::Forwarder(EventLoop& loop, Random& random, Upstream& upstream, const LocalZones& zones,
                     const Settings& settings, Answer answer)
    : loop_(&loop),
      random_(&random),
      upstream_(&upstream),
      zones_(&zones),
      settings_(settings),
      answer_(std::move(answer)),
      limits_(settings.client),
      cache_(settings.cache) {}

Forwarder::~Forwarder() {
  for (auto& [key, pending] : pending_)
    for (Attempt& attempt : pending->attempts) close(attempt);
}

void Forwarder::set_servers(std::span<const Endpoint> servers) {
  const bool same =
      std::ranges::equal(servers, servers_, {}, {}, [](const auto& server) { return server->endpoint(); });
  if (same) return;
  std::vector<std::shared_ptr<Server>> next;
  for (const Endpoint& endpoint : servers) {
    const auto known = std::ranges::find(servers_, endpoint, [](const auto& server) { return server->endpoint(); });
    next.push_back(known != servers_.end() ? *known : std::make_shared<Server>(endpoint));
  }
  servers_ = std::move(next);
  cache_.clear();
}

bool Forwarder::on_query(const ClientKey& client, ByteView bytes) {
  const TimePoint now = loop_->now();
  const Transport transport = client.stream == 0 ? Transport::udp : Transport::stream;
  if (!limits_.take(client.client, now)) {
    counters_.count(Count::over_rate);
    // A datagram is as if lost, and asked again later. Over a stream nothing is lost, so an answer is waited for.
    const auto header = parse_header(bytes);
    if (transport != Transport::stream || !header || header->response) return false;
    answer_(client, bare_answer(bytes, rcode::kRefused));
    return true;
  }
  auto read = read_client_query(bytes, transport);
  if (const auto* refused = std::get_if<RefusedQuery>(&read)) {
    counters_.count(refused->reason);
    if (refused->answer.empty()) return false;
    answer_(client, refused->answer);
    return true;
  }
  auto& query = std::get<ClientQuery>(read);
  if (const auto local = zones_->answer(query.head.question)) {
    counters_.count(Count::local);
    query.head.header.authoritative = true;
    answer_(client, query.answer(local->rcode, local->records));
    return true;
  }
  if (!query.recursion_desired) return refuse(client, query, Count::not_recursive);
  if (const auto hit = cache_.find(query.key(), now)) {
    counters_.count(Count::cached);
    answer_(client, query.answer(hit->rcode, *hit->records, hit->ttl_cap, hit->age));
    return true;
  }
  return wait_for(client, std::move(query));
}

bool Forwarder::refuse(const ClientKey& client, const ClientQuery& query, Count reason) {
  counters_.count(reason);
  answer_(client, query.answer(rcode::kRefused));
  return true;
}

bool Forwarder::wait_for(const ClientKey& client, ClientQuery query) {
  CacheKey key = query.key();
  const auto found = pending_.find(key);
  if (found != pending_.end()) {
    const bool repeated = std::ranges::any_of(found->second->waiters, [&](const Waiter& waiter) {
      return waiter.client == client && waiter.query.head.header.id == query.head.header.id;
    });
    if (repeated) {
      counters_.count(Count::repeated);
      return false;
    }
  } else if (servers_.empty()) {
    return refuse(client, query, Count::no_upstream);
  }
  if (waiting_ >= settings_.in_flight || (found == pending_.end() && pending_.size() >= settings_.in_flight))
    return refuse(client, query, Count::in_flight);
  if (!limits_.begin(client.client, loop_->now())) return refuse(client, query, Count::client_in_flight);
  ++waiting_;
  if (found != pending_.end()) {
    counters_.count(Count::joined);
    found->second->waiters.push_back({client, std::move(query)});
    return true;
  }
  counters_.count(Count::asked);
  auto made = std::make_unique<Pending>(*loop_, std::move(key));
  Pending& pending = *made;
  pending.deadline = loop_->now() + kPatience;
  pending.waiters.push_back({client, std::move(query)});
  pending_.emplace(pending.key, std::move(made));
  ask_next(pending);
  return true;
}

std::shared_ptr<Server> Forwarder::choose(const Pending& pending) const {
  if (pending.attempts.size() >= kMaxAttempts) return nullptr;
  const TimePoint now = loop_->now();
  std::shared_ptr<Server> best;
  std::pair<std::ptrdiff_t, bool> best_rank;
  for (const auto& server : servers_) {
    const auto is_of = [&](const Attempt& attempt) { return attempt.server == server; };
    if (std::ranges::any_of(pending.attempts, [&](const Attempt& a) { return is_of(a) && a.failed; })) continue;
    const std::pair rank(std::ranges::count_if(pending.attempts, is_of), server->ailing(now));
    if (best != nullptr && rank >= best_rank) continue;
    best = server;
    best_rank = rank;
  }
  return best;
}

bool Forwarder::ask(Pending& pending, const std::shared_ptr<Server>& server, Way way) {
  if (pending.attempts.size() >= kMaxAttempts) return false;
  const TimePoint now = loop_->now();
  Attempt attempt;
  attempt.server = server;
  attempt.stream = way == Way::stream;
  const bool spelled = !attempt.stream && way != Way::lower_case && server->keeps_case(now);
  const bool edns = way != Way::without_edns && server->knows_edns(now);
  attempt.query = make_upstream_query(pending.key, spelled, edns, *random_);
  attempt.exchange = ++last_exchange_;
  attempt.open = attempt.stream ? upstream_->send_stream(server->endpoint(), attempt.query.bytes, attempt.exchange)
                                : upstream_->send(server->endpoint(), attempt.query.bytes, attempt.exchange);
  if (!attempt.open) return false;
  counters_.count(Count::sent);
  if (attempt.stream) counters_.count(Count::sent_stream);
  attempt.query.bytes = {};
  exchanges_.emplace(attempt.exchange, &pending);
  pending.attempts.push_back(std::move(attempt));
  pending.timer.start_at(std::min(now + pending.patience, pending.deadline), [this, &pending] { on_timer(pending); });
  return true;
}

void Forwarder::ask_next(Pending& pending) {
  while (const auto server = choose(pending)) {
    if (ask(pending, server, Way::usual)) return;
    counters_.count(Count::unreachable);
    pending.attempts.push_back({.server = server, .failed = true});
  }
  if (std::ranges::none_of(pending.attempts, &Attempt::open)) return fail(pending);
  pending.timer.start_at(pending.deadline, [this, &pending] { on_timer(pending); });
}

void Forwarder::ask_again(Pending& pending, std::size_t attempt, Way way) {
  const auto server = pending.attempts[attempt].server;
  if (ask(pending, server, way)) return;
  pending.attempts[attempt].failed = true;
  ask_next(pending);
}

void Forwarder::close(Attempt& attempt) {
  if (!std::exchange(attempt.open, false)) return;
  exchanges_.erase(attempt.exchange);
  upstream_->close(attempt.exchange);
}

void Forwarder::on_reply(Exchange exchange, const Endpoint& from, ByteView reply) {
  const auto found = exchanges_.find(exchange);
  if (found == exchanges_.end()) return;
  Pending& pending = *found->second;
  const auto it = std::ranges::find(pending.attempts, exchange, &Attempt::exchange);
  PENSTOCK_ASSERT(it != pending.attempts.end());
  const auto index = static_cast<std::size_t>(it - pending.attempts.begin());

  if (from != it->server->endpoint()) return on_strange(pending, index);
  const auto answer = read_reply(reply, pending.key, it->query);
  if (!answer && answer.error().fault == ReplyFault::strange) return on_strange(pending, index);
  it->server->note_reply();
  if (!answer) return on_bad_reply(pending, index, answer.error());
  if (it->query.spelled) it->server->note_case_kept();
  counters_.count(Count::answers);
  finish(pending, *answer);
}

void Forwarder::on_strange(Pending& pending, std::size_t index) {
  Attempt& attempt = pending.attempts[index];
  counters_.count(Count::strange);
  if (attempt.stream) {
    // Nobody else can have said it: the server is confused.
    close(attempt);
    attempt.failed = true;
    return ask_next(pending);
  }
  if (++attempt.strange < kMaxStrange) return;
  const auto server = attempt.server;
  close(attempt);
  if (!ask(pending, server, Way::stream)) ask_next(pending);
}

void Forwarder::on_bad_reply(Pending& pending, std::size_t index, const BadReply& reply) {
  Attempt& attempt = pending.attempts[index];
  const auto server = attempt.server;
  const bool stream = attempt.stream;
  close(attempt);
  switch (reply.fault) {
    case ReplyFault::case_lost:
      counters_.count(Count::case_lost);
      server->note_case_lost(loop_->now());
      return ask_again(pending, index, Way::lower_case);
    case ReplyFault::edns_lost:
      counters_.count(Count::edns_lost);
      server->note_edns_lost(loop_->now());
      return ask_again(pending, index, stream ? Way::stream : Way::without_edns);
    case ReplyFault::truncated:
      counters_.count(Count::truncated);
      // The code of what was cut may be anything, and its records not all there are: what is passed on is that it was.
      if (!stream) {
        if (ask(pending, server, Way::stream)) return;
        Message cut = reply.message;
        cut.header.truncated = true;
        return finish(pending, cut);
      }
      break;
    case ReplyFault::strange:
    case ReplyFault::failed: counters_.count(Count::server_failed); break;
  }
  pending.attempts[index].failed = true;
  ask_next(pending);
}

void Forwarder::on_failed(Exchange exchange) {
  const auto found = exchanges_.find(exchange);
  if (found == exchanges_.end()) return;
  Pending& pending = *found->second;
  exchanges_.erase(found);
  const auto attempt = std::ranges::find(pending.attempts, exchange, &Attempt::exchange);
  attempt->open = false;
  attempt->failed = true;
  counters_.count(Count::unreachable);
  ask_next(pending);
}

void Forwarder::on_timer(Pending& pending) {
  const TimePoint now = loop_->now();
  for (Attempt& attempt : pending.attempts) {
    if (!attempt.open || std::exchange(attempt.silent, true)) continue;
    counters_.count(Count::timed_out);
    attempt.server->note_silence(now);
  }
  if (now >= pending.deadline) return fail(pending);
  pending.patience *= 2;
  ask_next(pending);
}

void Forwarder::fail(Pending& pending) {
  counters_.count(Count::failed);
  Message failure;
  failure.header.rcode = rcode::kServFail;
  finish(pending, failure);
}

void Forwarder::finish(Pending& pending, const Message& answer) {
  // Out of the books before anybody is told, who may ask again.
  const auto node = pending_.extract(pending.key);
  for (Attempt& attempt : pending.attempts) close(attempt);
  pending.timer.cancel();
  cache_.store(pending.key, answer, loop_->now());
  for (const Waiter& waiter : pending.waiters) limits_.end(waiter.client.client);
  waiting_ -= pending.waiters.size();

  const std::uint32_t ttl_cap = ttl_cap_of(answer);
  for (Waiter& waiter : pending.waiters) {
    // A client that came by TCP already cannot be sent there.
    const bool nowhere_to_go = answer.header.truncated && waiter.client.stream != 0;
    waiter.query.head.header.truncated = answer.header.truncated && !nowhere_to_go;
    answer_(waiter.client, nowhere_to_go ? waiter.query.answer(rcode::kServFail)
                                         : waiter.query.answer(answer.header.rcode, answer.records, ttl_cap));
  }
}

template <typename IsGone>
void Forwarder::forget_waiters(IsGone is_gone) {
  for (auto& [key, pending] : pending_) {
    // The question goes on: its answer is worth keeping.
    waiting_ -= std::erase_if(pending->waiters, [&](const Waiter& waiter) {
      if (!is_gone(waiter.client)) return false;
      limits_.end(waiter.client.client);
      return true;
    });
  }
}

void Forwarder::forget(std::uint64_t client) {
  forget_waiters([client](const ClientKey& key) { return key.client == client; });
}

void Forwarder::forget_stream(std::uint64_t stream) {
  forget_waiters([stream](const ClientKey& key) { return key.stream == stream; });
}

}  // namespace penstock::dns
