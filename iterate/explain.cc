// Stream::Explain: a sequence's way from noise, recorded while its segment is computed again.

#include <algorithm>
#include <cstring>
#include <map>

#include "absl/strings/str_cat.h"
#include "iterate/iteration.h"
#include "iterate/limits.h"
#include "iterate/stream.h"
#include "iterate/stream_impl.h"

namespace iterand {
namespace {

// A program's application to one row, in a tree that leads back to noise.
struct Step {
  std::uint64_t round;
  int row;
  int family;
  int program;  // place in Recorder::programs
  int parent;   // the step that wrote its input, or kNoise or kConstant
  int prompt_length;
  int prompt_offset;
};

constexpr int kNoise = -1;
constexpr int kConstant = -2;

// Follows which step wrote which slot.
class Recorder {
 public:
  // Takes a round in; `emitted` then tells the step of each of its finished rows.
  void Record(std::uint64_t round, const RoundTrace& trace) {
    if (trace.restarted) writer_.clear();
    if (trace.emitted_before) Emit(trace);
    for (const RoundTrace::Fresh& fresh : trace.fresh) writer_[fresh.slot] = fresh.constant ? kConstant : kNoise;
    programs_.push_back(trace.program);
    std::vector<int> written;
    for (std::size_t r = 0; r < trace.slots.size(); ++r) {
      // A pool's slots that no round has written hold the constants that it began with.
      const auto parent = writer_.try_emplace(trace.slots[r], kConstant).first->second;
      written.push_back(static_cast<int>(steps_.size()));
      steps_.push_back({round, static_cast<int>(r), trace.family, static_cast<int>(programs_.size()) - 1,
                        trace.constant_inputs.empty() ? parent : (trace.constant_inputs[r] ? kConstant : kNoise),
                        trace.prompt_length, trace.prompt_offset});
    }
    for (std::size_t r = 0; r < trace.slots.size(); ++r) writer_[trace.slots[r]] = written[r];
    if (!trace.emitted_before) Emit(trace);
  }

  // The step that made a finished row of the round recorded last; negative for noise and constants.
  int Emitted(std::size_t row) const { return emitted_[row]; }
  const Step& step(int i) const { return steps_[static_cast<std::size_t>(i)]; }
  const std::string& program(const Step& step) const { return programs_[static_cast<std::size_t>(step.program)]; }

 private:
  void Emit(const RoundTrace& trace) {
    emitted_.clear();
    for (const int slot : trace.emitted) emitted_.push_back(writer_.try_emplace(slot, kConstant).first->second);
  }

  std::map<int, int> writer_;  // slot -> step
  std::vector<Step> steps_;
  std::vector<std::string> programs_;
  std::vector<int> emitted_;
};

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

}  // namespace

absl::StatusOr<Explanation> Stream::Explain(std::uint64_t index) const {
  const Impl& impl = *impl_;
  Explanation explanation;
  explanation.index = index;
  explanation.position = impl.index_map.Locate(index);
  const Position& place = explanation.position;

  // The sequence as the stream serves it.
  Segment segment;
  {
    auto workspace = NewWorkspace();
    absl::Status status = GenerateSegment(place.lane, place.segment, *workspace, nullptr, segment);
    if (!status.ok()) return status;
  }
  const RowProvenance& provenance = explanation.provenance = segment.provenance[place.offset];
  if (!impl.endless.empty() && provenance.round > kMaxReplayRounds) {
    return absl::OutOfRangeError(absl::StrCat("index: ", index, " was made in round ", provenance.round,
                                              " of an endless pool; explaining replays from round 0, at most ",
                                              kMaxReplayRounds, " rounds"));
  }

  // The rounds up to the sequence's, recorded. The rounds of an endless pool count from the lane's start.
  RandomKey key{.seed = impl.seed, .lane = place.lane, .segment = impl.endless.empty() ? place.segment : 0};
  auto iteration = MakeIteration(impl.recipe, impl.mix);
  if (!iteration.ok()) return iteration.status();
  RoundTrace trace;
  (*iteration)->set_trace(&trace);
  (*iteration)->Start(key);
  Recorder recorder;
  FinishedRows finished;
  for (key.round = 0; key.round <= provenance.round; ++key.round) {
    finished = (*iteration)->Advance(key);
    recorder.Record(key.round, trace);
  }
  const int symbols = impl.layout.symbols();
  std::vector<Symbol> alone(static_cast<std::size_t>(symbols));
  // A fresh row, which no program made, is made again by the replay itself.
  std::copy_n(finished.rows.row(static_cast<int>(provenance.row)), symbols, alone.data());
  const int last = recorder.Emitted(provenance.row);
  for (int at = last; at >= 0;) {
    const Step& step = recorder.step(at);
    const bool reads = impl.mix.family(step.family).reads_input();
    at = reads ? step.parent : kNoise;
    explanation.steps.push_back({.round = step.round,
                                 .row = static_cast<std::uint32_t>(step.row),
                                 .family = family_name(step.family),
                                 .program = recorder.program(step),
                                 .input = !reads            ? "nothing"
                                          : at >= 0         ? "the step before"
                                          : at == kConstant ? "constant"
                                                            : "noise",
                                 .prompt_length = step.prompt_length,
                                 .prompt_offset = step.prompt_offset});
  }
  std::reverse(explanation.steps.begin(), explanation.steps.end());

  // The row again, alone: one row of the program, sampled anew.
  if (last >= 0) {
    const Step& step = recorder.step(last);
    // A pool emits rows of earlier rounds too: then their round is replayed once more, to have what it read.
    if (step.round != provenance.round) {
      (*iteration)->Start(key);
      for (key.round = 0; key.round <= step.round; ++key.round) (void)(*iteration)->Advance(key);
    }
    key.round = step.round;
    auto program = impl.mix.family(step.family).NewProgram(1);
    Rng sample = MakeRng(key, Purpose::kSampleProgram);
    program->Sample(sample);
    program->Run(BlockView(trace.input.row(step.row), 1, symbols),
                 BlockView(trace.prompt.row(step.row), 1, trace.prompt.length()), RowRng(key, step.row),
                 MutableBlockView(alone.data(), 1, symbols));
  }
  const std::size_t width = DtypeBytes(impl.dtype);
  const std::byte* served = segment.row(place.offset);
  std::vector<std::uint32_t> tokens;  // of content, as served
  std::vector<std::uint32_t> packed;  // the same, made again
  bool marks_right = true;
  const auto token_at = [&](int at) {
    std::uint32_t token = 0;
    std::memcpy(&token, served + static_cast<std::size_t>(at) * width, width);
    return token;
  };
  impl.layout.Walk(
      [&](int at, int i) {
        tokens.push_back(token_at(at));
        packed.push_back(impl.layout.Packed(alone.data(), i));
      },
      [&](int at, std::uint32_t mark) { marks_right = marks_right && token_at(at) == mark; });
  explanation.reproduced =
      marks_right &&
      (impl.recipe.relabel() == v1::Recipe::RELABEL_NONE ? packed == tokens : IsRelabelling(tokens, packed));
  return explanation;
}

}  // namespace iterand
