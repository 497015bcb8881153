#include "router/session.h"

#include <algorithm>

#include "base/result.h"
#include "packet/super_packet.h"

namespace penstock::router {

Session::Session(SessionSpec spec, DropCounters& drops, const Clock& clock)
    : spec_(std::move(spec)),
      drops_(&drops),
      clock_(&clock),
      queue_(spec_.queue_key, spec_.queue_bytes, spec_.queue_packets) {
  PENSTOCK_ASSERT(spec_.usage != nullptr);
  for (const Prefix& prefix : spec_.prefixes) guard_.add(prefix);
}

Session::~Session() {
  if (spec_.queue_budget) spec_.queue_budget->change(queued_, 0);
}

void Session::set_sites(std::vector<Prefix> sites) {
  sites_ = std::move(sites);
  guard_ = {};
  for (const Prefix& prefix : spec_.prefixes) guard_.add(prefix);
  for (const Prefix& site : sites_) guard_.add_site(site);
}

void Session::set_access_policy(std::shared_ptr<const AccessPolicy> policy, const Clock& clock) {
  if (policy == nullptr) {
    gate_.reset();
  } else if (gate_) {
    gate_->set_policy(std::move(policy));
  } else {
    gate_ = std::make_unique<AccessGate>(std::move(policy), clock, spec_.id, spec_.member);
  }
}

bool Session::attach(SessionLink& link, std::uint64_t attachment, std::string_view reason) {
  if (attachment < attachment_) return false;
  if (SessionLink* old = link_) {
    detach();
    old->end(reason);
  }
  link_ = &link;
  attachment_ = attachment;
  grant_credit();
  return true;
}

void Session::end_older_link(std::uint64_t attachment, std::string_view reason) {
  if (attachment <= attachment_) return;
  attachment_ = attachment;
  if (SessionLink* old = link_) {
    detach();
    old->end(reason);
  }
}

void Session::detach() {
  link_ = nullptr;
  if (const std::size_t packets = queue_.clear(); packets != 0) drops_->count(Drop::session_detached, packets);
  settle_queue();
}

void Session::send(PacketBatch& batch) {
  if (link_ == nullptr) {
    drops_->count(Drop::session_detached, segments_of(batch));
    batch.clear();
    return;
  }
  if (gate_) {
    const TimePoint now = gate_->now();
    std::uint64_t denied = 0;
    std::erase_if(batch, [&](const Packet& packet) {
      if (gate_->admits(packet, now)) return false;
      denied += segments_of(packet);
      return true;
    });
    if (denied != 0) drops_->count(Drop::access_denied, denied);
  }
  enqueue(batch);
}

void Session::enqueue(PacketBatch& batch) {
  const bool was_empty = queue_.empty();
  const TimePoint now = clock_->now();
  if (const auto& budget = spec_.queue_budget)
    queue_.set_max_bytes(budget->spent() ? std::min(spec_.queue_bytes, QueueBudget::kWhenSpent) : spec_.queue_bytes);
  for (Packet& packet : batch) queue_.push(std::move(packet), now);
  batch.clear();
  settle_queue();
  if (was_empty && !queue_.empty()) link_->packets_waiting();
}

// What the queue has to tell others after it changed.
void Session::settle_queue() {
  const auto [dropped_full, dropped_aqm, marked] = queue_.take_losses();
  if (dropped_full != 0) drops_->count(Drop::queue_full, dropped_full);
  if (dropped_aqm != 0) drops_->count(Drop::queue_delay, dropped_aqm);
  const std::size_t bytes = queue_.size_bytes();
  if (spec_.queue_budget) spec_.queue_budget->change(queued_, bytes);
  queued_ = bytes;
  spec_.usage->queued_bytes.store(bytes, std::memory_order_relaxed);
}

void Session::flood(std::span<const Packet> packets) {
  if (link_ == nullptr) return;
  const TimePoint now = gate_ ? gate_->now() : TimePoint{};
  PacketBatch copies;
  for (const Packet& packet : packets) {
    if (packet.source == spec_.id || (gate_ && !gate_->admits_to_everybody(packet, spec_.prefixes, now))) continue;
    copies.push_back(packet.clone());
  }
  if (!copies.empty()) enqueue(copies);
}

std::size_t Session::credit() const { return link_ == nullptr ? 0 : queue_.room(); }

void Session::take(PacketBatch& into, std::size_t bytes, std::size_t chunk) {
  const std::size_t before = into.size();
  queue_.take(into, bytes, chunk, clock_->now());
  std::uint64_t sum = 0;
  std::uint64_t packets = 0;
  for (std::size_t i = before; i < into.size(); ++i) {
    sum += segmented_size_of(into[i]);
    packets += segments_of(into[i]);
  }
  meter().count_down(sum, packets);
  settle_queue();
  grant_credit();
}

}  // namespace penstock::router
