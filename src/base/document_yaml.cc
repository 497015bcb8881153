// YAML into a Document, from yaml-cpp's events: they tell quoted from plain, carry marks, and leave the expansion of
// aliases to us, so that ten lines of them cannot become ten million nodes.
#include <yaml-cpp/anchor.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <istream>
#include <map>
#include <streambuf>

#include "base/document_builder.h"
#include "base/utf8.h"

namespace penstock {
namespace {

// Ends the parser's run after the builder's refusal, which says why.
struct Refused {};

Position position_of(const YAML::Mark& mark) {
  if (mark.is_null()) return {.line = 1, .column = 1};
  return {.line = static_cast<std::uint32_t>(mark.line + 1), .column = static_cast<std::uint32_t>(mark.column + 1)};
}

class YamlEvents final : public YAML::EventHandler {
 public:
  explicit YamlEvents(DocumentBuilder& builder) : builder_(builder) {}

  void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    leaf(Node::Kind::null, position_of(mark), "", false, anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    // "?" is a plain scalar without a tag, "!" a quoted one.
    const bool plain = tag == "?" || tag == "tag:yaml.org,2002:int" || tag == "tag:yaml.org,2002:bool";
    if (!plain && tag != "!" && tag != "tag:yaml.org,2002:str") refuse_tag(mark);
    if (!is_utf8(as_bytes(value))) {  // the library writes these two as one byte of Latin-1
      builder_.refuse(position_of(mark), "the escapes \\N and \\_ are not read here; write \\u0085 and \\u00a0");
      throw Refused{};
    }
    leaf(Node::Kind::scalar, position_of(mark), value, !plain, anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchored_.find(anchor);
    if (found == anchored_.end()) {
      builder_.refuse(position_of(mark), "an alias of something that is not complete here");
      throw Refused{};
    }
    check(builder_.add(found->second));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    begin(Node::Kind::sequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    begin(Node::Kind::map, mark, tag, anchor);
  }
  void OnMapEnd() override { end(); }

 private:
  static void check(bool accepted) {
    if (!accepted) throw Refused{};
  }
  void refuse_tag(const YAML::Mark& mark) {
    builder_.refuse(position_of(mark), "tags such as !name have no meaning here");
    throw Refused{};
  }
  void leaf(Node::Kind kind, Position position, const std::string& text, bool quoted, YAML::anchor_t anchor) {
    Node node;
    node.kind = kind;
    node.quoted = quoted;
    node.text = text;
    node.position = position;
    check(builder_.add(std::move(node)));
    remember(anchor);
  }
  void begin(Node::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (tag != "?" && !tag.empty() && tag != "tag:yaml.org,2002:map" && tag != "tag:yaml.org,2002:seq") {
      refuse_tag(mark);
    }
    check(builder_.begin(kind, position_of(mark)));
    anchors_.push_back(anchor);
  }
  void end() {
    check(builder_.end());
    const YAML::anchor_t anchor = anchors_.back();
    anchors_.pop_back();
    remember(anchor);
  }
  // Keeps a copy of what an anchor names. The name of a key is not kept: an alias is for values.
  void remember(YAML::anchor_t anchor) {
    const Node* node = builder_.completed();
    if (anchor == YAML::NullAnchor || node == nullptr) return;
    check(builder_.charge(*node, node->position));
    anchored_[anchor] = *node;
  }

  DocumentBuilder& builder_;
  std::vector<YAML::anchor_t> anchors_;  // of the open sequences and maps
  std::map<YAML::anchor_t, Node> anchored_;
};

// Reads text where it lies, as a stream.
class ViewBuffer final : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view text) {
    // The buffer's type wants to write; nothing is ever put into this one.
    char* begin = const_cast<char*>(text.data());
    setg(begin, begin, begin + text.size());
  }
};

}  // namespace

Result<Document> parse_yaml(std::string_view text, const std::string& name) {
  PENSTOCK_TRY_VOID(refuse_unless_utf8(text, name));
  DocumentBuilder builder(name);
  YamlEvents events(builder);
  ViewBuffer buffer(text);
  std::istream stream(&buffer);
  try {
    YAML::Parser parser(stream);
    if (parser.HandleNextDocument(events) && parser.HandleNextDocument(events)) {
      return fail(ErrorCode::invalid_argument, name + ": more than one document; \"---\" may only stand at the top");
    }
  } catch (const Refused&) {
    return builder.finish();
  } catch (const YAML::Exception& error) {
    // Where the message ends in a colon and a name, that name is out of the file and may be the start of a secret.
    builder.refuse(position_of(error.mark), "not valid YAML: " + error.msg.substr(0, error.msg.find(": ")));
  }
  return builder.finish();
}

}  // namespace penstock
