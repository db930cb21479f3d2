#include "randnet/machines/eca.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

constexpr int kMaxTable = 65536;
constexpr int kMaxRadius = 3;  // the schema's
constexpr int kMinWidth = 8;   // the schema's: a ring no shorter than the largest neighbourhood
constexpr int kWordBits = 64;

using Word = std::uint64_t;

struct EcaKnobs {
  IntegerKnob states;
  IntegerKnob radius;
  IntegerKnob width;
  RealKnob lambda;
  IntegerKnob rule;
  IntegerKnob warm_up;
  v1::Eca::Initial initial;
};

// The eight bits of a byte as eight symbols.
constexpr auto MakeByteSymbols() {
  std::array<std::array<Symbol, 8>, 256> table{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (unsigned bit = 0; bit < 8; ++bit) table[byte][bit] = static_cast<Symbol>(byte >> bit & 1U);
  }
  return table;
}
constexpr auto kByteSymbols = MakeByteSymbols();

// Two states, 64 cells per word: the table is a Boolean function of 2 r + 1 words, one per neighbour, evaluated as a
// tree of selections. Each selection is a xor (v and (a xor b)); the first level selects between constants.
template <int kRadius>
struct BitRule {
  static constexpr int kInputs = 2 * kRadius + 1;
  static constexpr int kLeaves = 1 << (kInputs - 1);

  explicit BitRule(const std::uint8_t* table) {
    for (int m = 0; m < kLeaves; ++m) {
      zero[m] = table[m] != 0 ? ~Word{0} : 0;
      flip[m] = zero[m] ^ (table[m + kLeaves] != 0 ? ~Word{0} : 0);
    }
  }

  // neighbour[0] is the leftmost cell, the most significant digit of the neighbourhood.
  Word Evaluate(const Word* neighbour) const {
    Word value[kLeaves];
    for (int m = 0; m < kLeaves; ++m) value[m] = zero[m] ^ (neighbour[0] & flip[m]);
    for (int level = 1, half = kLeaves / 2; half > 0; ++level, half /= 2) {
      for (int m = 0; m < half; ++m) value[m] ^= neighbour[level] & (value[m] ^ value[m + half]);
    }
    return value[0];
  }

  Word zero[kLeaves];
  Word flip[kLeaves];
};

// The ring of a width that was drawn is no wider than a row.
int Width(int drawn, const FamilyContext& context) { return std::min(drawn, std::max(context.length, kMinWidth)); }

