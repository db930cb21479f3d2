#include "server/service.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "iterate/presets.h"
#include "iterate/recipe.h"
#include "randnet/family.h"
#include "server/batch_builder.h"
#include "server/log.h"
#include "server/request.h"

namespace iterand {
namespace {

using Clock = std::chrono::steady_clock;

// gRPC sends messages in a header of limited size.
constexpr std::size_t kMaxMessage = 4096;

constexpr char kBearer[] = "Bearer ";

std::string Digest(std::string_view text) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

template <typename Message>
absl::StatusOr<Message> ParseRequest(const grpc::ByteBuffer& bytes) {
  Message message;
  grpc::ByteBuffer copy(bytes);  // shares the slices; parsing releases them
  const grpc::Status status = grpc::SerializationTraits<Message>::Deserialize(&copy, &message);
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("the request is no ", Message::descriptor()->full_name()));
  }
  return message;
}

// Ends a stream that never began.
class RefusedStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit RefusedStream(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

// One call of Stream. Two batches are in memory: one that gRPC is sending and the one after it.
class StreamCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                         public ActiveCall,
                         public std::enable_shared_from_this<StreamCall> {
 public:
  StreamCall(NoiseService* service, std::shared_ptr<OpenStream> open, const ShardPlan& plan, int batch_rows,
             bool provenance)
      : service_(service),
        open_(std::move(open)),
        batch_rows_(batch_rows),
        stride_(plan.stride),
        builder_(open_->stream(), provenance),
        resume_index_(plan.first) {}

  // Lives until OnDone.
  void Start(std::unique_ptr<Feed> feed) {
    {
      std::lock_guard lock(mutex_);
      feed_ = std::move(feed);
    }
    service_->Add(shared_from_this());
    Advance();
  }

  // Starts what can be started: the next write, or the end.
  void Advance() {
    const std::shared_ptr<StreamCall> self = shared_from_this();  // once a write is started, OnDone may come any time
    std::optional<grpc::Status> end;
    {
      std::lock_guard lock(mutex_);
      if (!feed_ || finished_ || writing_) return;
      if (cancelled_) {
        end = grpc::Status(grpc::StatusCode::CANCELLED, "the client cancelled the stream");
      } else if (draining_) {
        end = grpc::Status(grpc::StatusCode::UNAVAILABLE,
                           absl::StrCat("the server is stopping: resume from index ", resume_index_));
      } else {
        Build();
        if (next_) {
          current_ = *std::move(next_);
          next_.reset();
          resume_index_ = after_next_;
          writing_ = true;
          CountBatch();
        } else if (!error_.ok()) {
          end = ToGrpc(error_);
        } else if (feed_->remaining() == 0 && !builder_.begun()) {
          end = grpc::Status::OK;
        } else {
          if (!waiting_) waiting_since_ = Clock::now();
          waiting_ = true;
          return;
        }
      }
      if (end) {
        finished_ = true;
        feed_->Close();
      }
    }
    if (end) {
      Finish(*end);
      return;
    }
    StartWrite(&current_);
    std::lock_guard lock(mutex_);
    if (!finished_ && !cancelled_ && !draining_) Build();
  }

  void OnWriteDone(bool ok) override {
    {
      std::lock_guard lock(mutex_);
      writing_ = false;
      current_.Clear();
      if (!ok) cancelled_ = true;
    }
    Advance();
  }

  void OnCancel() override {
    {
      std::lock_guard lock(mutex_);
      if (finished_) return;
      cancelled_ = true;
      next_.reset();
      if (feed_) feed_->Close();
    }
    Advance();
  }

  void OnDone() override { service_->Remove(shared_from_this()); }

  void Drain() override {
    {
      std::lock_guard lock(mutex_);
      draining_ = true;
    }
    Advance();
  }

 private:
  // Builds the next batch as far as rows are ready.
  void Build() {
    if (next_ || !error_.ok()) return;
    if (!builder_.begun()) {
      if (feed_->remaining() == 0) return;
      const std::uint64_t rows = std::min<std::uint64_t>(static_cast<std::uint64_t>(batch_rows_), feed_->remaining());
      builder_.Begin(feed_->next_index(), stride_, static_cast<int>(rows));
      next_rows_ = rows;
    }
    const absl::StatusOr<int> taken = feed_->Take(
        builder_.missing(),
        [this](const std::shared_ptr<const Segment>& segment, std::uint32_t offset) { builder_.Add(segment, offset); });
    if (!taken.ok()) {
      error_ = taken.status();
      Log().error("stream {} ends at index {}: {}", ToHex(open_->stream().fingerprint()), feed_->next_index(),
                  std::string(error_.message()));
    } else if (builder_.missing() == 0) {
      next_ = builder_.Finish();
      after_next_ = feed_->next_index();
    }
  }

  void CountBatch() {
    ServiceCounters& counters = service_->counters();
    counters.sequences += next_rows_;
    counters.tokens += next_rows_ * static_cast<std::uint64_t>(open_->stream().length());
    counters.batches += 1;
    counters.batch_bytes += current_.Length();
    if (waiting_) {
      counters.wait_nanoseconds += static_cast<std::uint64_t>(
          std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - waiting_since_).count());
      waiting_ = false;
    }
  }

  NoiseService* const service_;
  const std::shared_ptr<OpenStream> open_;
  const int batch_rows_;
  const std::uint64_t stride_;

  std::mutex mutex_;
  std::unique_ptr<Feed> feed_;
  BatchBuilder builder_;
  grpc::ByteBuffer current_;              // being sent, if writing_
  std::optional<grpc::ByteBuffer> next_;  // ready to be sent
  std::uint64_t next_rows_ = 0;           // of next_, or of the batch being built
  std::uint64_t after_next_ = 0;          // index after next_
  std::uint64_t resume_index_;            // index after all that was sent
  absl::Status error_;                    // that generation ended in
  bool writing_ = false;
  bool cancelled_ = false;
  bool draining_ = false;
  bool finished_ = false;
  bool waiting_ = false;  // the client is ready and the batch is not
  Clock::time_point waiting_since_;
};

