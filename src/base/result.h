// What a fallible function returns, and the three kinds of error.
//
//   refusal   a Result<T> holding an Error, whose message a person can act on: it names the thing that was wrong
//             (file, line, field, address) and, where there is one, the way out.
//   drop      a packet that dies is counted by reason (router/drop.h): no Result, no log line, no allocation.
//   bug       a broken promise inside the program is PENSTOCK_ASSERT: it ends the process with file and line.
//
// Exceptions of libraries are caught at the edge where the library is called and become a refusal there.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace penstock {

// Coarse classes of refusals: what a caller may want to branch on. The words for a person are in Error::message.
enum class ErrorCode : std::uint8_t {
  invalid_argument,   // the caller, the configuration or the peer gave something that cannot be
  not_found,          // a file, an address, a device that should be there is not
  permission_denied,  // the system forbids it
  address_in_use,     // a port or an inner address that somebody holds
  exhausted,          // a pool or a limit has nothing left
  unauthenticated,    // a credential that is wrong, revoked or missing
  protocol_error,     // the peer broke a protocol
  closed,             // the other side ended the conversation
  timed_out,          // a deadline passed
  unavailable,        // cannot be had now; trying again later may help
  system_error,       // any other failure of a system call or library
};

std::string_view to_string(ErrorCode code);

struct [[nodiscard]] Error {
  ErrorCode code = ErrorCode::system_error;
  std::string message;
};

template <typename T>
using Result = std::expected<T, Error>;

// `return fail(ErrorCode::not_found, "server.tls_cert: ...");`
inline std::unexpected<Error> fail(ErrorCode code, std::string message) {
  return std::unexpected(Error{code, std::move(message)});
}

// A refusal out of errno: "<what>: <strerror>", with the code that fits. `what` names the thing, not the call.
std::unexpected<Error> fail_errno(std::string_view what, int errno_value);

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace penstock

// Always on, in release builds too: a gateway that goes on after a broken promise is worse than one that restarts.
#define PENSTOCK_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::penstock::assertion_failed(#condition, __FILE__, __LINE__))

#define PENSTOCK_CONCAT_(a, b) a##b
#define PENSTOCK_CONCAT(a, b) PENSTOCK_CONCAT_(a, b)

// PENSTOCK_TRY(auto value, function());   declares `value`, or returns the refusal to the caller.
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration cannot stand in parentheses.
#define PENSTOCK_TRY(declaration, expression)                                          \
  auto PENSTOCK_CONCAT(try_result_, __LINE__) = (expression);                          \
  if (!PENSTOCK_CONCAT(try_result_, __LINE__))                                         \
    return std::unexpected(std::move(PENSTOCK_CONCAT(try_result_, __LINE__)).error()); \
  declaration = *std::move(PENSTOCK_CONCAT(try_result_, __LINE__))
// NOLINTEND(bugprone-macro-parentheses)

// The same for a Result<void>.
#define PENSTOCK_TRY_VOID(expression)                             \
  do {                                                            \
    if (auto try_result_void = (expression); !try_result_void)    \
      return std::unexpected(std::move(try_result_void).error()); \
  } while (false)
