// A configuration as a tree of maps, sequences and scalars that knows where each of them was written.
//
// YAML and JSON files become the same tree, so one reader (config_reader.h) serves both, and every message can name
// file, line and column. A scalar keeps the text that was written and whether it was quoted; what it means (a number, a
// duration, "off") is for the reader to say. Maps keep the order of the file.
//
// Always true   at most 32 levels, 100,000 nodes and 4 MiB, aliases of YAML counted as often as they are expanded; no
//               map has one key twice; keys are plain text; all text is valid UTF-8 (document_test.cc,
//               document_yaml_test.cc).
// Refusals      invalid_argument with "FILE:LINE:COLUMN: ..."; reading a file also not_found,
//               permission_denied, exhausted. No message quotes a value, since the value may be a secret.
// Ownership     values: a Node owns what is below it, a Document its root.
// Threads       any; nothing is shared.
// Not here      typed values and unknown keys (config_reader.h), durations and sizes (units.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace penstock {

// Lines and columns count from 1, columns in characters. Line 0: not written anywhere.
struct Position {
  std::uint32_t line = 0;
  std::uint32_t column = 0;
  std::uint32_t source = 0;  // an index into Document::sources
  friend auto operator<=>(const Position&, const Position&) = default;
};

struct Node {
  enum class Kind : std::uint8_t { null, scalar, sequence, map };

  Kind kind = Kind::null;
  bool quoted = false;         // a scalar in quotes, a block of text, or a JSON string: text beyond doubt
  std::string text;            // of a scalar
  Position position;           // where it begins
  std::string key;             // of a child of a map
  Position key_position;       // of a child of a map
  std::vector<Node> children;  // of a sequence or a map

  bool is_null() const { return kind == Kind::null; }
  bool is_scalar() const { return kind == Kind::scalar; }
  bool is_sequence() const { return kind == Kind::sequence; }
  bool is_map() const { return kind == Kind::map; }
  // The child of that key, or null.
  const Node* find(std::string_view name) const;
  Node* find(std::string_view name);
};

struct Document {
  Node root;                         // a map, or null for an empty file
  std::vector<std::string> sources;  // [0] is the file; the rest are "--set section.key"

  // "server.yaml:7:3", or "--set vpn.subnet", or only the file's name for something that was not written.
  std::string describe(const Position& position) const;
};

// As the name ends: ".json" is JSON, everything else YAML (which may hold JSON too).
Result<Document> read_document(const std::filesystem::path& file);
Result<Document> parse_document(std::string_view text, const std::string& file_name);

// `name` stands in the messages in front of line and column. A build without yaml-cpp refuses every YAML text.
Result<Document> parse_yaml(std::string_view text, const std::string& name);
Result<Document> parse_json(std::string_view text, const std::string& name);

// Puts one "section.key=value" of the command line in place of what the document has there, and makes the sections on
// the way. The value is a list, map or quoted string where it reads as one, else the text as it stands; nothing after
// the "=" is null, which takes the default back.
Result<void> apply_override(Document& document, std::string_view assignment);

}  // namespace penstock