// One call of Read.
class ReadCall final : public grpc::ServerUnaryReactor,
                       public ActiveCall,
                       public std::enable_shared_from_this<ReadCall> {
 public:
  ReadCall(NoiseService* service, std::shared_ptr<OpenStream> open, const v1::ReadRequest& request,
           grpc::ByteBuffer* response)
      : service_(service),
        open_(std::move(open)),
        rows_(request.rows()),
        builder_(open_->stream(), request.provenance()),
        response_(response) {
    builder_.Begin(request.first_index(), request.has_stride() ? request.stride() : 1, static_cast<int>(rows_));
  }

  // Lives until OnDone.
  void Start(std::unique_ptr<Feed> feed) {
    {
      std::lock_guard lock(mutex_);
      feed_ = std::move(feed);
    }
    service_->Add(shared_from_this());
    Advance();
  }

  void Advance() {
    grpc::Status end;
    {
      std::lock_guard lock(mutex_);
      if (!feed_ || finished_) return;
      if (cancelled_) {
        end = grpc::Status(grpc::StatusCode::CANCELLED, "the client cancelled the call");
      } else {
        const absl::StatusOr<int> taken =
            feed_->Take(builder_.missing(), [this](const std::shared_ptr<const Segment>& segment,
                                                   std::uint32_t offset) { builder_.Add(segment, offset); });
        if (!taken.ok()) {
          end = ToGrpc(taken.status());
        } else if (builder_.missing() > 0) {
          return;
        } else {
          *response_ = builder_.Finish();
          ServiceCounters& counters = service_->counters();
          counters.sequences += rows_;
          counters.tokens += rows_ * static_cast<std::uint64_t>(open_->stream().length());
          counters.batches += 1;
          counters.batch_bytes += response_->Length();
        }
      }
      finished_ = true;
      feed_->Close();
    }
    Finish(end);
  }

  void OnCancel() override {
    {
      std::lock_guard lock(mutex_);
      cancelled_ = true;
      if (feed_) feed_->Close();
    }
    Advance();
  }

  void OnDone() override { service_->Remove(shared_from_this()); }

  void Drain() override {}

 private:
  NoiseService* const service_;
  const std::shared_ptr<OpenStream> open_;
  const std::uint64_t rows_;

  std::mutex mutex_;
  std::unique_ptr<Feed> feed_;
  BatchBuilder builder_;
  grpc::ByteBuffer* const response_;
  bool cancelled_ = false;
  bool finished_ = false;
};

// What the engine calls when rows are ready; the call may be gone by then.
template <typename Call>
std::function<void()> Notifier(const std::shared_ptr<Call>& call) {
  return [weak = std::weak_ptr<Call>(call)] {
    if (const std::shared_ptr<Call> alive = weak.lock()) alive->Advance();
  };
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message().substr(0, kMaxMessage))};
}

NoiseService::NoiseService(Engine* engine, const ServiceOptions& options)
    : engine_(engine), options_(options), token_digest_(Digest(absl::StrCat(kBearer, options.token))) {}

NoiseService::~NoiseService() = default;

