// server, client, check-config, version, and how errors are told.

#include <algorithm>
#include <iostream>

#include "base/atomic_file.h"
#include "base/file_trust.h"
#include "base/log.h"
#include "base/version.h"
#include "cli/commands.h"
#include "client/linux/process.h"
#include "config/client_config.h"
#include "config/server_config.h"
#include "gateway/process.h"
#include "tls/engine.h"

namespace penstock::cli {

int report(const Error& error) {
  std::cerr << "penstock: " << error.message << "\n";
  switch (error.code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::not_found:
    case ErrorCode::unauthenticated: return kConfiguration;
    case ErrorCode::address_in_use: return kInUse;
    case ErrorCode::permission_denied: return kPermission;
    default: return kFailure;
  }
}

int report_configuration(const Error& error) {
  std::cerr << error.message << "\n";
  return error.code == ErrorCode::permission_denied ? kPermission : kConfiguration;
}

Result<ServerConfig> load_trusted_server_config(const ConfigOptions& options) {
  PENSTOCK_TRY(auto config, load_server_config(options.file, options.overrides));
  PENSTOCK_TRY_VOID(refuse_if_writable_by_others(options.file));
  return config;
}

int run_server_command(const ConfigOptions& options) {
  const auto config = load_trusted_server_config(options);
  if (!config && load_client_config(options.file, options.overrides))
    return report({ErrorCode::invalid_argument, options.file + " is a client's configuration: penstock client"});
  if (!config) return report_configuration(config.error());
  log::configure(config->logging.level, config->logging.format);
  const auto outcome = gateway::run_server(*config, options.file, [&] { return load_trusted_server_config(options); });
  return outcome ? kOk : report(outcome.error());
}

int run_client_command(const ConfigOptions& options) {
  const auto config = load_client_config(options.file, options.overrides);
  if (!config && load_server_config(options.file, options.overrides))
    return report({ErrorCode::invalid_argument, options.file + " is a server's configuration: penstock server"});
  if (!config) return report_configuration(config.error());
  if (const auto trusted = refuse_if_writable_by_others(options.file); !trusted)
    return report_configuration(trusted.error());
  log::configure(config->logging.level, config->logging.format);
  const auto outcome = client::run_client(*config);
  return outcome ? kOk : report(outcome.error());
}

int check_config(const ConfigOptions& options, const std::string& kind) {
  const auto server = load_server_config(options.file, options.overrides);
  const auto client = load_client_config(options.file, options.overrides);
  const bool is_client = kind == "client" || (kind.empty() && !server && client);
  const bool ok = is_client ? client.has_value() : server.has_value();
  if (ok) {
    if (const auto trusted = refuse_if_writable_by_others(options.file); !trusted)
      return report_configuration(trusted.error());
    // The files that it names may be on another machine: no mistake of the configuration, but worth a word.
    if (!is_client && !server->server.tls_cert.empty()) {
      const auto certificate =
          tls::ServerContext::create(server->server.tls_cert.string(), server->server.tls_key.string());
      if (!certificate) std::cerr << "penstock: here it would not start: " << certificate.error().message << "\n";
      const std::string key = server->server.tls_key.string();
      const auto trusted = refuse_if_writable_by_others_than_owner(key);
      if (certificate && !trusted)
        std::cerr << "penstock: here it would not start: " << trusted.error().message << "\n";
      if (readable_by_everybody(key)) {
        std::cerr << "penstock: everybody on this machine can read " << key << " (" << describe_access(key)
                  << "); run: chmod o= " << key << "\n";
      }
    }
    std::cout << options.file << ": ok (" << (is_client ? "a client's" : "a server's") << ")\n";
    return kOk;
  }
  if (is_client) return report_configuration(client.error());
  // Neither fits: the kind with fewer complaints is the one that was meant.
  const auto lines = [](const std::string& text) { return std::count(text.begin(), text.end(), '\n'); };
  const bool client_closer = kind.empty() && lines(client.error().message) < lines(server.error().message);
  return report_configuration(client_closer ? client.error() : server.error());
}

int print_version() {
  std::cout << "penstock " << kVersion << "\n";
  return kOk;
}

}  // namespace penstock::cli
