// What a gateway can have the client write into its log, held within bounds: of each kind so many lines a minute
// (base/log_gate.h), and of each text its beginning. A gateway is trusted with packets, not with a disk.
//
// Ownership   borrows the loop, which outlives it.
// Threads     the loop's.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/log_gate.h"

namespace penstock::client {

class GatewayLog {
 public:
  enum class Kind : std::uint8_t { not_understood, notice, error, goodbye, settings };
  static constexpr std::size_t kLongestText = 256;  // bytes

  explicit GatewayLog(EventLoop& loop)
      : loop_(&loop),
        gates_{{{loop, "more messages from the gateway not understood"},
                {loop, "more notices from the gateway"},
                {loop, "more errors from the gateway"},
                {loop, "more goodbyes from the gateway"},
                {loop, "more about settings from the gateway"}}} {}

  // A field longer than kLongestText is shortened.
  void write(Kind kind, log::Level level, std::string_view message, const log::Field& field);

  // Where `text` is longer than kLongestText: as many whole characters as fit, and "...".
  static std::string shortened(std::string_view text);

 private:
  EventLoop* loop_;
  std::array<LogGate, 5> gates_;  // by Kind
};

}  // namespace penstock::client
