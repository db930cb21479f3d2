#include "iterate/chain.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "iterate/layout.h"
#include "randnet/check.h"
#include "randnet/constant.h"
#include "randnet/uniform.h"

namespace iterand {
namespace {

// The code length of a row of `length` symbols that begins with the n at `beginning`.
std::uint64_t Extrapolate(ComplexityMeter& meter, const Symbol* beginning, int n, int length) {
  const int half = n / 2;
  const std::uint64_t bits = meter.MeasureFirst(beginning, n);
  const std::uint64_t before = meter.MeasureFirst(beginning, half);
  return bits + (bits - std::min(bits, before)) * static_cast<std::uint64_t>(length - n) /
                    static_cast<std::uint64_t>(n - half);
}

}  // namespace

// Gives a program up at the first stage at which no row is promising.
class Chain::Stages final : public RunWatch {
 public:
  Stages(const v1::Band& band, int alphabet, int length) : meter_(alphabet, length), length_(length) {
    const v1::Band::Trial::Stages& config = band.trial().stages();
    for (std::int64_t n = config.first(); n < length; n *= 2) {
      const double margin = config.margin() * 128.0 / static_cast<double>(n);
      stages_.push_back(
          {static_cast<int>(n), ComplexityBand(band.low() - margin, band.high() + margin, meter_.plain())});
    }
  }

  // Before a run that writes to `rows`. Stages that its prompts take up are left out.
  void Begin(BlockView rows, int prompt_length) {
    rows_ = rows;
    promising_ = true;
    stage_ = 0;
    while (stage_ < stages_.size() && stages_[stage_].symbols <= prompt_length) ++stage_;
    SetNext();
  }

  bool Look() override {
    promising_ = false;
    for (int r = 0; r < rows_.rows() && !promising_; ++r) {
      promising_ = stages_[stage_].band.Contains(Extrapolate(meter_, rows_.row(r), next(), length_));
    }
    if (promising_) {
      ++stage_;
      SetNext();
    }
    return promising_;
  }

  bool promising() const { return promising_; }

 private:
  struct Stage {
    int symbols;
    ComplexityBand band;
  };

  // Behind the end of the rows where there is no further stage.
  void SetNext() { set_next(stage_ < stages_.size() ? stages_[stage_].symbols : length_ + 1); }

