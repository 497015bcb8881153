// server, client, check-config, version, and how errors are told.

#include <iostream>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/file_trust.h"
#include "base/log.h"
#include "base/version.h"
#include "cli/commands.h"
#include "client/linux/process.h"
#include "config/client_config.h"
#include "config/config_kind.h"
#include "config/server_config.h"
#include "config/server_doubts.h"
#include "gateway/account.h"
#include "gateway/process.h"
#include "net/process_info.h"
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
  if (readable_by_everybody(options.file)) {
    log::warn("the configuration, which holds the token, can be read by everybody on this machine",
              {{"file", options.file}, {"access", describe_access(options.file)}, {"run", "chmod o= " + options.file}});
  }
  const auto outcome = client::run_client(*config);
  return outcome ? kOk : report(outcome.error());
}

namespace {

// What depends on the machine, which may be another one than the configuration is for: worth a word, and no mistake.
std::vector<std::string> obstacles_here(const ServerConfig& config) {
  std::vector<std::string> found;
  const auto note = [&](const auto& result, const std::string& key = "") {
    if (!result) found.push_back(key + result.error().message);
    return result.has_value();
  };
  if (!config.server.tls_cert.empty()) {
    const std::string key = config.server.tls_key.string();
    if (note(tls::ServerContext::create(config.server.tls_cert.string(), key)))
      note(refuse_if_writable_by_others_than_owner(key));
  }
  note(gateway::named_account(config.process));
  if (!config.server.listen_http_group.empty())
    note(gateway::group_named(config.server.listen_http_group, "server.listen_http_group"));
  note(net::refuse_more_open_files_than_the_kernel_allows(config.limits.open_files), "limits.open_files: ");
  return found;
}

// A secret that everybody on this machine can read, and the command that ends it.
void warn_if_readable_by_everybody(const std::string& file) {
  if (!readable_by_everybody(file)) return;
  std::cerr << "penstock: everybody on this machine can read " << file << " (" << describe_access(file)
            << "); run: chmod o= " << file << "\n";
}

void print_warnings(const ServerConfig& config) {
  for (const std::string& obstacle : obstacles_here(config))
    std::cerr << "penstock: on this machine it would not start: " << obstacle << "\n";
  for (const std::string& doubt : doubts_about(config)) std::cerr << "penstock: " << doubt << "\n";
  warn_if_readable_by_everybody(config.server.tls_key.string());
}

}  // namespace

int check_config(const ConfigOptions& options, const std::string& kind) {
  const bool is_client =
      kind.empty() ? kind_of_config(options.file, options.overrides) == ConfigKind::client : kind == "client";
  const std::string checked = std::string("checked as a ") + (is_client ? "client's" : "gateway's") + " configuration";
  Result<void> outcome = refuse_if_writable_by_others(options.file);
  if (is_client) {
    const auto client = load_client_config(options.file, options.overrides);
    if (!client) outcome = std::unexpected(client.error());
    if (outcome) warn_if_readable_by_everybody(options.file);
  } else {
    const auto server = load_server_config(options.file, options.overrides);
    if (!server) outcome = std::unexpected(server.error());
    if (outcome) print_warnings(*server);
  }
  if (!outcome) {
    const int code = report_configuration(outcome.error());
    std::cerr << "(" << checked;
    if (kind.empty()) std::cerr << "; --kind " << (is_client ? "server" : "client") << " checks it as the other kind";
    std::cerr << ")\n";
    return code;
  }
  std::cout << options.file << ": ok, " << checked << "\n";
  return kOk;
}

int print_version() {
  std::cout << "penstock " << kVersion << "\n";
  return kOk;
}

}  // namespace penstock::cli
