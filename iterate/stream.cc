#include "iterate/stream.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "iterate/limits.h"
#include "iterate/recipe.h"
#include "iterate/segment_writer.h"
#include "iterate/stream_impl.h"

namespace iterand {
namespace {

constexpr std::uint64_t kFirstBatchRows = 64;

// Fewer are copied by one thread, before others would have come.
constexpr std::size_t kParallelCopyBytes = std::size_t{128} << 10;

class ThreadWorkspace final : public Workspace {
 public:
  ThreadWorkspace(const v1::Recipe& recipe, const FamilyMix& mix)
      : iteration(*MakeIteration(recipe, mix)), writer(recipe) {}

  std::unique_ptr<Iteration> iteration;
  SegmentWriter writer;
  // Of the segment under way, from turn to turn:
  std::uint64_t round = 0;
  std::int64_t barren = 0;  // rounds since a row last survived, but for those that had none to judge
};

using Clock = std::chrono::steady_clock;

}  // namespace

std::string ToHex(const Fingerprint& fingerprint) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const std::uint8_t byte : fingerprint) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

Stream::Stream() = default;
Stream::~Stream() = default;

absl::StatusOr<std::shared_ptr<Stream>> Stream::Open(const v1::Recipe& recipe, std::uint64_t seed,
                                                     const std::shared_ptr<const SnapshotFolder>& snapshots) {
  auto resolved = ResolveRecipe(recipe);
  if (!resolved.ok()) return resolved.status();
  auto mix = FamilyMix::Make(*resolved);
  if (!mix.ok()) return mix.status();
  std::shared_ptr<Stream> stream(new Stream());
  stream->impl_ = std::make_unique<Impl>(*std::move(resolved), seed, *std::move(mix), snapshots);
  return stream;
}

const v1::Recipe& Stream::recipe() const { return impl_->recipe; }
std::uint64_t Stream::seed() const { return impl_->seed; }
const Fingerprint& Stream::fingerprint() const { return impl_->fingerprint; }
Dtype Stream::dtype() const { return impl_->dtype; }
int Stream::length() const { return impl_->length; }
int Stream::lanes() const { return impl_->lanes; }
int Stream::segment_sequences() const { return impl_->sequences; }
std::size_t Stream::sequence_bytes() const {
  return static_cast<std::size_t>(impl_->length) * DtypeBytes(impl_->dtype);
}
bool Stream::has_mask() const { return impl_->recipe.loss_mask(); }
const std::string& Stream::family_name(int family) const { return impl_->mix.name(family); }

StreamCost Stream::Cost() const {
  StreamCost cost;
  for (int i = 0; i < impl_->mix.size(); ++i) {
    cost.flops_per_token += impl_->mix.share(i) * impl_->mix.family(i).flops_per_token();
  }
  cost.flops_per_token *= static_cast<double>(impl_->layout.symbols()) / impl_->length;
  if (impl_->recipe.has_pool()) cost.flops_per_token *= Pool::RowsPerEmitted(impl_->recipe.pool());
  const auto sequences = static_cast<std::uint64_t>(impl_->sequences);
  cost.workspace_bytes = static_cast<std::uint64_t>(WorkspaceBytes(impl_->recipe, impl_->mix));
  cost.segment_bytes = sequences * (sequence_bytes() + (has_mask() ? static_cast<std::uint64_t>(impl_->length) : 0));
  if (!impl_->endless.empty()) {
    cost.endless_bytes = impl_->endless.size() * static_cast<std::uint64_t>(EndlessLaneBytes(impl_->recipe));
  }
  const auto lanes = std::min<std::uint64_t>(kFirstBatchRows, static_cast<std::uint64_t>(impl_->lanes));
  const std::uint64_t rows = (kFirstBatchRows + lanes - 1) / lanes;  // of a lane
  cost.first_batch_sequences = lanes * ((rows + sequences - 1) / sequences) * sequences;
  return cost;
}

Place Stream::Locate(std::uint64_t index) const {
  const auto lanes = static_cast<std::uint64_t>(impl_->lanes);
  const auto sequences = static_cast<std::uint64_t>(impl_->sequences);
  const std::uint64_t place = index / lanes;
  return {static_cast<std::uint32_t>(index % lanes), place / sequences, static_cast<std::uint32_t>(place % sequences)};
}

std::unique_ptr<Workspace> Stream::NewWorkspace() const {
  return std::make_unique<ThreadWorkspace>(impl_->recipe, impl_->mix);
}

