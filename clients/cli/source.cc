#include "clients/cli/source.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <limits>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "clients/cli/arguments.h"
#include "common/printable.h"
#include "common/read_file.h"
#include "common/rpc/error_info.h"
#include "iterate/index_map.h"
#include "iterate/limits.h"
#include "iterate/plan.h"
#include "iterate/presets.h"
#include "iterate/recipe_json.h"
#include "iterate/stream.h"
#include "server/answers/describe.h"
#include "server/request.h"

namespace iterand::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "tokens are written as they lie in memory");

// Bytes of a batch: about 1 MiB, a good size for the generating threads and for a server's messages.
constexpr std::size_t kBatchBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxBatchSize = 1024;

// Where tokens are expensive, a batch takes at most some seconds of a core, since nothing is shown, written or
// interrupted before a batch is whole. It has at least one row of each lane, so that all cores have work.
constexpr double kBatchFlops = 1e11;

constexpr std::uint64_t kMaxUint64 = std::numeric_limits<std::uint64_t>::max();

int BatchSize(const v1::StreamInfo& info) {
  const auto length = static_cast<std::size_t>(info.recipe().length());
  const std::size_t most =
      std::clamp(kBatchBytes / (length * DtypeBytes(FromProto(info.dtype()))), std::size_t{1}, kMaxBatchSize);
  const double sequence_flops = info.cost().flops_per_token() * static_cast<double>(length);
  const double affordable =
      std::max(kBatchFlops / std::max(sequence_flops, 1.0), static_cast<double>(info.recipe().lanes()));
  return static_cast<int>(std::min(static_cast<double>(most), affordable));
}

// Rows of the first batch: a row for each thread, which is the least work that keeps all busy. Batches then grow, so
// that the first sequences are shown or written soon, however expensive they are.
int FirstRows(int threads) {
  return std::max(1, threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency()));
}

bool IsRecipeFile(const std::string& recipe) {
  return absl::StrContains(recipe, '/') || absl::EndsWith(recipe, ".json");
}

absl::Status AtFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

// A server's error. If the recipe is to blame, it names the recipe's file, which the server does not know.
absl::Status AtRecipe(const StreamChoice& stream, const ServerChoice& server, const absl::Status& status) {
  const bool of_recipe = ReasonOf(status) == v1::INVALID_RECIPE && IsRecipeFile(stream.recipe);
  return of_recipe ? AtFile(stream.recipe, status) : server.Named(status);
}

// The stream as a request to a server names it. A preset is sent by name, so that the server uses its own.
absl::StatusOr<v1::StreamSpec> MakeSpec(const StreamChoice& stream) {
  v1::StreamSpec spec;
  if (IsRecipeFile(stream.recipe)) {
    absl::StatusOr<std::string> json = ReadFile(stream.recipe, kMaxRecipeJsonBytes);
    if (!json.ok()) return json.status();
    spec.set_recipe_json(*std::move(json));
  } else {
    spec.set_preset(stream.recipe);
  }
  spec.set_seed(stream.seed);
  if (stream.length) spec.set_length(*stream.length);
  if (stream.loss_mask) spec.set_loss_mask(true);
  return spec;
}

StreamFacts LocalFacts(const Stream& stream, std::uint64_t at = 0) {
  StreamFacts facts;
  facts.engine_version = kEngineVersion;
  facts.plan = stream.shared_plan();
  iterand::DescribeStream(stream, stream.recipe(), at, facts.info);
  return facts;
}