  ComplexityMeter meter_;
  int length_;
  std::vector<Stage> stages_;
  std::size_t stage_ = 0;
  BlockView rows_;
  bool promising_ = true;
};

void Chain::Resolve(v1::Chain& config) {
  DefaultUniform(config.mutable_rows(), 6, 8);
  DefaultUniform(config.mutable_max_depth(), 6, 8);
  if (!config.has_noise_share()) config.set_noise_share(0.02);
  if (!config.has_constant_share()) config.set_constant_share(0.02);
  if (!config.has_initial_constant_share()) config.set_initial_constant_share(0.1);
}

absl::Status Chain::Check(const v1::Chain& config) {
  if (auto rows = IntegerKnob::Make(config.rows(), "chain.rows", 1, kMaxRows); !rows.ok()) return rows.status();
  if (auto depth = IntegerKnob::Make(config.max_depth(), "chain.max_depth", 1, kMaxDepth); !depth.ok()) {
    return depth.status();
  }
  if (absl::Status s = CheckShare("chain.noise_share", config.noise_share()); !s.ok()) return s;
  if (absl::Status s = CheckShare("chain.constant_share", config.constant_share()); !s.ok()) return s;
  if (config.noise_share() + config.constant_share() > 1) {
    return absl::InvalidArgumentError(absl::StrCat("chain.constant_share: ", config.constant_share(),
                                                   " and chain.noise_share ", config.noise_share(),
                                                   " add up to more than 1, must be at most 1 together"));
  }
  return CheckShare("chain.initial_constant_share", config.initial_constant_share());
}

int Chain::MinRows(const v1::Chain& config) {
  return IntegerKnob::Make(config.rows(), "chain.rows", 1, kMaxRows)->low();
}

int Chain::MaxRows(const v1::Chain& config) {
  return IntegerKnob::Make(config.rows(), "chain.rows", 1, kMaxRows)->high();
}

double Chain::RowBytes(const v1::Recipe& recipe) {
  // Inputs, outputs and prompts, what a trial writes, and the mask.
  const double blocks = recipe.band().has_trial() ? 4 : 3;
  const double symbol = blocks * sizeof(Symbol) + (recipe.loss_mask() ? 1 : 0);
  return symbol * MaxRows(recipe.chain()) * SequenceLayout(recipe).symbols();
}

absl::StatusOr<std::unique_ptr<Iteration>> Chain::Make(const v1::Recipe& recipe, const FamilyMix& mix) {
  auto rows = IntegerKnob::Make(recipe.chain().rows(), "chain.rows", 1, kMaxRows);
  if (!rows.ok()) return rows.status();
  auto depth = IntegerKnob::Make(recipe.chain().max_depth(), "chain.max_depth", 1, kMaxDepth);
  if (!depth.ok()) return depth.status();
  return std::unique_ptr<Iteration>(new Chain(recipe, mix, *std::move(rows), *std::move(depth)));
}

Chain::Chain(const v1::Recipe& recipe, const FamilyMix& mix, IntegerKnob rows, IntegerKnob depth)
    : mix_(mix),
      programs_(mix, rows.high()),
      rows_knob_(std::move(rows)),
      depth_knob_(std::move(depth)),
      length_(SequenceLayout(recipe).symbols()),
      alphabet_(static_cast<int>(recipe.alphabet_size())),
      initial_constant_(ShareThreshold(recipe.chain().initial_constant_share())),
      noise_(ShareThreshold(recipe.chain().noise_share())),
      noise_or_constant_(noise_ + ShareThreshold(recipe.chain().constant_share())),
      masked_(recipe.loss_mask()) {
  const int most = rows_knob_.high();
  input_.Reshape(most, length_);
  output_.Reshape(most, length_);
  if (masked_) masks_.resize(static_cast<std::size_t>(most) * static_cast<std::size_t>(length_));
  if (recipe.band().has_trial()) {
    const v1::Band::Trial& trial = recipe.band().trial();
    trial_rows_ = static_cast<int>(trial.rows());
    trial_symbols_ = static_cast<int>(std::min<std::int64_t>(trial.symbols(), length_));
    extrapolate_ = trial.extrapolate();
    trial_meter_ = std::make_unique<ComplexityMeter>(alphabet_, trial_symbols_);
    trial_band_.emplace(recipe.band().low() - trial.margin(), recipe.band().high() + trial.margin(),
                        extrapolate_ ? ComplexityMeter::Plain(alphabet_, length_) : trial_meter_->plain());
    trial_output_.Reshape(std::min(trial_rows_, most), trial_symbols_);
    if (trial.has_stages()) stages_ = std::make_unique<Stages>(recipe.band(), alphabet_, length_);
  }
  origins_.reserve(static_cast<std::size_t>(most));
  order_.reserve(static_cast<std::size_t>(most));
}

Chain::~Chain() = default;

void Chain::Start(const RandomKey& key) {
  family_ = mix_.Fixed(key);
  rounds_ = 0;
  max_depth_ = 0;
}

void Chain::SetNoise(const RandomKey& key, int row) {
  if (trace_ != nullptr) trace_->fresh.push_back({row, false});
  Rng rng = MakeRng(key, Purpose::kNoise, static_cast<std::uint64_t>(row));
  FillNoise(rng, alphabet_, {input_.row(row), static_cast<std::size_t>(length_)});
  origins_[static_cast<std::size_t>(row)].depth = 0;
}

void Chain::SetConstant(const RandomKey& key, int row) {
  if (trace_ != nullptr) trace_->fresh.push_back({row, true});
  Rng rng = MakeRng(key, Purpose::kConstant, static_cast<std::uint64_t>(row));
  FillConstant(rng, alphabet_, {input_.row(row), static_cast<std::size_t>(length_)});
  origins_[static_cast<std::size_t>(row)].depth = 0;
}

void Chain::Begin(const RandomKey& key) {
  Rng shape = MakeRng(key, Purpose::kShape);
  const int rows = rows_knob_.Draw(shape);
  max_depth_ = depth_knob_.Draw(shape);
  rounds_ = 0;
  filled_ = applied_ = given_up_ = false;
  input_.Reshape(rows, length_);
  output_.Reshape(rows, length_);
  origins_.assign(static_cast<std::size_t>(rows), RowOrigin{});
}

void Chain::FillInitial(const RandomKey& key) {
  Rng select = MakeRng(key, Purpose::kSelect);
  for (int r = 0; r < input_.rows(); ++r) {
    if ((select.Next() >> 8) < initial_constant_) {
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
    if (ticket < noise_) {
      SetNoise(key, r);
    } else if (ticket < noise_or_constant_) {
      SetConstant(key, r);
    }
  }
}

bool Chain::Promising(const RandomKey& key, Program& program) {
  const int rows = std::min(trial_rows_, input_.rows());
  if (prompt_.length() >= trial_symbols_) return true;
  trial_output_.Reshape(rows, trial_symbols_);
  program.Run(BlockView(input_.row(0), rows, trial_symbols_, length_),
              BlockView(prompt_.row(0), rows, prompt_.length()), RowRng(key), trial_output_.mutable_view());
  generated_ += static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(trial_symbols_);
  for (int r = 0; r < rows; ++r) {
    const Symbol* const row = trial_output_.row(r);
    const std::uint64_t bits =
        extrapolate_ ? Extrapolate(*trial_meter_, row, trial_symbols_, length_) : trial_meter_->Measure(row);
    if (trial_band_->Contains(bits)) return true;  // NOLINT(bugprone-unchecked-optional-access): set with a trial
  }
  return false;
}

// False if the program was given up.
bool Chain::RunInStages(const RandomKey& key, Program& program) {
  stages_->Begin(output_.view(), prompt_.length());
  program.set_watch(stages_.get());
  program.Run(input_.view(), prompt_.view(), RowRng(key), output_.mutable_view());
  program.set_watch(nullptr);
  const bool stopped = !stages_->promising();
  // Where rows were not written side by side, nobody has looked yet.
  while (stages_->promising() && stages_->next() < length_) stages_->Look();
  const int written = stopped ? stages_->next() : length_;
  generated_ += static_cast<std::uint64_t>(input_.rows()) * static_cast<std::uint64_t>(written);
  return stages_->promising();
}

FinishedRows Chain::Advance(const RandomKey& key) {
  const bool restarted = rounds_ >= max_depth_;
  if (trace_ != nullptr) {
    trace_->fresh.clear();
    trace_->restarted = restarted;
  }
  if (restarted) {
    Begin(key);
  } else if (applied_ && !given_up_) {
    // The last round's output is this round's input. (Kept until now: it was lent out as finished rows.)
    std::swap(input_, output_);
    Refresh(key);
  }
  int family = family_;
  if (family < 0) {
    Rng rng = MakeRng(key, Purpose::kMix);
    family = mix_.Draw(rng, /*readers_only=*/applied_);
  }
  const bool reads = mix_.family(family).reads_input();
  Program& program = programs_.Get(family);
  program.set_stop(stop_);
  Rng sample = MakeRng(key, Purpose::kSampleProgram);
  program.Sample(sample);
  if (stopped()) return {.rows = {}, .origins = {}, .masks = {}, .given_up = true};

  const int rows = input_.rows();
  const int prompt_length = program.prompt_length();
  // What nobody looks at need not be made: for the cheapest families the first rows would cost as much as the program.
  if (!filled_ && (reads || prompt_length > 0)) {
    FillInitial(key);
    filled_ = true;
  }
  prompt_.Reshape(rows, prompt_length);
  order_.clear();
  int offset = 0;
  if (prompt_length > 0) {
    Rng select = MakeRng(key, Purpose::kSelect, 1);
    offset = static_cast<int>(select.Below(static_cast<std::uint32_t>(length_ - prompt_length + 1)));
    order_.resize(static_cast<std::size_t>(rows));
    std::iota(order_.begin(), order_.end(), 0);
    Shuffle<int>(select, order_);
    for (int r = 0; r < rows; ++r) {
      const Symbol* from = input_.row(order_[static_cast<std::size_t>(r)]) + offset;
      std::copy_n(from, prompt_length, prompt_.row(r));
    }
  }
  ++rounds_;
  // What does not read its input cannot go on a chain; another family can, where rounds draw theirs.
  if (!reads && (family_ >= 0 || !mix_.any_reads_input())) max_depth_ = rounds_;
  if (stages_ != nullptr && program.watchable()) {
    given_up_ = !RunInStages(key, program);
  } else {
    given_up_ = trial_meter_ != nullptr && !Promising(key, program);
    if (!given_up_) {
      program.Run(input_.view(), prompt_.view(), RowRng(key), output_.mutable_view());
      generated_ += static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(length_);
    }
  }
  if (!given_up_) filled_ = applied_ = true;
  if (trace_ != nullptr) {
    trace_->family = family;
    trace_->program = program.Describe();
    trace_->slots.resize(given_up_ ? 0 : static_cast<std::size_t>(rows));
    std::iota(trace_->slots.begin(), trace_->slots.end(), 0);
    trace_->emitted = trace_->slots;
    trace_->prompt_length = prompt_length;
    trace_->prompt_offset = offset;
    trace_->input = input_;
    trace_->prompt = prompt_;
    trace_->output = output_;
  }
  if (given_up_) return {.rows = {}, .origins = {}, .masks = {}, .given_up = true};

  for (RowOrigin& origin : origins_) {
    origin.family = static_cast<std::uint16_t>(family);
    origin.depth = static_cast<std::uint16_t>(reads ? origin.depth + 1 : 1);
  }
  BasicBlockView<const std::uint8_t> masks;
  if (masked_) {
    const BasicBlockView<std::uint8_t> writable(masks_.data(), rows, length_);
    for (int r = 0; r < rows; ++r) program.MarkTargets(r, output_.view().row_span(r), writable.row_span(r));
    masks = writable;
  }
  return {.rows = output_.view(), .origins = origins_, .masks = masks};
}

}  // namespace iterand
