#include "randnet/machines/tape_machine.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "randnet/base/noise.h"
#include "randnet/check.h"
#include "randnet/knob.h"
#include "randnet/machines/stepped_program.h"
#include "randnet/machines/tape_code.h"

namespace iterand {
namespace {

using tape::Compile;
using tape::Group;
using tape::Lane;
using tape::Machine;
using tape::Step;

constexpr char kInstructions[] = "+-><[].,";
constexpr int kMaxCells = 65536;
constexpr int kMaxSymbols = 256;
constexpr int kMaxLength = 4096;  // of a program of the family, before loops are closed
// Rows that are run side by side: each step waits for the one before it, so one row alone leaves most of a core idle.
constexpr int kLanes = 6;
constexpr int kStepsBetweenLooks = 1 << 16;  // at whether the run is to stop

std::vector<Group> Compiled(std::string_view text, int cells, int symbols, bool repeat) {
  std::vector<Group> code;
  std::vector<std::uint32_t> open;
  Compile(text, cells, symbols, repeat, code, open);
  return code;
}

struct TapeKnobs {
  IntegerKnob program_length;
  IntegerKnob cells;
  IntegerKnob symbols;
  IntegerKnob steps_per_token;
  IntegerKnob mutations;
  std::vector<std::string> archive;
  std::uint32_t archive_share;  // in units of 2^-24
  std::uint32_t cross_probability;
  bool repeat;
  bool random_input;
  bool mask_padding;
};

class TapeMachineProgram final : public SteppedProgram {
 public:
  TapeMachineProgram(const TapeKnobs& knobs, const FamilyContext& context, int max_rows)
      : SteppedProgram(knobs.mask_padding), knobs_(knobs), context_(context) {
    ReserveRows(max_rows);
    tapes_.resize(static_cast<std::size_t>(kLanes + 1) * static_cast<std::size_t>(knobs.cells.high()));
    if (knobs.random_input) inputs_.resize(static_cast<std::size_t>(kLanes) * static_cast<std::size_t>(context.length));
    // A mutation may insert an instruction; repair may close as many loops as there are instructions, and adds a `.`.
    text_.reserve(2 * kMaxLength + static_cast<std::size_t>(knobs.mutations.high()) + 2);
    repaired_.reserve(2 * kMaxLength + 2);
    other_.reserve(kMaxLength);
    code_.reserve(2 * kMaxLength + 2);
    open_.reserve(kMaxLength);
  }

  void Sample(Rng& rng) override {
    cells_ = knobs_.cells.Draw(rng);
    symbols_ = std::min(knobs_.symbols.Draw(rng), context_.alphabet);
    max_steps_ = std::int64_t{knobs_.steps_per_token.Draw(rng)} * context_.length;
    DrawParent(rng, text_);
    if ((rng.Next() >> 8) < knobs_.cross_probability) {
      DrawParent(rng, other_);
      text_.resize(rng.Below(static_cast<std::uint32_t>(text_.size()) + 1));
      text_.append(other_, rng.Below(static_cast<std::uint32_t>(other_.size()) + 1));
    }
    for (int n = knobs_.mutations.Draw(rng); n > 0; --n) Mutate(rng);
    Repair();
    Compile(repaired_, cells_, symbols_, knobs_.repeat, code_, open_);
  }

