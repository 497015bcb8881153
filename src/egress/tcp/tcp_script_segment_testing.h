// Segments as scripts write and read them: numbers count from the first of each side (a SYN is 0, the first byte of
// data 1), and a line of text shows one as a sniffer does.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "packet/tcp_segment.h"

namespace penstock::egress::testing {

inline constexpr std::uint8_t kFin = kTcpFin;
inline constexpr std::uint8_t kSyn = kTcpSyn;
inline constexpr std::uint8_t kRst = kTcpRst;
inline constexpr std::uint8_t kPsh = kTcpPsh;
inline constexpr std::uint8_t kAck = kTcpAck;
inline constexpr std::uint8_t kUrg = kTcpUrg;

// What a client says. What is left out is what an honest client would say now.
struct Says {
  std::optional<std::uint32_t> seq = std::nullopt;
  std::optional<std::uint32_t> ack = std::nullopt;
  std::size_t data = 0;                                // bytes, of those that belong at `seq`
  std::string text;                                    // other bytes than those
  std::optional<std::uint16_t> window = std::nullopt;  // as it stands in the header
  std::optional<std::uint16_t> mss = std::nullopt;
  std::optional<std::uint8_t> scale = std::nullopt;
  bool sack = false;                                   // permitted
  bool ts = false;                                     // with a SYN; later they are there where both sides have them
  std::optional<TcpTimestamps> stamps = std::nullopt;  // other timestamps than the client's own
  bool unstamped = false;
  std::vector<SackBlock> sacks;
  std::uint16_t urgent = 0;
};

// What a client wants to see. What is left out may be anything.
struct Wants {
  std::optional<std::uint32_t> seq = std::nullopt;
  std::optional<std::uint32_t> ack = std::nullopt;
  std::optional<std::size_t> data = std::nullopt;
  std::optional<std::uint16_t> window = std::nullopt;
  std::optional<std::uint16_t> mss = std::nullopt;
  std::optional<std::vector<SackBlock>> sacks = std::nullopt;
  std::optional<std::uint32_t> echo = std::nullopt;
};

struct Seen {
  std::uint8_t flags = 0;
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint16_t window = 0;
  TcpOptions options;
  std::string data;
  std::optional<std::pair<std::uint8_t, std::uint8_t>> icmp = std::nullopt;  // type and code: no segment but an error

  bool has(std::uint8_t some) const { return (flags & some) == some; }
  // Sequence numbers that it takes.
  std::uint32_t length() const {
    return static_cast<std::uint32_t>(data.size()) + (has(kSyn) ? 1 : 0) + (has(kFin) ? 1 : 0);
  }
  std::uint32_t end() const { return seq + length(); }
  std::vector<SackBlock> sacks() const { return {options.sacks.begin(), options.sacks.begin() + options.sack_count}; }
};

inline std::string flags_text(std::uint8_t flags) {
  std::string text;
  for (const auto& [flag, letter] : {std::pair(kSyn, 'S'), std::pair(kFin, 'F'), std::pair(kRst, 'R'),
                                     std::pair(kPsh, 'P'), std::pair(kUrg, 'U'), std::pair(kAck, '.')})
    if ((flags & flag) != 0) text += letter;
  return text.empty() ? "none" : text;
}

// "S. 0:1(0) ack 1 win 65535 <mss 1460,sackOK,TS val 7 ecr 3,wscale 7>"
inline std::string to_text(const Seen& seen) {
  if (seen.icmp) return "icmp type " + std::to_string(seen.icmp->first) + " code " + std::to_string(seen.icmp->second);
  std::string text = flags_text(seen.flags) + " " + std::to_string(seen.seq) + ":" + std::to_string(seen.end()) + "(" +
                     std::to_string(seen.data.size()) + ")";
  if (seen.has(kAck)) text += " ack " + std::to_string(seen.ack);
  text += " win " + std::to_string(seen.window);
  std::vector<std::string> options;
  if (seen.options.mss) options.push_back("mss " + std::to_string(*seen.options.mss));
  if (seen.options.sack_permitted) options.emplace_back("sackOK");
  if (const auto& ts = seen.options.timestamps)
    options.push_back("TS val " + std::to_string(ts->value) + " ecr " + std::to_string(ts->echo));
  if (seen.options.window_scale) options.push_back("wscale " + std::to_string(*seen.options.window_scale));
  for (const SackBlock& block : seen.sacks())
    options.push_back("sack " + std::to_string(block.first) + ":" + std::to_string(block.end));
  for (std::size_t i = 0; i < options.size(); ++i) text += (i == 0 ? " <" : ",") + options[i];
  return options.empty() ? text : text + ">";
}

inline std::string to_text(std::uint8_t flags, const Wants& wants) {
  std::string text = flags_text(flags);
  const auto add = [&text](const char* name, const auto& value) {
    if (value) text += std::string(" ") + name + " " + std::to_string(*value);
  };
  add("seq", wants.seq);
  add("data", wants.data);
  add("ack", wants.ack);
  add("win", wants.window);
  add("mss", wants.mss);
  add("ecr", wants.echo);
  if (wants.sacks)
    for (const SackBlock& block : *wants.sacks)
      text += " sack " + std::to_string(block.first) + ":" + std::to_string(block.end);
  return text;
}

// PSH is looked at where it is wanted alone.
inline bool fits(const Seen& seen, std::uint8_t flags, const Wants& wants) {
  const std::uint8_t looked_at = static_cast<std::uint8_t>((flags & kPsh) != 0 ? 0xFF : 0xFF & ~kPsh);
  return !seen.icmp && (seen.flags & looked_at) == flags && (!wants.seq || seen.seq == *wants.seq) &&
         (!wants.ack || seen.ack == *wants.ack) && (!wants.data || seen.data.size() == *wants.data) &&
         (!wants.window || seen.window == *wants.window) && (!wants.mss || seen.options.mss == wants.mss) &&
         (!wants.sacks || seen.sacks() == *wants.sacks) &&
         (!wants.echo || (seen.options.timestamps && seen.options.timestamps->echo == *wants.echo));
}

// The byte at place `at` (from 0) of what a side says: it does not repeat within a window.
inline char pattern(std::uint32_t at) { return static_cast<char>((at * 2654435761U) >> 24 ^ at >> 16); }
inline std::string pattern(std::uint32_t at, std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = pattern(at + static_cast<std::uint32_t>(i));
  return text;
}

// Sequence numbers wrap (RFC 9293 section 3.4).
inline bool before(std::uint32_t a, std::uint32_t b) { return static_cast<std::int32_t>(a - b) < 0; }

}  // namespace penstock::egress::testing
