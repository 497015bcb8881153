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
#include "config/server_config.h"
#include "net/unix_socket.h"

namespace penstock::cli {
namespace {

using Json = nlohmann::json;

constexpr auto kPatience = std::chrono::seconds(3);
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

void print_process(const Json& status) {
  const Json process = status.value("process", Json::object());
  if (process.empty()) return;
  std::cout << "process " << process["pid"].dump() << ": " << bytes(process["resident_bytes"]) << " memory, "
            << process["threads"].dump() << " threads, " << process["open_files"].dump() << " open files, up "
            << duration(status["uptime_seconds"]) << "\n";
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
  for (const char* now : {"handshakes_now", "addresses_blocked_now"}) limits.erase(now);
  print_counts("limits met:", limits);
  print_counts("dropped packets:", status["drops"]);
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

Result<std::string> socket_of(const StatusOptions& options) {
  if (!options.socket.empty()) return options.socket;
  if (!options.config.empty()) {
    if (const auto server = load_server_config(options.config)) return server->paths.status_socket.string();
    const auto client = load_client_config(options.config);
    if (!client) return std::unexpected(client.error());
    return client->paths.status_socket.string();
  }
  // Nothing was named: the one that runs here, if it is one.
  const auto user = UserEnvironment::current();
  const auto directory = default_paths("/etc/penstock/server.yaml", user).status_socket.parent_path();
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (entry.path().extension() == ".sock") found.push_back(entry.path().string());
  }
  if (found.size() == 1) return found.front();
  if (found.empty())
    return fail(ErrorCode::unavailable, "nothing runs with a status socket in " + directory.string() +
                                            "; name it with --config FILE or --socket PATH");
  std::sort(found.begin(), found.end());
  std::string list;
  for (const std::string& path : found) list += "\n  penstock status --socket " + path;
  return fail(ErrorCode::invalid_argument, "several run here; choose one:" + list);
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
    report(socket.error());
    return socket.error().code == ErrorCode::unavailable ? kNotRunning : kUsage;
  }
  while (true) {
    const int code = show_once(options, *socket);
    if (!options.watch || code != kOk) return code;
    std::this_thread::sleep_for(kWatchInterval);
  }
}

}  // namespace penstock::cli
