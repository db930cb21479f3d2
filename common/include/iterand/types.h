// Types that iterand/stream.h and iterand/client.h share.
//
// A stream is a pure function (recipe, seed, index) -> sequence. The index runs from 0 to 2^64 - 1. A sequence has
// `length` tokens. A token is an unsigned integer below the recipe's vocabulary size. The bits are the same in this
// process and over the network, from the start and from the middle. So an index is all that a reader must save to
// resume.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace iterand {

// The element type of tokens. The value is its width in bytes. A stream has the smallest type that holds its
// vocabulary. Tokens are little-endian.
enum class Dtype : std::uint8_t { kUint8 = 1, kUint16 = 2, kUint32 = 4 };

// Bytes per token.
constexpr std::size_t DtypeBytes(Dtype dtype) { return static_cast<std::size_t>(dtype); }

// "uint8", "uint16" or "uint32".
constexpr const char* DtypeName(Dtype dtype) {
  switch (dtype) {
    case Dtype::kUint8:
      return "uint8";
    case Dtype::kUint16:
      return "uint16";
    case Dtype::kUint32:
      break;
  }
  return "uint32";
}

// Names one stream.
struct StreamSpec {
  // One of three forms. JSON text begins with a brace. The path of a JSON file has a slash in it or ends in ".json".
  // Anything else is the name of a preset; `iterand presets` lists them.
  std::string recipe = "up";

  // Streams of different seeds are independent.
  std::uint64_t seed = 0;

  // Tokens per sequence, instead of the recipe's.
  std::optional<std::uint32_t> length = {};

  // Whether sequences come with loss masks, instead of the recipe's choice.
  std::optional<bool> loss_mask = {};

  // The fingerprint that the stream must have: 64 hexadecimal digits, as StreamInfo::fingerprint. If the recipe, the
  // length or the engine version makes another stream, it is refused with FailedPrecondition. Empty: not checked.
  std::string expected_fingerprint = {};
};

// Names `rows` sequences: row i has the index first_index + i * stride.
struct IndexRange {
  std::uint64_t first_index = 0;
  std::uint64_t stride = 1;  // at least 1
  int rows = 1;              // at least 1
};

// What is known about a stream before its first sequence.
struct StreamInfo {
  // Streams are equal if and only if their fingerprints are: 64 lower-case hexadecimal digits. Covers the recipe, the
  // seed and the engine version.
  std::string fingerprint;

  std::uint32_t engine_version = 0;  // streams of different engine versions are different streams
  std::uint64_t seed = 0;
  std::string recipe_json;  // the recipe with every default written out

  Dtype dtype = Dtype::kUint8;
  int length = 0;                // tokens per sequence
  std::uint64_t vocab_size = 0;  // every token is below it
  bool loss_mask = false;        // whether sequences come with loss masks

  // Independent processes of the stream: sequence g belongs to lane g mod lanes. The number of ranks that share a
  // stream must divide it.
  int lanes = 0;

  // Sequences per segment. A segment of a lane is generated as a whole, so reading one sequence costs as much as
  // reading all.
  int segment_sequences = 0;

  // Estimated cost; 0 if the recipe does integer work only.
  double flops_per_token = 0;

  std::size_t sequence_bytes() const { return static_cast<std::size_t>(length) * DtypeBytes(dtype); }
};

// Where a sequence came from.
struct Provenance {
  std::uint32_t lane = 0;
  std::uint64_t segment = 0;
  std::uint64_t round = 0;  // within the segment; within the lane if the recipe's pool is endless
  std::uint32_t row = 0;    // within the round
  std::string family;       // of the program that wrote the sequence
  std::uint32_t depth = 0;  // programs passed through since it was noise
  std::string part;         // of a mixture: the name of the part that made the sequence; else empty
};

}  // namespace iterand
