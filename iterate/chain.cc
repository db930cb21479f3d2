#include "iterate/chain.h"

#include <algorithm>
#include <numeric>

#include "randnet/base/noise.h"

namespace iterand {

Chain::Chain(const StreamPlan& plan)
    : Iteration(plan.mix(), plan.max_program_rows()),
      settings_(*plan.chain()),
      mix_(plan.mix()),
      length_(plan.layout().symbols()),
      alphabet_(plan.alphabet()),
      masked_(plan.recipe().loss_mask()) {
  const int most = plan.max_program_rows();
  input_.Reshape(most, length_);
  output_.Reshape(most, length_);
  if (masked_) masks_.resize(static_cast<std::size_t>(most) * static_cast<std::size_t>(length_));
  if (plan.recipe().band().has_trial()) {
    trial_.emplace(plan);
    if (plan.recipe().band().trial().has_stages()) staged_trial_.emplace(plan);
  }
  origins_.reserve(static_cast<std::size_t>(most));
  order_.reserve(static_cast<std::size_t>(most));
}

void Chain::Start(const RandomKey& key) {
  family_ = mix_.Fixed(key);
  rounds_ = 0;
  max_depth_ = 0;
}

void Chain::SetNoise(const RandomKey& key, int row) {
  if (observer_ != nullptr) observer_->OnFresh(row, /*constant=*/false);
  Rng rng = MakeRng(key, Purpose::kNoise, static_cast<std::uint64_t>(row));
  FillNoise(rng, alphabet_, {input_.row(row), static_cast<std::size_t>(length_)});
  origins_[static_cast<std::size_t>(row)].depth = 0;
}

void Chain::SetConstant(const RandomKey& key, int row) {
  if (observer_ != nullptr) observer_->OnFresh(row, /*constant=*/true);
  Rng rng = MakeRng(key, Purpose::kConstant, static_cast<std::uint64_t>(row));
  FillConstant(rng, alphabet_, {input_.row(row), static_cast<std::size_t>(length_)});
  origins_[static_cast<std::size_t>(row)].depth = 0;
}

void Chain::BeginChain(const RandomKey& key) {
  Rng shape = MakeRng(key, Purpose::kShape);
  const int rows = settings_.rows.Draw(shape);
  max_depth_ = settings_.max_depth.Draw(shape);
  rounds_ = 0;
  filled_ = applied_ = rejected_ = false;
  input_.Reshape(rows, length_);
  output_.Reshape(rows, length_);
  origins_.assign(static_cast<std::size_t>(rows), RowOrigin{});
}

void Chain::FillInitial(const RandomKey& key) {
  Rng select = MakeRng(key, Purpose::kSelect);
  for (int r = 0; r < input_.rows(); ++r) {
    if ((select.Next() >> 8) < settings_.initial_constant) {
      SetConstant(key, r);
    } else {
      SetNoise(key, r);
    }
  }
}

void Chain::Refresh(const RandomKey& key) {
  Rng select = MakeRng(key, Purpose::kSelect);
  for (int r = 0; r < input_.rows(); ++r) {
    const std::uint32_t ticket = select.Next() >> 8;
    if (ticket < settings_.noise) {
      SetNoise(key, r);
    } else if (ticket < settings_.noise_or_constant) {
      SetConstant(key, r);
    }
  }
}

void Chain::BeginRound(const RandomKey& key) {
  if (rounds_ >= max_depth_) {
    BeginChain(key);
  } else if (applied_ && !rejected_) {
    // The last round's output becomes this round's input. It stayed in place until now as the round's finished rows.
    std::swap(input_, output_);
    Refresh(key);
  }
}

int Chain::CutPrompts(const RandomKey& key, int prompt_length) {
  const int rows = input_.rows();
  prompt_.Reshape(rows, prompt_length);
  if (prompt_length == 0) return 0;
  Rng select = MakeRng(key, Purpose::kSelect, 1);
  const int offset = DrawPromptOffset(select, length_, prompt_length);
  order_.resize(static_cast<std::size_t>(rows));
  std::iota(order_.begin(), order_.end(), 0);
  Shuffle<int>(select, order_);
  for (int r = 0; r < rows; ++r) {
    const Symbol* from = input_.row(order_[static_cast<std::size_t>(r)]) + offset;
    std::copy_n(from, prompt_length, prompt_.row(r));
  }
  return offset;
}

bool Chain::Run(const RandomKey& key, Program& program) {
  const TrialRows rows{.input = input_, .prompt = prompt_, .key = key};
  if (staged_trial_ && program.watchable()) return staged_trial_->Run(program, rows, output_, generated_);
  if (trial_ && !trial_->Passes(program, rows, generated_)) return false;
  program.Run(input_.view(), prompt_.view(), RowRng(key), output_.mutable_view());
  generated_ += static_cast<std::uint64_t>(input_.rows()) * static_cast<std::uint64_t>(length_);
  return true;
}

FinishedRows Chain::Advance(const RandomKey& key) {
  BeginRound(key);
  const RoundProgram round = SampleProgram(key, family_, /*readers_only=*/applied_);
  if (stopped()) return {.rows = {}, .origins = {}, .masks = {}, .rejected = true};
  const int prompt_length = round.program.prompt_length();
  // x_0 is filled only if something reads it; filling it can cost as much as the program.
  if (!filled_ && (round.reads_input || prompt_length > 0)) {
    FillInitial(key);
    filled_ = true;
  }
  const int offset = CutPrompts(key, prompt_length);
  ++rounds_;
  // A family that does not read its input cannot continue a chain. Another family can, where rounds draw theirs.
  if (!round.reads_input && (family_ >= 0 || !mix_.any_reads_input())) max_depth_ = rounds_;
  rejected_ = !Run(key, round.program);
  if (!rejected_) filled_ = applied_ = true;
  if (observer_ != nullptr) Observe(round, offset);
  if (rejected_) return {.rows = {}, .origins = {}, .masks = {}, .rejected = true};
  return Finish(round);
}

FinishedRows Chain::Finish(const RoundProgram& round) {
  for (RowOrigin& origin : origins_) {
    origin.family = static_cast<std::uint16_t>(round.family);
    origin.depth = static_cast<std::uint16_t>(round.reads_input ? origin.depth + 1 : 1);
  }
  const int rows = output_.rows();
  BasicBlockView<const std::uint8_t> masks;
  if (masked_) {
    const BasicBlockView<std::uint8_t> writable(masks_.data(), rows, length_);
    for (int r = 0; r < rows; ++r) round.program.MarkTargets(r, output_.view().row_span(r), writable.row_span(r));
    masks = writable;
  }
  return {.rows = output_.view(), .origins = origins_, .masks = masks};
}

void Chain::Observe(const RoundProgram& round, int prompt_offset) {
  order_.resize(rejected_ ? 0 : static_cast<std::size_t>(output_.rows()));
  std::iota(order_.begin(), order_.end(), 0);
  observer_->OnRun({.family = round.family,
                    .program = round.program,
                    .slots = order_,
                    .constant_inputs = {},
                    .prompt_offset = prompt_offset,
                    .input = input_,
                    .prompt = prompt_});
  for (const int slot : order_) observer_->OnEmit(slot);
}

}  // namespace iterand
