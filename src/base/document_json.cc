// JSON into a Document. The library's events carry no positions, so they are counted as it takes its characters.
#include <nlohmann/json.hpp>

#include "base/document_builder.h"

namespace penstock {
namespace {

// Follows the characters that the parser takes, and knows where the token began that it is in, or has just finished.
class PositionCounter {
 public:
  void take(char c) {
    const bool continues_character = (static_cast<unsigned char>(c) & 0xC0) == 0x80;
    if (!continues_character) ++here_.column;
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
    } else if (c == '"' || c == '{' || c == '[') {
      token_ = here_;
      in_string_ = c == '"';
      in_word_ = false;
    } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',' || c == ':' || c == ']' || c == '}') {
      in_word_ = false;
    } else if (!in_word_) {
      token_ = here_;
      in_word_ = true;
    }
    if (c == '\n') here_ = {.line = here_.line + 1, .column = 0};
  }

  Position token() const { return token_; }
  Position here() const { return {.line = here_.line, .column = std::max(here_.column, 1U)}; }

 private:
  Position here_{.line = 1, .column = 0};
  Position token_{.line = 1, .column = 1};
  bool in_string_ = false;
  bool escaped_ = false;
  bool in_word_ = false;
};

// An input iterator that tells the counter each character the parser moves past.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(std::string_view::const_iterator at, PositionCounter* counter) : at_(at), counter_(counter) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    counter_->take(*at_++);
    return *this;
  }
  friend bool operator==(const CountingIterator& left, const CountingIterator& right) { return left.at_ == right.at_; }

 private:
  std::string_view::const_iterator at_;
  PositionCounter* counter_;
};

// The library's message without the text that it read last, which may be part of a secret.
std::string reason_without_content(std::string what) {
  if (const auto dash = what.find(" - "); dash != std::string::npos) what.erase(0, dash + 3);
  if (const auto read = what.find("; last read: "); read != std::string::npos) {
    const auto expected = what.rfind("; expected ");
    what.erase(read, expected == std::string::npos || expected < read ? std::string::npos : expected - read);
  }
  return "not valid JSON: " + what;
}

class JsonEvents {
 public:
  using json = nlohmann::json;

  JsonEvents(DocumentBuilder& builder, const PositionCounter& counter) : builder_(builder), counter_(counter) {}

  bool null() { return leaf(Node::Kind::null, "", false); }
  bool boolean(bool value) { return leaf(Node::Kind::scalar, value ? "true" : "false", false); }
  bool number_integer(json::number_integer_t value) { return leaf(Node::Kind::scalar, std::to_string(value), false); }
  bool number_unsigned(json::number_unsigned_t value) { return leaf(Node::Kind::scalar, std::to_string(value), false); }
  bool number_float(json::number_float_t /*value*/, const std::string& text) {
    return leaf(Node::Kind::scalar, text, false);
  }
  bool string(std::string& text) { return leaf(Node::Kind::scalar, std::move(text), true); }
  bool key(std::string& text) { return leaf(Node::Kind::scalar, std::move(text), true); }
  bool binary(json::binary_t& /*value*/) { return false; }  // not in JSON
  bool start_object(std::size_t /*size*/) { return builder_.begin(Node::Kind::map, counter_.token()); }
  bool end_object() { return builder_.end(); }
  bool start_array(std::size_t /*size*/) { return builder_.begin(Node::Kind::sequence, counter_.token()); }
  bool end_array() { return builder_.end(); }
  bool parse_error(std::size_t /*at*/, const std::string& /*last_token*/, const json::exception& error) {
    return builder_.refuse(counter_.here(), reason_without_content(error.what()));
  }

 private:
  bool leaf(Node::Kind kind, std::string text, bool quoted) {
    Node node;
    node.kind = kind;
    node.quoted = quoted;
    node.text = std::move(text);
    node.position = counter_.token();
    return builder_.add(std::move(node));
  }

  DocumentBuilder& builder_;
  const PositionCounter& counter_;
};

}  // namespace

Result<Document> parse_json(std::string_view text, const std::string& name) {
  PENSTOCK_TRY_VOID(refuse_unless_utf8(text, name));
  DocumentBuilder builder(name);
  PositionCounter counter;
  JsonEvents events(builder, counter);
  try {
    if (!nlohmann::json::sax_parse(CountingIterator(text.begin(), &counter), CountingIterator(text.end(), &counter),
                                   &events)) {
      builder.refuse(counter.here(), "not valid JSON");
    }
  } catch (const nlohmann::json::exception& error) {
    builder.refuse(counter.here(), reason_without_content(error.what()));
  }
  return builder.finish();
}

}  // namespace penstock
