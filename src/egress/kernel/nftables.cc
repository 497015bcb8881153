#include "egress/kernel/nftables.h"

#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace penstock::egress {
namespace {

// The first line tells what it is; the others quote the script.
std::string first_line(std::string text) {
  text.resize(std::min(text.find('\n'), text.size()));
  return text;
}

}  // namespace

Result<std::unique_ptr<Nftables>> Nftables::create() {
  // libnftables ends the process where it has no socket.
  const int probe = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (probe < 0) {
    const int error = errno;
    return fail(ErrorCode::unavailable, "the kernel has no nftables (netfilter socket: " +
                                            std::string(std::strerror(error)) + "); load it with: modprobe nf_tables");
  }
  ::close(probe);
  nft_ctx* const context = ::nft_ctx_new(NFT_CTX_DEFAULT);
  if (context == nullptr) return fail(ErrorCode::system_error, "nftables: out of memory");
  std::unique_ptr<Nftables> made(new Nftables(context));
  if (::nft_ctx_buffer_output(context) != 0 || ::nft_ctx_buffer_error(context) != 0)
    return fail(ErrorCode::system_error, "nftables: out of memory");
  return made;
}

Nftables::~Nftables() { ::nft_ctx_free(context_); }

Result<std::string> Nftables::run(const std::string& script) {
  const int result = ::nft_run_cmd_from_buffer(context_, script.c_str());
  // Both are read, for that empties them.
  std::string output = ::nft_ctx_get_output_buffer(context_);
  const std::string error = ::nft_ctx_get_error_buffer(context_);
  if (result == 0) return output;
  const auto says = [&](int number) { return error.find(std::strerror(number)) != std::string::npos; };
  if (says(EPERM) || says(EACCES)) return fail(ErrorCode::permission_denied, "nftables: " + first_line(error));
  if (says(EPROTONOSUPPORT) || says(EAFNOSUPPORT) || says(EOPNOTSUPP))
    return fail(ErrorCode::unavailable, "nftables: " + first_line(error));
  return fail(ErrorCode::system_error, "nftables: " + first_line(error));
}

Result<std::string> Nftables::run_for_json(const std::string& script) {
  const unsigned before = ::nft_ctx_output_get_flags(context_);
  ::nft_ctx_output_set_flags(context_, before | NFT_CTX_OUTPUT_JSON);
  auto result = run(script);
  ::nft_ctx_output_set_flags(context_, before);
  return result;
}

}  // namespace penstock::egress
