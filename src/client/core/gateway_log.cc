#include "client/core/gateway_log.h"

#include "base/utf8.h"

namespace penstock::client {

void GatewayLog::write(Kind kind, log::Level level, std::string_view message, const log::Field& field) {
  // A line that the level keeps out is none held back.
  if (!log::enabled(level) || !gates_[static_cast<std::size_t>(kind)].lets_through(loop_->now())) return;
  if (field.value.text().size() <= kLongestText) return log::write(level, message, {field});
  log::write(level, message, {{field.name, shortened(field.value.text())}});
}

std::string GatewayLog::shortened(std::string_view text) {
  if (text.size() <= kLongestText) return std::string(text);
  text = text.substr(0, kLongestText);
  return std::string(text.substr(0, utf8_prefix(as_bytes(text)))) + "...";
}

}  // namespace penstock::client
