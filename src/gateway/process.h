// `penstock server`: a gateway as a process, from its configuration to its orderly end.
//
// Start, in this order: what takes root and can be refused (certificate and key, ports, interface, state directory);
// then it becomes the user of `process` with CAP_NET_ADMIN at most, without a way back, and the system call filter is
// in force (privileges.h, seccomp.h), before there is a second thread; then what that user can do for itself (lease
// key, sessions, tokens, status socket), ready. Files that a reload will read and this user cannot are warned of then.
// A signal to stop that comes in the middle is obeyed as soon as the start is through, by the same orderly stop.
//
//   SIGTERM, SIGINT  goodbye on every link, close code 1001, sessions saved, interface gone
//   SIGHUP           certificate, tokens (auth.tokens and the issued ones), lan, internet.allow and .deny, and
//                    limits.exempt are read again; what is wrong is logged, with the commands that let this user read
//                    where that is all, and the old stays. Other settings take effect at the next start.
//
// The certificate and the issued tokens are also read again when their files change.
//
// Threads     run() uses the caller's thread for the home loop and one more for each further loop.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "config/server_config.h"

namespace penstock::gateway {

// Returns when the gateway was stopped by a signal. Refusals: whatever stood in the way of the start, and an interface
// that was taken away while running.
// `reread` reads `config_file` again.
Result<void> run_server(const ServerConfig& config, const std::string& config_file,
                        std::function<Result<ServerConfig>()> reread);

// Asked of the status socket by whoever changed the issued tokens: they are read again before the answer.
inline constexpr std::string_view kReloadTokens = "reload tokens";

// Where the tokens that `penstock profile` issues are kept.
std::string token_file_path(const ServerConfig& config);

}  // namespace penstock::gateway
