#include "randnet/machines/brainphoque.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "randnet/base/pcg.h"
#include "randnet/knob.h"
#include "randnet/machines/stepped_program.h"

namespace iterand {
namespace {

constexpr int kMaxRowSteps = 1 << 22;  // of all attempts
// Programs run side by side: each step waits for the one before it, so one program alone leaves most of a core idle.
constexpr int kLanes = 8;

// From a place to the one after it, to the one after a loop, into a loop's body.
constexpr std::uint64_t kLinkConstant[] = {0x9E3779B97F4A7C15U, 0xBF58476D1CE4E5B9U, 0x94D049BB133111EBU};

constexpr Symbol kNothing = 0;  // what programs without `,` do not read

constexpr std::uint8_t kOpen = 4;
constexpr std::uint8_t kClose = 5;
constexpr std::uint8_t kNone = 8;

struct BrainphoqueKnobs {
  IntegerKnob cells;
  IntegerKnob symbols;
  IntegerKnob max_steps;
  IntegerKnob max_instructions;
  IntegerKnob attempts;
  v1::Brainphoque::Prior prior;
  bool reads;
  bool shared;
  bool mask_padding;
};

// What an instruction does to the machine.
struct Effect {
  std::uint32_t add = 0;   // to the cell, modulo symbols
  std::uint16_t move = 0;  // of the pointer, modulo cells
  std::uint8_t writes = 0;
  std::uint8_t reads = 0;
};

// A place of the program. Node 0 stands for "not drawn yet"; the root is node 1.
struct Node {
  std::uint64_t state;
  Effect effect;
  std::uint16_t next[2];  // the place that follows when the cell is 0, when it is not
  std::uint16_t loop;     // the innermost loop whose body this is in, 0 if none
  std::uint8_t op;
  std::uint8_t before;  // the instruction of the place before
};

std::uint32_t PcgOutput(std::uint64_t state) {
  return std::rotr(static_cast<std::uint32_t>(((state >> 18) ^ state) >> 27), static_cast<int>(state >> 59));
}

class BrainphoqueProgram final : public SteppedProgram {
 public:
  BrainphoqueProgram(const BrainphoqueKnobs& knobs, const FamilyContext& context, int max_rows)
      : SteppedProgram(knobs.mask_padding), knobs_(knobs), context_(context) {
    ReserveRows(max_rows);
    lane_nodes_ = static_cast<std::size_t>(knobs.max_instructions.high()) + 3;
    lane_cells_ = static_cast<std::size_t>(knobs.cells.high());
    nodes_.resize(kLanes * lane_nodes_);
    cells_.resize(kLanes * lane_cells_);
    text_.reserve(lane_nodes_);
    roots_.reserve(static_cast<std::size_t>(knobs.attempts.high()));
    if (knobs.prior == v1::Brainphoque::ORDER_2) BuildTable();
  }

  void Sample(Rng& rng) override {
    cell_count_ = static_cast<std::uint32_t>(knobs_.cells.Draw(rng));
    symbols_ = static_cast<std::uint32_t>(std::min(knobs_.symbols.Draw(rng), context_.alphabet));
    max_steps_ = static_cast<std::uint32_t>(knobs_.max_steps.Draw(rng));
    max_instructions_ = static_cast<std::uint32_t>(knobs_.max_instructions.Draw(rng));
    attempts_ = knobs_.attempts.Draw(rng);
    roots_.clear();
    if (knobs_.shared) {
      for (int i = 0; i < attempts_; ++i) roots_.push_back(DrawRoot(rng));
    }
    text_.clear();
    effects_ = {};
    effects_[0].add = 1;
    effects_[1].add = symbols_ - 1;
    effects_[2].move = static_cast<std::uint16_t>(1 % cell_count_);
    effects_[3].move = static_cast<std::uint16_t>(cell_count_ - 1);
    effects_[6].writes = 1;
    effects_[7].reads = 1;
  }

  void Run(BlockView input, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    if (std::has_single_bit(symbols_)) {
      RunRows<true>(input, rng, out);
    } else {
      RunRows<false>(input, rng, out);
    }
  }

  const std::string& text() const { return text_; }

  std::string Describe() const override {
    return absl::StrCat("cells=", cell_count_, " symbols=", symbols_, " max_steps=", max_steps_,
                        " max_instructions=", max_instructions_, " shared=", knobs_.shared ? 1 : 0);
  }

 private:
  // One running program.
  struct Lane {
    Node* nodes;
    Symbol* cells;
    const Symbol* input;
    Symbol* out;
    std::uint32_t node;  // to be executed next
    std::uint32_t pointer;
    std::uint32_t read;  // place in the input
    std::uint32_t written;
    std::uint32_t count;  // nodes, node 0 included
    std::uint32_t steps_left;
    int row;
    int attempt;
    Rng rng{0, 0};
  };

  static std::uint64_t DrawRoot(Rng& rng) {
    const std::uint64_t high = rng.Next();
    return high << 32 | rng.Next();
  }

