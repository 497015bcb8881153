#include "packet/checksum.h"

#include <bit>

#include "base/result.h"

// MinGW aligns no stack for 32-byte values (GCC bug 54412), so Windows does without.
#if defined(__x86_64__) && !defined(_WIN32)
#define PENSTOCK_CHECKSUM_AVX2
#include <immintrin.h>
#endif

namespace penstock {
namespace {

// All sums here are of words as the machine loads them: the sum does not depend on the byte order in which it is made,
// except that its own bytes are swapped (RFC 1071 section 2 (B)), nor on the width of the words (section 2 (C)).

template <typename Word>
Word load_native(const std::uint8_t* at) {
  Word word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Ones' complement addition: what overflows comes back in at the bottom.
std::uint64_t add_around(std::uint64_t sum, std::uint64_t word) {
  sum += word;
  return sum + (sum < word ? 1 : 0);
}

std::uint32_t fold(std::uint64_t sum) {
  sum = (sum >> 32) + (sum & 0xFFFFFFFF);
  sum = (sum >> 32) + (sum & 0xFFFFFFFF);
  return checksum_fold(static_cast<std::uint32_t>(sum));
}

// Takes one word of `from`, copies it where that is asked for, and steps on.
template <bool kCopy, typename Word>
Word take(std::uint8_t*& to, const std::uint8_t*& from) {
  const auto word = load_native<Word>(from);
  from += sizeof word;
  if constexpr (kCopy) {
    std::memcpy(to, &word, sizeof word);
    to += sizeof word;
  }
  return word;
}

template <bool kCopy>
std::uint64_t add_words(std::uint8_t* to, const std::uint8_t* from, std::size_t size) {
  std::uint64_t sum = 0;
  std::uint64_t carries = 0;
  const auto add = [&](std::uint64_t word) {
    sum += word;
    carries += sum < word ? 1 : 0;
  };
  for (; size >= 32; size -= 32) {
    add(take<kCopy, std::uint64_t>(to, from));
    add(take<kCopy, std::uint64_t>(to, from));
    add(take<kCopy, std::uint64_t>(to, from));
    add(take<kCopy, std::uint64_t>(to, from));
  }
  for (; size >= 8; size -= 8) add(take<kCopy, std::uint64_t>(to, from));
  // What is left, and the carries, which come back in at the bottom.
  if ((size & 4) != 0) carries += take<kCopy, std::uint32_t>(to, from);
  if ((size & 2) != 0) carries += take<kCopy, std::uint16_t>(to, from);
  if ((size & 1) != 0) {
    const std::uint64_t byte = take<kCopy, std::uint8_t>(to, from);
    carries += std::endian::native == std::endian::little ? byte : byte << 8;
  }
  return add_around(sum, carries);
}

#ifdef PENSTOCK_CHECKSUM_AVX2

constexpr std::size_t kVector = sizeof(__m256i);
constexpr std::size_t kWorthIt = 4 * kVector;

// Adds whole vectors, at most 2^32 of them. A lane of 64 bits has no carry to add around, so there are two sums of it:
// of the words, which may overflow, and of their upper halves, which does not. What the first has more than the second,
// moved to its place, is the sum of the lower halves.
template <bool kCopy>
__attribute__((target("avx2"))) std::uint64_t add_vectors(std::uint8_t* to, const std::uint8_t* from,
                                                          std::size_t vectors) {
  const auto* at = reinterpret_cast<const __m256i*>(from);
  auto* copy = reinterpret_cast<__m256i*>(to);
  // Of each sum two, so that no addition waits for the last.
  __m256i words_a = _mm256_setzero_si256();
  __m256i words_b = _mm256_setzero_si256();
  __m256i uppers_a = _mm256_setzero_si256();
  __m256i uppers_b = _mm256_setzero_si256();
  for (; vectors >= 4; vectors -= 4, at += 4) {
    const __m256i a = _mm256_loadu_si256(at);
    const __m256i b = _mm256_loadu_si256(at + 1);
    const __m256i c = _mm256_loadu_si256(at + 2);
    const __m256i d = _mm256_loadu_si256(at + 3);
    if constexpr (kCopy) {
      _mm256_storeu_si256(copy, a);
      _mm256_storeu_si256(copy + 1, b);
      _mm256_storeu_si256(copy + 2, c);
      _mm256_storeu_si256(copy + 3, d);
      copy += 4;
    }
    words_a = _mm256_add_epi64(_mm256_add_epi64(words_a, a), c);
    words_b = _mm256_add_epi64(_mm256_add_epi64(words_b, b), d);
    uppers_a = _mm256_add_epi64(_mm256_add_epi64(uppers_a, _mm256_srli_epi64(a, 32)), _mm256_srli_epi64(c, 32));
    uppers_b = _mm256_add_epi64(_mm256_add_epi64(uppers_b, _mm256_srli_epi64(b, 32)), _mm256_srli_epi64(d, 32));
  }
  for (; vectors != 0; --vectors, ++at) {
    const __m256i a = _mm256_loadu_si256(at);
    if constexpr (kCopy) _mm256_storeu_si256(copy++, a);
    words_a = _mm256_add_epi64(words_a, a);
    uppers_a = _mm256_add_epi64(uppers_a, _mm256_srli_epi64(a, 32));
  }
  const __m256i words = _mm256_add_epi64(words_a, words_b);
  const __m256i uppers = _mm256_add_epi64(uppers_a, uppers_b);
  const __m256i lowers = _mm256_sub_epi64(words, _mm256_slli_epi64(uppers, 32));
  // Upper halves count as much as lower ones, and neither sum has come near its 64 bits.
  const __m256i both = _mm256_add_epi64(lowers, uppers);
  const __m128i halves = _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  return static_cast<std::uint64_t>(_mm_extract_epi64(halves, 0)) +
         static_cast<std::uint64_t>(_mm_extract_epi64(halves, 1));
}

#endif

template <bool kCopy>
std::uint32_t add(std::uint8_t* to, ByteView from, std::uint32_t sum) {
  std::uint64_t total = 0;
#ifdef PENSTOCK_CHECKSUM_AVX2
  if (from.size() >= kWorthIt && __builtin_cpu_supports("avx2")) {
    const std::size_t whole = from.size() / kVector * kVector;
    total = add_vectors<kCopy>(to, from.data(), whole / kVector);
    if constexpr (kCopy) to += whole;
    from = from.subspan(whole);
  }
#endif
  std::uint32_t folded = fold(add_around(total, add_words<kCopy>(to, from.data(), from.size())));
  if constexpr (std::endian::native == std::endian::little) {
    folded = __builtin_bswap16(static_cast<std::uint16_t>(folded));
  }
  return fold(std::uint64_t{sum} + folded);
}

}  // namespace

std::uint32_t checksum_add(ByteView bytes, std::uint32_t sum) { return add<false>(nullptr, bytes, sum); }

std::uint32_t checksum_copy(std::uint8_t* to, ByteView from, std::uint32_t sum) { return add<true>(to, from, sum); }

std::uint32_t pseudo_header_sum(const IpAddress& source, const IpAddress& destination, std::uint8_t protocol,
                                std::size_t length) {
  PENSTOCK_ASSERT(source.family() == destination.family());
  const std::uint32_t sum = checksum_add(destination.bytes(), checksum_add(source.bytes()));
  return fold(std::uint64_t{sum} + protocol + length);
}

std::uint16_t checksum_update(std::uint16_t checksum, std::uint16_t old_word, std::uint16_t new_word) {
  const std::uint32_t sum = static_cast<std::uint16_t>(~checksum) + static_cast<std::uint16_t>(~old_word) + new_word;
  return checksum_finish(fold(sum));
}

std::uint16_t checksum_update(std::uint16_t checksum, const IpAddress& old_address, const IpAddress& new_address) {
  PENSTOCK_ASSERT(old_address.family() == new_address.family());
  const std::uint32_t removed = static_cast<std::uint16_t>(~checksum_add(old_address.bytes()));
  return checksum_finish(checksum_add(new_address.bytes(), static_cast<std::uint16_t>(~checksum) + removed));
}

}  // namespace penstock
