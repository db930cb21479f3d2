// Segments in time slices: see iterate/stream.h.
#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "iterate/make_iteration.h"
#include "iterate/mixture.h"
#include "iterate/plan.h"
#include "iterate/pool.h"
#include "iterate/segment_writer.h"
#include "iterate/stream.h"
#include "iterate/stream_impl.h"

namespace iterand {

struct Workspace::PartBuffers {
  explicit PartBuffers(const StreamPlan& plan) : iteration(MakeIteration(plan)), writer(plan) {}

  std::unique_ptr<Iteration> iteration;
  SegmentWriter writer;
};

struct Workspace::Buffers {
  explicit Buffers(const StreamPlan& stream) : plan(stream), draw(stream) {
    parts.resize(static_cast<std::size_t>(stream.parts()));
  }

  PartBuffers& OfPart(int part) {
    std::unique_ptr<PartBuffers>& buffers = parts[static_cast<std::size_t>(part)];
    if (!buffers) buffers = std::make_unique<PartBuffers>(plan.part(part));
    return *buffers;
  }

  const StreamPlan& plan;
  PartDraw draw;
  std::vector<std::unique_ptr<PartBuffers>> parts;  // made when first needed
};

Workspace::Workspace(const StreamPlan& plan) : buffers_(std::make_unique<Buffers>(plan)) {}
Workspace::~Workspace() = default;

SegmentJob::SegmentJob(const Stream& stream, std::uint32_t lane, std::uint64_t segment, Segment& out,
                       const RunControl* control)
    : stream_(&stream), lane_(lane), segment_(segment), out_(&out), control_(control) {}

const StreamPlan& SegmentJob::plan() const { return stream_->plan().part(part_); }

bool SegmentJob::Run(Workspace& workspace, Seconds slice) {
  if (round_ == 0) part_ = workspace.buffers_->draw.PartOf(lane_, segment_);
  Workspace::PartBuffers& buffers = workspace.buffers_->OfPart(part_);
  buffers.iteration->set_stop(control_);
  if (stream_->plan().endless()) {
    replay_left_ = 0;
    status_ = stream_->impl_->endless[lane_]->Generate(segment_, static_cast<Pool&>(*buffers.iteration), buffers.writer,
                                                       *out_, slice < kUnlimited ? &replay_left_ : nullptr);
    return replay_left_ == 0;
  }
  keeps_workspace_ = !RunRounds(buffers, slice);
  return !keeps_workspace_;
}

bool SegmentJob::RunRounds(Workspace::PartBuffers& buffers, Seconds slice) {
  using Clock = std::chrono::steady_clock;
  const bool limited = slice < kUnlimited;
  const Clock::time_point begin = limited ? Clock::now() : Clock::time_point();
  if (round_ == 0) {
    const RandomKey key{.seed = stream_->seed(), .lane = lane_, .segment = segment_};
    buffers.iteration->Start(key);
    buffers.writer.Begin(key, /*shuffle=*/true, *out_);
  }
  while (!buffers.writer.full()) {
    RunRound(buffers);
    if (!status_.ok()) return true;
    if (limited && !buffers.writer.full() && Clock::now() - begin > slice) return false;
  }
  out_->generated_symbols = buffers.iteration->TakeGenerated();
  return true;
}

void SegmentJob::RunRound(Workspace::PartBuffers& buffers) {
  const RandomKey key{.seed = stream_->seed(), .lane = lane_, .segment = segment_, .round = round_++};
  SegmentWriter& writer = buffers.writer;
  const FinishedRows finished = buffers.iteration->Advance(key);
  if (buffers.iteration->stopped()) {
    status_ = absl::CancelledError("cancelled");
    return;
  }
  if (finished.rejected || finished.rows.rows() > 0) ++rounds_without_survivor_;
  for (int r = 0; r < finished.rows.rows() && !writer.full(); ++r) {
    const Symbol* row = finished.rows.row(r);
    if (!writer.Accept(row)) continue;
    const RowOrigin& origin = finished.origins[static_cast<std::size_t>(r)];
    writer.Write(row, finished.mask(r),
                 RowProvenance{.lane = lane_,
                               .row = static_cast<std::uint32_t>(r),
                               .segment = segment_,
                               .round = key.round,
                               .part = static_cast<std::uint16_t>(part_),
                               .family = origin.family,
                               .depth = origin.depth});
    rounds_without_survivor_ = 0;
  }
  if (rounds_without_survivor_ >= plan().recipe().starvation_rounds()) status_ = StarvedError();
}

absl::Status SegmentJob::StarvedError() const {
  const v1::Recipe& recipe = plan().recipe();
  const int family = plan().mix().Fixed({.seed = stream_->seed(), .lane = lane_, .segment = segment_});
  const std::string of_family = family < 0 ? "" : absl::StrCat(", which is all of family ", plan().mix().name(family));
  const MixturePlan* const mixture = stream_->plan().mixture();
  const std::string of_part = mixture == nullptr ? "" : absl::StrCat(" of ", mixture->path(part_));
  const char* const filters = !recipe.has_band() ? "distinct" : (recipe.distinct() ? "band and distinct" : "band");
  return absl::FailedPreconditionError(
      absl::StrCat("filters", of_part, ": no row survived ", filters, " in ", rounds_without_survivor_,
                   " rounds (starvation_rounds) of lane ", lane_, ", segment ", segment_, " of seed ", stream_->seed(),
                   of_family, "; ", recipe.has_band() ? "widen band" : "lower segment_sequences",
                   ", or choose families that make ", recipe.has_band() ? "such" : "more different", " rows"));
}

std::unique_ptr<Workspace> Stream::NewWorkspace() const { return std::unique_ptr<Workspace>(new Workspace(plan())); }

SegmentJob Stream::Begin(std::uint32_t lane, std::uint64_t segment, Segment& out, const RunControl* control) const {
  return {*this, lane, segment, out, control};
}

absl::Status Stream::GenerateSegment(std::uint32_t lane, std::uint64_t segment, Workspace& workspace,
                                     const RunControl* control, Segment& out) const {
  SegmentJob job = Begin(lane, segment, out, control);
  job.Run(workspace);
  return job.status();
}

}  // namespace iterand
