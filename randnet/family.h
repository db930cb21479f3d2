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
  int length = 512;    // symbols per row
};

// Immutable and thread-safe once made.
class Family {
 public:
  virtual ~Family() = default;

  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  // Whether programs read their input row. Those that do not can only start a chain.
  virtual bool reads_input() const = 0;

  // Expected floating-point operations per token (an fma counts two), or 0 where a family does integer work only.
  virtual double flops_per_token() const { return 0; }

  // How long sampling one program and running it on `rows` rows may take, whatever the knobs draw. Rough, for limits.
  virtual double most_seconds(int rows) const = 0;

  // Largest memory in bytes that one program and its buffers may take for `rows` rows.
  virtual double program_bytes(int rows) const = 0;

  // A program object without a program: call Sample before Run. `max_rows` bounds the rows of a Run.
  virtual std::unique_ptr<Program> NewProgram(int max_rows) const = 0;

 protected:
  Family() = default;
};

// One entry per family.
struct FamilyEntry {
  // Makes the family from a message with every default written out, whose fields lie within the ranges of the schema.
  // Checks what depends on several fields or on the context. Errors are InvalidArgument and name the field below `path`
  // (such as "families[0].lstm"), its value and what is allowed.
  using Maker = absl::StatusOr<std::unique_ptr<Family>> (*)(const v1::Family& config, const FamilyContext& context,
                                                            const std::string& path);

  v1::Family::KindCase kind;
  std::string_view name;     // the field's name in families.proto, and of the family's preset
  std::string_view summary;  // one line
  Maker maker;
  // Writes the defaults that depend on other fields (`computed` in the schema); nullptr if there are none.
  void (*compute_defaults)(v1::Family& config) = nullptr;

  // Makes `config` one of this kind and writes every default.
  void Resolve(v1::Family& config) const;
  // Checks a resolved message, its ranges too, and makes the family. Errors as Maker's.
  absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& config, const FamilyContext& context,
                                               const std::string& path) const;
};

// All families, in the order of families.proto.
std::span<const FamilyEntry> AllFamilies();

// The entry of a configuration's kind, or nullptr if none is set.
const FamilyEntry* FindFamily(v1::Family::KindCase kind);

}  // namespace iterand