absl::Status Stream::GenerateSegment(std::uint32_t lane, std::uint64_t segment, Workspace& workspace,
                                     const RunControl* control, Segment& out, Turn* turn) const {
  auto& thread = static_cast<ThreadWorkspace&>(workspace);
  const std::unique_ptr<Iteration>& iteration = thread.iteration;
  SegmentWriter& writer = thread.writer;
  iteration->set_stop(control);
  const bool resumed = turn != nullptr && turn->unfinished;
  if (turn != nullptr) *turn = {.seconds = turn->seconds};
  if (!impl_->endless.empty()) {
    std::uint64_t* const replay_left = turn != nullptr ? &turn->replay_left : nullptr;
    const absl::Status status =
        impl_->endless[lane]->Generate(segment, static_cast<Pool&>(*iteration), writer, out, replay_left);
    if (turn != nullptr) turn->unfinished = turn->replay_left > 0;
    return status;
  }
  RandomKey key{.seed = impl_->seed, .lane = lane, .segment = segment};
  if (!resumed) {
    iteration->Start(key);
    writer.Begin(key, /*shuffle=*/true, out);
    thread.round = 0;
    thread.barren = 0;
  }
  std::int64_t& barren = thread.barren;
  const Clock::time_point begin = turn != nullptr ? Clock::now() : Clock::time_point();
  for (; !writer.full(); ++thread.round) {
    key.round = thread.round;
    const FinishedRows finished = iteration->Advance(key);
    if (iteration->stopped()) return absl::CancelledError("cancelled");
    if (finished.given_up || finished.rows.rows() > 0) ++barren;
    for (int r = 0; r < finished.rows.rows() && !writer.full(); ++r) {
      const Symbol* row = finished.rows.row(r);
      if (!writer.Accept(row)) continue;
      const RowOrigin& origin = finished.origins[static_cast<std::size_t>(r)];
      writer.Write(row, finished.mask(r),
                   RowProvenance{.lane = lane,
                                 .segment = segment,
                                 .round = key.round,
                                 .row = static_cast<std::uint32_t>(r),
                                 .family = origin.family,
                                 .depth = origin.depth});
      barren = 0;
    }
    if (barren >= impl_->recipe.starvation_rounds()) {
      const int family = impl_->mix.Fixed(key);
      const std::string of_family = family < 0 ? "" : absl::StrCat(", which is all of family ", family_name(family));
      const bool band = impl_->recipe.has_band();
      const bool distinct = impl_->recipe.distinct();
      return absl::FailedPreconditionError(absl::StrCat(
          "filters: no row survived ", band && distinct ? "band and distinct" : (band ? "band" : "distinct"), " in ",
          barren, " rounds (starvation_rounds) of lane ", lane, ", segment ", segment, " of seed ", impl_->seed,
          of_family, "; ", band ? "widen band" : "lower segment_sequences", ", or choose families that make ",
          band ? "such" : "more different", " rows"));
    }
    if (turn != nullptr && !writer.full() &&
        std::chrono::duration<double>(Clock::now() - begin).count() > turn->seconds) {
      ++thread.round;
      turn->unfinished = true;
      return absl::OkStatus();
    }
  }
  out.generated_symbols = iteration->TakeGenerated();
  return absl::OkStatus();
}

void Stream::set_threads(int threads) {
  const std::lock_guard<std::mutex> lock(impl_->read_mutex);
  impl_->threads = threads;
}

absl::Status Stream::Read(std::uint64_t first_index, std::uint64_t stride, int rows, void* out,
                          RowProvenance* provenance, std::uint8_t* mask) {
  Impl& impl = *impl_;
  if (rows <= 0) return absl::OkStatus();
  const auto steps = static_cast<std::uint64_t>(rows) - 1;
  if (stride != 0 && steps > (std::numeric_limits<std::uint64_t>::max() - first_index) / stride) {
    return absl::OutOfRangeError(
        absl::StrCat("index: ", first_index, " + ", steps, " x ", stride, " exceeds the largest index, 2^64 - 1"));
  }
  const std::lock_guard<std::mutex> lock(impl.read_mutex);
  const int threads = impl.threads > 0 ? impl.threads : omp_get_max_threads();
  while (impl.workspaces.size() < static_cast<std::size_t>(threads)) impl.workspaces.push_back(NewWorkspace());
  impl.errors.assign(static_cast<std::size_t>(threads), absl::OkStatus());
  const std::size_t bytes = sequence_bytes();

  // Passes: as many rows as need no more than one segment of each lane.
  for (int begin = 0; begin < rows;) {
    impl.missing.clear();
    impl.claimed.clear();
    int end = begin;
    for (; end < rows; ++end) {
      const Place place = Locate(first_index + static_cast<std::uint64_t>(end) * stride);
      Impl::HeldSegment& held = impl.held[place.lane];
      if (held.claimed && held.number != place.segment) break;
      if (held.claimed) continue;
      held.claimed = true;
      impl.claimed.push_back(place.lane);
      if (!held.valid || held.number != place.segment) {
        held.valid = false;
        held.number = place.segment;
        impl.missing.push_back(place.lane);
      }
    }
    const auto missing = static_cast<int>(impl.missing.size());
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int i = 0; i < missing; ++i) {
      const auto thread = static_cast<std::size_t>(omp_get_thread_num());
      if (!impl.errors[thread].ok()) continue;
      const std::uint32_t lane = impl.missing[static_cast<std::size_t>(i)];
      Impl::HeldSegment& held = impl.held[lane];
      absl::Status status = GenerateSegment(lane, held.number, *impl.workspaces[thread], nullptr, held.segment);
      held.valid = status.ok();
      if (!status.ok()) impl.errors[thread] = std::move(status);
    }
    for (const std::uint32_t lane : impl.claimed) impl.held[lane].claimed = false;
#pragma omp parallel for schedule(static) \
    num_threads(threads) if (static_cast<std::size_t>(end - begin) * bytes >= kParallelCopyBytes)
    for (int i = begin; i < end; ++i) {
      const Place place = Locate(first_index + static_cast<std::uint64_t>(i) * stride);
      const Impl::HeldSegment& held = impl.held[place.lane];
      if (!held.valid) continue;
      std::memcpy(static_cast<std::byte*>(out) + static_cast<std::size_t>(i) * bytes, held.segment.row(place.offset),
                  bytes);
      if (provenance != nullptr) provenance[i] = held.segment.provenance[place.offset];
      if (mask != nullptr) {
        const auto length = static_cast<std::size_t>(impl.length);
        std::copy_n(held.segment.mask.data() + place.offset * length, length,
                    mask + static_cast<std::size_t>(i) * length);
      }
    }
    for (const absl::Status& status : impl.errors) {
      if (!status.ok()) return status;
    }
    begin = end;
  }
  return absl::OkStatus();
}

}  // namespace iterand