absl::Status NoiseService::Authenticate(const grpc::CallbackServerContext& context) const {
  if (options_.token.empty()) return absl::OkStatus();
  const auto [begin, end] = context.client_metadata().equal_range("authorization");
  if (begin == end) {
    return absl::UnauthenticatedError("this server wants a token: send it as metadata \"authorization: Bearer TOKEN\"");
  }
  for (auto it = begin; it != end; ++it) {
    // Digests have one length, so the comparison takes the same time whatever was sent.
    const std::string digest = Digest({it->second.data(), it->second.size()});
    if (CRYPTO_memcmp(digest.data(), token_digest_.data(), digest.size()) == 0) return absl::OkStatus();
  }
  return absl::UnauthenticatedError("the token in the metadata \"authorization\" is not this server's");
}

absl::Status NoiseService::TakePlace() {
  std::lock_guard lock(mutex_);
  if (draining_) return absl::UnavailableError("the server is stopping");
  if (places_taken_ >= options_.max_streams) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this server has ", places_taken_,
                     " calls of Stream and Read open, as many as it allows: end one, or try again later"));
  }
  ++places_taken_;
  return absl::OkStatus();
}

void NoiseService::GivePlaceBack() {
  std::lock_guard lock(mutex_);
  --places_taken_;
}

void NoiseService::Add(std::shared_ptr<ActiveCall> call) {
  bool draining;
  {
    std::lock_guard lock(mutex_);
    draining = draining_;
    calls_.insert(call);
  }
  ++counters_.streams_started;
  if (draining) call->Drain();
}

void NoiseService::Remove(const std::shared_ptr<ActiveCall>& call) {
  std::lock_guard lock(mutex_);
  calls_.erase(call);
  --places_taken_;
}

void NoiseService::Drain() {
  std::vector<std::shared_ptr<ActiveCall>> calls;
  {
    std::lock_guard lock(mutex_);
    draining_ = true;
    calls.assign(calls_.begin(), calls_.end());
  }
  for (const std::shared_ptr<ActiveCall>& call : calls) call->Drain();
}

EngineStats NoiseService::stats() const {
  EngineStats stats = engine_->stats();
  stats.sequences = counters_.sequences;
  stats.tokens = counters_.tokens;
  stats.batches = counters_.batches;
  stats.batch_bytes = counters_.batch_bytes;
  stats.wait_seconds = static_cast<double>(counters_.wait_nanoseconds) * 1e-9;
  stats.streams_started = counters_.streams_started;
  std::lock_guard lock(mutex_);
  stats.streams_open = static_cast<int>(calls_.size());
  return stats;
}

absl::StatusOr<std::shared_ptr<OpenStream>> NoiseService::Open(const v1::StreamSpec& spec) {
  const absl::StatusOr<v1::Recipe> recipe = NamedRecipe(spec);
  if (!recipe.ok()) return recipe.status();
  absl::StatusOr<std::shared_ptr<OpenStream>> open = engine_->Open(*recipe, spec.seed());
  if (!open.ok()) return open.status();
  if (absl::Status status = CheckFingerprint(spec, (*open)->stream()); !status.ok()) return status;
  return open;
}

