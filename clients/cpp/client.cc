#include "iterand/client.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "clients/cpp/from_proto.h"
#include "clients/cpp/named_stream.h"
#include "clients/cpp/rpc_client.h"

namespace iterand {
namespace {

absl::StatusOr<StreamInfo> ToInfo(const v1::DescribeResponse& response) {
  const v1::StreamInfo& from = response.stream();
  const std::optional<Dtype> dtype = FromProto(from.dtype());
  if (!response.has_stream() || !dtype || from.recipe().length() <= 0) {
    return absl::DataLossError("the server sent a description without the stream's length or dtype");
  }
  StreamInfo info;
  info.fingerprint = absl::BytesToHexString(from.fingerprint());
  info.engine_version = response.engine_version();
  info.seed = from.seed();
  info.recipe_json = from.recipe_json();
  info.dtype = *dtype;
  info.length = static_cast<int>(from.recipe().length());
  info.vocab_size = static_cast<std::uint64_t>(from.recipe().vocab_size());
  info.loss_mask = from.recipe().loss_mask();
  info.lanes = static_cast<int>(from.recipe().lanes());
  info.segment_sequences = static_cast<int>(from.recipe().segment_sequences());
  info.flops_per_token = from.cost().flops_per_token();
  return info;
}

ExecuteResult::Halt ToHalt(v1::ExecuteResult::Halt halt) {
  switch (halt) {
    case v1::ExecuteResult::STEP_LIMIT:
      return ExecuteResult::Halt::kStepLimit;
    case v1::ExecuteResult::OUTPUT_LIMIT:
      return ExecuteResult::Halt::kOutputLimit;
    default:
      return ExecuteResult::Halt::kEnded;
  }
}

absl::StatusOr<v1::ExecuteRequest> MakeRequest(const std::vector<ExecuteProgram>& programs,
                                               const ExecuteOptions& options) {
  v1::ExecuteRequest request;
  request.set_max_steps(options.max_steps);
  request.set_max_output(options.max_output);
  request.set_cells(options.cells);
  request.set_symbols(options.symbols);
  request.set_repeat(options.repeat);
  for (std::size_t i = 0; i < programs.size(); ++i) {
    const ExecuteProgram& from = programs[i];
    if (from.input && from.seed) {
      return absl::InvalidArgumentError(
          absl::StrCat("programs[", i, "]: has an input and a seed, may have one of them"));
    }
    v1::ExecuteProgram& to = *request.add_programs();
    to.set_text(from.text);
    if (from.input) to.set_input(*from.input);
    if (from.seed) to.set_seed(*from.seed);
  }
  return request;
}

}  // namespace

Client::Client(std::unique_ptr<RpcClient> rpc) : rpc_(std::move(rpc)) {}
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& address, const ClientOptions& options) {
  return ConnectToAny({address}, options);
}

absl::StatusOr<std::unique_ptr<Client>> Client::ConnectToAny(std::vector<std::string> addresses,
                                                             const ClientOptions& options) {
  absl::StatusOr<std::unique_ptr<RpcClient>> rpc = RpcClient::ConnectToAny(std::move(addresses), options);
  if (!rpc.ok()) return rpc.status();
  return std::unique_ptr<Client>(new Client(*std::move(rpc)));
}

absl::StatusOr<std::unique_ptr<RemoteStream>> Client::Stream(const StreamOptions& options) {
  absl::StatusOr<NamedStream> stream = NameStream({.recipe = options.recipe,
                                                   .seed = options.seed,
                                                   .length = options.length,
                                                   .loss_mask = options.loss_mask,
                                                   .expected_fingerprint = options.expected_fingerprint});
  if (!stream.ok()) return stream.status();
  if (options.world_size == 0) return absl::InvalidArgumentError("world_size: is 0, must be at least 1");
  if (options.rank >= options.world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank: is ", options.rank, ", must be below world_size, which is ", options.world_size));
  }
  v1::StreamRequest request;
  *request.mutable_stream() = std::move(stream->spec);
  request.mutable_shard()->set_rank(options.rank);
  request.mutable_shard()->set_world_size(options.world_size);
  request.set_start(options.start);
  if (options.count) request.set_count(*options.count);
  request.set_batch_size(options.batch_size);
  request.set_provenance(options.provenance);
  absl::StatusOr<std::unique_ptr<RemoteStream>> opened = rpc_->Stream(request, options.prefetch);
  if (opened.ok()) (*opened)->recipe_path_ = stream->source.path;
  return opened;
}

absl::StatusOr<Batch> Client::Read(const StreamSpec& stream, const IndexRange& range, bool provenance,
                                   Timeout timeout) {
  absl::StatusOr<NamedStream> named = NameStream(stream);
  if (!named.ok()) return named.status();
  if (range.rows < 1) return absl::InvalidArgumentError(absl::StrCat("rows: is ", range.rows, ", must be at least 1"));
  v1::ReadRequest request;
  *request.mutable_stream() = std::move(named->spec);
  request.set_first_index(range.first_index);
  request.set_stride(range.stride);
  request.set_rows(static_cast<std::uint32_t>(range.rows));
  request.set_provenance(provenance);
  absl::StatusOr<Batch> batch = rpc_->Read(request, timeout);
  if (!batch.ok()) return AnnotateRecipeError(named->source, batch.status());
  return batch;
}

absl::StatusOr<Batch> Client::ReadIndices(const StreamSpec& stream, std::span<const std::uint64_t> indices,
                                          bool provenance, Timeout timeout) {
  absl::StatusOr<NamedStream> named = NameStream(stream);
  if (!named.ok()) return named.status();
  if (indices.empty()) return absl::InvalidArgumentError("indices: is empty, must have at least one index");
  v1::ReadRequest request;
  *request.mutable_stream() = std::move(named->spec);
  request.mutable_indices()->Add(indices.begin(), indices.end());
  request.set_provenance(provenance);
  absl::StatusOr<Batch> batch = rpc_->Read(request, timeout);
  if (!batch.ok()) return AnnotateRecipeError(named->source, batch.status());
  return batch;
}

absl::StatusOr<StreamInfo> Client::Describe(const StreamSpec& stream, Timeout timeout) {
  absl::StatusOr<NamedStream> named = NameStream(stream);
  if (!named.ok()) return named.status();
  v1::DescribeRequest request;
  *request.mutable_stream() = std::move(named->spec);
  const absl::StatusOr<v1::DescribeResponse> response = rpc_->Describe(request, timeout);
  if (!response.ok()) return AnnotateRecipeError(named->source, response.status());
  return ToInfo(*response);
}

absl::Status Client::Execute(const std::vector<ExecuteProgram>& programs, const ExecuteOptions& options,
                             const std::function<bool(ExecuteResult)>& sink, Timeout timeout) {
  const absl::StatusOr<v1::ExecuteRequest> request = MakeRequest(programs, options);
  if (!request.ok()) return request.status();
  const auto convert = [&sink](const v1::ExecuteResult& from) {
    return sink(
        {.program = from.program(), .output = from.output(), .steps = from.steps(), .halt = ToHalt(from.halt())});
  };
  return rpc_->Execute(*request, convert, timeout);
}

}  // namespace iterand
