// What every file over Windows' own calls needs: its texts are UTF-16 where ours are UTF-8, its errors are numbers.
//
// Threads     pure functions; any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace penstock {

// What is not UTF-8, or not UTF-16, becomes U+FFFD: a path with it names no file.
std::wstring to_wide(std::string_view utf8);
std::string to_utf8(std::wstring_view wide);

// A refusal out of GetLastError() and its kin: "<what>: <the system's words>", with the code that fits. As
// fail_errno().
std::unexpected<Error> fail_windows(std::string_view what, unsigned long error);

}  // namespace penstock
