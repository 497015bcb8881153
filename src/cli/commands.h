// The subcommands of `penstock`, one function each. What they print for a person goes to standard output, errors and
// logs to standard error.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "config/server_config.h"

namespace penstock::cli {

// Exit codes; `penstock --help` lists them.
enum Exit : int {
  kOk = 0,
  kFailure = 1,
  kUsage = 2,
  kConfiguration = 3,  // configuration or certificate wrong
  kInUse = 4,          // port, interface or address taken
  kPermission = 5,
  kNotRunning = 7,
};

// Options that several subcommands share.
struct ConfigOptions {
  std::string file;
  std::vector<std::string> overrides;  // --set section.key=value
};

int run_server_command(const ConfigOptions& options);
int run_client_command(const ConfigOptions& options);
// `kind` is "server", "client", or empty to tell by the keys (config/config_kind.h).
int check_config(const ConfigOptions& options, const std::string& kind);
int print_version();

int token_new(const std::string& name);
int token_list(const ConfigOptions& options);
int token_revoke(const ConfigOptions& options, const std::string& name);

struct ProfileOptions {
  ConfigOptions server;
  std::string name;
  std::string address;  // fixed inner address; empty: any
  bool single = false;
  std::string output;  // a file; empty: standard output
};
int make_profile(const ProfileOptions& options);

struct StatusOptions {
  ConfigOptions config;  // of whose process; without a file: of the one that runs here
  std::string socket;
  bool json = false;
  bool watch = false;
};
int show_status(const StatusOptions& options);

// The configuration of a server, unless somebody else may write to the file.
Result<ServerConfig> load_trusted_server_config(const ConfigOptions& options);

// Prints "penstock: <message>" and answers the exit code that fits.
int report(const Error& error);
// The same for errors found while reading a configuration, whatever their code.
int report_configuration(const Error& error);

}  // namespace penstock::cli
