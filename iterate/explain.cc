// Stream::Explain: follows a sequence from noise while its segment is computed again.

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "iterate/iteration.h"
#include "iterate/limits.h"
#include "iterate/make_iteration.h"
#include "iterate/plan.h"
#include "iterate/stream.h"
#include "iterate/stream_impl.h"

namespace iterand {
namespace {

// A program's application to one row, in a tree that leads back to noise.
struct Step {
  std::uint64_t round;
  int row;
  int family;
  int program;  // index in Recorder::programs_
  int parent;   // the step that wrote its input, or kNoise or kConstant
  int prompt_length;
  int prompt_offset;
};

constexpr int kNoise = -1;
constexpr int kConstant = -2;

constexpr char kReadsNothing[] = "nothing";

// Keeps what the last program read.
class LastRun : public RoundObserver {
 public:
  void OnFresh(int /*slot*/, bool /*constant*/) override {}
  void OnEmit(int /*slot*/) override {}
  void OnRun(const ProgramRun& run) override {
    input_ = run.input;
    prompt_ = run.prompt;
  }

  const Block& input() const { return input_; }
  const Block& prompt() const { return prompt_; }

 private:
  Block input_;
  Block prompt_;
};

// Follows which step wrote which slot.
class Recorder final : public LastRun {
 public:
  // Call before every round.
  void BeginRound(std::uint64_t round) {
    round_ = round;
    emitted_.clear();
  }

  void OnFresh(int slot, bool constant) override { writer_[slot] = constant ? kConstant : kNoise; }

  void OnRun(const ProgramRun& run) override {
    LastRun::OnRun(run);
    programs_.push_back(run.program.Describe());
    const auto first = static_cast<int>(steps_.size());
    for (std::size_t r = 0; r < run.slots.size(); ++r) {
      int parent = WriterOf(run.slots[r]);
      if (!run.constant_inputs.empty()) parent = run.constant_inputs[r] != 0 ? kConstant : kNoise;
      steps_.push_back({.round = round_,
                        .row = static_cast<int>(r),
                        .family = run.family,
                        .program = static_cast<int>(programs_.size()) - 1,
                        .parent = parent,
                        .prompt_length = run.prompt.length(),
                        .prompt_offset = run.prompt_offset});
    }
    for (std::size_t r = 0; r < run.slots.size(); ++r) writer_[run.slots[r]] = first + static_cast<int>(r);
  }

  void OnEmit(int slot) override { emitted_.push_back(WriterOf(slot)); }

  // The step that made a finished row of the last round; negative for noise and constants.
  int Emitted(std::size_t row) const { return emitted_[row]; }
  const Step& step(int i) const { return steps_[static_cast<std::size_t>(i)]; }
  const std::string& program(const Step& step) const { return programs_[static_cast<std::size_t>(step.program)]; }

 private:
  // Slots of a pool that no round has written hold the constants of its start.
  int WriterOf(int slot) { return writer_.try_emplace(slot, kConstant).first->second; }

  std::uint64_t round_ = 0;
  std::map<int, int> writer_;  // slot -> step
  std::vector<Step> steps_;
  std::vector<std::string> programs_;
  std::vector<int> emitted_;
};

// Keeps the rows that some steps read.
class RowKeeper final : public RoundObserver {
 public:
  // `steps` must outlive this object.
  explicit RowKeeper(std::vector<ExplainedStep>* steps) : steps_(*steps) {}

  // Call before every round.
  void BeginRound(std::uint64_t round) { round_ = round; }

  void OnFresh(int /*slot*/, bool /*constant*/) override {}
  void OnEmit(int /*slot*/) override {}
  void OnRun(const ProgramRun& run) override {
    for (ExplainedStep& step : steps_) {
      if (step.round != round_ || step.input == kReadsNothing || run.slots.empty()) continue;
      const Symbol* const row = run.input.row(static_cast<int>(step.row));
      step.read.assign(row, row + run.input.length());
    }
  }

