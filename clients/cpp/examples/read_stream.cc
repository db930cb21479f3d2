// Reads a stream from a server, saves its position, and resumes from there the next time.
//
//   read_stream ADDRESS STATE_FILE [BATCHES]
#include <iterand/client.h>

#include <cstdlib>
#include <fstream>
#include <iostream>

int Fail(const absl::Status& status) {
  std::cerr << "read_stream: " << status.message() << "\n";
  return 1;
}

int main(int argc, char** argv) {
  if (argc < 3) return Fail(absl::InvalidArgumentError("usage: read_stream ADDRESS STATE_FILE [BATCHES]"));
  const int batches = argc > 3 ? std::atoi(argv[3]) : 3;

  // The state is the next index and the stream's fingerprint. With the fingerprint, a server that would continue with
  // other sequences refuses. A first run has no state and starts at index 0.
  iterand::StreamOptions options{.recipe = "markov", .seed = 7, .length = 128, .batch_size = 32};
  std::ifstream(argv[2]) >> options.start >> options.expected_fingerprint;

  auto client = iterand::Client::Connect(argv[1]);
  if (!client.ok()) return Fail(client.status());
  auto stream = (*client)->Stream(options);
  if (!stream.ok()) return Fail(stream.status());

  iterand::Batch batch;
  for (int i = 0; i < batches && (*stream)->Next(batch); ++i) {
    std::cout << "sequences " << batch.first_index() << " to " << batch.first_index() + batch.rows() - 1 << ":";
    for (const std::byte token : batch.tokens().first(8)) std::cout << ' ' << static_cast<int>(token);
    std::cout << " ...\n";
    // A trainer would train on the batch here, and save the state with its checkpoint.
    std::ofstream(argv[2]) << (*stream)->next_index() << ' ' << batch.fingerprint() << '\n';
  }
  if (!(*stream)->status().ok()) return Fail((*stream)->status());
}
