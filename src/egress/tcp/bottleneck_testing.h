// Senders with a Congestion and a RoundTrip each, sharing one slow link, in virtual time: for tests.
//
//   Flow --segments--> [ queue | rate ] --propagation--> peer --acknowledgements, at once--> Flow
//   Flow --segments-->
//
// The link drops what exceeds its queue, or by CoDel (packet/codel.h). It reorders nothing, so whatever was sent before
// a segment that is acknowledged, and is not, is lost: the recovery of a real sender, without its bookkeeping.
// Everybody has always something to send.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "egress/tcp/congestion.h"
#include "egress/tcp/round_trip.h"
#include "packet/codel.h"

namespace penstock::egress {

class Bottleneck {
 public:
  static constexpr std::uint32_t kMss = 1400;

  struct Link {
    double bits_per_second = 50e6;
    Duration propagation = std::chrono::milliseconds(20);         // there and back
    std::size_t queue = std::numeric_limits<std::size_t>::max();  // segments
    bool codel = false;
    Duration every = Duration(1);  // the peer acknowledges what has come in such a time together

    std::size_t product() const {
      return static_cast<std::size_t>(bits_per_second / 8 * std::chrono::duration<double>(propagation).count() / kMss);
    }
  };

  struct Flow;
  struct Queued {
    Flow* flow;
    std::uint64_t order;
    std::uint64_t segment;
    TimePoint at;
  };
  struct Flow {
    Congestion congestion{kMss};
    RoundTrip round_trip;
    std::uint32_t offset = 0xFFFF0000;  // of its sequence numbers, so that they wrap
    std::uint64_t delivered = 0;        // segments
    std::uint64_t losses = 0;           // recoveries
    std::uint64_t timeouts = 0;

    // The link's own.
    friend Bottleneck;
    std::map<std::uint64_t, std::uint64_t> under_way;  // segments by the order of sending
    std::deque<std::uint64_t> lost;                    // segments to send again
    std::set<std::uint64_t> missing;                   // all that is not acknowledged
    std::vector<Queued> arrived;                       // to be acknowledged
    std::uint64_t next_order = 0;
    std::uint64_t next_segment = 0;
    std::uint64_t recover = 0;  // recovering until all below are acknowledged
    TimePoint heard;
    bool repeated = false;  // timed out since then
  };

  explicit Bottleneck(const Link& link) : link_(link) {}

  Flow& add_flow() {
    auto& flow = *flows_.emplace_back(std::make_unique<Flow>());
    flow.heard = now_;
    at(now_, [this, &flow] { send(flow); });
    watch(flow);
    return flow;
  }
  void run(Duration time) {
    const auto end = now_ + time;
    while (!events_.empty() && events_.top().at <= end) {
      auto what = events_.top().what;
      now_ = events_.top().at;
      events_.pop();
      what();
    }
    now_ = end;
  }
  // Of what the link could have carried in `time`, the part that is `segments`.
  double share(std::uint64_t segments, Duration time) const {
    return static_cast<double>(segments) * kMss * 8 / link_.bits_per_second /
           std::chrono::duration<double>(time).count();
  }
  // Nothing passes any more, or does again.
  void cut(bool cut) { cut_ = cut; }

 private:
  struct Event {
    TimePoint at;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Event& other) const { return std::pair(at, order) > std::pair(other.at, other.order); }
  };
  void at(TimePoint when, std::function<void()> what) { events_.push({when, next_event_++, std::move(what)}); }

  void send(Flow& flow) {
    while ((flow.under_way.size() + 1) * kMss <= flow.congestion.window()) {
      auto segment = flow.next_segment;
      if (!flow.lost.empty()) {
        segment = flow.lost.front();
        flow.lost.pop_front();
        if (!flow.missing.contains(segment)) continue;
      } else {
        flow.missing.insert(flow.next_segment++);
      }
      flow.under_way[flow.next_order] = segment;
      if (queue_.size() < link_.queue && !cut_) queue_.push_back({&flow, flow.next_order, segment, now_});
      ++flow.next_order;
    }
    if (!busy_) carry();
  }

