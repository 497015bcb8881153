#include <openssl/rand.h>

#include <climits>

#include "base/random.h"
#include "base/result.h"

namespace penstock {

void SystemRandom::fill(MutableByteView out) {
  PENSTOCK_ASSERT(out.size() <= INT_MAX);
  PENSTOCK_ASSERT(RAND_bytes(out.data(), static_cast<int>(out.size())) == 1);
}

}  // namespace penstock
