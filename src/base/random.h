// Randomness, passed in so that tests can repeat themselves.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace penstock {

class Random {
 public:
  virtual ~Random() = default;
  virtual void fill(MutableByteView out) = 0;

  std::uint32_t next32() {
    std::uint32_t value = 0;
    fill({reinterpret_cast<std::uint8_t*>(&value), sizeof value});
    return value;
  }
  std::uint64_t next64() {
    std::uint64_t value = 0;
    fill({reinterpret_cast<std::uint8_t*>(&value), sizeof value});
    return value;
  }
  // Uniform enough for jitter: 0.0 up to but not including 1.0.
  double next_fraction() { return static_cast<double>(next64() >> 11) * 0x1.0p-53; }
};

// Cryptographic: OpenSSL's generator, on Windows the system's. Any thread.
class SystemRandom final : public Random {
 public:
  void fill(MutableByteView out) override;
};

// Repeatable: xorshift from a seed. For tests only.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed) : state_(seed * 2 + 1) {}
  void fill(MutableByteView out) override {
    for (auto& byte : out) {
      state_ ^= state_ << 13;
      state_ ^= state_ >> 7;
      state_ ^= state_ << 17;
      byte = static_cast<std::uint8_t>(state_ >> 32);
    }
  }

 private:
  std::uint64_t state_;
};

}  // namespace penstock
