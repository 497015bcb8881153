#include "egress/kernel/forwarding.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <system_error>

#include "base/atomic_file.h"
#include "base/log.h"

namespace penstock::egress {
namespace {

using nlohmann::json;
using Setting = Forwarding::Setting;
using Change = Forwarding::Change;
using Changes = Forwarding::Changes;

constexpr std::size_t kMaxJournal = std::size_t{4} << 20U;  // tens of thousands of interfaces
constexpr const char* kForward4 = "net/ipv4/ip_forward";
constexpr const char* kForward6 = "net/ipv6/conf/all/forwarding";

std::string path_of(const std::string& name) { return "/proc/sys/" + name; }

// "sysctl -w net/ipv6/conf/eth0.5/accept_ra=2": with slashes, for an interface's name may have dots.
std::string command_for(const std::string& name, const std::string& value) { return "sysctl -w " + name + "=" + value; }

// None: there is no such setting, or none any more.
std::optional<std::string> value_of(const std::string& name) {
  auto text = read_whole_file(path_of(name), 64);
  if (!text) return std::nullopt;
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return *std::move(text);
}

Result<void> set(const std::string& name, const std::string& value) {
  errno = 0;
  const int fd = ::open(path_of(name).c_str(), O_WRONLY | O_CLOEXEC);
  bool done = fd >= 0 && ::write(fd, value.data(), value.size()) == static_cast<ssize_t>(value.size());
  const int error = errno;
  if (fd >= 0) ::close(fd);
  // Some containers say yes and do nothing.
  done = done && value_of(name) == value;
  if (done) return {};
  return fail(ErrorCode::permission_denied, name + " cannot be set to " + value + " from here (" +
                                                (fd >= 0 && error == 0 ? "it stays as it is" : std::strerror(error)) +
                                                ")");
}

std::vector<std::string> interfaces(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path_of(directory), error), end; !error && entry != end;
       entry.increment(error))
    names.push_back(entry->path().filename().string());
  std::ranges::sort(names);
  return names;
}

// What makes a journal's values those of now.
std::string this_boot() { return read_whole_file("/proc/sys/kernel/random/boot_id", 64).value_or(std::string()); }
std::uint64_t this_namespace() {
  struct stat status{};
  return ::stat("/proc/thread-self/ns/net", &status) == 0 ? std::uint64_t{status.st_ino} : 0;
}

// Whatever a journal says, nothing else is ever written.
bool is_ours_to_set(std::string_view name) {
  if (name == kForward4) return true;
  struct Form {
    std::string_view before;
    std::string_view after;
  };
  constexpr std::array kForms{Form{"net/ipv4/conf/", "/forwarding"}, Form{"net/ipv4/conf/", "/accept_redirects"},
                              Form{"net/ipv6/conf/", "/forwarding"}, Form{"net/ipv6/conf/", "/accept_ra"}};
  return std::ranges::any_of(kForms, [&](const Form& form) {
    if (name.size() <= form.before.size() + form.after.size() || !name.starts_with(form.before) ||
        !name.ends_with(form.after))
      return false;
    const std::string_view interface =
        name.substr(form.before.size(), name.size() - form.before.size() - form.after.size());
    return interface != "." && interface != ".." && interface.find('/') == std::string_view::npos &&
           interface.find('\0') == std::string_view::npos && interface.size() <= 15;
  });
}

bool is_digit(const std::string& value) { return value.size() == 1 && value[0] >= '0' && value[0] <= '9'; }

json json_of(std::span<const Setting> settings) {
  json list = json::array();
  for (const Setting& setting : settings)
    list.push_back({{"setting", setting.name}, {"former", setting.former}, {"ours", setting.ours}});
  return list;
}

bool read_settings(const json& list, std::vector<Setting>& into) {
  if (!list.is_array()) return false;
  for (const json& one : list) {
    if (!one.is_object() || one.size() != 3) return false;
    Setting setting;
    for (const auto& [key, field] :
         {std::pair{"setting", &setting.name}, {"former", &setting.former}, {"ours", &setting.ours}}) {
      const auto found = one.find(key);
      if (found == one.end() || !found->is_string()) return false;
      *field = found->get<std::string>();
    }
    if (!is_ours_to_set(setting.name) || !is_digit(setting.former) || !is_digit(setting.ours)) return false;
    into.push_back(std::move(setting));
  }
  return true;
}

