// A 32-byte secret key that lives in a file, made when there is none yet.
//
// The file holds the key as 64 hexadecimal digits and a newline, mode 0600.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/random.h"
#include "base/result.h"

namespace penstock::auth {

// Refusals name the file and the way out: one that others may read (permission_denied), one that holds no key
// (invalid_argument), one that cannot be read or made. A file that is there is never overwritten.
Result<std::array<std::uint8_t, 32>> load_or_create_key(const std::string& path, Random& random);

}  // namespace penstock::auth
