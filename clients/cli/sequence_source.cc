#include "clients/cli/sequence_source.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "clients/cpp/from_proto.h"
#include "clients/cpp/named_stream.h"
#include "common/status_message.h"
#include "iterate/index_map.h"
#include "server/answers/describe.h"
#include "server/answers/shard_plan.h"
#include "server/answers/stream_spec.h"

namespace iterand::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "tokens are written as they are in memory");

// Bytes of a batch. About 1 MiB suits both the generating threads and a server's messages.
constexpr std::size_t kBatchBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxBatchSize = 1024;

// Work of a batch, in FLOP: a few seconds of one core. Nothing is shown, written or interrupted before a batch is
// complete. However, a batch has at least one row of each lane, so that all cores have work.
constexpr double kBatchFlops = 1e11;

int BatchSize(const StreamFacts& facts) {
  const std::size_t most = std::clamp(kBatchBytes / facts.sequence_bytes(), std::size_t{1}, kMaxBatchSize);
  const double sequence_flops = facts.info.cost().flops_per_token() * facts.length();
  const double affordable =
      std::max(kBatchFlops / std::max(sequence_flops, 1.0), static_cast<double>(facts.info.recipe().lanes()));
  return static_cast<int>(std::min(static_cast<double>(most), affordable));
}

// Rows of the first batch: one for each thread, which is the least work that keeps all busy. Later batches grow. The
// first sequences are therefore shown or written soon, however expensive they are.
int FirstRows(int threads) {
  return std::max(1, threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency()));
}

// An error about the stream, with what only the command knows: the recipe's file, or how to name one.
absl::Status AnnotateRecipe(const NamedStream& stream, const absl::Status& status) {
  if (absl::IsNotFound(status) && !stream.source.is_json()) {
    return WithMessage(status,
                       absl::StrCat(status.message(), " (a recipe file's path has a / in it or ends in .json)"));
  }
  return AnnotateRecipeError(stream.source, status);
}

absl::StatusOr<std::shared_ptr<Stream>> OpenNamed(const NamedStream& named,
                                                  const std::shared_ptr<const SnapshotFolder>& snapshots) {
  const absl::StatusOr<v1::Recipe> recipe = NamedRecipe(named.spec);
  if (!recipe.ok()) return AnnotateRecipe(named, recipe.status());
  absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(*recipe, named.spec.seed(), snapshots);
  if (!stream.ok()) return AnnotateRecipe(named, stream.status());
  return stream;
}

StreamFacts LocalFacts(const Stream& stream, std::uint64_t at = 0) {
  StreamFacts facts{
      .engine_version = kEngineVersion, .info = {}, .dtype = stream.dtype(), .plan = stream.shared_plan()};
  iterand::DescribeStream(stream, stream.recipe(), at, facts.info);
  return facts;
}

absl::StatusOr<StreamFacts> RemoteFacts(RpcClient& client, const NamedStream& named, const ServerChoice& server,
                                        std::uint64_t at = 0) {
  v1::DescribeRequest request;
  *request.mutable_stream() = named.spec;
  request.set_at(at);
  absl::StatusOr<v1::DescribeResponse> response = client.Describe(request);
  if (!response.ok()) return server.Annotate(AnnotateRecipe(named, response.status()));
  v1::StreamInfo& info = *response->mutable_stream();
  const std::optional<Dtype> dtype = FromProto(info.dtype());
  if (info.recipe().length() <= 0 || !dtype) {
    return server.Annotate(absl::InternalError("the server's description of the stream lacks its length or its dtype"));
  }
  return StreamFacts{
      .engine_version = response->engine_version(), .info = std::move(info), .dtype = *dtype, .plan = nullptr};
}

class LocalSource : public SequenceSource {
 public:
  LocalSource(std::shared_ptr<Stream> stream, const ShardPlan& plan, std::uint64_t count, const Options& options)
      : SequenceSource(LocalFacts(*stream)),
        stream_(std::move(stream)),
        next_(plan.first),
        stride_(plan.stride),
        left_(count),
        provenance_(options.provenance),
        batch_size_(BatchSize(facts())),
        next_rows_(std::min(FirstRows(options.threads), batch_size_)),
        tokens_(batch_size_ * stream_->sequence_bytes()),
        loss_mask_(stream_->has_loss_mask() ? static_cast<std::size_t>(batch_size_) * stream_->length() : 0),
        is_mixture_(stream_->plan().mixture() != nullptr),
        rows_(batch_size_),
        parts_(is_mixture_ ? batch_size_ : 0) {}

