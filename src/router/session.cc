#include "router/session.h"

#include "base/result.h"

namespace penstock::router {

Session::Session(SessionSpec spec, DropCounters& drops)
    : spec_(std::move(spec)), drops_(&drops), queue_(spec_.queue_bytes, spec_.queue_packets) {
  PENSTOCK_ASSERT(spec_.usage != nullptr);
  for (const Prefix& prefix : spec_.prefixes) guard_.add(prefix);
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
  if (queue_.packets() != 0) drops_->count(Drop::session_detached, queue_.packets());
  queue_.clear();
  spec_.usage->queued_bytes.store(0, std::memory_order_relaxed);
}

void Session::send(PacketBatch& batch) {
  if (link_ == nullptr) {
    drops_->count(Drop::session_detached, batch.size());
    batch.clear();
    return;
  }
  if (gate_) {
    const TimePoint now = gate_->now();
    const std::size_t denied = std::erase_if(batch, [&](const Packet& packet) { return !gate_->admits(packet, now); });
    if (denied != 0) drops_->count(Drop::access_denied, denied);
  }
  enqueue(batch);
}

void Session::enqueue(PacketBatch& batch) {
  const bool was_empty = queue_.empty();
  for (Packet& packet : batch) {
    if (!queue_.push(std::move(packet))) drops_->count(Drop::queue_full);
  }
  batch.clear();
  spec_.usage->queued_bytes.store(queue_.size_bytes(), std::memory_order_relaxed);
  if (was_empty && !queue_.empty()) link_->packets_waiting();
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

void Session::take(PacketBatch& into, std::size_t bytes) {
  const std::size_t before = into.size();
  const std::size_t taken = queue_.pop_into(into, bytes);
  meter().count_down(taken, into.size() - before);
  spec_.usage->queued_bytes.store(queue_.size_bytes(), std::memory_order_relaxed);
  grant_credit();
}

}  // namespace penstock::router
