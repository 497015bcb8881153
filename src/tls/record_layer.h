// TLS 1.3 after the handshake, with TLS_AES_128_GCM_SHA256: records, and the few messages that are left to say
// (RFC 8446 4.6, 5, 6).
//
//       network --open()--> [ record -> content type ]---application data--> plain
//                                     |--- alert: the end, or close_notify
//                                     |--- KeyUpdate: the next key of that direction; an answer if it asks for one
//                                     '--- NewSessionTicket: skipped
//       network <---------- [ records of 16 KiB <- send ]
//
// The library that did the handshake hands over its two application traffic secrets before a record was protected with
// either. Nothing is copied but by the cipher: records are written where they are sent from and decrypted to where they
// are read. Only a record that has not come whole is kept, one at most.
//
// Always true   what is committed to `plain` was authentic. After an Ending, open() and seal() are not called again.
//               Messages are never mixed with other records, and KeyUpdates end theirs.
// Bounds        an incomplete record (16 406 bytes); nothing is kept of a ticket. 32 records in a row that say
//               nothing, and so many KeyUpdates as changes_keys_without_need() allows.
// Memory        300 bytes, and 1 KB for each direction until release_idle_memory().
// Errors        an Ending says what the peer broke; the alert that tells it so is then in `out`.
// Threads       one at a time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "tls/traffic_key.h"

namespace penstock::tls {

enum class Role : std::uint8_t { client, server };

// KeyUpdates that a peer may send: a few, and one more for so many bytes of data. One costs its sender 27 bytes and us
// as much work as a hundred thousand bytes of data; nobody needs one more often than every few gigabytes.
constexpr bool changes_keys_without_need(std::uint64_t key_updates, std::uint64_t bytes_received) {
  constexpr std::uint64_t kSpareKeyUpdates = 32;
  constexpr std::uint64_t kBytesPerKeyUpdate = 64 * 1024;
  return key_updates > kSpareKeyUpdates + bytes_received / kBytesPerKeyUpdate;
}

struct Ending {
  enum class Cause : std::uint8_t {
    alert,        // the peer's, by its number
    damaged,      // a record that is not authentic
    key_updates,  // more than anybody needs
    violation,    // what `reason` says
  };
  Cause cause;
  std::uint8_t alert;  // the peer's, or ours
  std::string_view reason;
};

class RecordLayer {
 public:
  struct Secrets {
    TrafficSecret client;
    TrafficSecret server;
  };

  // `role` is ours. A key protects `records_per_key` records, or what one seal() makes of its argument.
  RecordLayer(Role role, const Secrets& secrets, std::uint64_t records_per_key, MakeAead make_aead = new_aead);

  // Application data in full records as far as it goes, behind a KeyUpdate where one is due. `plain` is not empty.
  void seal(ByteView plain, ByteQueue& out);

  // All of `bytes` up to a close_notify; what comes after that is ignored. Alerts go to `out`.
  std::optional<Ending> open(ByteView bytes, ByteQueue& plain, ByteQueue& out);

  // close_notify.
  void close(ByteQueue& out);
  bool peer_closed() const { return peer_closed_; }

  // The expanded keys and what an incomplete record does not need of its buffer.
  void release_idle_memory();

 private:
  enum class ContentType : std::uint8_t;
  std::size_t complete(ByteView bytes);
  std::optional<Ending> check_header(const std::uint8_t* header) const;
  std::optional<Ending> open_record(ByteView record, ByteQueue& plain);
  std::optional<Ending> take_data(std::size_t size, ByteQueue& plain);
  std::optional<Ending> take_alert(ByteView content);
  std::optional<Ending> take_handshake(ByteView content);
  std::optional<Ending> take_key_update(std::uint8_t request);
  std::optional<Ending> count_silence();
  bool in_message() const { return message_size_ != 0 || ticket_left_ != 0; }
  void change_key(ByteQueue& out);
  void seal_record(ContentType type, ByteView content, ByteQueue& out);

  const Role role_;
  bool peer_closed_ = false;
  bool owes_key_update_ = false;
  std::uint8_t message_size_ = 0;
  std::array<std::uint8_t, 5> message_{};  // what there is of a message: its header, and a KeyUpdate's only byte
  std::uint32_t ticket_left_ = 0;          // bytes of a NewSessionTicket to skip
  std::uint32_t silent_records_ = 0;       // in a row
  std::uint64_t key_updates_ = 0;
  std::uint64_t bytes_received_ = 0;  // of data
  const std::uint64_t records_per_key_;
  TrafficKey read_;
  TrafficKey write_;
  std::vector<std::uint8_t> incomplete_;
};

}  // namespace penstock::tls
