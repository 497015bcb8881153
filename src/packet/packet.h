// An owned inner IP packet with what is known about it, as it travels through the rooms.
//
//   door -> [Packet, Packet, ...] -> router -> [Packet, ...] -> exit
//
// A Packet is bytes in a buffer of its own plus metadata; moving it moves the buffer, nothing is copied between the
// room that read it and the room that writes it. There is free space in front of the bytes (kHeadroom) so that an exit
// can put its framing there.
//
// Ownership   move-only; whoever holds it may change its bytes. Destroying it returns the buffer to the free list of
//             the thread that destroys it (packet.cc), so the steady state allocates nothing.
// Threads     a Packet belongs to one thread at a time; crossing to another loop moves it through router/ring.h.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace penstock {

// Names one session for as long as a packet may still carry it: a slot that is used again gets another generation.
struct SessionId {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;  // 0: no session (packets of the gateway itself and of exits)

  explicit operator bool() const { return generation != 0; }
  friend constexpr auto operator<=>(const SessionId&, const SessionId&) = default;
};

// What a TUN device's virtio_net_hdr says of a packet (linux/virtio_net.h), parsed. Every packet is one finished packet
// for now; super-packets (gso != none) come with the line-rate data path.
struct Offload {
  enum class Gso : std::uint8_t { none, tcp4, tcp6, udp4, udp6 };
  Gso gso = Gso::none;
  bool needs_checksum = false;
  std::uint16_t segment_size = 0;     // bytes of payload a segment, where gso != none
  std::uint16_t checksum_start = 0;   // offset from the IP header, where needs_checksum
  std::uint16_t checksum_offset = 0;  // from checksum_start
};

class Packet {
 public:
  // Room in front of the bytes: the largest WebSocket header (14) and a virtio_net_hdr (12), rounded up.
  static constexpr std::size_t kHeadroom = 64;
  // The largest IP packet there is (RFC 791, RFC 8200 without jumbograms).
  static constexpr std::size_t kMaxSize = 65535;

  // An empty Packet: size() is 0 and it holds no buffer, so there is nothing in front of it either.
  Packet() = default;
  // `size` bytes (at most kMaxSize), not zeroed.
  static Packet with_size(std::size_t size);
  static Packet copy_of(ByteView bytes);
  // A copy with all that is known about this one.
  Packet clone() const;

  Packet(Packet&& other) noexcept { swap(other); }
  Packet& operator=(Packet&& other) noexcept {
    swap(other);
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

 private:
  static std::uint8_t* allocate_buffer(std::size_t& capacity);
  static void free_buffer(std::uint8_t* buffer, std::size_t capacity);
  void swap(Packet& other) noexcept {
    std::swap(buffer_, other.buffer_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    std::swap(source, other.source);
    std::swap(member, other.member);
    std::swap(answers, other.answers);
    std::swap(offload, other.offload);
  }

  std::uint8_t* buffer_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = 0;  // of the whole buffer, headroom included
};

// Packets that move together, oldest first. Keep one and reuse it: clear() keeps its memory.
using PacketBatch = std::vector<Packet>;

}  // namespace penstock
