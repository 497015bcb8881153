// status: asks a running gateway or client and prints the answer for a person or a program.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/commands.h"
#include "config/client_config.h"
#include "config/config_kind.h"
#include "config/server_config.h"
#include "net/unix_socket.h"

namespace penstock::cli {
namespace {

using Json = nlohmann::json;

constexpr auto kPatience = std::chrono::seconds(3);
constexpr auto kGlance = std::chrono::seconds(1);  // to see who is there
constexpr auto kWatchInterval = std::chrono::seconds(2);

std::string count(double value, const char* unit, double step, std::initializer_list<const char*> prefixes) {
  const char* prefix = "";
  for (const char* next : prefixes) {
    if (value < step) break;
    value /= step;
    prefix = next;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), value < 10 && *prefix != '\0' ? "%.1f %s%s" : "%.0f %s%s", value, prefix,
                unit);
  return text.data();
}

std::string bytes(const Json& value) { return count(value.get<double>(), "B", 1024, {"Ki", "Mi", "Gi", "Ti"}); }
std::string rate(const Json& value) { return count(value.get<double>(), "bit/s", 1000, {"k", "M", "G"}); }

std::string duration(const Json& value) {
  if (value.is_null()) return "-";
  const auto seconds = static_cast<long>(value.get<double>());
  std::array<char, 48> text{};
  if (seconds < 60) {
    std::snprintf(text.data(), text.size(), "%lds", seconds);
  } else if (seconds < 3600) {
    std::snprintf(text.data(), text.size(), "%ldm %lds", seconds / 60, seconds % 60);
  } else if (seconds < 86400) {
    std::snprintf(text.data(), text.size(), "%ldh %ldm", seconds / 3600, seconds % 3600 / 60);
  } else {
    std::snprintf(text.data(), text.size(), "%ldd %ldh", seconds / 86400, seconds % 86400 / 3600);
  }
  return text.data();
}

std::string text(const Json& value) {
  if (value.is_null()) return "-";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// Columns as wide as their widest cell.
void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line = " ";
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += " " + row[i];
      if (i + 1 < row.size()) line += std::string(widths[i] - row[i].size() + 1, ' ');
    }
    std::cout << line << "\n";
  }
}

// "TITLE  reason count  reason count", or "TITLE  none".
void print_counts(const char* title, const Json& counts) {
  std::string line;
  for (const auto& [reason, count] : counts.items()) {
    if (count.get<std::uint64_t>() != 0) line += "  " + reason + " " + count.dump();
  }
  std::cout << title << (line.empty() ? "  none" : line) << "\n";
}

void print_names(const Json& status) {
  const Json dns = status.value("dns", Json::object());
  if (dns.empty()) return;
  std::cout << "names asked of";
  for (const Json& server : dns["servers"]) std::cout << " " << server.get<std::string>();
  if (dns["servers"].empty()) std::cout << " nobody";
  std::cout << ": " << dns["waiting"].dump() << " waiting, " << dns["cached"].dump() << " cached\n";
  print_counts("queries:", dns["queries"]);
}

// In user space there is more to say than the mode.
void print_internet(const Json& status) {
  const Json internet = status.value("internet", Json::object());
  if (internet.empty()) return;
  std::cout << "internet " << text(internet["mode"]);
  if (internet.contains("mappings")) {
    std::cout << ", from " << text(internet["external4"]) << " and " << text(internet["external6"]) << ": "
              << internet["mappings"].dump() << " mappings, " << internet["flows"].dump() << " conversations, "
              << internet["sockets"].dump() << " sockets";
  }
  std::cout << "\n";
  if (internet.contains("tcp")) print_counts("TCP:", internet["tcp"]);
  if (internet.contains("drops")) print_counts("dropped at the internet:", internet["drops"]);
}

void print_process(const Json& status) {
  const Json process = status.value("process", Json::object());
  if (process.empty()) return;
  std::cout << "process " << process["pid"].dump() << ": " << bytes(process["resident_bytes"]) << " memory, "
            << process["threads"].dump() << " threads, " << process["open_files"].dump() << " open files, up "
            << duration(status["uptime_seconds"]) << "\n";
}

