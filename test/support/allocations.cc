#include "test/support/allocations.h"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <new>

namespace penstock::test {
namespace {

std::atomic<std::size_t> allocations{0};
std::atomic<bool> counting{false};

}  // namespace

void start_counting_allocations() {
  allocations = 0;
  counting = true;
}

std::size_t stop_counting_allocations() {
  counting = false;
  return allocations;
}

void count_allocation() {
  if (!counting) return;
  ++allocations;
  if (std::getenv("PENSTOCK_TRAP_ALLOCATIONS") != nullptr) std::raise(SIGTRAP);
}

}  // namespace penstock::test

#ifndef PENSTOCK_SANITIZED
// All other forms, of arrays and those that do not throw, end in one of these two.
void* operator new(std::size_t size) {
  penstock::test::count_allocation();
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  penstock::test::count_allocation();
  const auto aligned = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(aligned, (size + aligned - 1) / aligned * aligned)) return memory;
  throw std::bad_alloc();
}
// The analyzer takes the allocator itself for one of its users.
// NOLINTBEGIN(clang-analyzer-cplusplus.NewDelete)
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
// NOLINTEND(clang-analyzer-cplusplus.NewDelete)
#endif
