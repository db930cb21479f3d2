#include "server/answers/execute.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"
#include "randnet/base/noise.h"
#include "randnet/base/rng.h"
#include "randnet/check.h"

namespace iterand {
namespace {

// A few milliseconds in the worst case: one program alone, with loops that the processor cannot predict.
constexpr std::uint64_t kPieceSteps = 1 << 20;
constexpr std::size_t kPieceBytes = 64 << 10;

// What a program costs beside its steps, in steps: it is compiled, and its tapes are cleared.
std::uint64_t StartSteps(const TapeProgram& program, const TapeLimits& limits, std::size_t input) {
  return 64 + program.text().size() + (static_cast<std::size_t>(limits.cells) + input) / 8;
}

v1::ExecuteResult::Halt ToProto(TapeHalt halt) {
  switch (halt) {
    case TapeHalt::kEnded:
      return v1::ExecuteResult::ENDED;
    case TapeHalt::kStepLimit:
      return v1::ExecuteResult::STEP_LIMIT;
    case TapeHalt::kOutputLimit:
      return v1::ExecuteResult::OUTPUT_LIMIT;
  }
  return v1::ExecuteResult::HALT_UNSPECIFIED;
}

// Like CheckRange, for a field of the request. `what` names the checked aspect, such as ": its size"; empty: the value
// itself.
absl::Status CheckField(const std::string& field, std::uint64_t value, std::uint64_t min, std::uint64_t max,
                        const char* what = "") {
  const absl::Status status = CheckRange(absl::StrCat(field, what), value, min, max);
  return status.ok() ? status : InvalidField(field, std::string(status.message()));
}

}  // namespace

absl::StatusOr<Execution> Execution::Make(const v1::ExecuteRequest& request, const std::atomic<bool>* cancelled) {
  Execution execution;
  TapeLimits& limits = execution.limits_;
  const auto count = static_cast<std::uint64_t>(request.programs_size());
  if (count == 0) return InvalidField("programs", "programs: there are none; give at least one");
  if (absl::Status s = CheckField("programs", count, 1, kMaxExecutePrograms, ": their number"); !s.ok()) return s;
  limits.max_steps = request.has_max_steps() ? request.max_steps() : 65536;
  if (absl::Status s = CheckField("max_steps", limits.max_steps, 1, kMaxExecuteSteps); !s.ok()) return s;
  if (const std::uint64_t total = limits.max_steps * count; total > kMaxExecuteTotalSteps) {
    return InvalidField(
        "max_steps", absl::StrCat("max_steps: is ", limits.max_steps, ", which for ", count, " programs makes ", total,
                                  " steps; a request may take at most ", kMaxExecuteTotalSteps));
  }
  const std::uint32_t max_output = request.has_max_output() ? request.max_output() : 4096;
  if (absl::Status s = CheckField("max_output", max_output, 1, kMaxExecuteOutput); !s.ok()) return s;
  const std::uint32_t cells = request.has_cells() ? request.cells() : 64;
  if (absl::Status s = CheckField("cells", cells, 1, 65536); !s.ok()) return s;
  const std::uint32_t symbols = request.has_symbols() ? request.symbols() : 256;
  if (absl::Status s = CheckField("symbols", symbols, 2, 256); !s.ok()) return s;
  limits.cells = static_cast<int>(cells);
  limits.symbols = static_cast<int>(symbols);
  limits.repeat = request.repeat();
  execution.output_.resize(max_output);

  execution.programs_.reserve(count);
  for (int i = 0; i < request.programs_size(); ++i) {
    if (cancelled != nullptr && *cancelled) return WithReason(v1::CALL_CANCELLED, absl::CancelledError("cancelled"));
    const v1::ExecuteProgram& given = request.programs(i);
    const std::string field = absl::StrCat("programs[", i, "]");
    absl::StatusOr<TapeProgram> program = TapeProgram::Parse(given.text());
    if (!program.ok()) {
      return InvalidField(field, absl::StrCat(field, ": ", std::string(program.status().message())));
    }
    if (absl::Status s = CheckField(field + ".input", given.input().size(), 0, kMaxExecuteInput, ": its size");
        !s.ok()) {
      return s;
    }
    Entry& entry = execution.programs_.emplace_back(Entry{*std::move(program), given.input(), std::nullopt});
    if (given.has_seed()) entry.seed = given.seed();
  }
  return execution;
}

TapeRun Execution::StartNext() {
  const Entry& entry = programs_[next_];
  if (entry.seed) {
    Rng rng = MakeRng({.seed = *entry.seed}, Purpose::kNoise);
    input_.resize(kRandomInputSymbols);
    FillNoise(rng, limits_.symbols, input_);
  } else {
    input_.resize(entry.input.size());
    for (std::size_t i = 0; i < input_.size(); ++i) input_[i] = static_cast<unsigned char>(entry.input[i]);
  }
  return *TapeRun::Start(entry.program, input_, limits_, output_);  // the limits have been checked
}

void Execution::Advance(v1::ExecuteResponse& response) {
  std::uint64_t spent = 0;
  std::size_t bytes = 0;
  while (!done() && spent < kPieceSteps && bytes < kPieceBytes) {
    if (!run_) {
      run_ = StartNext();
      spent += StartSteps(programs_[next_].program, limits_, input_.size());
    }
    const std::uint64_t steps = run_->Advance(kPieceSteps);
    spent += steps;
    steps_ += steps;
    if (!run_->over()) return;
    const TapeResult outcome = run_->result();
    v1::ExecuteResult& result = *response.add_results();
    result.set_program(static_cast<std::uint32_t>(next_));
    std::string& output = *result.mutable_output();
    output.resize(outcome.written);
    for (std::size_t i = 0; i < outcome.written; ++i) output[i] = static_cast<char>(output_[i]);
    result.set_steps(outcome.steps);
    result.set_halt(ToProto(outcome.halt));
    bytes += outcome.written + 16;
    run_.reset();
    ++next_;
  }
}

}  // namespace iterand
