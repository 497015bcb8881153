// windows.h first: bcrypt.h counts on it.
#include <windows.h>
//
#include <bcrypt.h>

#include <limits>

#include "base/random.h"
#include "base/result.h"

namespace penstock {

void SystemRandom::fill(MutableByteView out) {
  PENSTOCK_ASSERT(out.size() <= std::numeric_limits<ULONG>::max());
  PENSTOCK_ASSERT(
      ::BCryptGenRandom(nullptr, out.data(), static_cast<ULONG>(out.size()), BCRYPT_USE_SYSTEM_PREFERRED_RNG) == 0);
}

}  // namespace penstock
