// A directory of its own for each test of atomic_file.h, on any system.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <iterator>
#include <string>

#include "base/atomic_file.h"
#include "base/random.h"

namespace penstock {

class AtomicFile : public ::testing::Test {
 protected:
  AtomicFile() {
    SystemRandom random;
    directory_ = ::testing::TempDir() + "penstock-atomic-file-" + std::to_string(random.next64());
    std::filesystem::create_directory(directory_);
  }
  ~AtomicFile() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory_), {}));
  }
  std::string directory_;
};

}  // namespace penstock
