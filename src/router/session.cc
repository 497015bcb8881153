#include "router/session.h"

#include "base/result.h"

namespace penstock::router {

Session::Session(SessionSpec spec, DropCounters& drops)
    : spec_(std::move(spec)), drops_(&drops), queue_(spec_.queue_bytes) {
  PENSTOCK_ASSERT(spec_.usage != nullptr);
  for (const Prefix& prefix : spec_.prefixes) guard_.add(prefix);
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
  const bool was_empty = queue_.empty();
  for (Packet& packet : batch) {
    if (!queue_.push(std::move(packet))) drops_->count(Drop::queue_full);
  }
  batch.clear();
  spec_.usage->queued_bytes.store(queue_.size_bytes(), std::memory_order_relaxed);
  if (was_empty && !queue_.empty()) link_->packets_waiting();
}

std::size_t Session::credit() const {
  if (link_ == nullptr || queue_.size_bytes() >= queue_.max_bytes()) return 0;
  return queue_.max_bytes() - queue_.size_bytes();
}

void Session::take(PacketBatch& into, std::size_t bytes) {
  const std::size_t before = into.size();
  const std::size_t taken = queue_.pop_into(into, bytes);
  meter().count_down(taken, into.size() - before);
  spec_.usage->queued_bytes.store(queue_.size_bytes(), std::memory_order_relaxed);
  grant_credit();
}

}  // namespace penstock::router
