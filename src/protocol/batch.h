// How packets stand in binary messages (docs/PROTOCOL.md, "Batches"): one bare packet each with a plain v1 peer, one
// or several with what is known of each between two that said what they can receive.
//
//   message   = 1*entry
//   entry     = kind (1)  flags (1)  length (2, big-endian)  segment size (2, big-endian)  packet (length)
//
//   kind      what super-packet it is: 0 none, 1 tcp4, 2 tcp6, 3 udp4, 4 udp6
//   flags     bit 0: the checksum of TCP or UDP is partial (packet/super_packet.h); the others are 0
//   segment   the payload of each segment but the last; 0 where the kind is 0
//
// A sender adapts to the Format of the other side: what that cannot take apart is sent as the packets it stands for.
// A reader believes nothing: whether an Offload can be true of its packet is for check_offload() to say.
//
// Threads     pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "base/mask.h"
#include "packet/packet.h"
#include "protocol/messages.h"

namespace penstock::protocol {

inline constexpr std::size_t kEntryHeader = 6;
// What this version takes in a message: the largest packet and as much again, so that a super-packet need not travel
// alone. More would be kept for each peer that sends half a message and stops.
inline constexpr std::uint32_t kBatchBytes = 128 * 1024;
// Messages that we send are ended when they have reached this, so that the first packet of many does not wait for the
// last.
inline constexpr std::size_t kMessageTarget = 64 * 1024;

// What one side can take, as the other side's sender has to know it.
struct Format {
  bool batches = false;  // else plain v1
  GsoKinds gso;
  std::size_t max_packet = Packet::kMaxSize;
  std::size_t batch_bytes = Packet::kMaxSize;
  friend bool operator==(const Format&, const Format&) = default;
};

// For people: "v1", "batches", or "batches,tcp4,tcp6" with the super-packets that it takes.
std::string describe(const Format& format);
// Of a peer that said `receive`, or nothing.
Format format_of(const std::optional<Receive>& receive);
// What we say of ourselves, who take super-packets of `kinds` and ordinary packets of up to `mtu` bytes.
Receive receive_of(GsoKinds kinds, std::uint32_t mtu);

// Makes of `batch` what `format` lets through, in the same order: super-packets that it does not take are segmented,
// and for plain v1 checksums finished. Returns how many packets were too large even so, and are gone. `scratch` is
// empty before and after: keep one.
std::size_t adapt(PacketBatch& batch, const Format& format, PacketBatch& scratch);

// The packets at the front of `packets` that go into one message together, at least one, and the size of its payload.
struct Message {
  std::size_t packets = 0;
  std::size_t bytes = 0;
};
Message next_message(std::span<const Packet> packets, const Format& format);

void write_entry_header(std::uint8_t* at, const Packet& packet);

// Takes a message apart in one pass.
class BatchReader {
 public:
  struct Entry {
    MaskedView packet;
    Offload offload;
  };

  explicit BatchReader(MaskedView message) : rest_(message), malformed_(message.empty()) {}

  // The next entry; nothing at the end of the message, or where the rest of it is no batch.
  std::optional<Entry> next();
  // Not all of the message was a batch.
  bool malformed() const { return malformed_; }

 private:
  MaskedView rest_;
  bool malformed_;
};

}  // namespace penstock::protocol