 private:
  std::vector<ExplainedStep>& steps_;
  std::uint64_t round_ = 0;
};

// The steps from noise to step `last`.
std::vector<ExplainedStep> StepsTo(int last, const Recorder& recorder, const FamilyMix& mix) {
  std::vector<ExplainedStep> steps;
  for (int at = last; at >= 0;) {
    const Step& step = recorder.step(at);
    const bool reads = mix.family(step.family).reads_input();
    at = reads ? step.parent : kNoise;
    steps.push_back({.round = step.round,
                     .row = static_cast<std::uint32_t>(step.row),
                     .family = mix.name(step.family),
                     .program = recorder.program(step),
                     .input = !reads            ? kReadsNothing
                              : at >= 0         ? "the step before"
                              : at == kConstant ? "constant"
                                                : "noise",
                     .prompt_length = step.prompt_length,
                     .prompt_offset = step.prompt_offset});
  }
  std::reverse(steps.begin(), steps.end());
  return steps;
}

// A step's row again, alone: one row of the program, sampled again, on what the step read.
void RunAlone(const StreamPlan& plan, const RandomKey& key, const Step& step, const LastRun& read,
              std::vector<Symbol>& row) {
  const int symbols = plan.layout().symbols();
  auto program = plan.mix().family(step.family).NewProgram(1);
  Rng sample = MakeRng(key, Purpose::kSampleProgram);
  program->Sample(sample);
  program->Run(BlockView(read.input().row(step.row), 1, symbols),
               BlockView(read.prompt().row(step.row), 1, read.prompt().length()), RowRng(key, step.row),
               MutableBlockView(row.data(), 1, symbols));
}

// Whether `tokens` is `row` relabelled by some injection.
bool IsRelabelling(const std::vector<std::uint32_t>& tokens, const std::vector<std::uint32_t>& row) {
  std::map<std::uint32_t, std::uint32_t> there;
  std::map<std::uint32_t, std::uint32_t> back;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (there.emplace(row[t], tokens[t]).first->second != tokens[t]) return false;
    if (back.emplace(tokens[t], row[t]).first->second != row[t]) return false;
  }
  return true;
}

// Whether a row of symbols, packed and relabelled, is the sequence that the stream serves.
bool IsServed(const StreamPlan& plan, const std::vector<Symbol>& row, const std::byte* served) {
  const std::size_t width = DtypeBytes(plan.dtype());
  std::vector<std::uint32_t> tokens;  // of content, as served
  std::vector<std::uint32_t> packed;  // the same, made again
  bool marks_right = true;
  const auto token_at = [&](int at) {
    std::uint32_t token = 0;
    std::memcpy(&token, served + static_cast<std::size_t>(at) * width, width);
    return token;
  };
  plan.layout().Walk(
      [&](int at, int i) {
        tokens.push_back(token_at(at));
        packed.push_back(plan.layout().Packed(row.data(), i));
      },
      [&](int at, std::uint32_t mark) { marks_right = marks_right && token_at(at) == mark; });
  const bool relabelled = plan.recipe().relabel() != v1::Recipe::RELABEL_NONE;
  return marks_right && (relabelled ? IsRelabelling(tokens, packed) : packed == tokens);
}

// Runs the rounds 0 to `last`, each after `begin` is called with its number. Returns what the last one finished.
// Errors: Cancelled.
template <typename Begin>
absl::StatusOr<FinishedRows> Replay(Iteration& iteration, RandomKey key, std::uint64_t last, const Begin& begin) {
  iteration.Start(key);
  FinishedRows finished;
  for (key.round = 0; key.round <= last; ++key.round) {
    begin(key.round);
    finished = iteration.Advance(key);
    if (iteration.stopped()) return absl::CancelledError("stopped");
  }
  return finished;
}

}  // namespace

absl::StatusOr<Explanation> Stream::Explain(std::uint64_t index, const ExplainOptions& options) const {
  Explanation explanation;
  explanation.index = index;
  const Position position = explanation.position = index_map().Locate(index);

  // The sequence as the stream serves it.
  Segment segment;
  {
    auto workspace = NewWorkspace();
    absl::Status status = GenerateSegment(position.lane, position.segment, *workspace, options.control, segment);
    if (!status.ok()) return status;
  }
  const RowProvenance& provenance = explanation.provenance = segment.provenance[position.offset];
  if (plan().endless() && provenance.round > kMaxReplayRounds) {
    return absl::OutOfRangeError(absl::StrCat("index: ", index, " was made in round ", provenance.round,
                                              " of an endless pool; explaining replays from round 0, at most ",
                                              kMaxReplayRounds, " rounds"));
  }

  const StreamPlan& part = plan().part(provenance.part);
  // The rounds up to the sequence's, recorded. The rounds of an endless pool count from the lane's start.
  RandomKey key{.seed = seed(), .lane = position.lane, .segment = plan().endless() ? 0 : position.segment};
  const std::unique_ptr<Iteration> iteration = MakeIteration(part);
  iteration->set_stop(options.control);
  Recorder recorder;
  iteration->set_observer(&recorder);
  const absl::StatusOr<FinishedRows> finished =
      Replay(*iteration, key, provenance.round, [&](std::uint64_t round) { recorder.BeginRound(round); });
  if (!finished.ok()) return finished.status();
  const int last = recorder.Emitted(provenance.row);
  explanation.steps = StepsTo(last, recorder, part.mix());

  // The row again. A fresh row, which no program made, is reproduced by the replay itself.
  const Symbol* const row = finished->rows.row(static_cast<int>(provenance.row));
  explanation.made.assign(row, row + part.layout().symbols());
  std::vector<Symbol> alone = explanation.made;
  if (last >= 0) {
    const Step& step = recorder.step(last);
    LastRun again;
    const LastRun* read = &recorder;
    if (step.round != provenance.round) {
      // A pool also emits rows of earlier rounds. Such a round is replayed once more, for what its program read.
      iteration->set_observer(&again);
      absl::Status replayed = Replay(*iteration, key, step.round, [](std::uint64_t) {}).status();
      if (!replayed.ok()) return replayed;
      read = &again;
    }
    key.round = step.round;
    RunAlone(part, key, step, *read, alone);
    if (options.rows) {
      RowKeeper keeper(&explanation.steps);
      iteration->set_observer(&keeper);
      absl::Status replayed =
          Replay(*iteration, key, step.round, [&](std::uint64_t round) { keeper.BeginRound(round); }).status();
      if (!replayed.ok()) return replayed;
    }
  }
  explanation.reproduced = IsServed(part, alone, segment.row(position.offset));
  explanation.tokens.assign(segment.row(position.offset), segment.row(position.offset) + segment.row_bytes);
  return explanation;
}

}  // namespace iterand