// Those that have longest to wait; the gateway names no more than some.
void print_blocked(const Json& limits) {
  const Json blocked = limits.value("blocked", Json::array());
  if (blocked.empty()) return;
  std::vector<std::vector<std::string>> rows{{"address", "waits", "failed logins"}};
  for (const Json& address : blocked)
    rows.push_back({text(address["address"]), duration(address["seconds_left"]), text(address["failures"])});
  print_table(rows);
  const auto all = limits["addresses_blocked_now"].get<std::size_t>();
  if (all > blocked.size()) std::cout << "  and " << all - blocked.size() << " more\n";
}

void print_server(const Json& status) {
  std::string listen;
  for (const Json& at : status["listen"]) listen += (listen.empty() ? "" : ", ") + at.get<std::string>();
  std::cout << "penstock gateway " << text(status["version"]) << " on " << listen << "\n"
            << "network " << text(status["subnet"])
            << (status["subnet6"].is_null() ? "" : " and " + text(status["subnet6"])) << ", gateway "
            << text(status["server_ip"]) << ", interface "
            << (status["interface"].is_null() ? "off" : text(status["interface"])) << "\n";
  std::vector<std::vector<std::string>> rows{
      {"client", "address", "address6", "from", "state", "up", "down", "up rate", "down rate", "queue", "software"}};
  for (const Json& session : status["sessions"]) {
    rows.push_back(
        {text(session["client"]), text(session["address"]), text(session["address6"]), text(session["outer"]),
         session["attached"].get<bool>() ? "connected " + duration(session["since_seconds"])
                                         : "away " + duration(session["detached_seconds"]),
         bytes(session["up"]["bytes"]), bytes(session["down"]["bytes"]), rate(session["up"]["bits_per_second"]),
         rate(session["down"]["bits_per_second"]), bytes(session["queue_bytes"]), text(session["software"])});
  }
  const Json& totals = status["totals"];
  std::cout << status["sessions"].size() << (rows.size() == 2 ? " session\n" : " sessions\n");
  if (rows.size() > 1) print_table(rows);
  std::cout << "total up " << bytes(totals["up"]["bytes"]) << ", down " << bytes(totals["down"]["bytes"]) << "; logins "
            << totals["links"].dump() << ", refused " << totals["logins_refused"].dump() << "; links lost "
            << totals["links_lost"].dump() << "; resumed " << totals["sessions_resumed"].dump() << " of "
            << totals["resume_attempts"].dump() << " asked\n";
  Json limits = status.at("limits");
  std::cout << "handshakes under way " << limits["handshakes_now"].dump() << ", addresses that have to wait "
            << limits["addresses_blocked_now"].dump() << "\n";
  print_blocked(limits);
  for (const char* now : {"handshakes_now", "addresses_blocked_now", "blocked"}) limits.erase(now);
  print_counts("limits met:", limits);
  print_counts("dropped packets:", status["drops"]);
  print_internet(status);
  print_names(status);
  print_process(status);
}

void print_client(const Json& status) {
  std::cout << "penstock client " << text(status["version"]) << ": " << text(status["state"]);
  if (!status["connected_seconds"].is_null()) std::cout << " for " << duration(status["connected_seconds"]);
  if (!status["retry_in_seconds"].is_null()) std::cout << ", next attempt in " << duration(status["retry_in_seconds"]);
  std::cout << "\n"
            << "gateway " << text(status["gateway"]) << " (" << text(status["outer"]) << ")\n"
            << "interface " << text(status["interface"]) << ", address " << text(status["address"])
            << (status["address6"].is_null() ? "" : " and " + text(status["address6"])) << ", network "
            << text(status["subnet"]) << ", MTU " << status["mtu"].dump() << "\n"
            << "up " << bytes(status["up"]["bytes"]) << " (" << rate(status["up"]["bits_per_second"]) << "), down "
            << bytes(status["down"]["bytes"]) << " (" << rate(status["down"]["bits_per_second"]) << ")\n"
            << "reconnects: tried " << status["reconnects"]["attempts"].dump() << ", succeeded "
            << status["reconnects"]["succeeded"].dump() << "; sessions resumed "
            << status["reconnects"]["resumed"].dump() << "\n";
  if (!text(status["last_error"]).empty()) std::cout << "last error: " << text(status["last_error"]) << "\n";
  print_counts("dropped packets:", status["drops"]);
  print_process(status);
}

