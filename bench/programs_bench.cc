// Programs and sources: tokens per second of one core, the sampling of programs and tables included.
//
//   ./build/release/bench/programs_bench --benchmark_filter=eca
//
// Every family that does not use floating point is measured with the recipe of its preset (rows per program, length,
// alphabet), and `context_tree` beside them. NAME is the family alone, sampling and running; stream/NAME is what
// reaches a segment of the stream, relabelled and filtered as the preset says. `tokens/s` counts the tokens of full
// rows, `written/s` what programs wrote before it was repeated to fill the rows, `steps/row` how many instructions a
// row took, and `instructions/s` how many were executed: what rows have in common is executed, and counted, once.
#include <benchmark/benchmark.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "iterate/plan.h"
#include "iterate/presets.h"
#include "iterate/stream.h"
#include "randnet/machines/stepped_program.h"

namespace iterand {
namespace {

benchmark::Counter Rate(double value) { return {value, benchmark::Counter::kIsRate}; }

void ProgramTokens(benchmark::State& state, const std::shared_ptr<const StreamPlan>& plan) {
  const int rows = plan->max_program_rows();
  const int length = plan->layout().length();
  const auto program = plan->mix().family(0).NewProgram(rows);
  Block input;
  Block prompt;
  Block output;
  input.Reshape(rows, length);
  output.Reshape(rows, length);
  prompt.Reshape(rows, 0);
  Rng noise(1, 1);
  for (int r = 0; r < rows; ++r) {
    const std::span<Symbol> row = input.mutable_view().row_span(r);
    for (Symbol& symbol : row) {
      symbol = static_cast<Symbol>(noise.Below(static_cast<std::uint32_t>(plan->alphabet())));
    }
  }
  const auto* stepped = dynamic_cast<const SteppedProgram*>(program.get());
  std::uint64_t steps = 0;
  std::uint64_t shared = 0;
  std::uint64_t written = 0;
  RandomKey key;
  for (auto _ : state) {
    ++key.round;
    Rng rng = MakeRng(key, Purpose::kSampleProgram);
    program->Sample(rng);
    program->Run(input.view(), prompt.view(), RowRng(key), output.mutable_view());
    benchmark::DoNotOptimize(output.row(0));
    benchmark::ClobberMemory();
    if (stepped != nullptr) {
      steps += stepped->steps();
      shared += stepped->shared_steps();
      written += stepped->written();
    }
  }
  const auto all_rows = static_cast<double>(state.iterations()) * rows;
  state.counters["tokens/s"] = Rate(all_rows * length);
  state.counters["rows"] = rows;
  if (stepped != nullptr) {
    state.counters["instructions/s"] = Rate(static_cast<double>(steps - shared));
    state.counters["written/s"] = Rate(static_cast<double>(written));
    state.counters["steps/row"] = static_cast<double>(steps) / all_rows;
  }
}

void StreamTokens(benchmark::State& state, const std::shared_ptr<const StreamPlan>& plan) {
  const std::shared_ptr<Stream> stream = Stream::FromPlan(plan);
  const std::unique_ptr<Workspace> workspace = stream->NewWorkspace();
  Segment segment;
  std::uint64_t place = 0;
  for (auto _ : state) {
    const absl::Status status = stream->GenerateSegment(0, place++, *workspace, nullptr, segment);
    if (!status.ok()) {
      state.SkipWithError(status.ToString().c_str());
      return;
    }
    benchmark::DoNotOptimize(segment.tokens);
  }
  state.counters["tokens/s"] =
      Rate(static_cast<double>(state.iterations()) * stream->segment_sequences() * stream->length());
}

void Register() {
  std::vector<std::string> names;
  for (const FamilyEntry& entry : AllFamilies()) names.emplace_back(entry.name);
  names.emplace_back("context_tree");
  for (const std::string& name : names) {
    const auto preset = LoadPreset(name);
    if (!preset.ok()) continue;  // a family that only begins chains, such as `constant`
    const auto plan = StreamPlan::Make(*preset, 0);
    if (!plan.ok() || (*plan)->pool() != nullptr) continue;
    if ((*plan)->mix().family(0).flops_per_token() > 0) continue;
    for (const bool whole : {false, true}) {
      benchmark::RegisterBenchmark(((whole ? "stream/" : "") + name).c_str(), [=](benchmark::State& state) {
        (whole ? StreamTokens : ProgramTokens)(state, *plan);
      })->Unit(benchmark::kMicrosecond);
    }
  }
}

}  // namespace
}  // namespace iterand

int main(int argc, char** argv) {
  iterand::Register();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
