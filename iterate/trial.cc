#include "iterate/trial.h"

#include <algorithm>

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

const v1::Band::Trial& TrialOf(const StreamPlan& plan) { return plan.recipe().band().trial(); }

ComplexityBand Widened(const v1::Band& band, double margin, std::uint64_t plain) {
  return {band.low() - margin, band.high() + margin, plain};
}

}  // namespace

Trial::Trial(const StreamPlan& plan)
    : length_(plan.layout().symbols()),
      rows_(static_cast<int>(std::min<std::int64_t>(TrialOf(plan).rows(), plan.max_program_rows()))),
      symbols_(static_cast<int>(std::min<std::int64_t>(TrialOf(plan).symbols(), length_))),
      extrapolate_(TrialOf(plan).extrapolate()),
      meter_(plan.alphabet(), symbols_),
      band_(Widened(plan.recipe().band(), TrialOf(plan).margin(),
                    extrapolate_ ? ComplexityMeter::Plain(plan.alphabet(), length_) : meter_.plain())) {
  output_.Reshape(rows_, symbols_);
}

bool Trial::Passes(Program& program, const TrialRows& on, std::uint64_t& generated) {
  if (on.prompt.length() >= symbols_) return true;
  const int rows = std::min(rows_, on.input.rows());
  output_.Reshape(rows, symbols_);
  program.Run(BlockView(on.input.row(0), rows, symbols_, length_),
              BlockView(on.prompt.row(0), rows, on.prompt.length()), RowRng(on.key), output_.mutable_view());
  generated += static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(symbols_);
  for (int r = 0; r < rows; ++r) {
    const Symbol* const row = output_.row(r);
    const std::uint64_t bits = extrapolate_ ? Extrapolate(meter_, row, symbols_, length_) : meter_.Measure(row);
    if (band_.Contains(bits)) return true;
  }
  return false;
}

StagedTrial::StagedTrial(const StreamPlan& plan)
    : meter_(plan.alphabet(), plan.layout().symbols()), length_(plan.layout().symbols()) {
  const v1::Band::Trial::Stages& config = TrialOf(plan).stages();
  for (std::int64_t n = config.first(); n < length_; n *= 2) {
    const double margin = config.margin() * 128.0 / static_cast<double>(n);
    stages_.push_back({static_cast<int>(n), Widened(plan.recipe().band(), margin, meter_.plain())});
  }
}

void StagedTrial::Begin(BlockView output, int prompt_length) {
  output_ = output;
  passes_ = true;
  stage_ = 0;
  while (stage_ < stages_.size() && stages_[stage_].symbols <= prompt_length) ++stage_;
  SetNext();
}

bool StagedTrial::Look() {
  passes_ = false;
  for (int r = 0; r < output_.rows() && !passes_; ++r) {
    passes_ = stages_[stage_].band.Contains(Extrapolate(meter_, output_.row(r), next(), length_));
  }
  if (passes_) {
    ++stage_;
    SetNext();
  }
  return passes_;
}

bool StagedTrial::Run(Program& program, const TrialRows& rows, Block& output, std::uint64_t& generated) {
  Begin(output.view(), rows.prompt.length());
  program.set_watch(this);
  program.Run(rows.input.view(), rows.prompt.view(), RowRng(rows.key), output.mutable_view());
  program.set_watch(nullptr);
  const bool stopped = !passes_;
  // A program that does not write its rows side by side has not called Look: judge its finished rows.
  while (passes_ && next() < length_) Look();
  const int written = stopped ? next() : length_;
  generated += static_cast<std::uint64_t>(rows.input.rows()) * static_cast<std::uint64_t>(written);
  return passes_;
}

}  // namespace iterand