class EcaProgram final : public Program {
 public:
  EcaProgram(const EcaKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {
    table_.reserve(kMaxTable);
    words_.resize(kMaxTable);
    const auto cells = static_cast<std::size_t>(Width(knobs.width.high(), context));
    cells_.resize(cells + 2 * kMaxRadius);
    index_.resize(cells);
    bits_.resize(cells / kWordBits + 4);
    next_bits_.resize(bits_.size());
  }

  void Sample(Rng& rng) override {
    states_ = std::min(knobs_.states.Draw(rng), context_.alphabet);
    radius_ = knobs_.radius.Draw(rng);
    width_ = Width(knobs_.width.Draw(rng), context_);
    lambda_ = knobs_.lambda.Draw(rng);
    rule_ = knobs_.rule.Draw(rng);
    warm_up_ = knobs_.warm_up.Draw(rng);
    while (TableSize() > kMaxTable) --radius_;
    const auto size = static_cast<std::size_t>(TableSize());
    table_.resize(size);
    if (rule_ >= 0) {
      std::int64_t digits = rule_;
      for (std::uint8_t& entry : table_) {
        entry = static_cast<std::uint8_t>(digits % states_);
        digits /= states_;
      }
      return;
    }
    // One word per entry: the high half says whether it is zero, the low half which other state it is.
    rng.Fill({words_.data(), size});
    const auto threshold = static_cast<std::uint32_t>(lambda_ * 0x1.0p16F);
    for (std::size_t i = 0; i < size; ++i) {
      const std::uint32_t state = 1 + (((words_[i] & 0xFFFF) * static_cast<std::uint32_t>(states_ - 1)) >> 16);
      table_[i] = static_cast<std::uint8_t>((words_[i] >> 16) < threshold ? state : 0);
    }
  }

  void Run(BlockView input, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    for (int r = 0; r < out.rows(); ++r) {
      Symbol* cells = cells_.data() + kMaxRadius;
      switch (knobs_.initial) {
        case v1::Eca::RANDOM: {
          Rng row_rng = rng.ForRow(r);
          for (int i = 0; i < width_; ++i) {
            cells[i] = static_cast<Symbol>(row_rng.Below(static_cast<std::uint32_t>(states_)));
          }
          break;
        }
        case v1::Eca::SINGLE:
          std::fill_n(cells, width_, Symbol{0});
          cells[width_ / 2] = 1;
          break;
        default: {
          // A ring is never wider than a row, except where rows are shorter than the narrowest ring.
          const int given = std::min(width_, input.length());
          for (int i = 0; i < given; ++i) cells[i] = static_cast<Symbol>(input.row(r)[i] % states_);
          std::fill(cells + given, cells + width_, Symbol{0});
        }
      }
      if (states_ == 2) {
        switch (radius_) {
          case 1:
            RunBits<1>(out.row(r), out.length());
            break;
          case 2:
            RunBits<2>(out.row(r), out.length());
            break;
          default:
            RunBits<3>(out.row(r), out.length());
        }
      } else {
        switch (radius_) {
          case 1:
            RunTable<1>(out.row(r), out.length());
            break;
          case 2:
            RunTable<2>(out.row(r), out.length());
            break;
          default:
            RunTable<3>(out.row(r), out.length());
        }
      }
    }
  }

  std::string Describe() const override {
    std::string text = absl::StrCat("states=", states_, " radius=", radius_, " width=", width_, " warm_up=", warm_up_);
    if (rule_ >= 0) return absl::StrCat(text, " rule=", rule_);
    absl::StrAppend(&text, " lambda=", lambda_);
    // The table as digits, neighbourhood 0 first, where it is short.
    if (states_ <= 10 && table_.size() <= 128) {
      absl::StrAppend(&text, " table=");
      for (const std::uint8_t entry : table_) text.push_back(static_cast<char>('0' + entry));
    }
    return text;
  }

 private:
  std::int64_t TableSize() const {
    std::int64_t size = 1;
    for (int i = 0; i < 2 * radius_ + 1; ++i) size *= states_;
    return size;
  }

  // Bits of `bits_`: words 1 .. n hold the cells, cell i at bit i mod 64 of word 1 + i / 64. The ring continues on
  // either side: the high bits of word 0 hold the last r cells, and the bits after the last cell hold the first r
  // cells.
  void Wrap(std::vector<Word>& bits) const {
    const Word mask = (Word{1} << radius_) - 1;
    const Word first = bits[1] & mask;
    const int from = width_ - radius_;
    const std::size_t low = 1 + static_cast<std::size_t>(from / kWordBits);
    const int shift = from % kWordBits;
    Word last = bits[low] >> shift;
    if (shift + radius_ > kWordBits) last |= bits[low + 1] << (kWordBits - shift);
    bits[0] = (last & mask) << (kWordBits - radius_);
    const std::size_t end = 1 + static_cast<std::size_t>(width_ / kWordBits);
    const int used = width_ % kWordBits;
    if (used == 0) {
      bits[end] = first;
      return;
    }
    bits[end] = (bits[end] & ((Word{1} << used) - 1)) | first << used;
    bits[end + 1] = used + radius_ > kWordBits ? first >> (kWordBits - used) : 0;
  }

  template <int kRadius>
  void RunBits(Symbol* out, int length) {
    const BitRule<kRadius> rule(table_.data());
    const Symbol* cells = cells_.data() + kMaxRadius;
    std::fill(bits_.begin(), bits_.end(), 0);
    for (int i = 0; i < width_; ++i) {
      bits_[static_cast<std::size_t>(1 + i / kWordBits)] |= static_cast<Word>(cells[i]) << (i % kWordBits);
    }
    const auto count = static_cast<std::size_t>((width_ + kWordBits - 1) / kWordBits);
    Wrap(bits_);
    for (int generation = 0, t = 0; t < length && !stopped(); ++generation) {
      if (generation >= warm_up_) {
        WriteBits(out + t, std::min(width_, length - t), length - t);
        t += width_;
      }
      for (std::size_t w = 1; w <= count; ++w) {
        Word neighbour[2 * kRadius + 1];
        for (int d = 1; d <= kRadius; ++d) {
          neighbour[kRadius - d] = bits_[w] << d | bits_[w - 1] >> (kWordBits - d);
          neighbour[kRadius + d] = bits_[w] >> d | bits_[w + 1] << (kWordBits - d);
        }
        neighbour[kRadius] = bits_[w];
        next_bits_[w] = rule.Evaluate(neighbour);
      }
      std::swap(bits_, next_bits_);
      Wrap(bits_);
    }
  }

  // Writes `count` cells as symbols; up to `room` symbols may be overwritten.
  void WriteBits(Symbol* out, int count, int room) const {
    const Word* words = bits_.data() + 1;
    int i = 0;
    for (; i < count && i + 8 <= room; i += 8) {
      const auto byte = static_cast<std::uint8_t>(words[i / kWordBits] >> (i % kWordBits));
      std::memcpy(out + i, kByteSymbols[byte].data(), sizeof(kByteSymbols[byte]));
    }
    for (; i < count; ++i) out[i] = static_cast<Symbol>(words[i / kWordBits] >> (i % kWordBits) & 1U);
  }

  template <int kRadius>
  void RunTable(Symbol* out, int length) {
    Symbol* cells = cells_.data() + kMaxRadius;
    const auto states = static_cast<std::uint16_t>(states_);
    for (int generation = 0, t = 0; t < length && !stopped(); ++generation) {
      if (generation >= warm_up_) {
        std::copy_n(cells, std::min(width_, length - t), out + t);
        t += width_;
      }
      for (int d = 1; d <= kRadius; ++d) {
        cells[-d] = cells[width_ - d];
        cells[width_ + d - 1] = cells[d - 1];
      }
      // The neighbourhoods of all cells first, which vectorises, then the look-ups.
      std::uint16_t* index = index_.data();
      for (int i = 0; i < width_; ++i) {
        std::uint16_t neighbourhood = cells[i - kRadius];
        for (int d = 1 - kRadius; d <= kRadius; ++d) {
          neighbourhood = static_cast<std::uint16_t>(neighbourhood * states + cells[i + d]);
        }
        index[i] = neighbourhood;
      }
      for (int i = 0; i < width_; ++i) cells[i] = table_[index[i]];
    }
  }

  const EcaKnobs& knobs_;
  FamilyContext context_;
  int states_ = 2;
  int radius_ = 1;
  int width_ = 64;
  int rule_ = -1;
  int warm_up_ = 0;
  float lambda_ = 0;
  std::vector<std::uint8_t> table_;  // next state of each neighbourhood
  std::vector<std::uint32_t> words_;
  std::vector<Symbol> cells_;         // kMaxRadius cells of the ring's other end on either side
  std::vector<std::uint16_t> index_;  // neighbourhood of each cell
  std::vector<Word> bits_;
  std::vector<Word> next_bits_;
};

class EcaFamily final : public Family {
 public:
  EcaFamily(EcaKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return knobs_.initial == v1::Eca::INPUT; }
  double most_seconds(int rows) const override {
    // However narrow the ring, a generation takes its time.
    const double widest = Width(knobs_.width.high(), context_);
    const double narrowest = Width(knobs_.width.low(), context_);
    const double warm_up = knobs_.warm_up.high();
    const double generations = warm_up + context_.length / narrowest + 1;
    const double cells = warm_up * widest + context_.length + widest;
    double table = 1;
    for (int i = 0; i < 2 * knobs_.radius.high() + 1; ++i) table *= knobs_.states.high();
    return cost::kSymbol * std::min<double>(table, kMaxTable) +
           rows * (10 * cost::kSymbol * generations + cost::kSymbol / 2 * cells);
  }
  double program_bytes(int /*rows*/) const override {
    return 2048.0 + 5.0 * kMaxTable + 5.0 * Width(knobs_.width.high(), context_);
  }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<EcaProgram>(knobs_, context_);
  }

