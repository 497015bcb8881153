// Fuzz input as a stream that arrives in pieces: the input's own bytes choose where it is cut, so that the fuzzer can
// search among the borders too.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/bytes.h"

namespace penstock::fuzz {

class Pieces {
 public:
  // The first byte seeds the sizes; 0 means that everything comes at once.
  explicit Pieces(ByteView input)
      : seed_(input.empty() ? 0U : input[0]), rest_(input.empty() ? input : input.subspan(1)) {}

  // All that is delivered, whatever the pieces.
  ByteView whole() const { return rest_; }
  bool done() const { return at_ == rest_.size(); }
  ByteView next() {
    std::size_t size = rest_.size() - at_;
    if (seed_ != 0) {
      state_ = state_ * 1664525U + 1013904223U + seed_;
      size = std::min<std::size_t>(size, 1 + (state_ >> 16) % (1U << (seed_ % 8)));
    }
    const ByteView piece = rest_.subspan(at_, size);
    at_ += size;
    return piece;
  }

 private:
  std::uint32_t seed_;
  std::uint32_t state_ = 0;
  ByteView rest_;
  std::size_t at_ = 0;
};

}  // namespace penstock::fuzz
