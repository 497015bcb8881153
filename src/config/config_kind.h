// Which of the two configurations a file is meant to be, however much is wrong with it.
//
// The keys tell: each one given that only a gateway's or only a client's configuration has is a vote, and so is each
// section ("session", "reconnect"). Where the votes are equal, the kind with fewer mistakes is meant; then a gateway's.
//
// Threads     any.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/document.h"

namespace penstock {

enum class ConfigKind : std::uint8_t { server, client };

// A file that cannot be read counts as a gateway's: whoever loads it as one has the reason.
ConfigKind kind_of_config(const std::filesystem::path& file, std::span<const std::string> overrides = {});

// The votes alone: above zero for a gateway's, below for a client's.
int votes_for_server(const Document& document);

}  // namespace penstock
