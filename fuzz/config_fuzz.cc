// Any bytes as a configuration: as both kinds of file, for both readers, and as the value of a --set. Every input takes
// every way, so that one corpus serves them all. What is accepted keeps what the headers of config/ promise; what is
// refused is refused in words that name the file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/document.h"
#include "config/client_config.h"
#include "config/server_config.h"
#include "config/token_record.h"

namespace {

using namespace penstock;

template <typename Config>
bool is_acceptable(const Result<Config>& config, std::string_view file) {
  if (config) return true;
  const std::string& words = config.error().message;
  PENSTOCK_ASSERT(words.find(file) != std::string::npos || words.find("--set") != std::string::npos);
  return false;
}

void check_server(const Result<ServerConfig>& config, std::string_view file) {
  if (!is_acceptable(config, file)) return;
  const auto& server = config->server;
  const auto& vpn = config->vpn;
  const auto& tokens = config->auth.tokens;
  PENSTOCK_ASSERT(!server.listen_addr.empty() || !server.listen_http.empty());
  PENSTOCK_ASSERT(server.listen_addr.empty() || (!server.tls_cert.empty() && !server.tls_key.empty()));
  PENSTOCK_ASSERT(vpn.subnet.length() >= 8 && vpn.subnet.length() <= 30 && vpn.subnet.contains(vpn.server_ip));
  PENSTOCK_ASSERT(vpn.server_ip != vpn.subnet.address() && vpn.server_ip != vpn.subnet.last());
  if (vpn.subnet6) {
    PENSTOCK_ASSERT(vpn.server_ip6 && vpn.subnet6->contains(*vpn.server_ip6) && vpn.mtu >= 1280);
    PENSTOCK_ASSERT(vpn.subnet6->length() >= 64 && vpn.subnet6->length() <= 112);
  }
  for (const TokenRecord& token : tokens) {
    PENSTOCK_ASSERT(!token.address || (vpn.subnet.contains(*token.address) && token.address != vpn.server_ip));
    PENSTOCK_ASSERT(!token.address6 || (vpn.subnet6 && vpn.subnet6->contains(*token.address6)));
    PENSTOCK_ASSERT(std::ranges::count(tokens, token.name, &TokenRecord::name) == 1);
    PENSTOCK_ASSERT(std::ranges::count(tokens, token.sha256, &TokenRecord::sha256) == 1);
    PENSTOCK_ASSERT(!token.address || std::ranges::count(tokens, token.address, &TokenRecord::address) == 1);
  }
  PENSTOCK_ASSERT(config->lan.isolate || config->lan.allow.empty());
}

void check_client(const Result<ClientConfig>& config, std::string_view file) {
  if (!is_acceptable(config, file)) return;
  PENSTOCK_ASSERT(!config->server.urls.empty());
  PENSTOCK_ASSERT(config->reconnect.min_backoff <= config->reconnect.max_backoff);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const UserEnvironment user;
  for (const std::string file : {"fuzz.yaml", "fuzz.json"}) {
    check_server(server_config_from_text(text, file, {}, user), file);
    check_client(client_config_from_text(text, file, {}, user), file);
    // What was read once is written and read again as the same.
    if (const auto tokens = token_file_from_text(text, file)) {
      PENSTOCK_ASSERT(token_file_from_text(token_file_text(*tokens), "fuzz.json") == *tokens);
    }
  }
  const std::vector<std::string> overrides = {std::string(text), "auth.tokens=" + std::string(text)};
  for (const std::string& one : overrides) {
    check_server(server_config_from_text("{}", "fuzz.json", {&one, 1}, user), "fuzz.json");
  }
  return 0;
}
