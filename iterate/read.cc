// Stream::Read: sequences in parallel, from the segments of all lanes.
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "iterate/stream.h"
#include "iterate/stream_impl.h"

namespace iterand {
namespace {

// Smaller copies are done by one thread: waking others would take longer.
constexpr std::size_t kParallelCopyBytes = std::size_t{128} << 10;

absl::Status CheckOptions(const ReadOptions& options, std::span<std::byte> tokens, const Stream& stream) {
  const auto rows = static_cast<std::size_t>(options.rows);
  if (!IndicesExist(options.first_index, options.stride, rows)) {
    return absl::OutOfRangeError(absl::StrCat("index: ", options.first_index, " + ", rows - 1, " x ", options.stride,
                                              " exceeds the largest index, 2^64 - 1"));
  }
  const auto too_small = [&](const char* what, std::size_t size, std::size_t needed) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": has ", size, ", must have at least ", needed, " for ", rows, " rows"));
  };
  if (tokens.size() / stream.sequence_bytes() < rows) {
    return too_small("tokens", tokens.size(), rows * stream.sequence_bytes());
  }
  if (!options.provenance.empty() && options.provenance.size() < rows) {
    return too_small("provenance", options.provenance.size(), rows);
  }
  if (options.loss_mask.empty()) return absl::OkStatus();
  if (!stream.has_loss_mask())
    return absl::InvalidArgumentError("loss_mask: is given, but the recipe has no loss_mask");
  const auto length = static_cast<std::size_t>(stream.length());
  if (options.loss_mask.size() / length < rows) return too_small("loss_mask", options.loss_mask.size(), rows * length);
  return absl::OkStatus();
}

}  // namespace

Position Stream::Impl::PositionOf(const ReadOptions& options, int row) const {
  return plan->index_map().Locate(options.first_index + static_cast<std::uint64_t>(row) * options.stride);
}

int Stream::Impl::ClaimSegments(const ReadOptions& options, int begin) {
  missing.clear();
  claimed.clear();
  int end = begin;
  for (; end < options.rows; ++end) {
    const Position position = PositionOf(options, end);
    HeldSegment& segment = held[position.lane];
    if (segment.claimed && segment.number != position.segment) break;
    if (segment.claimed) continue;
    segment.claimed = true;
    claimed.push_back(position.lane);
    if (!segment.valid || segment.number != position.segment) {
      segment.valid = false;
      segment.number = position.segment;
      missing.push_back(position.lane);
    }
  }
  for (const std::uint32_t lane : claimed) held[lane].claimed = false;
  return end;
}

void Stream::Impl::GenerateMissing(const Stream& stream, int thread_count) {
  const auto count = static_cast<int>(missing.size());
#pragma omp parallel for schedule(dynamic, 1) num_threads(thread_count)
  for (int i = 0; i < count; ++i) {
    const auto thread = static_cast<std::size_t>(omp_get_thread_num());
    if (!errors[thread].ok()) continue;
    const std::uint32_t lane = missing[static_cast<std::size_t>(i)];
    HeldSegment& segment = held[lane];
    absl::Status status = stream.GenerateSegment(lane, segment.number, *workspaces[thread], nullptr, segment.segment);
    segment.valid = status.ok();
    if (!status.ok()) errors[thread] = std::move(status);
  }
}

void Stream::Impl::CopyRows(const ReadOptions& options, int begin, int end, std::span<std::byte> tokens,
                            int thread_count) const {
  const auto length = static_cast<std::size_t>(plan->layout().length());
  const std::size_t bytes = length * DtypeBytes(plan->dtype());
#pragma omp parallel for schedule(static) \
    num_threads(thread_count) if (static_cast<std::size_t>(end - begin) * bytes >= kParallelCopyBytes)
  for (int i = begin; i < end; ++i) {
    const Position position = PositionOf(options, i);
    const HeldSegment& from = held[position.lane];
    if (!from.valid) continue;
    const auto row = static_cast<std::size_t>(i);
    std::memcpy(tokens.data() + row * bytes, from.segment.row(position.offset), bytes);
    if (!options.provenance.empty()) options.provenance[row] = from.segment.provenance[position.offset];
    if (!options.loss_mask.empty()) {
      std::copy_n(from.segment.loss_mask.data() + position.offset * length, length,
                  options.loss_mask.data() + row * length);
    }
  }
}

void Stream::set_threads(int threads) {
  const std::lock_guard<std::mutex> lock(impl_->read_mutex);
  impl_->threads = threads;
}

absl::Status Stream::Read(const ReadOptions& options, std::span<std::byte> tokens) {
  if (options.rows <= 0) return absl::OkStatus();
  if (absl::Status s = CheckOptions(options, tokens, *this); !s.ok()) return s;
  Impl& impl = *impl_;
  const std::lock_guard<std::mutex> lock(impl.read_mutex);
  const int threads = impl.threads > 0 ? impl.threads : omp_get_max_threads();
  while (impl.workspaces.size() < static_cast<std::size_t>(threads)) impl.workspaces.push_back(NewWorkspace());
  impl.errors.assign(static_cast<std::size_t>(threads), absl::OkStatus());
  // Each pass takes as many rows as need at most one segment of each lane.
  for (int begin = 0; begin < options.rows;) {
    const int end = impl.ClaimSegments(options, begin);
    impl.GenerateMissing(*this, threads);
    impl.CopyRows(options, begin, end, tokens, threads);
    for (const absl::Status& status : impl.errors) {
      if (!status.ok()) return status;
    }
    begin = end;
  }
  return absl::OkStatus();
}

}  // namespace iterand
