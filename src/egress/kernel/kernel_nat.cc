#include "egress/kernel/kernel_nat.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/log.h"

namespace penstock::egress {
namespace {

using nlohmann::json;

std::unexpected<Error> refused(const Error& error) {
  std::string message = "internet.mode: kernel: " + error.message;
  if (error.code == ErrorCode::permission_denied)
    message += "; it takes root or CAP_NET_ADMIN, and a table that no other process owns";
  if (error.code == ErrorCode::unavailable || error.code == ErrorCode::system_error)
    message +=
        "; the kernel needs nf_tables with inet tables, ct, fib, nat, masq and reject (CONFIG_NF_TABLES_INET, NFT_CT, "
        "NFT_FIB_INET, NFT_NAT, NFT_MASQ, NFT_REJECT_INET), Linux 5.9 or later; internet.mode: userspace needs none";
  return fail(error.code, std::move(message));
}

// An existing table with another owner flag than `flags` says cannot even be named so.
std::string replacing(const std::string& table, bool owned, const std::string& ruleset) {
  return "table inet " + table + " {\n" + (owned ? "  flags owner\n" : "") + "}\ndelete table inet " + table + "\n" +
         ruleset;
}

void add(KernelDrops& to, const KernelDrops& other) {
  for (std::size_t i = 0; i < kDeniedReasons; ++i) to.denied[i] += other.denied[i];
  to.uninvited += other.uninvited;
  to.untracked += other.untracked;
  to.no_ipv6 += other.no_ipv6;
  to.spoofed += other.spoofed;
  to.flow_rate += other.flow_rate;
  to.flows += other.flows;
}

std::uint64_t* counter_of(KernelDrops& drops, std::string_view name) {
  if (name == kCounterOutside) return &drops.uninvited;
  if (name == kCounterUntracked) return &drops.untracked;
  if (name == kCounterNoIpv6) return &drops.no_ipv6;
  if (name == kCounterSpoofed) return &drops.spoofed;
  if (name == kCounterFlowRate) return &drops.flow_rate;
  if (name == kCounterFlows) return &drops.flows;
  if (!name.starts_with(kCounterOfDenied)) return nullptr;
  name.remove_prefix(kCounterOfDenied.size());
  for (std::size_t i = 0; i < kDeniedReasons; ++i)
    if (to_string(static_cast<Denied>(i)) == name) return &drops.denied[i];
  return nullptr;
}

}  // namespace

Result<std::unique_ptr<KernelNat>> KernelNat::create(KernelNatSettings settings) {
  PENSTOCK_TRY_VOID(check_settings(settings));
  auto nftables = Nftables::create();
  if (!nftables) return refused(nftables.error());
  std::unique_ptr<KernelNat> made(new KernelNat(std::move(settings), *std::move(nftables)));
  PENSTOCK_TRY_VOID(made->add_table());
  PENSTOCK_TRY(made->forwarding_, Forwarding::take(made->settings_.ipv6(), made->settings_.journal));
  return made;
}

Result<void> KernelNat::add_table() {
  // What was left behind has no owner.
  const auto add = [&](bool owned) {
    return nftables_->run(replacing(settings_.table_name(), false, ruleset_of(settings_, owned)));
  };
  auto added = add(true);
  if (!added && added.error().code != ErrorCode::permission_denied) {
    if (auto again = add(false)) {
      log::info("firewall rules without an owner: they stay behind if this process is killed",
                {{"table", settings_.table_name()}, {"why", added.error().message}});
      owned_ = false;
      added = std::move(again);
    }
  }
  if (!added) return refused(added.error());
  has_table_ = true;
  return {};
}

Result<void> KernelNat::update(KernelNatSettings settings) {
  PENSTOCK_TRY_VOID(check_settings(settings));
  if (settings.interface != settings_.interface || settings.table_name() != settings_.table_name() ||
      settings.ipv6() != settings_.ipv6() || settings.journal != settings_.journal)
    return fail(
        ErrorCode::invalid_argument,
        "internet.mode: kernel: another interface, table or journal, or IPv6 that comes or goes, takes a restart");
  const auto until_now = read_drops();
  const auto done = nftables_->run(replacing(settings.table_name(), owned_, ruleset_of(settings, owned_)));
  if (!done) return refused(done.error());
  if (until_now) add(before_, *until_now);
  settings_ = std::move(settings);
  return {};
}

Result<KernelDrops> KernelNat::drops() {
  PENSTOCK_TRY(KernelDrops drops, read_drops());
  add(drops, before_);
  return drops;
}

Result<KernelDrops> KernelNat::read_drops() {
  const auto text = nftables_->run_for_json("list counters table inet " + settings_.table_name());
  if (!text) return refused(text.error());
  const json root = json::parse(*text, nullptr, false);
  const auto list = root.is_object() ? root.find("nftables") : root.end();
  if (!root.is_object() || list == root.end() || !list->is_array())
    return fail(ErrorCode::unavailable, "internet.mode: kernel: libnftables gives no JSON here");
  KernelDrops drops;
  for (const json& one : *list) {
    const auto counter = one.is_object() ? one.find("counter") : one.end();
    if (!one.is_object() || counter == one.end() || !counter->is_object()) continue;
    const auto name = counter->find("name");
    const auto packets = counter->find("packets");
    if (name == counter->end() || !name->is_string() || packets == counter->end() || !packets->is_number_integer())
      continue;
    if (std::uint64_t* const into = counter_of(drops, name->get_ref<const std::string&>()))
      *into = packets->get<std::uint64_t>();
  }
  return drops;
}

bool KernelNat::others_need_forwarding() {
  const auto tables = nftables_->run("list tables inet");
  const std::string ours = "table inet " + settings_.table_name() + "\n";
  const std::string like_ours = "table inet " + std::string(KernelNatSettings::kTablePrefix);
  if (!tables) return false;
  for (std::size_t at = tables->find(like_ours); at != std::string::npos; at = tables->find(like_ours, at + 1))
    if (!std::string_view(*tables).substr(at).starts_with(ours)) return true;
  return false;
}

KernelNat::~KernelNat() {
  if (forwarding_ && others_need_forwarding()) forwarding_->leave_on();
  forwarding_.reset();
  if (!has_table_) return;
  if (const auto gone = nftables_->run("delete table inet " + settings_.table_name()); !gone)
    log::warn("firewall rules could not be removed",
              {{"table", settings_.table_name()}, {"why", gone.error().message}});
}

}  // namespace penstock::egress
