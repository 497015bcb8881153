// A peer that protects whatever it is told, lawful or not: for tests of the record layer.
#pragma once

#include <span>
#include <vector>

#include "tls/record_layer.h"

namespace penstock::tls {

// Content types, as RFC 8446 5.1 numbers them.
inline constexpr std::uint8_t kAlertType = 21;
inline constexpr std::uint8_t kHandshakeType = 22;
inline constexpr std::uint8_t kDataType = 23;

inline RecordLayer::Secrets test_secrets() {
  RecordLayer::Secrets secrets;
  secrets.client.fill(0xC1);
  secrets.server.fill(0x5E);
  return secrets;
}

class ForgingPeer {
 public:
  // `role` is the peer's.
  explicit ForgingPeer(Role role, MakeAead make_aead = new_evp_aead)
      : key_(role == Role::client ? test_secrets().client : test_secrets().server, make_aead) {}

  // A record of these inner bytes: content, type, padding. At least one.
  std::vector<std::uint8_t> record_of(ByteView inner) {
    std::vector<std::uint8_t> record(5 + inner.size() + kAeadTagSize);
    record[0] = kDataType;
    store_be16(record.data() + 1, version);
    store_be16(record.data() + 3, static_cast<std::uint16_t>(record.size() - 5));
    key_.seal(ByteView(record).first(5), inner.first(inner.size() - 1), inner.back(), record.data() + 5);
    return record;
  }
  std::vector<std::uint8_t> record(std::uint8_t type, ByteView content, std::size_t padding = 0) {
    std::vector<std::uint8_t> inner(content.begin(), content.end());
    inner.push_back(type);
    inner.resize(inner.size() + padding);
    return record_of(inner);
  }
  // With the key that it leads to from then on.
  std::vector<std::uint8_t> key_update(bool asks_for_one) {
    const std::uint8_t message[] = {24, 0, 0, 1, asks_for_one};
    auto made = record(kHandshakeType, message);
    key_.advance();
    return made;
  }
  void advance() { key_.advance(); }

  std::uint16_t version = 0x0303;

 private:
  TrafficKey key_;
};

}  // namespace penstock::tls
