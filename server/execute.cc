#include "server/execute.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "randnet/rng.h"

namespace iterand {
namespace {

absl::Status CheckRange(const std::string& field, std::uint64_t value, std::uint64_t min, std::uint64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": is ", value, ", must lie within [", min, ", ", max, "]"));
}

// The random input tape of a seed.
std::vector<Symbol> RandomInput(std::uint64_t seed) {
  Rng rng = MakeRng({.seed = seed}, Purpose::kNoise);
  std::vector<Symbol> input(kRandomInput);
  for (Symbol& symbol : input) symbol = static_cast<Symbol>(rng.Next() >> 24);
  return input;
}

}  // namespace

absl::StatusOr<ExecutePlan> ExecutePlan::Make(const v1::ExecuteRequest& request) {
  ExecutePlan plan;
  const auto count = static_cast<std::uint64_t>(request.programs_size());
  if (absl::Status s = CheckRange("programs", count, 1, kMaxExecutePrograms); !s.ok()) return s;
  plan.limits_.max_steps = request.has_max_steps() ? request.max_steps() : 65536;
  if (absl::Status s = CheckRange("max_steps", plan.limits_.max_steps, 1, kMaxExecuteSteps); !s.ok()) return s;
  if (const std::uint64_t total = plan.limits_.max_steps * count; total > kMaxExecuteTotalSteps) {
    return absl::InvalidArgumentError(absl::StrCat("max_steps: times ", count, " programs is ", total,
                                                   ", must be at most ", kMaxExecuteTotalSteps, " a request"));
  }
  const std::uint32_t max_output = request.has_max_output() ? request.max_output() : 4096;
  if (absl::Status s = CheckRange("max_output", max_output, 1, kMaxExecuteOutput); !s.ok()) return s;
  plan.output_.resize(max_output);
  const std::uint32_t cells = request.has_cells() ? request.cells() : 64;
  if (absl::Status s = CheckRange("cells", cells, 1, 65536); !s.ok()) return s;
  plan.limits_.cells = static_cast<int>(cells);
  plan.limits_.repeat = request.repeat();
  for (int i = 0; i < request.programs_size(); ++i) {
    const v1::ExecuteProgram& given = request.programs(i);
    const std::string field = absl::StrCat("programs[", i, "]");
    absl::StatusOr<TapeProgram> program = TapeProgram::Parse(given.text());
    if (!program.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(field, ": ", std::string(program.status().message())));
    }
    std::vector<Symbol> input;
    if (given.has_seed()) {
      input = RandomInput(given.seed());
    } else {
      if (absl::Status s = CheckRange(field + ".input: size", given.input().size(), 0, kMaxExecuteInput); !s.ok()) {
        return s;
      }
      for (const char byte : given.input()) input.push_back(static_cast<unsigned char>(byte));
    }
    plan.programs_.push_back({*std::move(program), std::move(input)});
  }
  return plan;
}

void ExecutePlan::Run(int program, v1::ExecuteResult& result) {
  const Entry& entry = programs_[static_cast<std::size_t>(program)];
  const TapeResult run = *entry.program.Run(entry.input, limits_, output_);  // the limits have been checked
  result.set_program(static_cast<std::uint32_t>(program));
  std::string& bytes = *result.mutable_output();
  bytes.resize(run.written);
  for (std::size_t i = 0; i < run.written; ++i) bytes[i] = static_cast<char>(output_[i]);
  result.set_steps(run.steps);
  switch (run.halt) {
    case TapeHalt::kEnded:
      result.set_halt(v1::ExecuteResult::ENDED);
      break;
    case TapeHalt::kStepLimit:
      result.set_halt(v1::ExecuteResult::STEP_LIMIT);
      break;
    case TapeHalt::kOutputLimit:
      result.set_halt(v1::ExecuteResult::OUTPUT_LIMIT);
      break;
  }
}

Executor::Executor(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

Executor::~Executor() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Executor::Post(std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  work_.notify_one();
}

void Executor::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

}  // namespace iterand
