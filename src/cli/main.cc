// The command line of `penstock`.

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>

#include "base/version.h"
#include "cli/commands.h"

namespace penstock::cli {
namespace {

constexpr const char* kDescription =
    "Penstock joins machines into one private network over port 443.\n"
    "\n"
    "A gateway (penstock server) listens for WebSocket connections over TLS. Clients (penstock client) join it\n"
    "with a token, get an inner address each and reach one another by it, through reconnects and restarts.\n"
    "\n"
    "  penstock server --config server.yaml           run a gateway\n"
    "  penstock profile alice --config server.yaml    let a machine in: prints its client configuration\n"
    "  penstock client --config alice.yaml            join, on that machine\n"
    "  penstock status                                see who is connected";

constexpr const char* kFooter =
    "Exit codes: 0 ok, 1 failure, 2 wrong command line, 3 configuration or certificate wrong, 4 port, interface or\n"
    "address in use, 5 permission denied, 7 not running (status).\n"
    "Signals: SIGTERM and SIGINT stop in an orderly way; SIGHUP makes a server read certificate, tokens, the rules of "
    "lan and internet, and limits.exempt again.\n"
    "Logs go to standard error. Every setting is explained in docs/configuration.md and in configs/*.example.";

CLI::Option* add_overrides(CLI::App& command, ConfigOptions& options) {
  return command.add_option("--set", options.overrides, "override one setting, as vpn.mtu=1380; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

void add_config(CLI::App& command, ConfigOptions& options, const char* what) {
  command.add_option("-c,--config", options.file, what)->required()->type_name("FILE");
  add_overrides(command, options);
}

int main_of(int argc, char** argv) {
  CLI::App app{kDescription, "penstock"};
  app.footer(kFooter);
  app.require_subcommand(1);
  app.set_version_flag("--version", "penstock " + std::string(kVersion));
  std::function<int()> run;

  ConfigOptions config;
  auto* server = app.add_subcommand("server", "run a gateway until it is told to stop");
  add_config(*server, config, "the gateway's configuration, YAML or JSON");
  server->callback([&] { run = [&] { return run_server_command(config); }; });

  auto* client = app.add_subcommand("client", "join a gateway's network and stay in it");
  add_config(*client, config, "the client's configuration, YAML or JSON");
  client->callback([&] { run = [&] { return run_client_command(config); }; });

  std::string kind;
  auto* check = app.add_subcommand("check-config", "read a configuration and say what is wrong with it");
  add_config(*check, config, "the configuration to check");
  check->add_option("--kind", kind, "server or client; without it, told by the keys")
      ->check(CLI::IsMember({"server", "client"}));
  check->callback([&] { run = [&] { return check_config(config, kind); }; });

  auto* token = app.add_subcommand("token", "make, list and revoke the tokens that let clients in");
  token->require_subcommand(1);
  std::string token_name;
  auto* token_make = token->add_subcommand("new", "print a new token and the record that lets it in");
  token_make->add_option("--name", token_name, "the name for the record");
  token_make->callback([&] { run = [&] { return token_new(token_name); }; });
  auto* list = token->add_subcommand("list", "list configured and issued tokens by name");
  add_config(*list, config, "the gateway's configuration");
  list->callback([&] { run = [&] { return token_list(config); }; });
  auto* revoke = token->add_subcommand("revoke", "take back a token that `profile` issued");
  revoke->add_option("name", token_name, "its name")->required();
  add_config(*revoke, config, "the gateway's configuration");
  revoke->callback([&] { run = [&] { return token_revoke(config, token_name); }; });

  ProfileOptions profile_options;
  auto* profile = app.add_subcommand("profile", "issue a token and print a ready client configuration with it");
  profile->add_option("name", profile_options.name, "a name for the client: A-Z a-z 0-9 _ . @ -")->required();
  add_config(*profile, profile_options.server, "the gateway's configuration");
  profile->add_option("--address", profile_options.address, "a fixed inner address for this client")->type_name("IP");
  profile->add_flag("--single", profile_options.single, "one session at a time: a new login ends the older");
  profile->add_option("-o,--output", profile_options.output, "write to FILE (mode 0600) instead of standard output")
      ->type_name("FILE");
  profile->callback([&] { run = [&] { return make_profile(profile_options); }; });

  StatusOptions status_options;
  auto* status = app.add_subcommand("status", "ask a running gateway or client how it is doing");
  auto* status_config =
      status->add_option("-c,--config", status_options.config.file, "its configuration file")->type_name("FILE");
  add_overrides(*status, status_options.config)->needs(status_config);
  status->add_option("--socket", status_options.socket, "its status socket")->type_name("PATH");
  status->add_flag("--json", status_options.json, "one JSON document a look, for programs");
  status->add_flag("--watch", status_options.watch, "look again every 2 s");
  status->callback([&] { run = [&] { return show_status(status_options); }; });

  auto* version = app.add_subcommand("version", "print the version");
  version->callback([&] { run = [] { return print_version(); }; });

  // CLI11 would only say that a command is missing.
  const std::string command = argc > 1 ? argv[1] : "";
  if (!command.empty() && !command.starts_with('-')) {
    std::string known;
    bool found = false;
    for (const CLI::App* each : app.get_subcommands({})) {
      known += (known.empty() ? "" : ", ") + each->get_name();
      found = found || each->get_name() == command;
    }
    if (!found) {
      std::cerr << "penstock: there is no command \"" << command << "\"; the commands are " << known << "\n";
      return kUsage;
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? kOk : kUsage;
  }
  return run();
}

}  // namespace
}  // namespace penstock::cli

int main(int argc, char** argv) {
  try {
    return penstock::cli::main_of(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "penstock: " << error.what() << "\n";
    return penstock::cli::kFailure;
  }
}