  bool Next(RowBatch& batch) override {
    if (left_ == 0) return false;
    const bool starting = next_rows_ < batch_size_;
    auto rows = static_cast<int>(std::min<std::uint64_t>(left_, next_rows_));
    if (starting) rows = static_cast<int>(std::min<std::uint64_t>(rows, RowsOfSegments()));
    next_rows_ = std::min(2 * next_rows_, batch_size_);
    ReadOptions options{.first_index = next_, .stride = stride_, .rows = rows, .loss_mask = loss_mask_};
    if (provenance_ || is_mixture_) options.provenance = rows_;
    if (absl::Status status = stream_->Read(options, tokens_); !status.ok()) return Fail(std::move(status));
    batch.first_index = next_;
    batch.stride = stride_;
    batch.rows = rows;
    batch.tokens = std::span(tokens_).first(rows * stream_->sequence_bytes());
    batch.loss_mask = std::as_bytes(std::span(loss_mask_)).first(loss_mask_.empty() ? 0 : rows * stream_->length());
    batch.provenance.clear();
    for (int i = 0; provenance_ && i < rows; ++i) batch.provenance.push_back(stream_->NamedProvenance(rows_[i]));
    for (std::size_t i = 0; is_mixture_ && i < static_cast<std::size_t>(rows); ++i) {
      parts_[i] = static_cast<std::uint8_t>(rows_[i].part);
    }
    batch.parts = std::span(parts_).first(is_mixture_ ? rows : 0);
    next_ += rows * stride_;
    left_ -= rows;
    done_ += rows;
    const auto lanes = static_cast<std::uint64_t>(stream_->lanes());
    batch.pause_follows =
        starting && (done_ < lanes / stride_ || next_ % (lanes * stream_->segment_sequences()) < stride_);
    return true;
  }

 private:
  // Rows before the first one in the next segment of its lane.
  std::uint64_t RowsOfSegments() const {
    const std::uint64_t stripe = static_cast<std::uint64_t>(stream_->lanes()) * stream_->segment_sequences();
    return (stripe - next_ % stripe + stride_ - 1) / stride_;
  }

  std::shared_ptr<Stream> stream_;
  std::uint64_t next_;
  std::uint64_t stride_;
  std::uint64_t left_;
  std::uint64_t done_ = 0;
  bool provenance_;
  int batch_size_;
  int next_rows_;  // of the next batch
  std::vector<std::byte> tokens_;
  std::vector<std::uint8_t> loss_mask_;
  bool is_mixture_;
  std::vector<RowProvenance> rows_;
  std::vector<std::uint8_t> parts_;
};

class RemoteSource : public SequenceSource {
 public:
  RemoteSource(StreamFacts facts, ServerChoice server, std::unique_ptr<RemoteStream> stream, std::uint64_t count)
      : SequenceSource(std::move(facts)), server_(std::move(server)), stream_(std::move(stream)), left_(count) {}

  bool Next(RowBatch& batch) override {
    if (left_ == 0) return false;
    if (!stream_->Next(received_)) {
      if (!stream_->status().ok()) return Fail(server_.Annotate(stream_->status()));
      return Fail(absl::InternalError(absl::StrCat("the server ended the stream ", left_, " sequences early")));
    }
    const auto rows = static_cast<std::size_t>(received_.rows());
    const std::size_t mask_bytes = facts().has_loss_mask() ? rows * facts().length() : 0;
    if (rows == 0 || rows > left_ || received_.token_bytes() != rows * facts().sequence_bytes() ||
        received_.loss_mask().size() != mask_bytes || !HasParts()) {
      return Fail(absl::InternalError("the server sent a batch of another shape than it promised"));
    }
    batch.first_index = received_.first_index();
    batch.stride = received_.stride();
    batch.rows = received_.rows();
    batch.tokens = received_.tokens();
    batch.loss_mask = received_.loss_mask();
    batch.parts = received_.parts();
    batch.provenance = received_.provenance();
    left_ -= rows;
    return true;
  }

 private:
  // Whether each row of a mixture has a part that was described, and rows of other recipes have none.
  bool HasParts() const {
    const auto known = static_cast<std::size_t>(facts().info.parts_size());
    const auto is_known = [known](std::uint8_t part) { return part < known; };
    return received_.parts().size() == (known > 0 ? static_cast<std::size_t>(received_.rows()) : 0) &&
           std::ranges::all_of(received_.parts(), is_known);
  }

  ServerChoice server_;
  std::unique_ptr<RemoteStream> stream_;
  Batch received_;
  std::uint64_t left_;
};

