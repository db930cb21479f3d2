// What every family must satisfy, as checks for its test.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "randnet/family.h"

namespace iterand {

// A family's message from JSON, such as {"lstm": {"layers": {"fixed": 1}}}.
v1::Family FamilyConfig(const std::string& json);

// The family of a configuration, its defaults written out; the test fails if it is refused.
std::unique_ptr<Family> MakeFamily(const std::string& json, const FamilyContext& context);

// Rows x length symbols below the alphabet from a seed.
Block NoiseBlock(std::uint64_t seed, int rows, int length, int alphabet);

// A sampled program and what it needs to run.
struct SampledProgram {
  SampledProgram(const Family& family, const FamilyContext& context, std::uint64_t seed, int rows);
  void Run();

  RandomKey key;
  std::unique_ptr<Program> program;
  Block input;
  Block prompt;
  Block out;
};

// Of several programs: symbols are below the alphabet; row r of 3 rows and of 1 row equals row r of 19; running again,
// also after a run that was stopped, and sampling the program again in an object that has held others, gives the same
// rows; every vector target gives the same rows; the prompt is the beginning; a family that does not read its input
// gives the same rows for another input.
void CheckRows(const std::string& json, const FamilyContext& context);

// Once a program has run, sampling and running more allocates nothing, and what was allocated until then lies within
// program_bytes (but for what Highway allocates, which is not counted).
void CheckMemory(const std::string& json, const FamilyContext& context);

// The configuration is refused, by a message that contains `text` (the field's path, say).
void CheckRefused(const std::string& json, const std::string& text, const FamilyContext& context = {});

}  // namespace iterand