const Setting* find(const std::vector<Setting>& settings, const std::string& name) {
  const auto found = std::ranges::find(settings, name, &Setting::name);
  return found == settings.end() ? nullptr : &*found;
}

// What `name` was before we ever touched it. None: there is no such setting, or no number in it.
std::optional<Setting> as_found(const std::vector<Setting>& leftover, const std::string& name,
                                const std::string& ours) {
  const auto now = value_of(name);
  if (!now || !is_digit(*now)) return std::nullopt;
  const Setting* const left = find(leftover, name);
  return Setting{name, left != nullptr && left->ours == *now ? left->former : *now, ours};
}

// All of them, also those that need not change now: they move when the mover is put back.
void note_moved(Change& change, const Change& leftover, const std::string& name, const std::string& ours) {
  if (auto setting = as_found(leftover.moved, name, ours)) change.moved.push_back(*std::move(setting));
}

Change plan4(const Change& leftover) {
  Change change;
  auto mover = as_found(leftover.written, kForward4, "1");
  if (!mover || mover->former == mover->ours) return change;
  change.written.push_back(*std::move(mover));
  for (const std::string& interface : interfaces("net/ipv4/conf"))
    if (interface != "all")  // that is ip_forward itself
      note_moved(change, leftover, "net/ipv4/conf/" + interface + "/forwarding", "1");
  note_moved(change, leftover, "net/ipv4/conf/all/accept_redirects", "0");
  return change;
}

Change plan6(const Change& leftover) {
  Change change;
  auto mover = as_found(leftover.written, kForward6, "1");
  if (!mover || mover->former == mover->ours) return change;
  // "default" is for interfaces that come later.
  for (const std::string& interface : interfaces("net/ipv6/conf")) {
    if (interface == "all") continue;
    auto accepts = as_found(leftover.written, "net/ipv6/conf/" + interface + "/accept_ra", "2");
    if (accepts && accepts->former == "1") change.written.push_back(*std::move(accepts));
    note_moved(change, leftover, "net/ipv6/conf/" + interface + "/forwarding", "1");
  }
  change.written.push_back(*std::move(mover));
  return change;
}

Result<void> make(const Change& change) {
  for (const Setting& setting : change.written) {
    const auto now = value_of(setting.name);
    if (!now || *now == setting.ours) continue;
    if (const auto done = set(setting.name, setting.ours); !done) {
      return fail(done.error().code,
                  "internet.mode: kernel: " + done.error().message +
                      "; as root, on the machine itself, run: " + command_for(setting.name, setting.ours));
    }
  }
  return {};
}

// The first failure, after having gone through all.
Result<void> put_back(const Change& change) {
  Result<void> result;
  if (change.written.empty()) return result;
  const auto restore = [&](const std::string& name, const std::string& value) {
    const auto now = value_of(name);
    if (!now || *now == value) return;
    if (auto done = set(name, value); !done && result) {
      result = fail(done.error().code, "after internet.mode: kernel: " + done.error().message +
                                           "; as root, run: " + command_for(name, value));
    }
  };
  const Setting& mover = change.written.back();
  if (value_of(mover.name) == mover.ours) {
    // What moves back with it is what nobody changed; the rest is left as it is now.
    std::vector<std::pair<std::string, std::string>> wanted;
    for (const Setting& setting : change.moved) {
      const auto now = value_of(setting.name);
      if (now) wanted.emplace_back(setting.name, *now == setting.ours ? setting.former : *now);
    }
    restore(mover.name, mover.former);
    for (const auto& [name, value] : wanted) restore(name, value);
  }
  for (std::size_t i = change.written.size() - 1; i-- > 0;) {
    const Setting& setting = change.written[i];
    if (value_of(setting.name) == setting.ours) restore(setting.name, setting.former);
  }
  return result;
}

Result<void> put_back(const Changes& changes, const std::filesystem::path& journal) {
  const auto first = put_back(changes.ipv4);
  const auto second = put_back(changes.ipv6);
  PENSTOCK_TRY_VOID(first);
  PENSTOCK_TRY_VOID(second);
  std::error_code error;
  std::filesystem::remove(journal, error);
  if (error) return fail(ErrorCode::system_error, journal.string() + ": cannot be removed: " + error.message());
  return {};
}