  // Cumulative form of the prior: the instruction of each byte, context by context.
  void BuildTable() {
    table_.resize(std::size_t{81} * 256);
    for (std::size_t context = 0; context < 81; ++context) {
      std::size_t at = context * 256;
      for (std::size_t op = 0; op < 8; ++op) {
        for (int n = kBrainphoqueOrder2[context * 8 + op]; n > 0; --n) {
          table_[at++] = static_cast<std::uint8_t>(op == 7 && !knobs_.reads ? 6 : op);
        }
      }
    }
  }

  std::uint8_t DrawInstruction(std::uint64_t state, std::uint8_t first, std::uint8_t second) const {
    const std::uint32_t word = PcgOutput(state);
    if (!table_.empty()) return table_[(first * 9U + second) * 256U + (word >> 24)];
    return static_cast<std::uint8_t>(static_cast<std::uint64_t>(word) * (knobs_.reads ? 8U : 7U) >> 32);
  }

  void StartProgram(Lane& lane) {
    const std::uint64_t state = knobs_.shared ? roots_[static_cast<std::size_t>(lane.attempt)] : DrawRoot(lane.rng);
    const std::uint8_t op = DrawInstruction(state, kNone, kNone);
    lane.nodes[1] = {state, effects_[op], {0, 0}, 0, op, kNone};
    std::fill_n(lane.cells, cell_count_, Symbol{0});
    lane.node = 1;
    lane.count = 2;
    lane.pointer = 0;
    lane.read = 0;
    lane.written = 0;
    lane.steps_left = max_steps_;
  }

  // Executes one instruction; false when the program is over. It has no branches on what the program does, which is
  // random. Only that a place has not been drawn yet is rare enough to be predicted. kPowerOfTwo: whether `symbols_` is
  // one.
  template <bool kPowerOfTwo>
  bool Step(Lane& lane, std::uint32_t length) const {
    Node& node = lane.nodes[lane.node];
    const Effect effect = node.effect;
    std::uint32_t pointer = lane.pointer + effect.move;
    pointer -= pointer >= cell_count_ ? cell_count_ : 0;
    std::uint32_t value = lane.cells[pointer] + effect.add;
    std::uint32_t given = lane.input[lane.read];
    if constexpr (kPowerOfTwo) {
      value &= symbols_ - 1;
      given &= symbols_ - 1;
    } else {
      value -= value >= symbols_ ? symbols_ : 0;
      // x mod symbols for 16-bit x (Lemire, Kaser and Kurz 2019, "Faster remainder by direct computation").
      given = static_cast<std::uint32_t>(static_cast<std::uint64_t>(reciprocal_ * given) * symbols_ >> 32);
    }
    value = effect.reads != 0 ? given : value;
    const std::uint32_t read = lane.read + effect.reads;
    lane.read = read == length ? 0 : read;
    lane.cells[pointer] = static_cast<Symbol>(value);
    lane.pointer = pointer;
    lane.out[lane.written] = static_cast<Symbol>(value);
    lane.written += effect.writes;
    --lane.steps_left;
    const std::uint32_t nonzero = value != 0 ? 1 : 0;
    const std::uint32_t target = node.next[nonzero];
    if (target == 0) [[unlikely]] {
      Draw(lane, nonzero);
      if (lane.count > max_instructions_ + 1) return false;  // one too many
    } else {
      lane.node = target;
    }
    return (lane.steps_left != 0) & (lane.written != length);
  }

  // Draws the instruction of the place that follows the lane's, and goes there.
  void Draw(Lane& lane, std::uint32_t nonzero) const {
    Node& node = lane.nodes[lane.node];
    const std::uint32_t opens = node.op == kOpen ? 1 : 0;
    const std::uint32_t into = opens & nonzero;
    const std::uint64_t state = node.state * kPcgMultiplier + kLinkConstant[opens + into];
    const auto loop = static_cast<std::uint16_t>(into != 0 ? lane.node : node.loop);
    const std::uint8_t op = DrawInstruction(state, node.before, node.op);
    const std::uint16_t back = op == kClose ? loop : std::uint16_t{0};
    lane.nodes[lane.count] = {state, effects_[op], {back, back}, loop, op, node.op};
    // An instruction that is not `[` is followed by the same place whatever the cell.
    node.next[nonzero] = static_cast<std::uint16_t>(lane.count);
    node.next[nonzero ^ (opens ^ 1)] = static_cast<std::uint16_t>(lane.count);
    lane.node = lane.count++;
  }

