#include "server/service.h"

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "common/rpc/error_info.h"
#include "iterate/index_map.h"
#include "server/answers/describe.h"
#include "server/answers/execute.h"
#include "server/answers/shard_plan.h"
#include "server/answers/stream_spec.h"
#include "server/batch_builder.h"
#include "server/execute_call.h"
#include "server/messages.h"
#include "server/read_call.h"
#include "server/stream_call.h"

namespace iterand {
namespace {

// By method.
constexpr std::array<const char*, kMethods.size()> kPaths = {
    "/iterand.v1.NoiseService/Stream", "/iterand.v1.NoiseService/Read", "/iterand.v1.NoiseService/Describe",
    "/iterand.v1.NoiseService/Execute"};

// Answers Describe.
class DescribeCall final : public CallBody {
 public:
  DescribeCall(Call* call, const v1::DescribeResponse& answer) : call_(call), message_(ToBuffer(answer)) {}
  void Start() override { call_->EndWith(message_, ""); }
  void OnWriteDone(bool /*ok*/) override {}
  void Cancel() override {}  // Start ends the call
  void Drain() override {}

 private:
  Call* const call_;
  grpc::ByteBuffer message_;
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
    : engine_(engine), options_(options), authenticator_(options.tokens), calls_(options.max_streams) {
  AddMethod(Method::kStream, kMaxStreamRequest, &NoiseService::OpenStreamCall);
  AddMethod(Method::kRead, kMaxStreamRequest, &NoiseService::OpenReadCall);
  AddMethod(Method::kDescribe, kMaxStreamRequest, &NoiseService::OpenDescribeCall);
  AddMethod(Method::kExecute, kMaxRequestBytes, &NoiseService::OpenExecuteCall);
}

NoiseService::~NoiseService() = default;

void NoiseService::AddMethod(Method method, std::size_t max_request,
                             Body (NoiseService::*open)(Call& call, const grpc::ByteBuffer& request)) {
  using Handler = grpc::internal::CallbackBidiHandler<grpc::ByteBuffer, grpc::ByteBuffer>;
  const auto begin = [this, method, max_request, open](grpc::CallbackServerContext* context) {
    const Call::Host host{&calls_, &gate_, pool_.get(), options_.request_timeout};
    const auto call = std::make_shared<Call>(
        host, method, max_request, context,
        [this, open](Call& opened, const grpc::ByteBuffer& request) { return (this->*open)(opened, request); });
    call->Begin(authenticator_.Check(*context));
    return call.get();
  };
  grpc::Service::AddMethod(new grpc::internal::RpcServiceMethod(kPaths[static_cast<std::size_t>(method)],
                                                                grpc::internal::RpcMethod::BIDI_STREAMING, nullptr));
  MarkMethodRawCallback(static_cast<int>(method), new Handler(begin));
}

ServerStats NoiseService::stats() const {
  ServerStats stats{engine_->stats(), {}, {}};
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

absl::StatusOr<std::shared_ptr<SharedStream>> NoiseService::Open(const v1::StreamSpec& spec, const v1::Recipe& recipe) {
  absl::StatusOr<std::shared_ptr<SharedStream>> open = engine_->Open(recipe, spec.seed());
  if (!open.ok()) return open.status();
  if (absl::Status status = CheckFingerprint(spec, (*open)->stream()); !status.ok()) return status;
  return open;
}

NoiseService::Body NoiseService::OpenStreamCall(Call& call, const grpc::ByteBuffer& bytes) {
  const absl::StatusOr<v1::StreamRequest> request = ParseRequest<v1::StreamRequest>(bytes);
  if (!request.ok()) return request.status();
  const absl::StatusOr<v1::Recipe> recipe = NamedRecipe(request->stream());
  if (!recipe.ok()) return recipe.status();
  const absl::StatusOr<std::shared_ptr<SharedStream>> open = Open(request->stream(), *recipe);
  if (!open.ok()) return open.status();
  const iterand::Stream& stream = (*open)->stream();

  const std::uint64_t rows = request->has_batch_size() ? request->batch_size() : 64;
  std::vector<std::string> part_names = AskedPartNames(stream, *recipe);
  const BatchBuilder sizes(stream, request->provenance(), part_names);
  if (absl::Status status = CheckRows("batch_size", rows, sizes, options_.max_batch_bytes); !status.ok()) {
    return status;
  }
  const absl::StatusOr<ShardPlan> plan = PlanShard(request->shard(), request->start(), stream);
  if (!plan.ok()) return plan.status();
  const std::uint64_t count = request->has_count() ? request->count() : IndicesLeft(plan->first, plan->stride);

  auto body = std::make_shared<StreamCall>(&call, &calls_, *open, *plan, static_cast<int>(rows), request->provenance(),
                                           std::move(part_names));
  absl::StatusOr<std::unique_ptr<SequenceReader>> reader = engine_->NewReader(
      *open, {.first = plan->first, .stride = plan->stride, .count = count, .first_batch_size = rows}, Notifier(body));
  if (!reader.ok()) return reader.status();
  body->set_reader(*std::move(reader));
  return body;
}

NoiseService::Body NoiseService::OpenReadCall(Call& call, const grpc::ByteBuffer& bytes) {
  const absl::StatusOr<v1::ReadRequest> request = ParseRequest<v1::ReadRequest>(bytes);
  if (!request.ok()) return request.status();
  const absl::StatusOr<v1::Recipe> recipe = NamedRecipe(request->stream());
  if (!recipe.ok()) return recipe.status();
  const absl::StatusOr<std::shared_ptr<SharedStream>> open = Open(request->stream(), *recipe);
  if (!open.ok()) return open.status();

  std::vector<std::string> part_names = AskedPartNames((*open)->stream(), *recipe);
  const BatchBuilder sizes((*open)->stream(), request->provenance(), part_names);
  const bool listed = request->indices_size() > 0;
  if (listed && (request->first_index() != 0 || request->has_stride() || request->rows() != 0)) {
    return InvalidField("indices", "indices are given, so first_index, stride and rows must not be");
  }
  const std::uint64_t rows = listed ? static_cast<std::uint64_t>(request->indices_size()) : request->rows();
  if (absl::Status status = CheckRows(listed ? "indices" : "rows", rows, sizes, options_.max_batch_bytes);
      !status.ok()) {
    return status;
  }
  const std::uint64_t stride = request->has_stride() ? request->stride() : 1;
  if (stride == 0) return InvalidField("stride", "stride is 0; it must be at least 1");

  auto body = std::make_shared<ReadCall>(&call, &calls_, *open, rows);
  absl::Status status =
      listed ? body->ReadIndices(*engine_, {request->indices().data(), rows}, request->provenance(), part_names)
             : body->Read(*engine_, request->first_index(), stride, request->provenance(), std::move(part_names));
  if (!status.ok()) return status;
  return body;
}

absl::StatusOr<v1::DescribeResponse> NoiseService::Answer(const v1::DescribeRequest& request) {
  // Presets and families are the same for every call, and take a millisecond to list.
  static const auto* const server = [] {
    auto* response = new v1::DescribeResponse();
    DescribeServer(*response);
    return response;
  }();
  v1::DescribeResponse response = *server;
  if (!request.has_stream()) return response;
  const absl::StatusOr<v1::Recipe> recipe = NamedRecipe(request.stream());
  if (!recipe.ok()) return recipe.status();
  const absl::StatusOr<std::shared_ptr<SharedStream>> open = Open(request.stream(), *recipe);
  if (!open.ok()) return open.status();
  const iterand::Stream& stream = (*open)->stream();
  // Another client may have opened the stream. Its names and descriptions must not reach this one.
  DescribeStream(stream, *recipe, request.at(), *response.mutable_stream());
  response.mutable_stream()->set_max_batch_size(
      BatchBuilder(stream, /*provenance=*/true, AskedPartNames(stream, *recipe)).MaxRows(options_.max_batch_bytes));
  return response;
}

NoiseService::Body NoiseService::OpenDescribeCall(Call& call, const grpc::ByteBuffer& bytes) {
  const absl::StatusOr<v1::DescribeRequest> request = ParseRequest<v1::DescribeRequest>(bytes);
  if (!request.ok()) return request.status();
  const absl::StatusOr<v1::DescribeResponse> answer = Answer(*request);
  if (!answer.ok()) return answer.status();
  return std::make_shared<DescribeCall>(&call, *answer);
}

NoiseService::Body NoiseService::OpenExecuteCall(Call& call, const grpc::ByteBuffer& bytes) {
  absl::StatusOr<Reservation> memory = calls_.TakeExecuteBytes(bytes.Length());
  if (!memory.ok()) return memory.status();
  const absl::StatusOr<v1::ExecuteRequest> request = ParseRequest<v1::ExecuteRequest>(bytes);
  if (!request.ok()) return request.status();
  absl::StatusOr<Execution> execution = Execution::Make(*request, &call.cancelled());
  if (!execution.ok()) return execution.status();
  return std::make_shared<ExecuteCall>(&call, &calls_, engine_, *std::move(execution), *std::move(memory));
}

}  // namespace iterand
