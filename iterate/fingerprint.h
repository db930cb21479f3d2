// The identity of a stream: canonical text of its recipe, engine version and seed, hashed.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "iterand/v1/recipe.pb.h"

namespace iterand {

// Raised whenever any golden hash changes: streams of different engine versions are different streams.
inline constexpr std::uint32_t kEngineVersion = 6;

// SHA-256 of (engine version, canonical recipe, seed). Two streams are equal iff their fingerprints are.
using Fingerprint = std::array<std::uint8_t, 32>;

// Lower-case hexadecimal, 64 characters.
std::string ToHex(const Fingerprint& fingerprint);

// Canonical text of a resolved recipe: "path=value" lines in the order of field numbers, reals as the hexadecimal bits
// of their double, `description` left out. Stable across protobuf versions and independent of the JSON that people
// read and write. Every fingerprint depends on it, so its form must not change.
std::string CanonicalText(const v1::Recipe& resolved);

// SHA-256 of engine version, canonical text and seed.
Fingerprint ComputeFingerprint(const v1::Recipe& resolved, std::uint64_t seed);

}  // namespace iterand
