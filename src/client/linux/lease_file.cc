#include "client/linux/lease_file.h"

#include "base/atomic_file.h"
#include "base/digest.h"
#include "base/log.h"

namespace penstock::client {
namespace {

constexpr std::size_t kMaxLease = 4096;

}  // namespace

LeaseFile::LeaseFile(std::string path, const ClientConfig& config) : path_(std::move(path)) {
  std::string identity = config.auth.token;
  for (const GatewayUrl& url : config.server.urls) identity += "\n" + url.to_string();
  identity_ = to_hex(sha256(as_bytes(identity)));
}

std::string LeaseFile::load() {
  auto line = read_whole_file(path_, kMaxLease);
  if (!line) {
    if (line.error().code != ErrorCode::not_found)
      log::warn("the earlier session is not resumed", {{"error", line.error().message}});
    return {};
  }
  if (!line->starts_with(identity_ + " ") || !line->ends_with('\n')) return {};
  return line->substr(identity_.size() + 1, line->size() - identity_.size() - 2);
}

void LeaseFile::save(const std::string& lease) {
  const std::string line = identity_ + " " + lease + "\n";
  if (auto saved = write_file_atomically(path_, as_bytes(line), 0600); !saved)
    log::warn("after a restart the session will not be resumed", {{"error", saved.error().message}});
}

}  // namespace penstock::client
