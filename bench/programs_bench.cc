// Programs and sources: tokens a second of one core, the sampling of programs and tables included.
//
//   ./build/release/bench/programs_bench --benchmark_filter=eca
//
// Every family that does not use floating point is measured with the recipe of its preset: rows a program, length,
// alphabet. `tokens/s` counts the tokens of full rows, `instructions/s` what stepped programs execute, `steps/row` how
// many that is.
#include <benchmark/benchmark.h>

#include <string>

#include "iterate/iteration.h"
#include "iterate/presets.h"
#include "iterate/recipe.h"
#include "randnet/stepped_program.h"

namespace iterand {
namespace {

void ProgramTokens(benchmark::State& state, const std::string& preset) {
  const auto recipe = ResolveRecipe(*LoadPreset(preset));
  if (!recipe.ok()) {
    state.SkipWithError(recipe.status().ToString().c_str());
    return;
  }
  const auto mix = FamilyMix::Make(*recipe);
  const int rows = MaxProgramRows(*recipe);
  const auto length = static_cast<int>(recipe->length());
  const auto program = mix->family(0).NewProgram(rows);
  Block input;
  Block prompt;
  Block output;
  input.Reshape(rows, length);
  output.Reshape(rows, length);
  prompt.Reshape(rows, 0);
  Rng noise(1, 1);
  for (int r = 0; r < rows; ++r) {
    for (int t = 0; t < length; ++t) {
      input.row(r)[t] = static_cast<Symbol>(noise.Below(static_cast<std::uint32_t>(recipe->alphabet_size())));
    }
  }
  const auto* stepped = dynamic_cast<const SteppedProgram*>(program.get());
  std::uint64_t steps = 0;
  RandomKey key;
  for (auto _ : state) {
    ++key.round;
    Rng rng = MakeRng(key, Purpose::kSampleProgram);
    program->Sample(rng);
    program->Run(input.view(), prompt.view(), RowRng(key), output.mutable_view());
    benchmark::DoNotOptimize(output.row(0));
    benchmark::ClobberMemory();
    if (stepped != nullptr) steps += stepped->steps();
  }
  const auto all_rows = static_cast<double>(state.iterations()) * rows;
  state.counters["tokens/s"] = benchmark::Counter(all_rows * length, benchmark::Counter::kIsRate);
  state.counters["rows"] = rows;
  if (stepped != nullptr) {
    state.counters["instructions/s"] = benchmark::Counter(static_cast<double>(steps), benchmark::Counter::kIsRate);
    state.counters["steps/row"] = static_cast<double>(steps) / all_rows;
  }
}

void Register() {
  for (const FamilyEntry& entry : AllFamilies()) {
    const std::string name(entry.name);
    const auto recipe = LoadPreset(name);
    if (!recipe.ok()) continue;  // a family that only begins chains, such as `constant`
    const auto resolved = ResolveRecipe(*recipe);
    if (!resolved.ok() || resolved->has_pool()) continue;
    if (FamilyMix::Make(*resolved)->family(0).flops_per_token() > 0) continue;
    benchmark::RegisterBenchmark(name.c_str(), [name](benchmark::State& state) {
      ProgramTokens(state, name);
    })->Unit(benchmark::kMicrosecond);
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
