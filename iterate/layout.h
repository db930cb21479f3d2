// How a row of symbols becomes the `length` tokens of a sequence: packing and marks.
//
// With marks, a sequence is
//
//   [begin]  content ... [separator]  content ... [separator]  ...  [end]
//
// begin and end take one token each. A separator follows every run of `separator_every` tokens of content. So of the B
// tokens between begin and end, floor(B / (separator_every + 1)) are separators and the rest is content; the last
// separator may come right before the end. `length` counts all tokens: it is what a trainer sees.
//
// A token of content is `pack` symbols: its digits in base alphabet_size, the first the most significant. Programs
// therefore write rows of exactly  content x pack  symbols. A relabelling is an injection of the packed tokens (not of
// the symbols) into the vocabulary below the marks; without one a packed token is its number.
//
// Vocabulary: the marks in use are its last tokens, in the order begin, end, separator; content is below them.
//
// Mask (Recipe.loss_mask): a token of content is to be predicted if all of its symbols are (Program::MarkTargets); a
// separator or an end mark is if the token before it is; a begin mark never is.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "randnet/block.h"

namespace iterand {

class SequenceLayout {
 public:
  static constexpr std::uint64_t kMaxRelabelled = 65536;  // values that a relabelling can map

  // Both take a recipe whose fields are within the ranges of the schema.
  //
  // Writes the default of alphabet_size, and removes marks that are not in use, so that equal streams have equal
  // resolved recipes.
  static void ComputeDefaults(v1::Recipe& recipe);
  // Checks length, vocab_size, alphabet_size, pack, marks and relabel together. Errors: InvalidArgument with the path
  // of the field, its value and what is allowed.
  static absl::StatusOr<SequenceLayout> Make(const v1::Recipe& recipe);

  int length() const { return length_; }                    // tokens of a sequence
  int content() const { return content_; }                  // of them made of symbols
  int symbols() const { return symbols_; }                  // of a row, which programs write: content x pack
  bool plain() const { return plain_; }                     // a token is a symbol: no marks, no packing
  std::uint64_t content_values() const { return values_; }  // packed tokens are below it: alphabet_size ^ pack
  std::uint64_t content_vocabulary() const { return content_vocabulary_; }  // tokens that no mark uses

  // Packed token i of a row.
  std::uint32_t Packed(const Symbol* row, int i) const {
    std::uint32_t value = 0;
    const Symbol* symbols = row + std::ptrdiff_t{i} * pack_;
    for (int j = 0; j < pack_; ++j) {
      value = value * alphabet_ + symbols[j];
    }
    return value;
  }

  // Whether all symbols of packed token i are marked.
  bool PackedMask(const std::uint8_t* mask, int i) const {
    const std::uint8_t* symbols = mask + std::ptrdiff_t{i} * pack_;
    for (int j = 0; j < pack_; ++j) {
      if (symbols[j] == 0) return false;
    }
    return true;
  }

  // Walks over a sequence's tokens in order: content(at, i) for token `at` that is content token i, mark(at, token) for
  // one that is a mark.
  template <typename Content, typename Mark>
  void Walk(const Content& content, const Mark& mark) const {
    int at = 0;
    if (begin_) mark(at++, begin_token_);
    const int end = length_ - (end_ ? 1 : 0);
    for (int i = 0, run = 0; at < end; ++at) {
      if (separator_every_ > 0 && run == separator_every_) {
        mark(at, separator_token_);
        run = 0;
      } else {
        content(at, i++);
        ++run;
      }
    }
    if (end_) mark(at, end_token_);
  }

 private:
  explicit SequenceLayout(const v1::Recipe& checked);

  int length_;
  int pack_;
  std::uint32_t alphabet_;
  bool begin_;
  bool end_;
  int separator_every_;
  int content_;
  int symbols_;
  bool plain_;
  std::uint64_t values_;
  std::uint64_t content_vocabulary_;
  std::uint32_t begin_token_ = 0;
  std::uint32_t end_token_ = 0;
  std::uint32_t separator_token_ = 0;
};

}  // namespace iterand
