// How often the allocator is asked.
//
//   EXPECT_EQ(test::allocations_in([&] { turn(); }), 0U);
//
// For a test program that has support/allocations.cc among its sources: that replaces operator new for all that is
// linked into it. Where something is counted that should not be, a debugger shows what it was:
//
//   PENSTOCK_TRAP_ALLOCATIONS=1 gdb -ex run -ex backtrace --args x_test --gtest_filter=...
//
// Threads   any may allocate; one counts.
#pragma once

#include <cstddef>

// The sanitizers have an operator new of their own, which must not be replaced.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PENSTOCK_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PENSTOCK_SANITIZED 1
#endif
#endif

namespace penstock::test {

#ifdef PENSTOCK_SANITIZED
inline constexpr bool kAllocationsAreCounted = false;
#else
inline constexpr bool kAllocationsAreCounted = true;
#endif

void start_counting_allocations();
std::size_t stop_counting_allocations();
// For allocators beside operator new.
void count_allocation();

template <typename Work>
std::size_t allocations_in(Work work) {
  start_counting_allocations();
  work();
  return stop_counting_allocations();
}

}  // namespace penstock::test
