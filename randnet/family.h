// A class of random computations and its prior; and the registry of all of them.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "randnet/cost.h"  // IWYU pragma: export
#include "randnet/program.h"

namespace iterand {

// What a family's programs work on.
struct FamilyContext {
  int alphabet = 256;  // symbols are below it; 2 to 65 536
  int length = 512;    // tokens a row
};

// Immutable and thread-safe once made.
class Family {
 public:
  virtual ~Family() = default;

  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  // Whether programs read their input row. Those that do not can only start a chain.
  virtual bool reads_input() const = 0;

  // Expected floating-point operations a token (an fma counts two), or 0 where a family does integer work only.
  virtual double flops_per_token() const { return 0; }

  // How long it may take to sample a program and to run it on `rows` rows, whatever the knobs draw. Rough, for limits.
  virtual double most_seconds(int rows) const = 0;

  // Largest memory in bytes that one program and its buffers may take for `rows` rows.
  virtual double program_bytes(int rows) const = 0;

  // A program object without a program: call Sample before Run. `max_rows` bounds the rows of a Run.
  virtual std::unique_ptr<Program> NewProgram(int max_rows) const = 0;

 protected:
  Family() = default;
};

// One entry a family.
struct FamilyEntry {
  v1::Family::KindCase kind;
  std::string_view name;     // the field's name in recipe.proto, and of the family's preset
  std::string_view summary;  // one line
  // Writes every default into the message.
  void (*resolve)(v1::Family& config);
  // Checks a resolved message and makes the family. Errors are InvalidArgument and name the field below `path`
  // (such as "families[0].lstm"), its value and what is allowed.
  absl::StatusOr<std::unique_ptr<Family>> (*make)(const v1::Family& config, const FamilyContext& context,
                                                  const std::string& path);
};

// All families, in the order of recipe.proto.
std::span<const FamilyEntry> AllFamilies();

// The entry of a configuration's kind, or nullptr if none is set.
const FamilyEntry* FindFamily(v1::Family::KindCase kind);

}  // namespace iterand
