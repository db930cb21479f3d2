// Requests of Stream and Read. The indices that they ask for are compared with the definition in 128 bits, and a few of
// their rows with segments that are made one by one.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "iterand/v1/noise_service.pb.h"
#include "iterate/index_map.h"
#include "iterate/stream.h"
#include "server/answers/shard_plan.h"
#include "server/batch_builder.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/fuzz_input.h"

namespace iterand {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr Wide kLast = ~std::uint64_t{0};
constexpr int kRows = 20;
constexpr int kLength = 16;

const std::array<int, 12> kLanes = {1, 2, 3, 4, 6, 7, 12, 32, 48, 97, 1024, 4096};
const std::array<int, 6> kSegmentSequences = {1, 2, 3, 7, 64, 1000};

// Streams are kept: opening one costs more than an input should.
Stream& StreamOf(int lanes, int sequences, bool mask) {
  static std::map<std::tuple<int, int, bool>, std::shared_ptr<Stream>> streams;
  std::shared_ptr<Stream>& stream = streams[{lanes, sequences, mask}];
  if (stream == nullptr) {
    v1::Recipe recipe;
    recipe.add_families()->mutable_uniform();
    recipe.set_length(kLength);
    recipe.set_lanes(lanes);
    recipe.set_segment_sequences(sequences);
    recipe.set_loss_mask(mask);
    stream = *Stream::Open(recipe, 5);
    stream->set_threads(1);
  }
  return *stream;
}

// Rows that a stream reads are those of its segments.
void CheckRowBytes(Stream& stream, std::uint64_t first, std::uint64_t stride, int rows) {
  const std::size_t bytes = stream.sequence_bytes();
  std::vector<std::byte> read(static_cast<std::size_t>(rows) * bytes);
  std::vector<RowProvenance> provenance(static_cast<std::size_t>(rows));
  Expect(stream.Read({.first_index = first, .stride = stride, .rows = rows, .provenance = provenance}, read).ok(),
         "indices that exist can be read");
  const std::unique_ptr<Workspace> workspace = stream.NewWorkspace();
  Segment segment;
  for (const int row : {0, rows - 1}) {
    const auto place = stream.index_map().Locate(first + static_cast<std::uint64_t>(row) * stride);
    Expect(stream.GenerateSegment(place.lane, place.segment, *workspace, nullptr, segment).ok(), "a segment is made");
    const auto at = static_cast<std::size_t>(row);
    Expect(std::memcmp(read.data() + at * bytes, segment.row(place.offset), bytes) == 0, "a row of its segment");
    Expect(provenance[at].lane == place.lane && provenance[at].segment == place.segment, "a row where it should be");
  }
}

// The indices first + i * stride are where the definition says.
void CheckPlaces(Stream& stream, std::uint64_t first, std::uint64_t stride, std::uint64_t rows) {
  const auto lanes = static_cast<std::uint64_t>(stream.lanes());
  const auto sequences = static_cast<std::uint64_t>(stream.segment_sequences());
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(rows, kRows); ++i) {
    const Wide index = Wide{first} + Wide{i} * stride;
    Expect(index <= kLast, "no index beyond the last");
    const auto place = stream.index_map().Locate(static_cast<std::uint64_t>(index));
    Expect(place.lane < lanes && place.offset < sequences, "a lane and a place of the recipe");
    Expect((Wide{place.segment} * sequences + place.offset) * lanes + place.lane == index, "the place of the index");
  }
}