absl::StatusOr<grpc::ServerWriteReactor<grpc::ByteBuffer>*> NoiseService::StartStream(
    const grpc::CallbackServerContext& context, const grpc::ByteBuffer& bytes) {
  if (absl::Status status = Authenticate(context); !status.ok()) return status;
  const absl::StatusOr<v1::StreamRequest> request = ParseRequest<v1::StreamRequest>(bytes);
  if (!request.ok()) return request.status();
  const absl::StatusOr<std::shared_ptr<OpenStream>> open = Open(request->stream());
  if (!open.ok()) return open.status();
  const iterand::Stream& stream = (*open)->stream();

  const std::uint64_t rows = request->has_batch_rows() ? request->batch_rows() : 64;
  const BatchBuilder sizes(stream, request->provenance());
  const std::uint64_t max_rows = sizes.MaxRows(options_.max_batch_bytes);
  if (absl::Status status = CheckRows("batch_rows", rows, max_rows, stream, options_.max_batch_bytes); !status.ok()) {
    return status;
  }
  const absl::StatusOr<ShardPlan> plan = PlanShard(request->shard(), request->start(), stream);
  if (!plan.ok()) return plan.status();
  const std::uint64_t count = request->has_count() ? request->count() : IndicesLeft(plan->first, plan->stride);

  if (absl::Status status = TakePlace(); !status.ok()) return status;
  auto call = std::make_shared<StreamCall>(this, *open, *plan, static_cast<int>(rows), request->provenance());
  absl::StatusOr<std::unique_ptr<Feed>> feed =
      engine_->NewFeed(*open, plan->first, plan->stride, count, Notifier(call));
  if (!feed.ok()) {
    GivePlaceBack();
    return feed.status();
  }
  call->Start(*std::move(feed));
  return call.get();  // kept by calls_ until OnDone
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* NoiseService::Stream(grpc::CallbackServerContext* context,
                                                                 const grpc::ByteBuffer* request) {
  absl::StatusOr<grpc::ServerWriteReactor<grpc::ByteBuffer>*> call = StartStream(*context, *request);
  if (call.ok()) return *call;
  Log().debug("stream refused: {}", std::string(call.status().message()));
  return new RefusedStream(ToGrpc(call.status()));
}

absl::StatusOr<grpc::ServerUnaryReactor*> NoiseService::StartRead(const grpc::CallbackServerContext& context,
                                                                  const grpc::ByteBuffer& bytes,
                                                                  grpc::ByteBuffer* response) {
  if (absl::Status status = Authenticate(context); !status.ok()) return status;
  const absl::StatusOr<v1::ReadRequest> request = ParseRequest<v1::ReadRequest>(bytes);
  if (!request.ok()) return request.status();
  const absl::StatusOr<std::shared_ptr<OpenStream>> open = Open(request->stream());
  if (!open.ok()) return open.status();
  const iterand::Stream& stream = (*open)->stream();

  const BatchBuilder sizes(stream, request->provenance());
  const std::uint64_t max_rows = sizes.MaxRows(options_.max_batch_bytes);
  if (absl::Status status = CheckRows("rows", request->rows(), max_rows, stream, options_.max_batch_bytes);
      !status.ok()) {
    return status;
  }
  const std::uint64_t stride = request->has_stride() ? request->stride() : 1;
  if (stride == 0) return absl::InvalidArgumentError("stride is 0; it must be at least 1");

  if (absl::Status status = TakePlace(); !status.ok()) return status;
  auto call = std::make_shared<ReadCall>(this, *open, *request, response);
  absl::StatusOr<std::unique_ptr<Feed>> feed =
      engine_->NewFeed(*open, request->first_index(), stride, request->rows(), Notifier(call));
  if (!feed.ok()) {
    GivePlaceBack();
    return feed.status();
  }
  call->Start(*std::move(feed));
  return call.get();  // kept by calls_ until OnDone
}

grpc::ServerUnaryReactor* NoiseService::Read(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                             grpc::ByteBuffer* response) {
  absl::StatusOr<grpc::ServerUnaryReactor*> call = StartRead(*context, *request, response);
  if (call.ok()) return *call;
  Log().debug("read refused: {}", std::string(call.status().message()));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(call.status()));
  return reactor;
}

absl::Status NoiseService::DescribeStream(const v1::StreamSpec& spec, v1::StreamInfo& info) {
  const absl::StatusOr<std::shared_ptr<OpenStream>> open = Open(spec);
  if (!open.ok()) return open.status();
  const iterand::Stream& stream = (*open)->stream();
  *info.mutable_recipe() = stream.recipe();
  info.set_recipe_json(RecipeToJson(stream.recipe()));
  info.set_seed(stream.seed());
  info.set_fingerprint(stream.fingerprint().data(), stream.fingerprint().size());
  info.set_dtype(ToProto(stream.dtype()));
  const StreamCost cost = stream.Cost();
  info.mutable_cost()->set_flops_per_token(cost.flops_per_token);
  info.mutable_cost()->set_segment_bytes(cost.segment_bytes);
  info.mutable_cost()->set_first_batch_sequences(cost.first_batch_sequences);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* NoiseService::Describe(grpc::CallbackServerContext* context,
                                                 const v1::DescribeRequest* request, v1::DescribeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = Authenticate(*context);
  if (status.ok()) {
    response->set_engine_version(kEngineVersion);
    for (const PresetEntry& entry : AllPresets()) {
      v1::Preset& preset = *response->add_presets();
      preset.set_name(std::string(entry.name));
      if (const absl::StatusOr<v1::Recipe> recipe = LoadPreset(entry.name); recipe.ok()) {
        preset.set_description(recipe->description());
      }
    }
    for (const FamilyEntry& entry : AllFamilies()) {
      v1::FamilyInfo& family = *response->add_families();
      family.set_name(std::string(entry.name));
      family.set_summary(std::string(entry.summary));
      v1::Family config;
      entry.resolve(config);
      if (const auto made = entry.make(config, FamilyContext{}, std::string(entry.name)); made.ok()) {
        family.set_reads_input((*made)->reads_input());
      }
    }
    if (request->has_stream()) status = DescribeStream(request->stream(), *response->mutable_stream());
  }
  reactor->Finish(ToGrpc(status));
  return reactor;
}

}  // namespace iterand