 private:
  EcaKnobs knobs_;
  FamilyContext context_;
};

// The largest number of a rule, or the largest int if that is smaller.
std::int64_t LargestRule(int states, int radius) {
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  std::int64_t digits = 1;
  for (int i = 0; i < 2 * radius + 1; ++i) digits *= states;
  std::int64_t rules = 1;
  for (std::int64_t i = 0; i < digits && rules <= kMax; ++i) rules *= states;
  return std::min(rules - 1, kMax);
}

// A number is a rule of one number of states and one radius.
absl::Status CheckRule(const EcaKnobs& knobs, const FamilyContext& context, const std::string& path) {
  const auto& [states, radius, rule] = std::tie(knobs.states, knobs.radius, knobs.rule);
  if (rule.high() < 0) return absl::OkStatus();
  if (states.low() != states.high() || radius.low() != radius.high()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ".rule: is up to ", rule.high(), ", but states go from ", states.low(), " to ",
                     states.high(), " and radius from ", radius.low(), " to ", radius.high(),
                     "; a number is a rule only for one of each: set both, such as states 2 and radius 1, or leave "
                     "rule out"));
  }
  const int lowest = std::min(states.low(), context.alphabet);
  const std::int64_t most = LargestRule(lowest, radius.low());
  if (rule.high() <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ".rule: is up to ", rule.high(), ", must be in [-1, ", most,
                                                 "] for ", lowest, " states and radius ", radius.low()));
}

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::Eca& config = family.eca();
  EcaKnobs knobs{.states = IntegerKnob(config.states()),
                 .radius = IntegerKnob(config.radius()),
                 .width = IntegerKnob(config.width()),
                 .lambda = RealKnob(config.lambda()),
                 .rule = IntegerKnob(config.rule()),
                 .warm_up = IntegerKnob(config.warm_up()),
                 .initial = config.initial()};
  if (absl::Status s = CheckRule(knobs, context, path); !s.ok()) return s;
  return std::make_unique<EcaFamily>(std::move(knobs), context);
}

}  // namespace

const FamilyEntry kEcaEntry = {v1::Family::kEca, "eca",
                               "one-dimensional cellular automaton with a random rule, space-time rows", Make};

}  // namespace iterand
