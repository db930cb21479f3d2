#include "iterate/pool.h"

#include <algorithm>
#include <numeric>

#include "randnet/base/noise.h"

namespace iterand {
namespace {

// A fresh row of the ablation draws from row numbers above those of the rows written into the pool.
constexpr std::uint64_t kFreshRows = std::uint64_t{1} << 32;

}  // namespace

Pool::Pool(const StreamPlan& plan)
    : Iteration(plan.mix(), plan.max_program_rows()),
      settings_(*plan.pool()),
      mix_(plan.mix()),
      length_(plan.layout().symbols()),
      alphabet_(plan.alphabet()) {
  state_.rows.Reshape(settings_.pool_rows, length_);
  state_.origins.resize(static_cast<std::size_t>(settings_.pool_rows));
  input_.Reshape(settings_.program_rows, length_);
  output_.Reshape(settings_.program_rows, length_);
  const int most = settings_.MaxEmitted();
  finished_.Reshape(most, length_);
  finished_origins_.resize(static_cast<std::size_t>(most));
  if (!settings_.iterate) constant_inputs_.resize(static_cast<std::size_t>(settings_.program_rows));
}

void Pool::Start(const RandomKey& key) {
  family_ = mix_.Fixed(key);
  RandomKey first = key;
  first.round = 0;
  for (int r = 0; r < state_.rows.rows(); ++r) {
    // Round 0 overwrites rows from the same purpose with small row numbers. These numbers are above them.
    Rng rng = MakeRng(first, Purpose::kConstant, 2 * kFreshRows + static_cast<std::uint64_t>(r));
    FillConstant(rng, alphabet_, {state_.rows.row(r), static_cast<std::size_t>(length_)});
  }
  std::fill(state_.origins.begin(), state_.origins.end(), RowOrigin{});
}

void Pool::set_state(const PoolState& state, const RandomKey& key) {
  family_ = mix_.Fixed(key);
  state_ = state;
}

std::span<const int> Pool::DrawRows(Rng& rng, int count) {
  order_.resize(static_cast<std::size_t>(state_.rows.rows()));
  std::iota(order_.begin(), order_.end(), 0);
  const auto rows = static_cast<std::uint32_t>(order_.size());
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(count); ++i) {
    std::swap(order_[i], order_[i + rng.Below(rows - i)]);
  }
  return {order_.data(), static_cast<std::size_t>(count)};
}

void Pool::Emit(int row) {
  if (observer_ != nullptr) observer_->OnEmit(row);
  std::copy_n(state_.rows.row(row), length_, finished_.row(finished_count_));
  finished_origins_[static_cast<std::size_t>(finished_count_)] = state_.origins[static_cast<std::size_t>(row)];
  ++finished_count_;
}

void Pool::Evict(int row) {
  if (settings_.evict && state_.origins[static_cast<std::size_t>(row)].depth > 0) Emit(row);
}

void Pool::Refresh(const RandomKey& key) {
  Rng select = MakeRng(key, Purpose::kSelect);
  const std::span<const int> fresh = DrawRows(select, settings_.constant_rows + settings_.noise_rows);
  for (std::size_t i = 0; i < fresh.size(); ++i) {
    const int row = fresh[i];
    const bool constant = i < static_cast<std::size_t>(settings_.constant_rows);
    Evict(row);
    if (observer_ != nullptr) observer_->OnFresh(row, constant);
    const std::span<Symbol> target(state_.rows.row(row), static_cast<std::size_t>(length_));
    Rng rng = MakeRng(key, constant ? Purpose::kConstant : Purpose::kNoise, i);
    if (constant) {
      FillConstant(rng, alphabet_, target);
    } else {
      FillNoise(rng, alphabet_, target);
    }
    state_.origins[static_cast<std::size_t>(row)] = RowOrigin{};
  }
}

