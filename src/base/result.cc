#include "base/result.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>

namespace penstock {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument: return "invalid_argument";
    case ErrorCode::not_found: return "not_found";
    case ErrorCode::permission_denied: return "permission_denied";
    case ErrorCode::address_in_use: return "address_in_use";
    case ErrorCode::exhausted: return "exhausted";
    case ErrorCode::unauthenticated: return "unauthenticated";
    case ErrorCode::protocol_error: return "protocol_error";
    case ErrorCode::closed: return "closed";
    case ErrorCode::timed_out: return "timed_out";
    case ErrorCode::unavailable: return "unavailable";
    case ErrorCode::system_error: return "system_error";
  }
  return "unknown";
}

namespace {

ErrorCode code_of_errno(int value) {
  switch (value) {
    case EINVAL: return ErrorCode::invalid_argument;
    case ENOENT:
    case ENODEV:
    case ENXIO: return ErrorCode::not_found;
    case EACCES:
    case EPERM: return ErrorCode::permission_denied;
    case EADDRINUSE:
    case EEXIST:
    case EBUSY: return ErrorCode::address_in_use;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOSPC: return ErrorCode::exhausted;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED: return ErrorCode::closed;
    case ETIMEDOUT: return ErrorCode::timed_out;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL: return ErrorCode::unavailable;
    default: return ErrorCode::system_error;
  }
}

}  // namespace

std::unexpected<Error> fail_errno(std::string_view what, int errno_value) {
  std::string message(what);
  message += ": ";
  message += std::generic_category().message(errno_value);
  return fail(code_of_errno(errno_value), std::move(message));
}

void assertion_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "penstock: bug: %s is not true (%s:%d)\n", condition, file, line);
  std::abort();
}

}  // namespace penstock