  void Run(BlockView input, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    BeginRows(out.rows());
    const Machine machine(code_, cells_, symbols_);
    const auto length = static_cast<std::size_t>(out.length());
    const auto cells = static_cast<std::size_t>(cells_);
    // What comes before the first symbol is read is the same for all rows. It is executed once, on the tape after those
    // of the lanes. Many programs read nothing at all.
    Lane common{};
    common.tape = tapes_.data() + kLanes * cells;
    common.input = &unread_;
    common.input_length = 1;
    common.output = out.row(0);
    common.capacity = length;
    common.Start(machine, max_steps_);
    bool over = false;
    while (!over && machine.code[common.place].reads == 0) over = !Step(machine, common);
    const auto rows = static_cast<std::uint64_t>(out.rows());
    const auto common_steps = static_cast<std::uint64_t>(max_steps_ - std::max<std::int64_t>(common.left, 0));
    shared_steps_ = (rows - 1) * common_steps;
    if (over) {
      for (int r = 0; r < out.rows(); ++r) {
        if (r > 0) std::copy_n(common.output, common.written, out.row(r));
        FinishRow(r, out.row_span(r), common.written);
      }
      steps_ = rows * common_steps;
      return;
    }
    Lane lanes[kLanes];
    int next_row = 0;
    const auto start_row = [&](int i) {
      Lane& lane = lanes[i];
      Symbol* const tape = lane.tape;
      lane = common;
      lane.tape = tape;
      std::copy_n(common.tape, cells, tape);
      lane.row = next_row++;
      lane.output = out.row(lane.row);
      if (lane.row > 0) std::copy_n(common.output, common.written, lane.output);
      lane.input_length = length;
      if (knobs_.random_input) {
        Rng row_rng = rng.ForRow(lane.row);
        FillNoise(row_rng, symbols_, {lane_input_[i], length});
        lane.input = lane_input_[i];
      } else {
        lane.input = input.row(lane.row);
      }
    };
    // Ends a row; false if there is no other to start.
    const auto finish = [&](int i) {
      Lane& lane = lanes[i];
      steps_ += static_cast<std::uint64_t>(max_steps_ - std::max<std::int64_t>(lane.left, 0));
      FinishRow(lane.row, {lane.output, length}, lane.written);
      if (next_row == out.rows()) return false;
      start_row(i);
      return true;
    };

    int active = 0;
    for (; active < kLanes && next_row < out.rows(); ++active) {
      const auto i = static_cast<std::size_t>(active);
      lanes[active].tape = tapes_.data() + i * cells;
      lane_input_[active] = knobs_.random_input ? inputs_.data() + i * length : nullptr;
      start_row(active);
    }
    while (active > 0 && !stopped()) {
      for (int n = 0; n < kStepsBetweenLooks && active == kLanes; ++n) {
        for (int i = 0; i < kLanes; ++i) {
          if (!Step(machine, lanes[i]) && !finish(i)) {
            lanes[i] = lanes[--active];
            break;
          }
        }
      }
      for (int n = 0; n < kStepsBetweenLooks && active > 0 && active < kLanes; ++n) {
        for (int i = 0; i < active; ++i) {
          if (!Step(machine, lanes[i]) && !finish(i)) {
            lanes[i] = lanes[--active];
            break;
          }
        }
      }
    }
  }

  std::string Describe() const override {
    return absl::StrCat("cells=", cells_, " symbols=", symbols_, " max_steps=", max_steps_, " program=", repaired_);
  }

 private:
  static char DrawInstruction(Rng& rng) { return kInstructions[rng.Next() >> 29]; }

  void DrawParent(Rng& rng, std::string& text) {
    if ((rng.Next() >> 8) < knobs_.archive_share) {
      text = knobs_.archive[rng.Below(static_cast<std::uint32_t>(knobs_.archive.size()))];
      return;
    }
    text.resize(static_cast<std::size_t>(knobs_.program_length.Draw(rng)));
    for (char& instruction : text) instruction = DrawInstruction(rng);
  }

  void Mutate(Rng& rng) {
    const std::uint32_t kind = rng.Next() >> 30;
    const auto size = static_cast<std::uint32_t>(text_.size());
    if (kind == 2 || size == 0) {
      const std::uint32_t place = rng.Below(size + 1);
      text_.insert(place, 1, DrawInstruction(rng));
    } else if (kind == 3) {
      text_.erase(rng.Below(size), 1);
    } else {
      const std::uint32_t place = rng.Below(size);
      text_[place] = DrawInstruction(rng);
    }
  }

  void Repair() {
    repaired_.clear();
    std::size_t open = 0;
    bool writes = false;
    if (text_.size() > kMaxLength) text_.resize(kMaxLength);
    for (const char instruction : text_) {
      if (instruction == ']' && open == 0) continue;
      open += instruction == '[' ? 1 : 0;
      open -= instruction == ']' ? 1 : 0;
      writes |= instruction == '.';
      repaired_.push_back(instruction);
    }
    repaired_.append(open, ']');
    if (!writes) repaired_.push_back('.');
  }