void CheckStream(const v1::StreamRequest& request, Stream& stream, std::size_t max_batch_bytes) {
  const BatchBuilder sizes(stream, request.provenance());
  const std::uint64_t rows = request.has_batch_size() ? request.batch_size() : 64;
  const absl::Status fits = CheckRows("batch_size", rows, sizes, max_batch_bytes);
  Expect(fits.ok() == (rows >= 1 && sizes.MessageBytes(rows) <= max_batch_bytes), "rows that fit are taken");
  Expect(fits.ok() || !fits.message().empty(), "a refusal says why");

  const std::uint64_t world_size = std::max<std::uint64_t>(request.shard().world_size(), 1);
  const std::uint64_t rank = request.shard().rank();
  const absl::StatusOr<ShardPlan> plan = PlanShard(request.shard(), request.start(), stream);
  if (rank >= world_size || static_cast<std::uint64_t>(stream.lanes()) % world_size != 0) {
    Expect(absl::IsInvalidArgument(plan.status()), "a shard that there is not is an InvalidArgument");
    return;
  }
  Wide first = request.start();
  while (first % world_size != rank) ++first;  // world_size divides the lanes, so it is at most 4096
  if (first > kLast) {
    Expect(absl::IsOutOfRange(plan.status()), "a shard without an index is OutOfRange");
    return;
  }
  Expect(plan.ok(), "a shard that there is");
  Expect(plan->first == first && plan->stride == world_size, "the first index of the shard, and its stride");
  const Wide left = (kLast - first) / world_size + 1;
  Expect(IndicesLeft(plan->first, plan->stride) == std::min(left, kLast), "all indices that are left");
  const auto there = static_cast<std::uint64_t>(std::min<Wide>(left, kRows));
  CheckPlaces(stream, plan->first, plan->stride, there);
  CheckRowBytes(stream, plan->first, plan->stride, static_cast<int>(there));
}

void CheckRead(const v1::ReadRequest& request, Stream& stream, std::size_t max_batch_bytes) {
  const BatchBuilder sizes(stream, request.provenance());
  if (!CheckRows("rows", request.rows(), sizes, max_batch_bytes).ok()) return;
  const std::uint64_t stride = request.has_stride() ? request.stride() : 1;
  if (stride == 0) return;
  const std::uint64_t first = request.first_index();
  const Wide last = Wide{first} + Wide{request.rows() - 1} * stride;
  const auto rows = static_cast<int>(std::min<std::uint64_t>(request.rows(), kRows));
  if (last <= kLast) {
    Expect(IndicesLeft(first, stride) >= request.rows(), "rows that exist are left");
    CheckPlaces(stream, first, stride, request.rows());
    CheckRowBytes(stream, first, stride, rows);
  } else if (Wide{first} + Wide{static_cast<std::uint64_t>(rows) - 1} * stride > kLast) {
    std::vector<std::byte> read(static_cast<std::size_t>(rows) * stream.sequence_bytes());
    Expect(absl::IsOutOfRange(stream.Read({.first_index = first, .stride = stride, .rows = rows}, read)),
           "an index beyond the last is refused");
  }
}

void Run(FuzzInput& input) {
  const int lanes = kLanes[input.Byte() % kLanes.size()];
  Stream& stream = StreamOf(lanes, kSegmentSequences[input.Byte() % kSegmentSequences.size()], input.Flag());
  const auto max_batch_bytes = input.Between<std::size_t>(0, 1 << 20);
  const std::uint8_t kind = input.Byte() % 4;
  // Whole messages, as a client may send them; and their numbers one by one, so that many inputs are interesting.
  v1::StreamRequest stream_request;
  v1::ReadRequest read_request;
  if (kind == 0) {
    if (stream_request.ParseFromString(input.Rest())) CheckStream(stream_request, stream, max_batch_bytes);
  } else if (kind == 1) {
    if (read_request.ParseFromString(input.Rest())) CheckRead(read_request, stream, max_batch_bytes);
  } else if (kind == 2) {
    stream_request.set_start(input.Number());
    // Most often a world_size that divides the lanes.
    const auto world_size =
        static_cast<std::uint32_t>(input.Flag() ? input.Number() : std::max(1, lanes / (input.Byte() + 1)));
    stream_request.mutable_shard()->set_world_size(world_size);
    const auto rank = static_cast<std::uint32_t>(input.Number());
    stream_request.mutable_shard()->set_rank(input.Flag() || world_size == 0 ? rank : rank % world_size);
    if (input.Flag()) stream_request.set_batch_size(static_cast<std::uint32_t>(input.Number()));
    stream_request.set_provenance(input.Flag());
    CheckStream(stream_request, stream, max_batch_bytes);
  } else {
    read_request.set_first_index(input.Number());
    if (input.Flag()) read_request.set_stride(input.Number());
    read_request.set_rows(static_cast<std::uint32_t>(input.Number()));
    read_request.set_provenance(input.Flag());
    CheckRead(read_request, stream, max_batch_bytes);
  }
}

}  // namespace
}  // namespace iterand

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  iterand::FuzzInput input(data, size);
  iterand::Run(input);
  return 0;
}
