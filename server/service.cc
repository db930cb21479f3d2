#include "server/service.h"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "server/batch_builder.h"
#include "server/describe.h"
#include "server/execute.h"
#include "server/execute_call.h"
#include "server/grpc_status.h"
#include "server/read_call.h"
#include "server/request.h"
#include "server/stream_call.h"

namespace iterand {
namespace {

// Ends a stream that never began.
class RefusedStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit RefusedStream(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

// What the engine calls when rows are ready; the call may be gone by then.
template <typename Call>
std::function<void()> Notifier(const std::shared_ptr<Call>& call) {
  return [weak = std::weak_ptr<Call>(call)] {
    if (const std::shared_ptr<Call> alive = weak.lock()) alive->Advance();
  };
}

}  // namespace

NoiseService::NoiseService(Engine* engine, const ServiceOptions& options)
    : engine_(engine), options_(options), authenticator_(options.tokens), calls_(options.max_streams) {}

NoiseService::~NoiseService() = default;

EngineStats NoiseService::stats() const {
  EngineStats stats = engine_->stats();
  const CallCounters& counters = calls_.counters();
  stats.sequences = counters.sequences;
  stats.tokens = counters.tokens;
  stats.batches = counters.batches;
  stats.batch_bytes = counters.batch_bytes;
  stats.wait_seconds = static_cast<double>(counters.wait_nanoseconds) * 1e-9;
  stats.streams_started = counters.streams_started;
  stats.programs_executed = counters.programs_executed;
  stats.steps_executed = counters.steps_executed;
  for (std::size_t method = 0; method < kMethods.size(); ++method) {
    std::copy(counters.ended[method].begin(), counters.ended[method].end(), stats.calls_ended[method].begin());
  }
  stats.streams_open = calls_.open();
  return stats;
}

grpc::Status NoiseService::End(Method method, const grpc::CallbackServerContext& context, const absl::Status& status) {
  grpc::Status end = ToGrpc(status);
  calls_.CountEnd(method, end, context.peer());
  return end;
}

absl::StatusOr<std::shared_ptr<OpenStream>> NoiseService::Open(const v1::StreamSpec& spec) {
  const absl::StatusOr<v1::Recipe> recipe = NamedRecipe(spec);
  if (!recipe.ok()) return recipe.status();
  return Open(spec, *recipe);
}

absl::StatusOr<std::shared_ptr<OpenStream>> NoiseService::Open(const v1::StreamSpec& spec, const v1::Recipe& recipe) {
  absl::StatusOr<std::shared_ptr<OpenStream>> open = engine_->Open(recipe, spec.seed());
  if (!open.ok()) return open.status();
  if (absl::Status status = CheckFingerprint(spec, (*open)->stream()); !status.ok()) return status;
  return open;
}

absl::StatusOr<grpc::ServerWriteReactor<grpc::ByteBuffer>*> NoiseService::StartStream(
    const grpc::CallbackServerContext& context, const grpc::ByteBuffer& bytes) {
  if (absl::Status status = authenticator_.Check(context); !status.ok()) return status;
  const absl::StatusOr<v1::StreamRequest> request = ParseRequest<v1::StreamRequest>(bytes, kMaxStreamRequest);
  if (!request.ok()) return request.status();
  const absl::StatusOr<std::shared_ptr<OpenStream>> open = Open(request->stream());
  if (!open.ok()) return open.status();
  const iterand::Stream& stream = (*open)->stream();

  const std::uint64_t rows = request->has_batch_rows() ? request->batch_rows() : 64;
  const BatchBuilder sizes(stream, request->provenance());
  if (absl::Status status = CheckRows("batch_rows", rows, sizes, options_.max_batch_bytes); !status.ok()) {
    return status;
  }
  const absl::StatusOr<ShardPlan> plan = PlanShard(request->shard(), request->start(), stream);
  if (!plan.ok()) return plan.status();
  const std::uint64_t count = request->has_count() ? request->count() : IndicesLeft(plan->first, plan->stride);

  if (absl::Status status = calls_.TakePlace(); !status.ok()) return status;
  auto call = std::make_shared<StreamCall>(&calls_, *open, *plan, static_cast<int>(rows), request->provenance());
  absl::StatusOr<std::unique_ptr<Feed>> feed =
      engine_->NewFeed(*open, plan->first, plan->stride, count, Notifier(call));
  if (!feed.ok()) {
    calls_.GivePlaceBack();
    return feed.status();
  }
  call->Start(*std::move(feed));
  return call.get();  // kept by calls_ until OnDone
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* NoiseService::Stream(grpc::CallbackServerContext* context,
                                                                 const grpc::ByteBuffer* request) {
  absl::StatusOr<grpc::ServerWriteReactor<grpc::ByteBuffer>*> call = StartStream(*context, *request);
  if (call.ok()) return *call;
  return new RefusedStream(End(Method::kStream, *context, call.status()));
}

absl::StatusOr<grpc::ServerUnaryReactor*> NoiseService::StartRead(const grpc::CallbackServerContext& context,
                                                                  const grpc::ByteBuffer& bytes,
                                                                  grpc::ByteBuffer* response) {
  if (absl::Status status = authenticator_.Check(context); !status.ok()) return status;
  const absl::StatusOr<v1::ReadRequest> request = ParseRequest<v1::ReadRequest>(bytes, kMaxStreamRequest);
  if (!request.ok()) return request.status();
  const absl::StatusOr<std::shared_ptr<OpenStream>> open = Open(request->stream());
  if (!open.ok()) return open.status();

  const BatchBuilder sizes((*open)->stream(), request->provenance());
  if (absl::Status status = CheckRows("rows", request->rows(), sizes, options_.max_batch_bytes); !status.ok()) {
    return status;
  }
  const std::uint64_t stride = request->has_stride() ? request->stride() : 1;
  if (stride == 0) return absl::InvalidArgumentError("stride is 0; it must be at least 1");

  if (absl::Status status = calls_.TakePlace(); !status.ok()) return status;
  auto call = std::make_shared<ReadCall>(&calls_, *open, *request, response);
  absl::StatusOr<std::unique_ptr<Feed>> feed =
      engine_->NewFeed(*open, request->first_index(), stride, request->rows(), Notifier(call));
  if (!feed.ok()) {
    calls_.GivePlaceBack();
    return feed.status();
  }
  call->Start(*std::move(feed));
  return call.get();  // kept by calls_ until OnDone
}

grpc::ServerUnaryReactor* NoiseService::Read(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                             grpc::ByteBuffer* response) {
  absl::StatusOr<grpc::ServerUnaryReactor*> call = StartRead(*context, *request, response);
  if (call.ok()) return *call;
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(End(Method::kRead, *context, call.status()));
  return reactor;
}

absl::StatusOr<v1::DescribeResponse> NoiseService::Answer(const grpc::CallbackServerContext& context,
                                                          const grpc::ByteBuffer& bytes) {
  if (absl::Status status = authenticator_.Check(context); !status.ok()) return status;
  const absl::StatusOr<v1::DescribeRequest> request = ParseRequest<v1::DescribeRequest>(bytes, kMaxStreamRequest);
  if (!request.ok()) return request.status();
  v1::DescribeResponse response;
  DescribeServer(response);
  if (!request->has_stream()) return response;
  const absl::StatusOr<v1::Recipe> recipe = NamedRecipe(request->stream());
  if (!recipe.ok()) return recipe.status();
  const absl::StatusOr<std::shared_ptr<OpenStream>> open = Open(request->stream(), *recipe);
  if (!open.ok()) return open.status();
  const iterand::Stream& stream = (*open)->stream();
  // The stream may have been opened by another client, whose description is none of this one's.
  DescribeStream(stream, *recipe, *response.mutable_stream());
  response.mutable_stream()->set_max_batch_rows(
      BatchBuilder(stream, /*provenance=*/true).MaxRows(options_.max_batch_bytes));
  return response;
}

grpc::ServerUnaryReactor* NoiseService::Describe(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<v1::DescribeResponse> answer = Answer(*context, *request);
  if (answer.ok()) *response = ToBuffer(*answer);
  reactor->Finish(End(Method::kDescribe, *context, answer.status()));
  return reactor;
}

absl::StatusOr<grpc::ServerWriteReactor<grpc::ByteBuffer>*> NoiseService::StartExecute(
    const grpc::CallbackServerContext& context, const grpc::ByteBuffer& bytes) {
  if (absl::Status status = authenticator_.Check(context); !status.ok()) return status;
  const absl::StatusOr<v1::ExecuteRequest> request = ParseRequest<v1::ExecuteRequest>(bytes, kMaxRequestBytes);
  if (!request.ok()) return request.status();
  absl::StatusOr<Execution> execution = Execution::Make(*request);
  if (!execution.ok()) return execution.status();
  if (absl::Status status = calls_.TakePlace(); !status.ok()) return status;
  const auto call = std::make_shared<ExecuteCall>(&calls_, engine_, *std::move(execution));
  call->Start();
  return call.get();  // kept by calls_ until OnDone
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* NoiseService::Execute(grpc::CallbackServerContext* context,
                                                                  const grpc::ByteBuffer* request) {
  absl::StatusOr<grpc::ServerWriteReactor<grpc::ByteBuffer>*> call = StartExecute(*context, *request);
  if (call.ok()) return *call;
  return new RefusedStream(End(Method::kExecute, *context, call.status()));
}

}  // namespace iterand
