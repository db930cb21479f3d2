#include "iterate/layout.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "iterate/limits.h"
#include "randnet/check.h"
#include "randnet/enum_name.h"

namespace iterand {
namespace {

std::int64_t PackOf(const v1::Recipe& recipe) { return recipe.has_pack() ? recipe.pack() : 1; }

int MarksOf(const v1::Recipe& recipe) {
  const v1::Marks& marks = recipe.marks();
  return (marks.begin() ? 1 : 0) + (marks.end() ? 1 : 0) + (marks.separator_every() > 0 ? 1 : 0);
}

// base ^ exponent, or some larger number than any vocabulary if it is. The base is at most 65 536.
std::int64_t Power(std::int64_t base, std::int64_t exponent) {
  constexpr std::int64_t kMaxVocabulary = std::int64_t{1} << 32;
  std::int64_t power = 1;
  for (std::int64_t i = 0; i < exponent && power <= kMaxVocabulary; ++i) power *= base;
  return power;
}

// The largest base up to `most` whose power fits `limit`; below 2 if none does.
std::int64_t LargestBase(std::int64_t exponent, std::int64_t limit, std::int64_t most) {
  if (exponent == 1) return std::min(limit, most);
  std::int64_t base = 1;
  while (base < most && Power(base + 1, exponent) <= limit) ++base;
  return base;
}

// Tokens of content in a sequence.
std::int64_t ContentOf(const v1::Recipe& recipe) {
  const v1::Marks& marks = recipe.marks();
  const std::int64_t body = recipe.length() - (marks.begin() ? 1 : 0) - (marks.end() ? 1 : 0);
  const std::int64_t every = marks.separator_every();
  return every > 0 ? body - body / (every + 1) : body;
}

}  // namespace

void SequenceLayout::ComputeDefaults(v1::Recipe& recipe) {
  if (recipe.has_marks() && recipe.marks().ByteSizeLong() == 0) recipe.clear_marks();
  if (recipe.has_alphabet_size()) return;
  recipe.set_alphabet_size(LargestBase(PackOf(recipe), recipe.vocab_size() - MarksOf(recipe), 256));
}

absl::StatusOr<SequenceLayout> SequenceLayout::Make(const v1::Recipe& recipe) {
  const std::int64_t pack = PackOf(recipe);
  const int mark_count = MarksOf(recipe);
  const std::int64_t free = recipe.vocab_size() - mark_count;
  if (Power(2, pack) > free) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocab_size: is ", recipe.vocab_size(), ", must be at least ", Power(2, pack) + mark_count,
                     " for ", mark_count, " marks and tokens of ", pack, " symbols, of which there are at least two"));
  }
  const std::int64_t most = LargestBase(pack, free, kMaxAlphabet);
  const std::string why = mark_count == 0 && pack == 1
                              ? ", no more than vocab_size"
                              : absl::StrCat(", so that alphabet_size ^ ", pack, " tokens and ", mark_count,
                                             " marks fit vocab_size ", recipe.vocab_size());
  if (absl::Status s = CheckRange("alphabet_size", recipe.alphabet_size(), 2, most, why); !s.ok()) return s;
  const std::int64_t symbols = ContentOf(recipe) * pack;
  if (symbols < kMinRow || symbols > kMaxRow) {
    return absl::InvalidArgumentError(absl::StrCat(symbols < kMinRow ? "length" : "pack", ": is ",
                                                   symbols < kMinRow ? recipe.length() : pack, ", which makes rows of ",
                                                   symbols, " symbols (", ContentOf(recipe), " tokens beside marks x ",
                                                   pack, " symbols); a row must have ", kMinRow, " to ", kMaxRow));
  }
  const auto values = static_cast<std::uint64_t>(Power(recipe.alphabet_size(), pack));
  if (recipe.relabel() != v1::Recipe::RELABEL_NONE && values > kMaxRelabelled) {
    return absl::InvalidArgumentError(
        absl::StrCat("relabel: is ", EnumName(*v1::Recipe::Relabel_descriptor()->FindValueByNumber(recipe.relabel())),
                     ", but ", pack, " symbols of ", recipe.alphabet_size(), " make ", values, " tokens, and at most ",
                     kMaxRelabelled, " can be relabelled"));
  }
  if (recipe.relabel() == v1::Recipe::RELABEL_PROGRAM && recipe.has_pool()) {
    return absl::InvalidArgumentError(
        "relabel: is program, but a round of a pool emits rows of many programs; use sequence, or a chain");
  }
  return SequenceLayout(recipe);
}

SequenceLayout::SequenceLayout(const v1::Recipe& checked)
    : length_(static_cast<int>(checked.length())),
      pack_(static_cast<int>(PackOf(checked))),
      alphabet_(static_cast<std::uint32_t>(checked.alphabet_size())),
      begin_(checked.marks().begin()),
      end_(checked.marks().end()),
      separator_every_(static_cast<int>(checked.marks().separator_every())),
      content_(static_cast<int>(ContentOf(checked))),
      symbols_(content_ * pack_),
      plain_(pack_ == 1 && content_ == length_),
      values_(static_cast<std::uint64_t>(Power(checked.alphabet_size(), pack_))),
      content_vocabulary_(static_cast<std::uint64_t>(checked.vocab_size() - MarksOf(checked))) {
  auto token = static_cast<std::uint32_t>(content_vocabulary_);
  if (begin_) begin_token_ = token++;
  if (end_) end_token_ = token++;
  if (separator_every_ > 0) separator_token_ = token;
}

}  // namespace iterand