absl::StatusOr<StreamFacts> RemoteFacts(Client& client, const v1::StreamSpec& spec, std::uint64_t at = 0) {
  v1::DescribeRequest request;
  *request.mutable_stream() = spec;
  request.set_at(at);
  absl::StatusOr<v1::DescribeResponse> response = client.Describe(request);
  if (!response.ok()) return response.status();
  StreamFacts facts;
  facts.engine_version = response->engine_version();
  facts.info = std::move(*response->mutable_stream());
  if (facts.info.recipe().length() <= 0 || facts.info.dtype() == v1::DTYPE_UNSPECIFIED) {
    return absl::InternalError("the server's description of the stream lacks its length or its dtype");
  }
  return facts;
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
        batch_size_(BatchSize(facts().info)),
        next_rows_(std::min(FirstRows(options.threads), batch_size_)),
        tokens_(batch_size_ * stream_->sequence_bytes()),
        loss_mask_(stream_->has_loss_mask() ? static_cast<std::size_t>(batch_size_) * stream_->length() : 0),
        is_mixture_(stream_->plan().mixture() != nullptr),
        rows_(batch_size_),
        parts_(is_mixture_ ? batch_size_ : 0) {}

  absl::StatusOr<bool> Next(RowBatch& batch) override {
    if (left_ == 0) return false;
    const bool starting = next_rows_ < batch_size_;
    auto rows = static_cast<int>(std::min<std::uint64_t>(left_, next_rows_));
    if (starting) rows = static_cast<int>(std::min<std::uint64_t>(rows, RowsOfSegments()));
    next_rows_ = std::min(2 * next_rows_, batch_size_);
    ReadOptions options{.first_index = next_, .stride = stride_, .rows = rows, .loss_mask = loss_mask_};
    if (provenance_ || is_mixture_) options.provenance = rows_;
    absl::Status status = stream_->Read(options, tokens_);
    if (!status.ok()) return status;
    batch.first_index = next_;
    batch.stride = stride_;
    batch.rows = rows;
    batch.tokens = std::span(tokens_).first(rows * stream_->sequence_bytes());
    batch.loss_mask = std::as_bytes(std::span(loss_mask_)).first(loss_mask_.empty() ? 0 : rows * stream_->length());
    batch.provenance.resize(provenance_ ? rows : 0);
    for (std::size_t i = 0; i < batch.provenance.size(); ++i) {
      v1::Provenance& to = batch.provenance[i];
      to.set_lane(rows_[i].lane);
      to.set_segment(rows_[i].segment);
      to.set_round(rows_[i].round);
      to.set_row(rows_[i].row);
      to.set_family(stream_->family_name(rows_[i]));
      to.set_depth(rows_[i].depth);
      if (is_mixture_) to.set_part(stream_->part_names()[rows_[i].part]);
    }
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
  // Rows before the first one of the next segment of its lane.
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
  RemoteSource(StreamFacts facts, ServerChoice server, std::unique_ptr<Client> client,
               std::unique_ptr<BatchReader> reader, std::uint64_t count)
      : SequenceSource(std::move(facts)),
        server_(std::move(server)),
        client_(std::move(client)),
        reader_(std::move(reader)),
        left_(count) {}

  absl::StatusOr<bool> Next(RowBatch& batch) override {
    if (left_ == 0) return false;
    absl::StatusOr<bool> more = reader_->Next(received_);
    if (!more.ok()) return server_.Named(more.status());
    if (!*more) return absl::InternalError(absl::StrCat("the server ended the stream ", left_, " sequences early"));
    if (received_.token_bytes() != received_.rows() * sequence_bytes() || received_.rows() == 0 ||
        static_cast<std::uint64_t>(received_.rows()) > left_ ||
        received_.loss_mask().size() != (has_loss_mask() ? static_cast<std::size_t>(received_.rows()) * length() : 0) ||
        !HasParts(received_)) {
      return absl::InternalError("the server sent a batch of another shape than it promised");
    }
    batch.first_index = received_.first_index();
    batch.stride = received_.stride();
    batch.rows = received_.rows();
    batch.tokens = received_.tokens();
    batch.loss_mask = received_.loss_mask();
    batch.parts = received_.parts();
    batch.provenance = received_.provenance();
    left_ -= batch.rows;
    return true;
  }

 private:
  // Whether a batch has a part for each row, of those that were described; of none, no parts.
  bool HasParts(const iterand::Batch& batch) const {
    const auto known = static_cast<std::size_t>(facts().info.parts_size());
    const auto is_known = [known](std::uint8_t part) { return part < known; };
    return batch.parts().size() == (known > 0 ? static_cast<std::size_t>(batch.rows()) : 0) &&
           std::ranges::all_of(batch.parts(), is_known);
  }

  ServerChoice server_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<BatchReader> reader_;  // after the client, which it needs
  Batch received_;
  std::uint64_t left_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Stream>> OpenLocal(const StreamChoice& stream,
                                                  const std::shared_ptr<const SnapshotFolder>& snapshots) {
  v1::Recipe recipe;
  const bool is_file = IsRecipeFile(stream.recipe);
  if (is_file) {
    absl::StatusOr<std::string> json = ReadFile(stream.recipe, kMaxRecipeJsonBytes);
    if (!json.ok()) return json.status();
    absl::StatusOr<v1::Recipe> parsed = ParseRecipeJson(*json);
    if (!parsed.ok()) return AtFile(stream.recipe, parsed.status());
    recipe = *std::move(parsed);
  } else {
    absl::StatusOr<v1::Recipe> preset = LoadPreset(stream.recipe);
    if (!preset.ok()) {
      return absl::NotFoundError(
          absl::StrCat(preset.status().message(), " (a recipe file's path has a / in it or ends in .json)"));
    }
    recipe = *std::move(preset);
  }
  if (stream.length) recipe.set_length(*stream.length);
  if (stream.loss_mask) recipe.set_loss_mask(true);
  absl::StatusOr<std::shared_ptr<Stream>> opened = Stream::Open(recipe, stream.seed, snapshots);
  if (!opened.ok() && is_file) return AtFile(stream.recipe, opened.status());
  return opened;
}

void ServerChoice::AddTo(CLI::App& command) {
  constexpr char kGroup[] = "Server";
  CLI::Option* server =
      command.add_option("--server", address, "Ask the server at this address instead of generating in this process")
          ->type_name("ADDR")
          // An empty value (`--server "$UNSET"`) must fail, not silently generate in this process.
          ->check([](const std::string& text) {
            return text.empty() ? "must be HOST:PORT or unix:PATH, not ''" : std::string();
          })
          ->group(kGroup);
  command.add_flag("--tls", tls, "Encrypt the connection, trusting the system's certificate authorities")
      ->needs(server)
      ->group(kGroup);
  command.add_option("--ca-file", ca_file, "Encrypt the connection, trusting the authorities of this PEM file")
      ->type_name("FILE")
      ->needs(server)
      ->group(kGroup);
  CLI::Option* certificate =
      command.add_option("--tls-cert", tls_cert_file, "Client certificate (PEM), for a server that asks for one")
          ->type_name("FILE")
          ->needs(server)
          ->group(kGroup);
  CLI::Option* key = command.add_option("--tls-key", tls_key_file, "Private key (PEM) of the client certificate")
                         ->type_name("FILE")
                         ->needs(server)
                         ->group(kGroup);
  certificate->needs(key);
  key->needs(certificate);
  command
      .add_option("--tls-server-name", tls_server_name, "Name in the server's certificate, if not the address's host")
      ->type_name("NAME")
      ->needs(server)
      ->group(kGroup);
  command.add_option("--token-file", token_file, "File whose first line is a secret that the server asks for")
      ->type_name("FILE")
      ->needs(server)
      ->group(kGroup);
  command.add_option("--connect-timeout", connect_timeout, "Seconds to try before no server is there")
      ->type_name("S")
      ->check(RealNumber(0.001, 3600))
      ->capture_default_str()
      ->needs(server)
      ->group(kGroup);
}

absl::StatusOr<std::unique_ptr<Client>> ServerChoice::Connect() const {
  ClientOptions options;
  options.tls = tls;
  options.ca_file = ca_file;
  options.tls_cert_file = tls_cert_file;
  options.tls_key_file = tls_key_file;
  options.tls_server_name = tls_server_name;
  options.connect_timeout = std::chrono::milliseconds(static_cast<std::int64_t>(connect_timeout * 1000));
  options.report = [](const std::string& line) { std::fprintf(stderr, "iterand: %s\n", Printable(line).c_str()); };
  options.token_file = token_file;
  for (const std::string& file : {tls_key_file, token_file}) {
    const std::string warning = file.empty() ? "" : SecretFileWarning(file);
    if (!warning.empty()) std::fprintf(stderr, "iterand: warning: %s\n", Printable(warning).c_str());
  }
  return Client::Connect(address, options);
}

absl::Status ServerChoice::Named(const absl::Status& status) const {
  if (absl::StartsWith(status.message(), address)) return status;
  switch (status.code()) {
    case absl::StatusCode::kUnauthenticated:
      return absl::UnauthenticatedError(absl::StrCat("server ", address, ": ", status.message(),
                                                     token_file.empty() ? " (--token-file FILE sends it)" : ""));
    // gRPC's message about a server that is gone, or is another program, may be only "Socket closed" or "status: 404".
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      return absl::Status(status.code(), absl::StrCat("server ", address, ": ", status.message()));
    default:
      return status;
  }
}

void StreamChoice::AddTo(CLI::App& command, bool positional) {
  if (positional) {
    // Both forms, since the other commands have the option.
    CLI::Option* const argument = command.add_option("RECIPE", recipe, "Preset or JSON file")->type_name("");
    command.add_option("--recipe", recipe, "The same")->type_name("RECIPE")->excludes(argument);
  } else {
    recipe = std::string(kDefaultPreset);
    command.add_option("--recipe", recipe, "Preset or JSON file")->type_name("RECIPE")->capture_default_str();
  }
  command.add_option("--seed", seed, "Seed of the stream, 0 to 2^64 - 1")
      ->type_name("S")
      ->check(WholeNumber(0, kMaxUint64))
      ->capture_default_str();
  command.add_option("--length", length, "Tokens per sequence, instead of the recipe's")
      ->type_name("T")
      ->check(WholeNumber(0, std::numeric_limits<std::uint32_t>::max()));
}

void RangeChoice::AddTo(CLI::App& command) {
  command.add_option("--start", start, "First index")
      ->type_name("G")
      ->check(WholeNumber(0, kMaxUint64))
      ->capture_default_str();
  command.add_option("--rank", rank, "Only the indices g with g mod W = R, for the reader R of W; 0 to W - 1")
      ->type_name("R")
      ->check(WholeNumber(0, std::numeric_limits<std::uint32_t>::max()))
      ->capture_default_str();
  command.add_option("--world-size", world_size, "Readers W that share the indices; must divide the recipe's lanes")
      ->type_name("W")
      ->check(WholeNumber(1, std::numeric_limits<std::uint32_t>::max()))
      ->capture_default_str();
}

absl::StatusOr<StreamFacts> DescribeStream(const StreamChoice& stream, const ServerChoice& server, std::uint64_t at) {
  if (server.address.empty()) {
    absl::StatusOr<std::shared_ptr<Stream>> local = OpenLocal(stream);
    if (!local.ok()) return local.status();
    return LocalFacts(**local, at);
  }
  absl::StatusOr<v1::StreamSpec> spec = MakeSpec(stream);
  if (!spec.ok()) return spec.status();
  absl::StatusOr<std::unique_ptr<Client>> client = server.Connect();
  if (!client.ok()) return client.status();
  absl::StatusOr<StreamFacts> facts = RemoteFacts(**client, *spec, at);
  if (!facts.ok()) return AtRecipe(stream, server, facts.status());
  return facts;
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

  if (server.address.empty()) {
    absl::StatusOr<std::shared_ptr<Stream>> local = OpenLocal(stream, options.snapshots);
    if (!local.ok()) return local.status();
    const absl::StatusOr<ShardPlan> plan = PlanShard(shard, range.start, **local);
    if (!plan.ok()) return plan.status();
    (*local)->set_threads(options.threads);
    return std::make_unique<LocalSource>(*std::move(local), *plan, range.count, options);
  }

  absl::StatusOr<v1::StreamSpec> spec = MakeSpec(stream);
  if (!spec.ok()) return spec.status();
  absl::StatusOr<std::unique_ptr<Client>> client = server.Connect();
  if (!client.ok()) return client.status();
  absl::StatusOr<StreamFacts> facts = RemoteFacts(**client, *spec);
  if (!facts.ok()) return AtRecipe(stream, server, facts.status());
  v1::StreamRequest request;
  *request.mutable_stream() = *std::move(spec);
  request.mutable_stream()->set_expected_fingerprint(facts->info.fingerprint());
  *request.mutable_shard() = shard;
  request.set_start(range.start);
  request.set_count(range.count);
  auto rows = static_cast<std::uint64_t>(BatchSize(facts->info));
  if (range.count > 0) rows = std::min(rows, range.count);
  // A server of an earlier version does not state its limit.
  if (const std::uint64_t most = facts->info.max_batch_size(); most > 0) rows = std::min(rows, most);
  request.set_batch_size(static_cast<std::uint32_t>(rows));
  request.set_provenance(options.provenance);
  absl::StatusOr<std::unique_ptr<BatchReader>> reader = (*client)->Stream(request);
  if (!reader.ok()) return reader.status();
  return std::make_unique<RemoteSource>(*std::move(facts), server, *std::move(client), *std::move(reader), range.count);
}

Dtype SequenceSource::dtype() const { return FromProto(facts_.info.dtype()); }

Dtype FromProto(v1::Dtype dtype) {
  switch (dtype) {
    case v1::DTYPE_UINT8:
      return Dtype::kUint8;
    case v1::DTYPE_UINT16:
      return Dtype::kUint16;
    default:
      return Dtype::kUint32;
  }
}

}  // namespace iterand::cli
