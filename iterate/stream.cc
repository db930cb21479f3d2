#include "iterate/stream.h"

#include <optional>
#include <utility>

#include "iterate/plan.h"
#include "iterate/stream_impl.h"

namespace iterand {

Stream::Impl::Impl(std::shared_ptr<const StreamPlan> stream_plan,
                   const std::shared_ptr<const SnapshotFolder>& snapshots)
    : plan(std::move(stream_plan)), part_names(PartNames(plan->recipe())), held(plan->index_map().lanes()) {
  if (!plan->endless()) return;
  const std::uint64_t rounds = plan->pool()->MinRounds(plan->index_map().segment_sequences());
  for (std::uint32_t lane = 0; lane < plan->index_map().lanes(); ++lane) {
    std::optional<LaneSnapshots> stored;
    if (snapshots) stored.emplace(snapshots, plan->fingerprint(), lane, plan->alphabet(), plan->mix().size());
    endless.push_back(std::make_unique<EndlessLane>(plan->seed(), lane, rounds, std::move(stored)));
  }
}

Stream::Stream() = default;
Stream::~Stream() = default;

absl::StatusOr<std::shared_ptr<Stream>> Stream::Open(const v1::Recipe& recipe, std::uint64_t seed,
                                                     const std::shared_ptr<const SnapshotFolder>& snapshots) {
  absl::StatusOr<std::shared_ptr<const StreamPlan>> plan = StreamPlan::Make(recipe, seed);
  if (!plan.ok()) return plan.status();
  return FromPlan(*std::move(plan), snapshots);
}

std::shared_ptr<Stream> Stream::FromPlan(std::shared_ptr<const StreamPlan> plan,
                                         const std::shared_ptr<const SnapshotFolder>& snapshots) {
  std::shared_ptr<Stream> stream(new Stream());
  stream->impl_ = std::make_unique<Impl>(std::move(plan), snapshots);
  return stream;
}

const StreamPlan& Stream::plan() const { return *impl_->plan; }
const std::shared_ptr<const StreamPlan>& Stream::shared_plan() const { return impl_->plan; }
const v1::Recipe& Stream::recipe() const { return plan().recipe(); }
std::uint64_t Stream::seed() const { return plan().seed(); }
const Fingerprint& Stream::fingerprint() const { return plan().fingerprint(); }
Dtype Stream::dtype() const { return plan().dtype(); }
int Stream::length() const { return plan().layout().length(); }
int Stream::lanes() const { return static_cast<int>(index_map().lanes()); }
int Stream::segment_sequences() const { return static_cast<int>(index_map().segment_sequences()); }
std::size_t Stream::sequence_bytes() const { return static_cast<std::size_t>(length()) * DtypeBytes(dtype()); }
bool Stream::has_loss_mask() const { return recipe().loss_mask(); }
const std::string& Stream::family_name(const RowProvenance& row) const {
  return plan().part(row.part).mix().name(row.family);
}
const std::vector<std::string>& Stream::part_names() const { return impl_->part_names; }
Provenance Stream::NamedProvenance(const RowProvenance& from) const {
  return {.lane = from.lane,
          .segment = from.segment,
          .round = from.round,
          .row = from.row,
          .family = family_name(from),
          .depth = from.depth,
          .part = part_names().empty() ? std::string() : part_names()[from.part]};
}
const StreamCost& Stream::Cost() const { return plan().cost(); }
const IndexMap& Stream::index_map() const { return plan().index_map(); }

}  // namespace iterand