Result<Changes> leftovers(const std::filesystem::path& journal) {
  const auto text = read_whole_file(journal.string(), kMaxJournal);
  if (!text && text.error().code == ErrorCode::not_found) return Changes{};
  if (!text) return std::unexpected(text.error());
  auto parsed = Forwarding::parse(*text);
  if (!parsed) return fail(parsed.error().code, journal.string() + ": " + parsed.error().message);
  return parsed->value_or(Changes{});
}

}  // namespace

std::string Forwarding::text_of(const Changes& changes) {
  json text{{"boot", this_boot()}, {"namespace", this_namespace()}};
  for (const auto& [name, change] : {std::pair{"ipv4", &changes.ipv4}, {"ipv6", &changes.ipv6}})
    text[name] = {{"written", json_of(change->written)}, {"moved", json_of(change->moved)}};
  return text.dump(1) + "\n";
}

Result<std::optional<Forwarding::Changes>> Forwarding::parse(const std::string& text) {
  const auto strange = fail(ErrorCode::invalid_argument, "this is no journal of former settings");
  const json root = json::parse(text, nullptr, false);
  if (!root.is_object()) return strange;
  Changes changes;
  for (const auto& [name, change] : {std::pair{"ipv4", &changes.ipv4}, {"ipv6", &changes.ipv6}}) {
    const auto found = root.find(name);
    if (found == root.end() || !found->is_object()) return strange;
    const auto written = found->find("written");
    const auto moved = found->find("moved");
    if (written == found->end() || moved == found->end()) return strange;
    if (!read_settings(*written, change->written) || !read_settings(*moved, change->moved)) return strange;
    const char* const mover = change == &changes.ipv4 ? kForward4 : kForward6;
    if (!change->written.empty() && change->written.back().name != mover) return strange;
  }
  const auto boot = root.find("boot");
  const auto space = root.find("namespace");
  if (boot == root.end() || !boot->is_string() || space == root.end() || !space->is_number_unsigned()) return strange;
  if (boot->get<std::string>() != this_boot() || space->get<std::uint64_t>() != this_namespace()) return std::nullopt;
  return changes;
}

Result<std::unique_ptr<Forwarding>> Forwarding::take(bool ipv6, const std::filesystem::path& journal) {
  auto found = leftovers(journal);
  if (!found) {
    log::warn("the journal of former settings cannot be used, and is replaced", {{"why", found.error().message}});
    found = Changes{};
  }
  // IPv6 that was turned on and is not wanted any more.
  if (!ipv6)
    if (const auto done = put_back(found->ipv6); !done) log::warn(done.error().message);

  Changes changes{.ipv4 = plan4(found->ipv4), .ipv6 = ipv6 ? plan6(found->ipv6) : Change{}};
  if (!value_of(kForward4))
    return fail(ErrorCode::unavailable, "internet.mode: kernel: there is no /proc/sys/net here");
  if (ipv6 && !value_of(kForward6))
    return fail(ErrorCode::unavailable, "internet.mode: kernel: this machine has no IPv6, which vpn.subnet6 needs");
  if (changes.empty()) {
    std::error_code ignored;
    std::filesystem::remove(journal, ignored);
  } else {
    PENSTOCK_TRY_VOID(write_file_atomically(journal.string(), as_bytes(text_of(changes)), 0600));
  }
  std::unique_ptr<Forwarding> made(new Forwarding(std::move(changes), journal));
  PENSTOCK_TRY_VOID(make(made->changes_.ipv4));
  PENSTOCK_TRY_VOID(make(made->changes_.ipv6));
  return made;
}

Result<void> Forwarding::restore_leftovers(const std::filesystem::path& journal) {
  PENSTOCK_TRY(const Changes changes, leftovers(journal));
  return put_back(changes, journal);
}

Forwarding::~Forwarding() {
  if (leave_on_ || changes_.empty()) return;
  if (const auto done = put_back(changes_, journal_); !done) log::warn(done.error().message);
}

}  // namespace penstock::egress
