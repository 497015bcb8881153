// token new, token list, token revoke, profile: who may connect.

#include <algorithm>
#include <chrono>
#include <iostream>
#include <utility>

#include "auth/authenticator.h"
#include "base/atomic_file.h"
#include "base/digest.h"
#include "base/random.h"
#include "cli/commands.h"
#include "config/server_config.h"
#include "config/token_record.h"
#include "gateway/account.h"
#include "gateway/process.h"
#include "net/unix_socket.h"
#include "tls/certificate.h"

namespace penstock::cli {
namespace {

// Run by root, this touches the gateway's state as the gateway's user would (gateway/account.h).
Result<std::vector<TokenRecord>> issued_tokens(const ServerConfig& config) {
  PENSTOCK_TRY(const auto acting, gateway::ActingAs::owner_of(config.paths.state_dir));
  const std::string path = gateway::token_file_path(config);
  const auto trusted = refuse_if_writable_by_others(path);
  if (!trusted && trusted.error().code == ErrorCode::not_found) return std::vector<TokenRecord>{};
  if (!trusted) return std::unexpected(trusted.error());
  return load_token_file(path);
}

// One that runs would notice within seconds; it is told, so that it happens now. False: none could be told.
bool tell_gateway(const ServerConfig& config) {
  return net::ask_status(config.paths.status_socket.string(), gateway::kReloadTokens, std::chrono::seconds(1))
      .has_value();
}

Result<void> save_tokens(const ServerConfig& config, const std::vector<TokenRecord>& records) {
  PENSTOCK_TRY(const auto account, gateway::account_of(config.process));
  PENSTOCK_TRY_VOID(gateway::make_state_directory(config.paths.state_dir, account));
  PENSTOCK_TRY(const auto acting, gateway::ActingAs::owner_of(config.paths.state_dir));
  return write_file_atomically(gateway::token_file_path(config), as_bytes(token_file_text(records)), 0600);
}

bool known(const std::vector<TokenRecord>& records, const std::string& name) {
  return std::any_of(records.begin(), records.end(), [&](const TokenRecord& record) { return record.name == name; });
}

bool valid_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 &&
         name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@-") ==
             std::string::npos;
}

Result<std::string> client_config_text(const ServerConfig& config, const std::string& name, const std::string& token) {
  if (!config.server.public_url) {
    return fail(ErrorCode::invalid_argument,
                "server.public_url is not set: say there how clients reach this gateway, such as "
                "wss://vpn.example.org/");
  }
  std::string pin;
  if (config.server.listen_addr.empty()) {
    pin = "  # TLS ends in a proxy in front of the gateway, whose certificate an authority must vouch for.\n";
  } else {
    PENSTOCK_TRY(const auto key, tls::pin_of_certificate_file(config.server.tls_cert.string()));
    pin = "  # The gateway's public key. It must be replaced here when the gateway gets a new key.\n  pin: \"" + key +
          "\"\n";
  }
  return "# Penstock client \"" + name +
         "\". Keep this file secret: whoever has it can join the network.\n"
         "# Start it with: sudo penstock client --config THIS_FILE\n"
         "server:\n"
         "  url: " +
         config.server.public_url->to_string() + "\n" + pin +
         "auth:\n"
         "  token: \"" +
         token +
         "\"\n"
         "vpn:\n"
         "  interface_name: VPN\n"
         "  mtu: " +
         std::to_string(config.vpn.mtu) + "\n";
}

Result<TokenRecord> new_record(const ServerConfig& config, const ProfileOptions& options, const std::string& token) {
  TokenRecord record{.name = options.name, .sha256 = sha256(as_bytes(token)), .single = options.single};
  if (!options.address.empty()) {
    PENSTOCK_TRY(const auto address, IpAddress::parse(options.address));
    const Prefix& subnet = config.vpn.subnet;
    if (!subnet.contains(address) || address == config.vpn.server_ip || address == subnet.address() ||
        address == subnet.last())
      return fail(ErrorCode::invalid_argument, "--address " + options.address + " is no client address of vpn.subnet " +
                                                   config.vpn.subnet.to_string());
    record.address = address;
    record.single = true;
  }
  return record;
}

Result<void> issue(const ServerConfig& config, const ProfileOptions& options) {
  if (options.name == kAnybody)
    return fail(ErrorCode::invalid_argument, "\"any\" means everybody in the rules of lan.allow: choose another name");
  if (!valid_name(options.name))
    return fail(ErrorCode::invalid_argument, "\"" + options.name + "\" is no name: 1 to 64 of A-Z a-z 0-9 _ . @ -");
  PENSTOCK_TRY(auto records, issued_tokens(config));
  if (known(records, options.name) || known(config.auth.tokens, options.name)) {
    return fail(ErrorCode::invalid_argument, "there is a token named \"" + options.name +
                                                 "\" already; a token is shown only once: choose another name, or "
                                                 "first `penstock token revoke " +
                                                 options.name + "`");
  }
  SystemRandom random;
  const std::string token = auth::new_token(random);
  PENSTOCK_TRY(auto record, new_record(config, options, token));
  for (const std::vector<TokenRecord>* list : {&std::as_const(records), &config.auth.tokens}) {
    for (const TokenRecord& other : *list) {
      if (record.address && other.address == record.address)
        return fail(ErrorCode::invalid_argument, "--address " + options.address + " belongs to \"" + other.name + "\"");
    }
  }
  PENSTOCK_TRY(const auto text, client_config_text(config, options.name, token));
  records.push_back(std::move(record));
  // First the file for the client: a token that could not be handed over is not issued.
  if (!options.output.empty()) PENSTOCK_TRY_VOID(write_file_atomically(options.output, as_bytes(text), 0600));
  PENSTOCK_TRY_VOID(save_tokens(config, records));
  (void)tell_gateway(config);
  if (options.output.empty()) {
    std::cout << text;
  } else {
    std::cout << "client configuration written to " << options.output << "\n";
  }
  return {};
}

}  // namespace

