#include "randnet/uniform.h"

#include <algorithm>
#include <array>
#include <bit>

namespace iterand {
namespace {

class UniformProgram final : public Program {
 public:
  explicit UniformProgram(int alphabet) : alphabet_(alphabet) {}
  void Sample(Rng& /*rng*/) override {}
  void Run(BlockView /*input*/, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    for (int r = 0; r < out.rows(); ++r) {
      Rng row_rng = rng.ForRow(r);
      FillNoise(row_rng, alphabet_, out.row_span(r));
    }
  }
  std::string Describe() const override { return ""; }

 private:
  int alphabet_;
};

class UniformFamily final : public Family {
 public:
  explicit UniformFamily(int alphabet) : alphabet_(alphabet) {}
  bool reads_input() const override { return false; }
  double program_bytes(int /*rows*/) const override { return sizeof(UniformProgram); }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<UniformProgram>(alphabet_);
  }

 private:
  int alphabet_;
};

}  // namespace

void FillNoise(Rng& rng, int alphabet, std::span<Symbol> out) {
  std::array<std::uint32_t, 512> words;
  while (!out.empty()) {
    const std::size_t n = std::min(out.size(), words.size());
    rng.Fill({words.data(), n});
    if (std::has_single_bit(static_cast<std::uint32_t>(alphabet))) {
      // The same product, by a shift.
      const int shift = 33 - std::bit_width(static_cast<std::uint32_t>(alphabet));
      for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<Symbol>(words[i] >> shift);
    } else {
      for (std::size_t i = 0; i < n; ++i) {
        out[i] =
            static_cast<Symbol>((static_cast<std::uint64_t>(words[i]) * static_cast<std::uint32_t>(alphabet)) >> 32);
      }
    }
    out = out.subspan(n);
  }
}

const FamilyEntry kUniformEntry = {v1::Family::kUniform, "uniform", "independent uniform tokens: noise",
                                   [](v1::Family& config) { config.mutable_uniform(); },
                                   [](const v1::Family& /*config*/, const FamilyContext& context,
                                      const std::string& /*path*/) -> absl::StatusOr<std::unique_ptr<Family>> {
                                     return std::make_unique<UniformFamily>(context.alphabet);
                                   }};

}  // namespace iterand