  // The head of the queue goes on its way, if CoDel lets it.
  void carry() {
    if (link_.codel) codel_.before_leaving(*this, Codel::Settings{}, now_);
    busy_ = !queue_.empty();
    if (!busy_) return;
    const auto head = queue_.front();
    queue_.pop_front();
    const auto done = now_ + Duration(static_cast<std::int64_t>(kMss * 8 / link_.bits_per_second * 1e9));
    at(done, [this] { carry(); });
    at(done + link_.propagation, [this, head] { arrive(head); });
  }

  void arrive(const Queued& what) {
    auto& flow = *what.flow;
    flow.arrived.push_back(what);
    if (flow.arrived.size() > 1) return;
    const auto since = now_.time_since_epoch();
    at(TimePoint((since + link_.every - Duration(1)) / link_.every * link_.every),
       [this, &flow] { acknowledge(flow); });
  }

  void acknowledge(Flow& flow) {
    const auto in_flight = static_cast<std::uint32_t>(flow.missing.size() * kMss);
    const bool limited = (flow.under_way.size() + 1) * kMss > flow.congestion.window();
    const auto last = flow.arrived.back().order;
    const auto round_trip = now_ - flow.arrived.back().at;
    std::uint32_t acked = 0;
    for (const auto& each : flow.arrived) {
      flow.under_way.erase(each.order);
      if (flow.missing.erase(each.segment) == 0) continue;  // after a timeout that was none
      acked += kMss;
      ++flow.delivered;
    }
    flow.arrived.clear();
    flow.heard = now_;
    flow.repeated = false;
    flow.round_trip.sample(round_trip, in_flight / (2 * kMss));

    bool loss = false;
    while (!flow.under_way.empty() && flow.under_way.begin()->first < last) {
      const auto segment = flow.under_way.begin()->second;
      flow.lost.push_back(segment);
      loss |= segment >= flow.recover;
      flow.under_way.erase(flow.under_way.begin());
    }
    const auto una = flow.missing.empty() ? flow.next_segment : *flow.missing.begin();
    if (loss) {
      flow.congestion.lost(in_flight, now_);
      flow.recover = flow.next_segment;
      ++flow.losses;
    } else if (una >= flow.recover) {
      flow.congestion.acked(acked, round_trip, limited, sequence(flow, una), sequence(flow, flow.next_segment), now_);
    }
    send(flow);
  }

  void watch(Flow& flow) {
    at(flow.heard + flow.round_trip.timeout(), [this, &flow] {
      if (now_ >= flow.heard + flow.round_trip.timeout()) {
        flow.congestion.timed_out(static_cast<std::uint32_t>(flow.missing.size() * kMss), flow.repeated, now_);
        flow.round_trip.back_off();
        flow.repeated = true;
        flow.heard = now_;
        flow.recover = 0;
        ++flow.timeouts;
        for (const auto& [order, segment] : flow.under_way) flow.lost.push_back(segment);
        flow.under_way.clear();
        send(flow);
      }
      watch(flow);
    });
  }

  static std::uint32_t sequence(const Flow& flow, std::uint64_t segment) {
    return flow.offset + static_cast<std::uint32_t>(segment * kMss);
  }

  // What Codel asks of a queue.
  friend Codel;
  bool too_long() const { return queue_.size() > 1 && now_ - queue_.front().at >= Codel::Settings{}.target; }
  bool mark() { return false; }
  void drop() { queue_.pop_front(); }

  Link link_;
  TimePoint now_{std::chrono::hours(1000)};
  std::vector<std::unique_ptr<Flow>> flows_;
  std::priority_queue<Event> events_;
  std::uint64_t next_event_ = 0;
  std::deque<Queued> queue_;
  Codel codel_;
  bool busy_ = false;
  bool cut_ = false;
};

}  // namespace penstock::egress
