#include <winsock2.h>

#include "test/support/readiness.h"

namespace penstock::test {

Readiness readiness_of(NativeHandle handle) {
  WSAPOLLFD asked{.fd = handle, .events = POLLIN | POLLOUT, .revents = 0};
  if (::WSAPoll(&asked, 1, 0) <= 0) return {};
  const bool broken = (asked.revents & (POLLERR | POLLHUP)) != 0;
  return {.readable = broken || (asked.revents & POLLIN) != 0, .writable = broken || (asked.revents & POLLOUT) != 0};
}

}  // namespace penstock::test