  template <bool kPowerOfTwo>
  void RunRows(BlockView input, const RowRng& rng, MutableBlockView out) {
    BeginRows(out.rows());
    reciprocal_ = ~std::uint32_t{0} / symbols_ + 1;  // 2^32 / symbols, rounded up
    const auto length = static_cast<std::uint32_t>(out.length());
    Lane lanes[kLanes];
    int next_row = 0;
    const auto start_row = [&](Lane& lane) {
      lane.row = next_row++;
      lane.attempt = 0;
      lane.input = knobs_.reads ? input.row(lane.row) : &kNothing;
      lane.out = out.row(lane.row);
      lane.rng = rng.ForRow(lane.row);
      StartProgram(lane);
    };
    // Ends a program; false if there is nothing left to start.
    const auto finish = [&](Lane& lane) {
      steps_ += max_steps_ - lane.steps_left;
      if (stopped()) return false;
      if (lane.written == 0 && lane.attempt + 1 < attempts_) {
        ++lane.attempt;
        StartProgram(lane);
        return true;
      }
      if (lane.row == 0) KeepText(lane);
      FinishRow(lane.row, {lane.out, length}, lane.written);
      if (next_row == out.rows()) return false;
      start_row(lane);
      return true;
    };

    int active = 0;
    for (; active < kLanes && next_row < out.rows(); ++active) {
      lanes[active].nodes = nodes_.data() + static_cast<std::size_t>(active) * lane_nodes_;
      lanes[active].cells = cells_.data() + static_cast<std::size_t>(active) * lane_cells_;
      start_row(lanes[active]);
    }
    while (active == kLanes) {
      for (Lane& lane : lanes) {
        if (!Step<kPowerOfTwo>(lane, length) && !finish(lane)) {
          lane = lanes[--active];
          break;
        }
      }
    }
    while (active > 0) {
      for (int i = 0; i < active; ++i) {
        if (!Step<kPowerOfTwo>(lanes[i], length) && !finish(lanes[i])) {
          lanes[i] = lanes[--active];
          break;
        }
      }
    }
  }

  // The text in the order of drawing; a loop whose body was not entered at once is written `{`.
  void KeepText(const Lane& lane) {
    text_.clear();
    const std::uint32_t last = std::min(lane.count - 1, max_instructions_);
    for (std::uint32_t i = 1; i <= last; ++i) {
      const Node& node = lane.nodes[i];
      const bool later = node.op == kOpen && node.next[1] != i + 1;
      text_.push_back(later ? '{' : kBrainphoqueInstructions[node.op]);
    }
  }

  const BrainphoqueKnobs& knobs_;
  FamilyContext context_;
  std::uint32_t cell_count_ = 1;
  std::uint32_t symbols_ = 2;
  std::uint32_t max_steps_ = 1;
  std::uint32_t max_instructions_ = 1;
  std::uint32_t reciprocal_ = 0;
  int attempts_ = 1;
  std::array<Effect, 8> effects_;
  std::vector<std::uint64_t> roots_;  // shared: of each attempt
  std::vector<std::uint8_t> table_;   // ORDER_2: (first, second) x byte -> instruction
  std::size_t lane_nodes_;
  std::size_t lane_cells_;
  std::vector<Node> nodes_;
  std::vector<Symbol> cells_;
  std::string text_;
};

class BrainphoqueFamily final : public Family {
 public:
  BrainphoqueFamily(BrainphoqueKnobs knobs, const FamilyContext& context)
      : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return knobs_.reads; }
  double most_seconds(int rows) const override {
    const double attempt = knobs_.max_steps.high() + knobs_.cells.high() / 64.0;  // which begins with empty cells
    return cost::kSymbol * rows * (context_.length + knobs_.attempts.high() * attempt);
  }
  double program_bytes(int rows) const override {
    return 8.0 * rows + kLanes * (32.0 * knobs_.max_instructions.high() + 2.0 * knobs_.cells.high()) + 81 * 256 + 4096;
  }
  std::unique_ptr<Program> NewProgram(int max_rows) const override {
    return std::make_unique<BrainphoqueProgram>(knobs_, context_, max_rows);
  }

 private:
  BrainphoqueKnobs knobs_;
  FamilyContext context_;
};

}  // namespace

std::string BrainphoqueText(const Program& program) {
  const auto* brainphoque = dynamic_cast<const BrainphoqueProgram*>(&program);
  return brainphoque == nullptr ? "" : brainphoque->text();
}

namespace {

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::Brainphoque& config = family.brainphoque();
  BrainphoqueKnobs knobs{.cells = IntegerKnob(config.cells()),
                         .symbols = IntegerKnob(config.symbols()),
                         .max_steps = IntegerKnob(config.max_steps()),
                         .max_instructions = IntegerKnob(config.max_instructions()),
                         .attempts = IntegerKnob(config.attempts()),
                         .prior = config.prior(),
                         .reads = config.reads(),
                         .shared = config.shared(),
                         .mask_padding = config.mask_padding()};
  const std::int64_t row_steps = std::int64_t{knobs.max_steps.high()} * knobs.attempts.high();
  if (row_steps > kMaxRowSteps) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ".max_steps: times ", path, ".attempts is ", row_steps, ", must be at most ", kMaxRowSteps));
  }
  return std::make_unique<BrainphoqueFamily>(std::move(knobs), context);
}

}  // namespace

const FamilyEntry kBrainphoqueEntry = {v1::Family::kBrainphoque, "brainphoque",
                                       "Brainf*ck program that is sampled while it runs", Make};

}  // namespace iterand
