#include "iterate/pool.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "iterate/layout.h"
#include "randnet/check.h"
#include "randnet/constant.h"
#include "randnet/uniform.h"

namespace iterand {
namespace {

// A fresh row of the ablation draws from row numbers above those of the rows written into the pool.
constexpr std::uint64_t kFreshRows = std::uint64_t{1} << 32;

}  // namespace

void Pool::Resolve(v1::Pool& config) {
  if (!config.has_pool_rows()) config.set_pool_rows(2080);
  if (!config.has_program_rows()) config.set_program_rows(104);
  if (!config.has_constant_rows()) config.set_constant_rows(50);
  if (!config.has_noise_rows()) config.set_noise_rows(50);
  if (config.emission() == v1::Pool::EMISSION_UNSPECIFIED) config.set_emission(v1::Pool::SAMPLE);
  if (!config.has_emit_rows()) {
    config.set_emit_rows(config.emission() == v1::Pool::SAMPLE ? std::max<std::int64_t>(1, config.program_rows() / 2)
                                                               : 0);
  }
  if (!config.has_iterate()) config.set_iterate(true);
  if (!config.has_endless()) config.set_endless(true);
}

double Pool::RowsPerEmitted(const v1::Pool& config) {
  if (config.emission() == v1::Pool::EVICT) return 1;
  return static_cast<double>(config.program_rows()) / static_cast<double>(config.emit_rows());
}

std::int64_t Pool::MostEmitted(const v1::Pool& config) {
  // EVICT: as many as are overwritten.
  return config.emission() == v1::Pool::EVICT ? config.constant_rows() + config.noise_rows() + config.program_rows()
                                              : config.emit_rows();
}

std::uint64_t Pool::FewestRounds(const v1::Pool& config, std::uint64_t emitted) {
  const auto most = static_cast<std::uint64_t>(MostEmitted(config));
  return (emitted + most - 1) / most;
}

double Pool::MostRounds(const v1::Pool& config, double emitted) {
  if (config.emission() != v1::Pool::EVICT) return std::ceil(emitted / static_cast<double>(config.emit_rows()));
  // A generated row is emitted or still in the pool.
  const double kept = config.endless() ? 0 : static_cast<double>(config.pool_rows());
  return std::ceil((emitted + kept) / static_cast<double>(config.program_rows()));
}

double Pool::StateBytes(const v1::Recipe& recipe) {
  return static_cast<double>(recipe.pool().pool_rows()) *
         (sizeof(Symbol) * SequenceLayout(recipe).symbols() + sizeof(RowOrigin));
}

double Pool::RowBytes(const v1::Recipe& recipe) {
  const v1::Pool& config = recipe.pool();
  // Inputs, prompts and outputs, and what is emitted.
  const auto rows = static_cast<double>(3 * config.program_rows() + MostEmitted(config));
  return StateBytes(recipe) + rows * sizeof(Symbol) * SequenceLayout(recipe).symbols();
}

absl::Status Pool::Check(const v1::Pool& config) {
  const std::int64_t pool = config.pool_rows();
  if (absl::Status s = CheckRange("pool.pool_rows", pool, 1, kMaxPoolRows); !s.ok()) return s;
  const std::string why = ", no more than pool_rows";
  if (absl::Status s =
          CheckRange("pool.program_rows", config.program_rows(), 1, std::min<std::int64_t>(kMaxProgramRows, pool), why);
      !s.ok()) {
    return s;
  }
  if (absl::Status s = CheckRange("pool.constant_rows", config.constant_rows(), 0, pool, why); !s.ok()) return s;
  if (absl::Status s = CheckRange("pool.noise_rows", config.noise_rows(), 0, pool - config.constant_rows(),
                                  ", no more than pool_rows together with constant_rows");
      !s.ok()) {
    return s;
  }
  if (!config.iterate() && config.constant_rows() + config.noise_rows() == 0) {
    return absl::InvalidArgumentError(
        "pool.noise_rows: is 0 like constant_rows, but with iterate false prompts and inputs are such rows; one must "
        "be "
        "positive");
  }
  if (config.emission() == v1::Pool::EVICT) {
    return CheckRange("pool.emit_rows", config.emit_rows(), 0, 0, " with emission EVICT, which emits every row");
  }
  return CheckRange("pool.emit_rows", config.emit_rows(), 1, pool, why);
}

Pool::Pool(const v1::Recipe& recipe, const FamilyMix& mix)
    : mix_(mix),
      programs_(mix, static_cast<int>(recipe.pool().program_rows())),
      config_(recipe.pool()),
      length_(SequenceLayout(recipe).symbols()),
      alphabet_(static_cast<int>(recipe.alphabet_size())) {
  const auto pool_rows = static_cast<int>(config_.pool_rows());
  const auto program_rows = static_cast<int>(config_.program_rows());
  state_.rows.Reshape(pool_rows, length_);
  state_.origins.resize(static_cast<std::size_t>(pool_rows));
  input_.Reshape(program_rows, length_);
  output_.Reshape(program_rows, length_);
  const std::int64_t most = MostEmitted(config_);
  finished_.Reshape(static_cast<int>(most), length_);
  finished_origins_.resize(static_cast<std::size_t>(most));
}

void Pool::Start(const RandomKey& key) {
  family_ = mix_.Fixed(key);
  RandomKey first = key;
  first.round = 0;
  for (int r = 0; r < state_.rows.rows(); ++r) {
    // Round 0 overwrites rows from the same purpose with small row numbers; these lie above them.
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
  if (trace_ != nullptr) trace_->emitted.push_back(row);
  std::copy_n(state_.rows.row(row), length_, finished_.row(finished_count_));
  finished_origins_[static_cast<std::size_t>(finished_count_)] = state_.origins[static_cast<std::size_t>(row)];
  ++finished_count_;
}

void Pool::Evict(int row) {
  if (config_.emission() == v1::Pool::EVICT && state_.origins[static_cast<std::size_t>(row)].depth > 0) Emit(row);
}

bool Pool::FreshRow(const RandomKey& key, int row, Symbol* out) {
  const std::uint64_t number = kFreshRows + static_cast<std::uint64_t>(row);
  Rng select = MakeRng(key, Purpose::kSelect, number);
  const auto kinds = static_cast<std::uint32_t>(config_.constant_rows() + config_.noise_rows());
  const std::span<Symbol> target(out, static_cast<std::size_t>(length_));
  const bool constant = select.Below(kinds) < static_cast<std::uint32_t>(config_.constant_rows());
  if (constant) {
    Rng rng = MakeRng(key, Purpose::kConstant, number);
    FillConstant(rng, alphabet_, target);
  } else {
    Rng rng = MakeRng(key, Purpose::kNoise, number);
    FillNoise(rng, alphabet_, target);
  }
  return constant;
}

FinishedRows Pool::Advance(const RandomKey& key) {
  finished_count_ = 0;
  if (trace_ != nullptr) {
    trace_->restarted = false;
    trace_->fresh.clear();
    trace_->constant_inputs.clear();
    trace_->emitted.clear();
    trace_->emitted_before = config_.emission() == v1::Pool::EVICT;
  }
  const auto constant_rows = static_cast<int>(config_.constant_rows());
  const auto noise_rows = static_cast<int>(config_.noise_rows());
  Rng select = MakeRng(key, Purpose::kSelect);
  const std::span<const int> fresh = DrawRows(select, constant_rows + noise_rows);
  for (int i = 0; i < constant_rows + noise_rows; ++i) {
    const int row = fresh[static_cast<std::size_t>(i)];
    Evict(row);
    if (trace_ != nullptr) trace_->fresh.push_back({row, i < constant_rows});
    const std::span<Symbol> target(state_.rows.row(row), static_cast<std::size_t>(length_));
    if (i < constant_rows) {
      Rng rng = MakeRng(key, Purpose::kConstant, static_cast<std::uint64_t>(i));
      FillConstant(rng, alphabet_, target);
    } else {
      Rng rng = MakeRng(key, Purpose::kNoise, static_cast<std::uint64_t>(i));
      FillNoise(rng, alphabet_, target);
    }
    state_.origins[static_cast<std::size_t>(row)] = RowOrigin{};
  }

  int family = family_;
  if (family < 0) {
    Rng rng = MakeRng(key, Purpose::kMix);
    family = mix_.Draw(rng, /*readers_only=*/false);
  }
  const bool reads = mix_.family(family).reads_input();
  Program& program = programs_.Get(family);
  program.set_stop(stop_);
  Rng sample = MakeRng(key, Purpose::kSampleProgram);
  program.Sample(sample);
  if (stopped()) return {};

  const int rows = output_.rows();
  const int prompt_length = program.prompt_length();
  prompt_.Reshape(rows, prompt_length);
  Rng choose = MakeRng(key, Purpose::kSelect, 1);
  const auto offset = static_cast<int>(choose.Below(static_cast<std::uint32_t>(length_ - prompt_length + 1)));
  const std::span<const int> prompts = DrawRows(choose, rows);
  for (int r = 0; r < rows; ++r) {
    if (config_.iterate()) {
      std::copy_n(state_.rows.row(prompts[static_cast<std::size_t>(r)]) + offset, prompt_length, prompt_.row(r));
    } else {
      FreshRow(key, rows + r, input_.row(r));  // borrowed: the inputs are written below
      std::copy_n(input_.row(r) + offset, prompt_length, prompt_.row(r));
    }
  }
  const std::span<const int> inputs = DrawRows(choose, rows);
  targets_.assign(inputs.begin(), inputs.end());
  for (int r = 0; r < rows; ++r) {
    if (config_.iterate()) {
      std::copy_n(state_.rows.row(targets_[static_cast<std::size_t>(r)]), length_, input_.row(r));
    } else {
      const bool constant = FreshRow(key, r, input_.row(r));
      if (trace_ != nullptr) trace_->constant_inputs.push_back(constant);
    }
  }
  program.Run(input_.view(), prompt_.view(), RowRng(key), output_.mutable_view());
  generated_ += static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(length_);
  if (trace_ != nullptr) {
    trace_->family = family;
    trace_->program = program.Describe();
    trace_->slots = targets_;
    trace_->prompt_length = prompt_length;
    trace_->prompt_offset = offset;
    trace_->input = input_;
    trace_->prompt = prompt_;
    trace_->output = output_;
  }

  for (int r = 0; r < rows; ++r) {
    const int row = targets_[static_cast<std::size_t>(r)];
    Evict(row);
    RowOrigin& origin = state_.origins[static_cast<std::size_t>(row)];
    origin.depth = static_cast<std::uint16_t>(reads && config_.iterate() ? std::min(origin.depth + 1, 65535) : 1);
    origin.family = static_cast<std::uint16_t>(family);
    std::copy_n(output_.row(r), length_, state_.rows.row(row));
  }
  if (config_.emission() != v1::Pool::EVICT) {
    Rng emit = MakeRng(key, Purpose::kSelect, 2);
    for (const int row : DrawRows(emit, static_cast<int>(config_.emit_rows()))) Emit(row);
  }
  const auto count = static_cast<std::size_t>(finished_count_);
  return {.rows = BlockView(finished_.row(0), finished_count_, length_),
          .origins = {finished_origins_.data(), count},
          .masks = {}};
}

}  // namespace iterand