  const TapeKnobs& knobs_;
  FamilyContext context_;
  int cells_ = 1;
  int symbols_ = 2;
  std::int64_t max_steps_ = 1;
  std::string text_;
  std::string other_;
  std::string repaired_;
  std::vector<Group> code_;
  std::vector<std::uint32_t> open_;
  std::vector<Symbol> tapes_;
  std::vector<Symbol> inputs_;
  Symbol unread_ = 0;  // in place of an input tape
  Symbol* lane_input_[kLanes];
};

class TapeMachineFamily final : public Family {
 public:
  TapeMachineFamily(TapeKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return !knobs_.random_input; }
  double most_seconds(int rows) const override {
    // A mutation moves the instructions that follow it.
    const double mutation = 20 + knobs_.program_length.high() / 50.0;
    return cost::kSymbol * (4.0 * kMaxLength + knobs_.mutations.high() * mutation +
                            static_cast<double>(rows) * context_.length * (1.0 + knobs_.steps_per_token.high()));
  }
  double program_bytes(int rows) const override {
    return 8.0 * rows + (kLanes + 1) * 2.0 * (knobs_.cells.high() + context_.length) + 64.0 * kMaxLength;
  }
  std::unique_ptr<Program> NewProgram(int max_rows) const override {
    return std::make_unique<TapeMachineProgram>(knobs_, context_, max_rows);
  }

 private:
  TapeKnobs knobs_;
  FamilyContext context_;
};

}  // namespace

absl::StatusOr<TapeProgram> TapeProgram::Parse(std::string_view text) {
  if (text.size() > kMaxText) {
    return absl::InvalidArgumentError(
        absl::StrCat("program: has ", text.size(), " characters, may have at most ", kMaxText));
  }
  std::string instructions;
  std::vector<std::size_t> open;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') continue;
    if (c == '\0' || std::string_view(kInstructions).find(c) == std::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat("program: position ", i, ": '",
                                                     absl::CHexEscape(std::string(1, c)),
                                                     "' is not an instruction, must be one of + - > < [ ] . ,"));
    }
    if (c == '[') open.push_back(i);
    if (c == ']') {
      if (open.empty()) {
        return absl::InvalidArgumentError(absl::StrCat("program: position ", i, ": ']' closes no loop"));
      }
      open.pop_back();
    }
    instructions.push_back(c);
  }
  if (!open.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("program: position ", open.back(), ": '[' is never closed"));
  }
  return TapeProgram(std::move(instructions));
}

absl::StatusOr<TapeResult> TapeProgram::Run(std::span<const Symbol> input, const TapeLimits& limits,
                                            std::span<Symbol> output) const {
  absl::StatusOr<TapeRun> run = TapeRun::Start(*this, input, limits, output);
  if (!run.ok()) return run.status();
  run->Advance(limits.max_steps);
  return run->result();
}

struct TapeRun::State {
  State(const TapeProgram& program, std::span<const Symbol> input, const TapeLimits& limits, std::span<Symbol> output)
      : max_steps(limits.max_steps),
        code(Compiled(program.text(), limits.cells, limits.symbols, limits.repeat)),
        machine(code, limits.cells, limits.symbols),
        tape(static_cast<std::size_t>(limits.cells)),
        over(code.empty() || output.empty()) {
    lane.tape = tape.data();
    lane.input = input.empty() ? &zero : input.data();
    lane.input_length = std::max<std::size_t>(input.size(), 1);
    lane.output = output.data();
    lane.capacity = output.size();
    lane.Start(machine, static_cast<std::int64_t>(max_steps));
  }

  std::uint64_t max_steps;
  std::vector<Group> code;
  Machine machine;
  std::vector<Symbol> tape;
  Symbol zero = 0;  // what an empty input tape reads as
  Lane lane{};
  bool over;
};

TapeRun::TapeRun(std::unique_ptr<State> state) : state_(std::move(state)) {}
TapeRun::~TapeRun() = default;
TapeRun::TapeRun(TapeRun&&) noexcept = default;
TapeRun& TapeRun::operator=(TapeRun&&) noexcept = default;

