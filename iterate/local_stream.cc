#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/fingerprint_text.h"
#include "common/recipe_source.h"
#include "iterand/stream.h"
#include "iterate/limits.h"
#include "iterate/presets.h"
#include "iterate/recipe_json.h"
#include "iterate/snapshots.h"
#include "iterate/stream.h"

namespace iterand {
namespace {

StreamInfo Describe(const Stream& stream) {
  StreamInfo info;
  info.fingerprint = ToHex(stream.fingerprint());
  info.engine_version = kEngineVersion;
  info.seed = stream.seed();
  info.recipe_json = RecipeToJson(stream.recipe());
  info.dtype = stream.dtype();
  info.length = stream.length();
  info.vocab_size = static_cast<std::uint64_t>(stream.recipe().vocab_size());
  info.loss_mask = stream.has_loss_mask();
  info.lanes = stream.lanes();
  info.segment_sequences = stream.segment_sequences();
  info.flops_per_token = stream.Cost().flops_per_token;
  return info;
}

absl::StatusOr<v1::Recipe> RecipeOf(const RecipeSource& source, const StreamSpec& spec) {
  absl::StatusOr<v1::Recipe> recipe = source.is_json() ? ParseRecipeJson(source.json) : LoadPreset(source.preset);
  if (!recipe.ok()) return recipe;
  if (spec.length) recipe->set_length(*spec.length);
  if (spec.loss_mask) recipe->set_loss_mask(*spec.loss_mask);
  return recipe;
}

absl::Status CheckFingerprint(const StreamSpec& spec, const StreamInfo& info) {
  if (spec.expected_fingerprint.empty()) return absl::OkStatus();
  const absl::StatusOr<std::string> expected = ParseFingerprint(spec.expected_fingerprint);
  if (!expected.ok()) return expected.status();
  if (absl::BytesToHexString(*expected) == info.fingerprint) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "expected_fingerprint: is ", spec.expected_fingerprint, ", but the stream has ", info.fingerprint,
      " in engine version ", info.engine_version,
      ": an index can be resumed only with the recipe, seed, length and engine version it was saved with"));
}

}  // namespace

struct LocalStream::Impl {
  std::shared_ptr<Stream> stream;
  StreamInfo info;
};

LocalStream::LocalStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LocalStream::LocalStream(LocalStream&&) noexcept = default;
LocalStream& LocalStream::operator=(LocalStream&&) noexcept = default;
LocalStream::~LocalStream() = default;

const StreamInfo& LocalStream::info() const { return impl_->info; }

absl::StatusOr<LocalStream> LocalStream::Open(const StreamSpec& spec, const LocalStreamOptions& options) {
  if (options.threads < 0) {
    return absl::InvalidArgumentError(absl::StrCat("threads: is ", options.threads, ", must be 0 or more"));
  }
  const absl::StatusOr<RecipeSource> source = ReadRecipeSource(spec.recipe, kMaxRecipeJsonBytes);
  if (!source.ok()) return source.status();
  const absl::StatusOr<v1::Recipe> recipe = RecipeOf(*source, spec);
  if (!recipe.ok()) return source->Annotate(recipe.status());
  std::shared_ptr<SnapshotFolder> snapshots;
  if (!options.snapshot_dir.empty()) {
    snapshots = std::make_shared<SnapshotFolder>();
    snapshots->path = options.snapshot_dir;
    snapshots->most_bytes = options.max_snapshot_bytes;
    if (absl::Status status = snapshots->Check(); !status.ok()) return status;
  }
  absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(*recipe, spec.seed, snapshots);
  if (!stream.ok()) return source->Annotate(stream.status());
  (*stream)->set_threads(options.threads);
  StreamInfo info = Describe(**stream);
  if (absl::Status status = CheckFingerprint(spec, info); !status.ok()) return status;
  return LocalStream(std::make_unique<Impl>(Impl{*std::move(stream), std::move(info)}));
}

absl::Status LocalStream::Read(const IndexRange& range, std::span<std::byte> tokens, std::span<std::uint8_t> loss_mask,
                               std::span<Provenance> provenance) {
  if (range.rows < 1) return absl::InvalidArgumentError(absl::StrCat("rows: is ", range.rows, ", must be at least 1"));
  if (range.stride < 1) return absl::InvalidArgumentError("stride: is 0, must be at least 1");
  std::vector<RowProvenance> origins(provenance.size());
  absl::Status status = impl_->stream->Read({.first_index = range.first_index,
                                             .stride = range.stride,
                                             .rows = range.rows,
                                             .provenance = origins,
                                             .loss_mask = loss_mask},
                                            tokens);
  if (!status.ok() || provenance.empty()) return status;
  for (int i = 0; i < range.rows; ++i) {
    const auto row = static_cast<std::size_t>(i);
    provenance[row] = impl_->stream->NamedProvenance(origins[row]);
  }
  return absl::OkStatus();
}

}  // namespace iterand
