#include "net/connect.h"

#include <utility>

namespace penstock::net {
namespace {

Family other(Family family) { return family == Family::ipv6 ? Family::ipv4 : Family::ipv6; }

// "10 s", "250 ms".
std::string in_words(Duration time) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
  return ms % 1000 == 0 ? std::to_string(ms / 1000) + " s" : std::to_string(ms) + " ms";
}

}  // namespace

Connector::Connector(EventLoop& loop, Resolver& resolver, SocketFactory& sockets)
    : loop_(loop),
      resolver_(resolver),
      sockets_(sockets),
      deadline_(loop),
      resolution_delay_(loop),
      attempt_delay_(loop) {}

Connector::~Connector() { cancel(); }

void Connector::cancel() {
  deadline_.cancel();
  resolution_delay_.cancel();
  attempt_delay_.cancel();
  families_ = {};
  races_.clear();
  done_ = {};
}

void Connector::connect(const std::string& host, std::uint16_t port, Duration within, Done done) {
  cancel();
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  host_ = bracketed ? host.substr(1, host.size() - 2) : host;
  port_ = port;
  done_ = std::move(done);
  turn_ = Family::ipv6;
  last_code_ = ErrorCode::unavailable;
  deadline_.start(within, [this, within] { deadline_passed(within); });

  if (const auto address = IpAddress::parse(host_)) {
    of(address->family()).candidates.push_back(*address);
    try_next();
    return;
  }
  look_up(Family::ipv6);
  look_up(Family::ipv4);
}

void Connector::look_up(Family family) {
  of(family).pending = true;
  of(family).lookup =
      resolver_.resolve(host_, family, [this, family](auto addresses) { resolved(family, std::move(addresses)); });
}

void Connector::resolved(Family family, Result<std::vector<IpAddress>> addresses) {
  FamilyLookup& answer = of(family);
  answer.pending = false;
  if (addresses) {
    answer.candidates.assign(addresses->begin(), addresses->end());
  } else {
    answer.error = std::move(addresses).error();
  }
  // A race that is on takes the new candidates in its turns; one that waits for nothing else begins.
  if (attempt_delay_.running()) return;
  if (family == Family::ipv4 && of(Family::ipv6).pending && races_.empty() && !answer.candidates.empty()) {
    resolution_delay_.start(kResolutionDelay, [this] { try_next(); });
    return;
  }
  try_next();
}

void Connector::try_next() {
  resolution_delay_.cancel();
  attempt_delay_.cancel();
  if (of(turn_).candidates.empty()) turn_ = other(turn_);
  auto& candidates = of(turn_).candidates;
  if (candidates.empty()) return fail_if_nothing_is_left();

  const Endpoint to{candidates.front(), port_};
  candidates.pop_front();
  turn_ = other(turn_);
  const std::size_t race = races_.size();
  races_.push_back({.to = to, .attempt = nullptr, .reason = {}});
  races_[race].attempt = sockets_.connect(loop_, to, [this, race](Result<std::unique_ptr<StreamSocket>> socket) {
    if (socket) return finish(std::move(socket));
    failed(race, std::move(socket).error());
  });
  attempt_delay_.start(kAttemptDelay, [this] { try_next(); });
}

void Connector::failed(std::size_t race, Error error) {
  races_[race].attempt.reset();
  races_[race].reason = std::move(error.message);
  last_code_ = error.code;
  try_next();
}

void Connector::fail_if_nothing_is_left() {
  for (const FamilyLookup& family : families_) {
    if (family.pending) return;
  }
  for (const Race& race : races_) {
    if (race.attempt) return;
  }
  if (races_.empty()) {
    // Both lookups failed. "No such name" about one family says less than trouble about the other.
    const Error& error =
        of(Family::ipv4).error.code == ErrorCode::not_found ? of(Family::ipv6).error : of(Family::ipv4).error;
    return finish(fail(error.code, error.message));
  }
  finish(fail(last_code_, "cannot connect to " + host_ + ": " + tried()));
}

void Connector::deadline_passed(Duration within) {
  std::string message = "cannot connect to " + host_ + " within " + in_words(within);
  if (races_.empty()) {
    message += ": its name was not resolved in that time";
  } else {
    message += ": " + tried();
  }
  finish(fail(ErrorCode::timed_out, std::move(message)));
}

void Connector::finish(Result<std::unique_ptr<StreamSocket>> result) {
  Done done = std::move(done_);
  cancel();
  done(std::move(result));  // may destroy this Connector
}

std::string Connector::tried() const {
  std::string text;
  for (const Race& race : races_) {
    if (!text.empty()) text += "; ";
    text += race.to.to_string() + ": " + (race.attempt ? "no answer" : race.reason);
  }
  return text;
}

}  // namespace penstock::net