absl::StatusOr<TapeRun> TapeRun::Start(const TapeProgram& program, std::span<const Symbol> input,
                                       const TapeLimits& limits, std::span<Symbol> output) {
  if (absl::Status s = CheckRange("max_steps", limits.max_steps, 0, std::uint64_t{1} << 62); !s.ok()) return s;
  if (absl::Status s = CheckRange("cells", limits.cells, 1, kMaxCells); !s.ok()) return s;
  if (absl::Status s = CheckRange("symbols", limits.symbols, 2, kMaxSymbols); !s.ok()) {
    return s;
  }
  return TapeRun(std::make_unique<State>(program, input, limits, output));
}

std::uint64_t TapeRun::Advance(std::uint64_t steps) {
  State& state = *state_;
  const std::uint64_t before = result().steps;
  const auto stop = state.lane.left - static_cast<std::int64_t>(std::min(steps, state.max_steps));
  while (!state.over && state.lane.left > stop) state.over = !Step(state.machine, state.lane);
  // A run whose last step was the last allowed one is over; the caller should not have to ask again to learn that.
  if (!state.over && state.lane.left == 0) state.over = !Step(state.machine, state.lane);
  return result().steps - before;
}

bool TapeRun::over() const { return state_->over; }

TapeResult TapeRun::result() const {
  const Lane& lane = state_->lane;
  TapeResult result;
  result.steps = state_->max_steps - static_cast<std::uint64_t>(std::max<std::int64_t>(lane.left, 0));
  result.written = lane.written;
  result.halt = lane.written == lane.capacity ? TapeHalt::kOutputLimit
                : lane.left < 0               ? TapeHalt::kStepLimit
                                              : TapeHalt::kEnded;
  return result;
}

namespace {

void ComputeDefaults(v1::Family& family) {
  v1::TapeMachine& config = *family.mutable_tape_machine();
  if (!config.has_archive_share()) config.set_archive_share(config.programs().empty() ? 0 : 1);
}

// The texts of the given programs, checked.
absl::StatusOr<std::vector<std::string>> ParseArchive(const v1::TapeMachine& config, const std::string& path) {
  std::vector<std::string> archive;
  for (int i = 0; i < config.programs_size(); ++i) {
    auto program = TapeProgram::Parse(config.programs(i));
    if (!program.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ".programs[", i, "]: ", std::string(program.status().message())));
    }
    if (program->text().size() > kMaxLength) {
      return absl::InvalidArgumentError(absl::StrCat(path, ".programs[", i, "]: has ", program->text().size(),
                                                     " instructions, may have at most ", kMaxLength));
    }
    archive.push_back(program->text());
  }
  return archive;
}

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::TapeMachine& config = family.tape_machine();
  if (config.programs().empty() && config.archive_share() > 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, ".archive_share: is ", config.archive_share(),
                                                   ", must be 0 where ", path, ".programs is empty"));
  }
  absl::StatusOr<std::vector<std::string>> archive = ParseArchive(config, path);
  if (!archive.ok()) return archive.status();
  return std::make_unique<TapeMachineFamily>(TapeKnobs{.program_length = IntegerKnob(config.program_length()),
                                                       .cells = IntegerKnob(config.cells()),
                                                       .symbols = IntegerKnob(config.symbols()),
                                                       .steps_per_token = IntegerKnob(config.steps_per_token()),
                                                       .mutations = IntegerKnob(config.mutations()),
                                                       .archive = *std::move(archive),
                                                       .archive_share = ShareThreshold(config.archive_share()),
                                                       .cross_probability = ShareThreshold(config.cross_probability()),
                                                       .repeat = config.repeat(),
                                                       .random_input = config.input() == v1::TapeMachine::RANDOM,
                                                       .mask_padding = config.mask_padding()},
                                             context);
}

}  // namespace

const FamilyEntry kTapeMachineEntry = {v1::Family::kTapeMachine, "tape_machine",
                                       "byte machine with a circular tape that runs random or given programs", Make,
                                       ComputeDefaults};

}  // namespace iterand