int token_new(const std::string& name) {
  SystemRandom random;
  const std::string token = auth::new_token(random);
  std::cout << "token (for auth.token of the client; it is not shown again):\n  " << token
            << "\nrecord (for auth.tokens of the server):\n  - { name: " << (name.empty() ? "new-client" : name)
            << ", sha256: " << to_hex(sha256(as_bytes(token))) << " }\n";
  return kOk;
}

int token_list(const ConfigOptions& options) {
  const auto config = load_trusted_server_config(options);
  if (!config) return report_configuration(config.error());
  const auto issued = issued_tokens(*config);
  if (!issued) return report(issued.error());
  const auto print = [](const std::vector<TokenRecord>& records, const char* where) {
    for (const TokenRecord& record : records) {
      std::cout << record.name << "  " << where << (record.single ? "  single" : "");
      if (record.address) std::cout << "  " << record.address->to_string();
      std::cout << "\n";
    }
  };
  print(config->auth.tokens, "configured");
  print(*issued, "issued");
  return kOk;
}

int token_revoke(const ConfigOptions& options, const std::string& name) {
  const auto config = load_trusted_server_config(options);
  if (!config) return report_configuration(config.error());
  auto issued = issued_tokens(*config);
  if (!issued) return report(issued.error());
  if (std::erase_if(*issued, [&](const TokenRecord& record) { return record.name == name; }) == 0) {
    if (known(config->auth.tokens, name)) {
      return report({ErrorCode::invalid_argument,
                     "\"" + name + "\" stands in " + options.file + ": remove it from auth.tokens there"});
    }
    return report({ErrorCode::not_found, "no token named \"" + name + "\" was issued; see `penstock token list`"});
  }
  if (auto saved = save_tokens(*config, *issued); !saved) return report(saved.error());
  std::cout << "revoked " << name
            << (tell_gateway(*config) ? "; the gateway has ended its sessions\n"
                                      : "; no running gateway was told: one that runs will notice within seconds\n");
  return kOk;
}

int make_profile(const ProfileOptions& options) {
  const auto config = load_trusted_server_config(options.server);
  if (!config) return report_configuration(config.error());
  const auto issued = issue(*config, options);
  return issued ? kOk : report(issued.error());
}

}  // namespace penstock::cli
