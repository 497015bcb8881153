// Grows a Document out of a parser's events, and keeps its bounds. For document_yaml.cc and document_json.cc only.
//
//   begin(map) add("vpn") begin(map) add("mtu") add("1420") end() end()
//
// In a map the additions are in turn key and value. The first refusal is kept and everything after it answers false.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/document.h"

namespace penstock {

// The libraries let some of it pass, each in its own way. invalid_argument with "NAME:LINE:COLUMN: ...".
Result<void> refuse_unless_utf8(std::string_view text, const std::string& name);

class DocumentBuilder {
 public:
  static constexpr std::size_t kMaxDepth = 32;
  static constexpr std::size_t kMaxNodes = 100'000;
  static constexpr std::size_t kMaxBytes = std::size_t{4} << 20;

  explicit DocumentBuilder(std::string name) { document_.sources.push_back(std::move(name)); }

  bool begin(Node::Kind kind, Position position);
  bool end();
  // A leaf, or a whole subtree that an alias stands for.
  bool add(Node node);
  // Counts nodes that are held beside the document, so that copies kept for aliases cannot exceed the bound either.
  bool charge(const Node& copy, Position position);

  // What the last add() or end() completed; null right after a key, since that is no node. Valid until the next call.
  const Node* completed() const { return completed_; }
  // "NAME:LINE:COLUMN: reason" becomes the refusal, unless there is one already. Always false.
  bool refuse(Position position, std::string_view reason);

  // The document, once every begin() has its end().
  Result<Document> finish();

 private:
  struct Frame {
    Node node;
    std::optional<Node> key;               // of a map: read, and waiting for its value
    std::unordered_set<std::string> keys;  // of a map
  };

  bool count(std::size_t nodes, std::size_t levels, Position position);
  bool add_key(Frame& map, Node key);
  bool place(Node node);

  Document document_;
  std::vector<Frame> open_;
  const Node* completed_ = nullptr;
  std::size_t nodes_ = 0;
  std::optional<Error> refusal_;
};

}  // namespace penstock