bool Pool::FreshRow(const RandomKey& key, int row, Symbol* out) {
  const std::uint64_t number = kFreshRows + static_cast<std::uint64_t>(row);
  Rng select = MakeRng(key, Purpose::kSelect, number);
  const auto kinds = static_cast<std::uint32_t>(settings_.constant_rows + settings_.noise_rows);
  const std::span<Symbol> target(out, static_cast<std::size_t>(length_));
  const bool constant = select.Below(kinds) < static_cast<std::uint32_t>(settings_.constant_rows);
  Rng rng = MakeRng(key, constant ? Purpose::kConstant : Purpose::kNoise, number);
  if (constant) {
    FillConstant(rng, alphabet_, target);
  } else {
    FillNoise(rng, alphabet_, target);
  }
  return constant;
}

int Pool::CutPrompts(const RandomKey& key, int prompt_length) {
  const int rows = input_.rows();
  prompt_.Reshape(rows, prompt_length);
  Rng choose = MakeRng(key, Purpose::kSelect, 1);
  const int offset = DrawPromptOffset(choose, length_, prompt_length);
  const std::span<const int> prompts = DrawRows(choose, rows);
  for (int r = 0; r < rows; ++r) {
    if (settings_.iterate) {
      std::copy_n(state_.rows.row(prompts[static_cast<std::size_t>(r)]) + offset, prompt_length, prompt_.row(r));
    } else {
      FreshRow(key, rows + r, input_.row(r));  // as scratch memory: the inputs are written below
      std::copy_n(input_.row(r) + offset, prompt_length, prompt_.row(r));
    }
  }
  const std::span<const int> inputs = DrawRows(choose, rows);
  targets_.assign(inputs.begin(), inputs.end());
  for (int r = 0; r < rows; ++r) {
    const auto at = static_cast<std::size_t>(r);
    if (settings_.iterate) {
      std::copy_n(state_.rows.row(targets_[at]), length_, input_.row(r));
    } else {
      constant_inputs_[at] = FreshRow(key, r, input_.row(r)) ? 1 : 0;
    }
  }
  return offset;
}

void Pool::WriteBack(const RoundProgram& round) {
  for (int r = 0; r < output_.rows(); ++r) {
    const int row = targets_[static_cast<std::size_t>(r)];
    Evict(row);
    RowOrigin& origin = state_.origins[static_cast<std::size_t>(row)];
    const int depth = round.reads_input && settings_.iterate ? std::min(origin.depth + 1, 65535) : 1;
    origin.depth = static_cast<std::uint16_t>(depth);
    origin.family = static_cast<std::uint16_t>(round.family);
    std::copy_n(output_.row(r), length_, state_.rows.row(row));
  }
}

FinishedRows Pool::Advance(const RandomKey& key) {
  finished_count_ = 0;
  Refresh(key);
  const RoundProgram round = SampleProgram(key, family_, /*readers_only=*/false);
  if (stopped()) return {};
  const int offset = CutPrompts(key, round.program.prompt_length());
  round.program.Run(input_.view(), prompt_.view(), RowRng(key), output_.mutable_view());
  generated_ += static_cast<std::uint64_t>(output_.rows()) * static_cast<std::uint64_t>(length_);
  WriteBack(round);
  if (observer_ != nullptr) {
    observer_->OnRun({.family = round.family,
                      .program = round.program,
                      .slots = targets_,
                      .constant_inputs = constant_inputs_,
                      .prompt_offset = offset,
                      .input = input_,
                      .prompt = prompt_});
  }
  if (!settings_.evict) {
    Rng emit = MakeRng(key, Purpose::kSelect, 2);
    for (const int row : DrawRows(emit, settings_.emit_rows)) Emit(row);
  }
  const auto count = static_cast<std::size_t>(finished_count_);
  return {.rows = BlockView(finished_.row(0), finished_count_, length_),
          .origins = {finished_origins_.data(), count},
          .masks = {}};
}

}  // namespace iterand
