// The masking of RFC 6455 section 5.3: bytes XORed with a key of four bytes that begins again behind its last.
//
// A key is a number whose highest byte comes first; 0 changes nothing. Masking twice is unmasking.
// Threads   pure functions; a MaskedView is a view.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/bytes.h"

namespace penstock {

// Masks or unmasks `bytes`, which stand `offset` bytes into what the key began with.
void apply_mask(MutableByteView bytes, std::uint32_t mask_key, std::size_t offset = 0);
// The same of a copy at `to`, in one pass.
void copy_masked(std::uint8_t* to, ByteView bytes, std::uint32_t mask_key, std::size_t offset = 0);

// Bytes that lie somewhere still masked, or bare ones. Whoever needs them copies them out anyway, and unmasks them by
// that.
class MaskedView {
 public:
  MaskedView() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): bare bytes are a view with nothing to take off.
  MaskedView(ByteView bare) : bytes_(bare) {}
  MaskedView(ByteView bytes, std::uint32_t mask_key) : bytes_(bytes), key_(mask_key) {}

  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  bool is_bare() const { return key_ == 0; }
  // As they lie there.
  ByteView bytes() const { return bytes_; }
  MaskedView subspan(std::size_t offset) const { return subspan(offset, size() - offset); }
  MaskedView subspan(std::size_t offset, std::size_t size) const {
    return {bytes_.subspan(offset, size), std::rotl(key_, static_cast<int>(offset % 4 * 8))};
  }
  void copy_to(std::uint8_t* to) const {
    if (key_ != 0) return copy_masked(to, bytes_, key_);
    if (!bytes_.empty()) std::memcpy(to, bytes_.data(), bytes_.size());
  }

 private:
  ByteView bytes_;
  std::uint32_t key_ = 0;
};

}  // namespace penstock
