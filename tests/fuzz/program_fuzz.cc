// Programs: given texts against an interpreter of a few lines, and random ones of tape_machine and brainphoque with
// parameters of all sizes. Their rows must consist of the machine's symbols, and be the same a second time.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "randnet/family.h"
#include "randnet/machines/brainphoque.h"
#include "randnet/machines/tape_machine.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/support/tape.h"

namespace iterand {
namespace {

constexpr char kInstructions[] = "+-><[].,";

void RunGiven(FuzzInput& data) {
  TapeLimits limits;
  limits.max_steps = data.Between(0, 5000);
  limits.cells = data.Between(1, 300);
  limits.symbols = data.Between(2, 256);
  limits.repeat = data.Flag();
  const auto capacity = data.Between<std::size_t>(1, 600);
  const auto piece = data.Between<std::uint64_t>(1, 400);
  std::vector<Symbol> input(data.Between<std::size_t>(0, 20));
  for (Symbol& symbol : input) symbol = data.Between<Symbol>(0, 65535);
  const bool instructions_only = data.Flag();
  std::string text = data.Rest();
  if (instructions_only) {
    for (char& c : text) c = kInstructions[static_cast<unsigned char>(c) % 8];
  }
  const absl::StatusOr<TapeProgram> program = TapeProgram::Parse(text);
  if (!program.ok()) {
    Expect(absl::IsInvalidArgument(program.status()), "a bad program is an InvalidArgument");
    return;
  }
  const TapeOutcome oracle = Interpret(program->text(), input, limits, capacity);
  std::vector<Symbol> output(capacity);
  absl::StatusOr<TapeRun> run = TapeRun::Start(*program, input, limits, output);
  Expect(run.ok(), "limits within range are taken");
  while (!run->over()) run->Advance(piece);
  const TapeResult result = run->result();
  Expect(result.steps == oracle.steps, "as many steps");
  Expect(result.halt == oracle.halt, "the same end");
  output.resize(result.written);
  Expect(output == oracle.output, "the same output");
}

// An integer knob that is sometimes out of range.
void Set(v1::Integer* knob, FuzzInput& data, std::int64_t most) {
  if (data.Flag()) return;  // the default
  if (data.Flag()) {
    knob->set_fixed(data.Between<std::int64_t>(-1, most + 1));
  } else {
    knob->mutable_log_uniform()->set_low(data.Between<std::int64_t>(0, most));
    knob->mutable_log_uniform()->set_high(data.Between<std::int64_t>(0, most));
  }
}

v1::Family DrawFamily(FuzzInput& data) {
  v1::Family family;
  if (data.Flag()) {
    v1::Brainphoque& config = *family.mutable_brainphoque();
    Set(config.mutable_cells(), data, 4096);
    Set(config.mutable_symbols(), data, 65536);
    Set(config.mutable_max_steps(), data, 3000);
    Set(config.mutable_max_instructions(), data, 4096);
    Set(config.mutable_attempts(), data, 8);
    config.set_prior(data.Flag() ? v1::Brainphoque::UNIFORM : v1::Brainphoque::ORDER_2);
    config.set_reads(data.Flag());
    config.set_shared(data.Flag());
    return family;
  }
  v1::TapeMachine& config = *family.mutable_tape_machine();
  Set(config.mutable_program_length(), data, 4096);
  Set(config.mutable_cells(), data, 65536);
  Set(config.mutable_symbols(), data, 256);
  Set(config.mutable_steps_per_token(), data, 64);
  Set(config.mutable_mutations(), data, 200);
  config.set_repeat(data.Flag());
  config.set_input(data.Flag() ? v1::TapeMachine::ROW : v1::TapeMachine::RANDOM);
  config.set_cross_probability(data.Share());
  for (int n = data.Between(0, 4); n > 0; --n) config.add_programs(data.Text(200));
  if (!config.programs().empty()) config.set_archive_share(data.Share());
  return family;
}

void RunRandom(FuzzInput& data) {
  FamilyContext context;
  context.alphabet = data.Between(2, 65536);
  context.length = data.Between(16, 200);
  const int rows = data.Between(1, 9);
  const RandomKey key{.seed = data.Bits()};
  v1::Family config = DrawFamily(data);
  // JSON takes no other texts, and protobuf warns about each.
  for (const std::string& text : config.tape_machine().programs()) {
    if (std::any_of(text.begin(), text.end(), [](char c) { return c < 0; })) return;
  }
  const FamilyEntry& entry = config.has_brainphoque() ? kBrainphoqueEntry : kTapeMachineEntry;
  entry.Resolve(config);
  const auto family = entry.Make(config, context, "families[0]");
  if (!family.ok()) {
    Expect(absl::IsInvalidArgument(family.status()), "bad parameters are an InvalidArgument");
    return;
  }
  Block input;
  Block prompt;
  Block outputs[2];
  input.Reshape(rows, context.length);
  Rng noise = MakeRng(key, Purpose::kNoise);
  for (int r = 0; r < rows; ++r) {
    const std::span<Symbol> row = input.mutable_view().row_span(r);
    for (Symbol& symbol : row) {
      symbol = static_cast<Symbol>(noise.Below(static_cast<std::uint32_t>(context.alphabet)));
    }
  }
  for (Block& output : outputs) {
    const std::unique_ptr<Program> program = (*family)->NewProgram(rows);
    Rng rng = MakeRng(key, Purpose::kSampleProgram);
    program->Sample(rng);
    prompt.Reshape(rows, program->prompt_length());
    output.Reshape(rows, context.length);
    program->Run(input.view(), prompt.view(), RowRng(key), output.mutable_view());
    Expect(!program->Describe().empty(), "a program can be described");
  }
  for (int r = 0; r < rows; ++r) {
    for (int t = 0; t < context.length; ++t) {
      Expect(outputs[0].row(r)[t] < context.alphabet, "symbols of the alphabet");
      Expect(outputs[0].row(r)[t] == outputs[1].row(r)[t], "a program does the same again");
    }
  }
}

}  // namespace
}  // namespace iterand

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  iterand::FuzzInput data(bytes, size);
  if (data.Flag()) {
    iterand::RunGiven(data);
  } else {
    iterand::RunRandom(data);
  }
  return 0;
}
