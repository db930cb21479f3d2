#include "randnet/base/rng.h"

#include "randnet/base/math.h"
#include "randnet/base/rng_kernels.h"

namespace iterand {
namespace {

// Stafford's mix 13 of the 64-bit MurmurHash3 finalizer (as in SplitMix64): a bijection that avalanches.
constexpr std::uint64_t Mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

float NormalFromWord(std::uint32_t word) {
  // An odd multiple of 2^-24 in (-1, 1): symmetric, never 0 or +-1, and exact in float32.
  const auto odd = static_cast<std::int32_t>(((word >> 8) << 1) | 1U) - (1 << 24);
  return math::NormalFromSymmetric(static_cast<float>(odd) * 0x1.0p-24F);
}

}  // namespace

std::uint32_t Rng::Below(std::uint32_t bound) {
  std::uint64_t product = static_cast<std::uint64_t>(Next()) * bound;
  if (static_cast<std::uint32_t>(product) < bound) {
    const std::uint32_t threshold = -bound % bound;
    while (static_cast<std::uint32_t>(product) < threshold) product = static_cast<std::uint64_t>(Next()) * bound;
  }
  return static_cast<std::uint32_t>(product >> 32);
}

float Rng::Normal() { return NormalFromWord(Next()); }

void Rng::Fill(std::span<std::uint32_t> out) {
  engine_.set_state(internal::FillWords(engine_.state(), engine_.odd_increment(), out.data(), out.size()));
}

void Rng::FillUniform(float low, float high, std::span<float> out) {
  engine_.set_state(internal::FillUniform(engine_.state(), engine_.odd_increment(), low, high, out.data(), out.size()));
}

void Rng::FillNormal(float scale, std::span<float> out) {
  engine_.set_state(internal::FillNormal(engine_.state(), engine_.odd_increment(), scale, out.data(), out.size()));
}

RngMaker::RngMaker(const RandomKey& key, Purpose purpose) {
  for (const std::uint64_t part : {key.seed, key.lane, key.segment, key.round, static_cast<std::uint64_t>(purpose)}) {
    Absorb(part);
  }
}

void RngMaker::Absorb(std::uint64_t part) {
  salt_ += 0x9E3779B97F4A7C15U;
  const std::uint64_t mixed = Mix(part + salt_);
  state_ = Mix(state_ ^ mixed) + salt_;
  stream_ = Mix(stream_ + mixed) ^ salt_;
}

Rng RngMaker::ForRow(std::uint64_t row) const {
  RngMaker whole = *this;
  whole.Absorb(row);
  return Rng(Mix(whole.state_), Mix(whole.stream_));
}

}  // namespace iterand
