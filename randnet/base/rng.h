// Keyed random streams.
//
// Every use of randomness has a key (seed, lane, segment, round, purpose, row). A fixed integer hash of the key gives
// the state and the stream constant of a PCG32 (O'Neill 2014, "PCG: A Family of Simple Fast Space-Efficient
// Statistically Good Algorithms for Random Number Generation", XSH-RR 64/32). Generators are never shared between lanes
// or threads and never seeded from time or addresses, so what a round draws depends on its key alone.
//
// Every draw is defined here in integer arithmetic or in single float32 operations; no std:: distribution (their output
// differs between libraries).
#pragma once

#include <cstdint>
#include <pcg_random.hpp>
#include <span>

namespace iterand {

// What a random stream is for. The numbers are part of the stream's definition: append, never renumber.
enum class Purpose : std::uint32_t {
  kMix = 1,            // which family
  kSampleProgram = 2,  // weights, tables, rules of a program
  kRunRow = 3,         // a program's own randomness while it writes a row
  kNoise = 4,          // noise rows
  kConstant = 5,       // constant rows
  kSelect = 6,         // which rows are replaced, prompt, are read, are emitted
  kRelabel = 7,        // injections of the alphabet into the vocabulary
  kOrder = 8,          // order of the sequences of a segment
  kShape = 9,          // rows and depth of a chain
  kMixture = 10,       // which parts make the segments of a stripe
};

// The place in a stream that a random stream belongs to.
struct RandomKey {
  std::uint64_t seed = 0;
  std::uint64_t lane = 0;
  std::uint64_t segment = 0;
  std::uint64_t round = 0;
};

class Rng {
 public:
  // Raw construction from a state and a stream selector; see MakeRng for keyed ones.
  Rng(std::uint64_t state, std::uint64_t stream) : engine_(state, stream) {}

  // Uniform over all 32-bit values.
  std::uint32_t Next() { return engine_(); }

  // Uniform over 0 .. bound - 1, exactly (Lemire 2019, "Fast Random Integer Generation in an Interval"). bound > 0.
  std::uint32_t Below(std::uint32_t bound);

  // Uniform over [0, 1): a multiple of 2^-24.
  float Uniform() { return static_cast<float>(Next() >> 8) * 0x1.0p-24F; }

  // Uniform over (0, 1]: never zero, so that its logarithm is finite.
  float UniformPositive() { return static_cast<float>((Next() >> 8) + 1) * 0x1.0p-24F; }

  // Standard normal, by inversion of one uniform (randnet/base/math.h).
  float Normal();

  // Fills with what successive calls of Next() would return, and advances as they would; vectorised.
  void Fill(std::span<std::uint32_t> out);

  // For vector code that makes words by itself: a PCG's state, and its increment, which is odd.
  std::uint64_t state() const { return engine_.state(); }
  std::uint64_t increment() const { return engine_.odd_increment(); }
  void set_state(std::uint64_t state) { engine_.set_state(state); }

  // Fills with low + (high - low) * Uniform(), one value per call of Next().
  void FillUniform(float low, float high, std::span<float> out);

  // Fills with scale * Normal(), one value per call of Next().
  void FillNormal(float scale, std::span<float> out);

 private:
  // pcg32 with its state open to vector code.
  class Engine : public pcg32 {
   public:
    using pcg32::pcg32;
    std::uint64_t state() const { return state_; }
    std::uint64_t odd_increment() const { return increment(); }
    void set_state(std::uint64_t state) { state_ = state; }
  };

  Engine engine_;
};

// The hash of a key and a purpose, from which the generators of all their rows are made.
class RngMaker {
 public:
  RngMaker(const RandomKey& key, Purpose purpose);
  Rng ForRow(std::uint64_t row) const;

 private:
  void Absorb(std::uint64_t part);

  // Two chains of the same parts from different constants, so that state and stream are 128 independent bits.
  std::uint64_t state_ = 0x243F6A8885A308D3U;
  std::uint64_t stream_ = 0x13198A2E03707344U;
  std::uint64_t salt_ = 0;
};

// The generator of a key, a purpose and a row.
inline Rng MakeRng(const RandomKey& key, Purpose purpose, std::uint64_t row = 0) {
  return RngMaker(key, purpose).ForRow(row);
}

// Makes the generators that a program's rows use while it runs: one per row, whatever rows run beside it.
class RowRng {
 public:
  // Row r of the run is row first_row + r of the round.
  explicit RowRng(const RandomKey& key, int first_row = 0) : maker_(key, Purpose::kRunRow), first_row_(first_row) {}
  Rng ForRow(int row) const {
    return maker_.ForRow(static_cast<std::uint64_t>(first_row_) + static_cast<std::uint64_t>(row));
  }

 private:
  RngMaker maker_;
  int first_row_;
};

// Shuffles by Fisher and Yates, from the last element down.
template <typename T>
void Shuffle(Rng& rng, std::span<T> values) {
  for (std::size_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[rng.Below(static_cast<std::uint32_t>(i))]);
  }
}

}  // namespace iterand