absl::StatusOr<std::unique_ptr<SequenceSource>> OpenRemote(const NamedStream& named, const v1::Shard& shard,
                                                           const RangeChoice& range, const ServerChoice& server,
                                                           bool provenance) {
  const absl::StatusOr<std::unique_ptr<RpcClient>> client = server.Connect();
  if (!client.ok()) return client.status();
  absl::StatusOr<StreamFacts> facts = RemoteFacts(**client, named, server);
  if (!facts.ok()) return facts.status();
  auto batch_size = static_cast<std::uint64_t>(BatchSize(*facts));
  if (range.count > 0) batch_size = std::min(batch_size, range.count);
  // A server of an earlier version does not report its limit.
  if (const std::uint64_t most = facts->info.max_batch_size(); most > 0) batch_size = std::min(batch_size, most);
  v1::StreamRequest request;
  *request.mutable_stream() = named.spec;
  request.mutable_stream()->set_expected_fingerprint(facts->info.fingerprint());
  *request.mutable_shard() = shard;
  request.set_start(range.start);
  request.set_count(range.count);
  request.set_batch_size(static_cast<std::uint32_t>(batch_size));
  request.set_provenance(provenance);
  absl::StatusOr<std::unique_ptr<RemoteStream>> stream = (*client)->Stream(request);
  if (!stream.ok()) return stream.status();
  return std::make_unique<RemoteSource>(*std::move(facts), server, *std::move(stream), range.count);
}

}  // namespace

absl::StatusOr<v1::DescribeResponse> DescribeServer(const ServerChoice& server) {
  v1::DescribeResponse response;
  if (server.local()) {
    iterand::DescribeServer(response);
    return response;
  }
  const absl::StatusOr<std::unique_ptr<RpcClient>> client = server.Connect();
  if (!client.ok()) return client.status();
  absl::StatusOr<v1::DescribeResponse> answer = (*client)->Describe(v1::DescribeRequest());
  if (!answer.ok()) return server.Annotate(answer.status());
  return answer;
}

absl::StatusOr<std::shared_ptr<Stream>> OpenLocal(const StreamChoice& stream,
                                                  const std::shared_ptr<const SnapshotFolder>& snapshots) {
  const absl::StatusOr<NamedStream> named = NameStream(stream.Spec());
  if (!named.ok()) return named.status();
  return OpenNamed(*named, snapshots);
}

absl::StatusOr<StreamFacts> DescribeStream(const StreamChoice& stream, const ServerChoice& server, std::uint64_t at) {
  const absl::StatusOr<NamedStream> named = NameStream(stream.Spec());
  if (!named.ok()) return named.status();
  if (server.local()) {
    const absl::StatusOr<std::shared_ptr<Stream>> local = OpenNamed(*named, nullptr);
    if (!local.ok()) return local.status();
    return LocalFacts(**local, at);
  }
  const absl::StatusOr<std::unique_ptr<RpcClient>> client = server.Connect();
  if (!client.ok()) return client.status();
  return RemoteFacts(**client, *named, server, at);
}

absl::StatusOr<std::unique_ptr<SequenceSource>> SequenceSource::Open(const StreamChoice& stream,
                                                                     const RangeChoice& range,
                                                                     const ServerChoice& server,
                                                                     const Options& options) {
  if (range.rank >= range.world_size) {
    return absl::InvalidArgumentError(absl::StrCat("--rank is ", range.rank, "; with --world-size ", range.world_size,
                                                   " it must be 0 to ", range.world_size - 1));
  }
  const std::optional<std::uint64_t> first = FirstOfShard(range.start, range.rank, range.world_size);
  if (!first || !IndicesExist(*first, range.world_size, range.count)) {
    return absl::OutOfRangeError(absl::StrCat("--start ", range.start, " --count ", range.count, " --rank ", range.rank,
                                              " --world-size ", range.world_size,
                                              ": the last index would exceed 2^64 - 1"));
  }
  v1::Shard shard;
  shard.set_rank(range.rank);
  shard.set_world_size(range.world_size);

  const absl::StatusOr<NamedStream> named = NameStream(stream.Spec());
  if (!named.ok()) return named.status();
  if (!server.local()) return OpenRemote(*named, shard, range, server, options.provenance);
  absl::StatusOr<std::shared_ptr<Stream>> local = OpenNamed(*named, options.snapshots);
  if (!local.ok()) return local.status();
  const absl::StatusOr<ShardPlan> plan = PlanShard(shard, range.start, **local);
  if (!plan.ok()) return plan.status();
  (*local)->set_threads(options.threads);
  return std::make_unique<LocalSource>(*std::move(local), *plan, range.count, options);
}

}  // namespace iterand::cli
