// Every call and option of the two libraries, each once and with its default or a typical value.
//
//   every_call ADDRESS
#include <iterand/client.h>
#include <iterand/stream.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <span>
#include <string>
#include <vector>

using namespace std::chrono_literals;

namespace {

// The first token of a row.
std::uint32_t FirstToken(std::span<const std::byte> row, iterand::Dtype dtype) {
  std::uint32_t token = std::to_integer<std::uint32_t>(row[0]);
  switch (dtype) {
    case iterand::Dtype::kUint32:
      token |= std::to_integer<std::uint32_t>(row[3]) << 24 | std::to_integer<std::uint32_t>(row[2]) << 16;
      [[fallthrough]];
    case iterand::Dtype::kUint16:
      token |= std::to_integer<std::uint32_t>(row[1]) << 8;
      [[fallthrough]];
    case iterand::Dtype::kUint8:
      break;
  }
  return token;
}

// A stream of this process, and the same sequences from a server.
absl::Status ReadBoth(iterand::Client& client) {
  const iterand::StreamSpec spec{
      .recipe = "tasks", .seed = 7, .length = 128, .loss_mask = true, .expected_fingerprint = ""};

  auto local = iterand::LocalStream::Open(
      spec, iterand::LocalStreamOptions{.threads = 2, .snapshot_dir = "", .max_snapshot_bytes = 1 << 30});
  if (!local.ok()) return local.status();
  const iterand::StreamInfo& info = local->info();
  std::cout << info.length << " tokens of " << DtypeName(info.dtype) << ", " << DtypeBytes(info.dtype)
            << " byte each, below " << info.vocab_size << "; engine " << info.engine_version << ", seed " << info.seed
            << ", " << info.lanes << " lanes of " << info.segment_sequences << " sequences per segment, "
            << info.flops_per_token << " operations per token\n"
            << info.fingerprint << "\n"
            << info.recipe_json.size() << " bytes of JSON\n";

  // Rows 100, 104 and 108, in memory of the caller.
  const iterand::IndexRange range{.first_index = 100, .stride = 4, .rows = 3};
  std::vector<std::byte> tokens(3 * info.sequence_bytes());
  std::vector<std::uint8_t> masks(info.loss_mask ? 3 * info.length : 0);
  std::vector<iterand::Provenance> origins(3);
  if (const absl::Status read = local->Read(range, tokens, masks, origins); !read.ok()) return read;
  const iterand::Provenance& origin = origins[0];
  std::cout << "begins with " << FirstToken(tokens, info.dtype) << "; lane " << origin.lane << ", segment "
            << origin.segment << ", round " << origin.round << ", row " << origin.row << ", family " << origin.family
            << ", depth " << origin.depth << ", part '" << origin.part << "'\n";

  // The same from the server.
  auto described = client.Describe(spec);
  if (!described.ok()) return described.status();
  const iterand::Timeout timeout = 30s;
  auto batch = client.Read(spec, range, /*provenance=*/true, timeout);
  if (!batch.ok()) return batch.status();
  std::vector<std::byte> copy(batch->token_bytes());
  batch->CopyTo(copy);
  const bool equal = described->fingerprint == info.fingerprint && batch->fingerprint() == info.fingerprint &&
                     batch->dtype() == info.dtype && batch->length() == info.length && copy == tokens &&
                     batch->loss_mask().size() == masks.size() && batch->provenance()[0].family == origin.family;
  std::cout << "server and process " << (equal ? "agree" : "differ") << "\n";

  // Any indices, in any order.
  const std::uint64_t indices[] = {108, 100};
  auto listed = client.ReadIndices(spec, indices);
  if (!listed.ok()) return listed.status();
  std::cout << listed->rows() << " rows, stride " << listed->stride() << ", " << listed->parts().size()
            << " numbers of parts\n";
  return absl::OkStatus();
}

// Rank 1 of 4 takes the indices 1, 5, 9, ...
absl::Status ReadShard(iterand::Client& client) {
  const iterand::StreamOptions options{.recipe = "up",
                                       .seed = 0,
                                       .length = 128,
                                       .loss_mask = false,
                                       .expected_fingerprint = "",
                                       .rank = 1,
                                       .world_size = 4,
                                       .start = 0,
                                       .count = 96,
                                       .batch_size = 64,
                                       .provenance = false,
                                       .prefetch = 8};
  auto stream = client.Stream(options);
  if (!stream.ok()) return stream.status();
  iterand::RemoteStream& reader = **stream;
  for (iterand::Batch batch; reader.Next(batch);) {
    std::size_t bytes = 0;  // sent as they came, without a copy
    for (const std::span<const std::byte> piece : batch.pieces()) bytes += piece.size();
    std::cout << "from " << batch.first_index() << ": " << batch.rows() << " rows, " << bytes << " of "
              << batch.tokens().size() << " bytes; next index " << reader.next_index() << "\n";
  }
  return reader.status();
}

// A program of the byte machine that copies its input, and one that a step limit ends.
absl::Status RunPrograms(iterand::Client& client) {
  const std::vector<iterand::ExecuteProgram> programs = {{.text = ",.,.,.", .input = "abc"},
                                                         {.text = "+[]", .seed = 1}};
  const iterand::ExecuteOptions options{
      .max_steps = 1000, .max_output = 64, .cells = 64, .symbols = 256, .repeat = false};
  return client.Execute(programs, options, [](const iterand::ExecuteResult& result) {
    using Halt = iterand::ExecuteResult::Halt;
    const char* end = result.halt == Halt::kEnded ? "ended" : result.halt == Halt::kStepLimit ? "step limit" : "full";
    static_assert(Halt::kOutputLimit != Halt::kEnded);
    std::cout << "program " << result.program << ": '" << result.output << "', " << result.steps << " steps, " << end
              << "\n";
    return true;  // false would end the call
  });
}

absl::Status Run(const std::string& address) {
  iterand::ClientOptions options;
  options.tls = false;         // or one of the files below, which imply it
  options.ca_file = "";        // "ca.pem"
  options.tls_cert_file = "";  // "client.pem"
  options.tls_key_file = "";   // "client-key.pem"
  options.tls_server_name = "";
  options.token = "";
  options.token_file = "";  // "tokens"
  options.connect_timeout = 3s;
  options.retry = iterand::RetryOptions{.attempts = 8, .first_wait = 100ms, .longest_wait = 5s};
  options.keepalive_time = 3s;
  options.keepalive_timeout = 4s;
  options.report = [](const std::string& line) { std::cerr << line << "\n"; };

  auto client = iterand::Client::ConnectToAny({address, "unix:/nonexistent/standby"}, options);
  if (!client.ok()) return client.status();
  for (const auto step : {ReadBoth, ReadShard, RunPrograms}) {
    if (const absl::Status status = step(**client); !status.ok()) return status;
  }

  // Programs decide by an error's reason, people read its message.
  auto unknown = (*client)->Describe({.recipe = "mark0v"});
  if (const std::optional<iterand::ErrorInfo> info = iterand::ErrorInfoOf(unknown.status())) {
    std::cout << info->reason << " " << info->metadata.at("preset") << "\n";
  }

  // Any thread may end a stream.
  auto other = iterand::Client::Connect(address);
  if (!other.ok()) return other.status();
  auto endless = (*other)->Stream({.recipe = "up"});
  if (!endless.ok()) return endless.status();
  (*endless)->Cancel();
  iterand::Batch batch;
  std::cout << ((*endless)->Next(batch) ? "a batch" : "cancelled") << "\n";
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  const absl::Status status = argc == 2 ? Run(argv[1]) : absl::InvalidArgumentError("usage: every_call ADDRESS");
  if (!status.ok()) std::cerr << "every_call: " << status.message() << "\n";
  return status.ok() ? 0 : 1;
}
