// Whether this was built with a sanitizer, whose threads and system calls are not ours to forbid.
#pragma once

namespace penstock::gateway {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define PENSTOCK_SANITIZED_ 1
#endif
#endif
#if defined(PENSTOCK_SANITIZED_) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace penstock::gateway
