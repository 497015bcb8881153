// An owned inner IP packet with what is known about it, as it travels through the rooms.
//
//   door -> [Packet, Packet, ...] -> router -> [Packet, ...] -> exit
//
// A Packet is bytes in a buffer of its own plus metadata; moving it moves the buffer, nothing is copied between the
// room that read it and the room that writes it. There is free space in front of the bytes (kHeadroom) into which
// a device's header is read along with the packet.
//
// Ownership   move-only; whoever holds it may change its bytes. Destroying it returns the buffer to the free list of
//             the thread that destroys it (packet.cc), so the steady state allocates nothing.
// Threads     a Packet belongs to one thread at a time; crossing to another loop moves it through router/ring.h.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/mask.h"

namespace penstock {

// Names one session for as long as a packet may still carry it: a slot that is used again gets another generation.
struct SessionId {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;  // 0: no session (packets of the gateway itself and of exits)

  explicit operator bool() const { return generation != 0; }
  friend constexpr auto operator<=>(const SessionId&, const SessionId&) = default;
};

// What is left undone in a packet, for a kernel or a peer that can do it: what a TUN device's virtio_net_hdr says
// (linux/virtio_net.h) as far as the packet's own headers do not say it. super_packet.h has what follows from it.
struct Offload {
  // A super-packet, which stands for several segments.
  enum class Gso : std::uint8_t { none, tcp4, tcp6, udp4, udp6 };
  Gso gso = Gso::none;
  bool needs_checksum = false;     // the checksum of TCP or UDP holds the sum of the pseudo header alone
  std::uint16_t segment_size = 0;  // bytes of payload in each segment but the last, where gso != none
  friend constexpr bool operator==(const Offload&, const Offload&) = default;
};

// Which kinds of super-packets somebody takes.
class GsoKinds {
 public:
  constexpr GsoKinds() = default;
  constexpr GsoKinds(std::initializer_list<Offload::Gso> kinds) {
    for (const Offload::Gso kind : kinds) add(kind);
  }
  constexpr void add(Offload::Gso kind) { bits_ |= bit(kind); }
  constexpr void remove(Offload::Gso kind) { bits_ &= static_cast<std::uint8_t>(~bit(kind)); }
  // What is no super-packet anybody takes.
  constexpr bool has(Offload::Gso kind) const { return kind == Offload::Gso::none || (bits_ & bit(kind)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  friend constexpr bool operator==(GsoKinds, GsoKinds) = default;

 private:
  static constexpr std::uint8_t bit(Offload::Gso kind) {
    return static_cast<std::uint8_t>(1U << static_cast<unsigned>(kind));
  }
  std::uint8_t bits_ = 0;
};

class Packet {
 public:
  // Room in front of the bytes: a virtio_net_hdr (10), and the bytes begin at a cache line of the buffer.
  static constexpr std::size_t kHeadroom = 64;
  // The largest IP packet there is (RFC 791, RFC 8200 without jumbograms).
  static constexpr std::size_t kMaxSize = 65535;

  // An empty Packet: size() is 0 and it holds no buffer, so there is nothing in front of it either.
  Packet() = default;
  // `size` bytes (at most kMaxSize), not zeroed.
  static Packet with_size(std::size_t size);
  static Packet copy_of(MaskedView bytes);
  static Packet copy_of(ByteView bytes) { return copy_of(MaskedView(bytes)); }
  // A copy with all that is known about this one.
  Packet clone() const;

  // What is known about a packet is copied and its buffer moved: swapping all of it would cost three times as much.
  Packet(Packet&& other) noexcept
      : source(other.source),
        member(other.member),
        answers(other.answers),
        offload(other.offload),
        may_fragment(other.may_fragment),
        buffer_(std::exchange(other.buffer_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Packet& operator=(Packet&& other) noexcept {
    if (this == &other) return *this;
    if (buffer_ != nullptr) free_buffer(buffer_, capacity_);
    source = other.source;
    member = other.member;
    answers = other.answers;
    offload = other.offload;
    may_fragment = other.may_fragment;
    buffer_ = std::exchange(other.buffer_, nullptr);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }
  ~Packet() {
    if (buffer_ != nullptr) free_buffer(buffer_, capacity_);
  }

  std::size_t size() const { return size_; }
  // Bytes of memory that it holds: what queues are bounded in.
  std::size_t footprint() const { return capacity_; }
  static std::size_t footprint_of(std::size_t size);
  bool empty() const { return size_ == 0; }
  ByteView bytes() const { return buffer_ == nullptr ? ByteView() : ByteView(buffer_ + kHeadroom, size_); }
  MutableByteView mutable_bytes() {
    return buffer_ == nullptr ? MutableByteView() : MutableByteView(buffer_ + kHeadroom, size_);
  }
  // What size it could have in its buffer.
  std::size_t room() const { return buffer_ == nullptr ? 0 : capacity_ - kHeadroom; }
  // At most room(); bytes that are new are not zeroed.
  void resize(std::size_t size) { size_ = static_cast<std::uint32_t>(size); }
  // Cuts the packet to its first `size` bytes.
  void truncate(std::size_t size) { size_ = static_cast<std::uint32_t>(size); }
  // The `size` bytes directly in front of the packet, `size` <= kHeadroom.
  MutableByteView front(std::size_t size) { return {buffer_ + kHeadroom - size, size}; }

  // The session that sent it; none for packets of an exit or of the gateway itself.
  SessionId source;
  // The numbers of the member that sent it and of the one it answers, as access rules know them
  // (router/access_policy.h); 0: nobody.
  std::uint32_t member = 0;
  std::uint32_t answers = 0;
  Offload offload;
  // IPv6: it was in fragments, or was made here, so its fragmentation is the gateway's (fragment.h). IPv4 says it
  // itself.
  bool may_fragment = false;

 private:
  static std::uint8_t* allocate_buffer(std::size_t& capacity);
  static void free_buffer(std::uint8_t* buffer, std::size_t capacity);

  std::uint8_t* buffer_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = 0;  // of the whole buffer, headroom included
};

// Packets that move together, oldest first. Keep one and reuse it: clear() keeps its memory.
using PacketBatch = std::vector<Packet>;

}  // namespace penstock