// What answers at `path`: "gateway", "client", or nothing of ours (a proxy's way in, say).
Result<std::string> who_answers(const std::string& path) {
  PENSTOCK_TRY(const auto answer, net::ask_status(path, "status", kGlance));
  const Json status = Json::parse(answer, nullptr, false);
  if (!status.is_object() || !status.contains("role")) return fail(ErrorCode::protocol_error, "no Penstock");
  return status["role"] == "server" ? "gateway" : "client";
}

// Nothing was named: the one that runs here, if it is one. Services that root starts have their sockets in
// /run/penstock, whoever asks; what a user starts has its own in a directory of that user.
Result<std::string> only_socket() {
  const auto directory_of = [](const UserEnvironment& user) {
    return default_paths("/etc/penstock/server.yaml", user).status_socket.parent_path().string();
  };
  std::vector<std::string> directories = {directory_of({.root = true})};
  if (auto own = directory_of(UserEnvironment::current()); own != directories.front())
    directories.push_back(std::move(own));
  std::vector<std::string> found;
  for (const std::string& directory : directories) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error))
      if (entry.path().extension() == ".sock") found.push_back(entry.path().string());
  }
  std::sort(found.begin(), found.end());

  std::vector<std::string> answering;
  std::string list;
  std::string closed;
  for (const std::string& path : found) {
    if (const auto who = who_answers(path)) {
      answering.push_back(path);
      list += "\n  penstock status --socket " + path + "  # " + *who;
    } else if (who.error().code == ErrorCode::permission_denied) {
      closed += (closed.empty() ? "" : ", ") + path;
    }
  }
  if (answering.size() == 1) return answering.front();
  if (!answering.empty()) return fail(ErrorCode::invalid_argument, "several run here; choose one:" + list);
  if (!closed.empty())
    return fail(ErrorCode::permission_denied,
                "may not open " + closed + ": run this as root or as a member of its group");
  const std::string looked_in = directories.front() + (directories.size() > 1 ? " or " + directories.back() : "");
  return fail(ErrorCode::unavailable,
              "nothing runs with a status socket in " + looked_in + "; name it with --config FILE or --socket PATH");
}

// The service with this configuration, which root started, has its socket elsewhere than whoever asks would have it.
std::string own_or_services(const std::filesystem::path& configured, const std::string& config_file) {
  std::error_code error;
  const auto own = default_paths(config_file, UserEnvironment::current()).status_socket;
  const auto services = default_paths(config_file, {.root = true}).status_socket;
  const bool elsewhere =
      configured == own && !std::filesystem::exists(own, error) && std::filesystem::exists(services, error);
  return (elsewhere ? services : configured).string();
}

Result<std::string> socket_of(const StatusOptions& options) {
  if (!options.socket.empty()) return options.socket;
  const auto& [file, overrides] = options.config;
  if (file.empty()) return only_socket();
  if (kind_of_config(file, overrides) == ConfigKind::client) {
    PENSTOCK_TRY(const auto client, load_client_config(file, overrides));
    return own_or_services(client.paths.status_socket, file);
  }
  PENSTOCK_TRY(const auto server, load_server_config(file, overrides));
  return own_or_services(server.paths.status_socket, file);
}

int show_once(const StatusOptions& options, const std::string& socket) {
  const auto answer = net::ask_status(socket, "status", kPatience);
  if (!answer) {
    const int code = report(answer.error());
    return answer.error().code == ErrorCode::unavailable ? kNotRunning : code;
  }
  if (options.json) {
    std::cout << *answer << std::flush;
    return kOk;
  }
  try {
    const Json status = Json::parse(*answer);
    if (options.watch) std::cout << "\033[H\033[2J";
    if (status.at("role") == "server") {
      print_server(status);
    } else {
      print_client(status);
    }
    std::cout << std::flush;
  } catch (const std::exception& error) {
    return report({ErrorCode::protocol_error, "what answers at " + socket + " is no Penstock of this version"});
  }
  return kOk;
}

}  // namespace

int show_status(const StatusOptions& options) {
  const auto socket = socket_of(options);
  if (!socket) {
    const int code = report(socket.error());
    if (socket.error().code == ErrorCode::unavailable) return kNotRunning;
    return options.config.file.empty() && code == kConfiguration ? kUsage : code;
  }
  while (true) {
    const int code = show_once(options, *socket);
    if (!options.watch || code != kOk) return code;
    std::this_thread::sleep_for(kWatchInterval);
  }
}

}  // namespace penstock::cli
