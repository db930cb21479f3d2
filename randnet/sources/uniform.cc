#include "randnet/sources/uniform.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "randnet/base/noise.h"

namespace iterand {
namespace {

// A word's bytes or halves, the lowest first.
template <typename Field>
void FillFields(Rng& rng, int bits, std::span<Symbol> out) {
  constexpr std::size_t kFields = sizeof(std::uint32_t) / sizeof(Field);
  const int shift = 8 * static_cast<int>(sizeof(Field)) - bits;
  std::array<std::uint32_t, 512 / kFields> words;
  std::array<Field, words.size() * kFields> fields;
  while (!out.empty()) {
    const std::size_t n = std::min(out.size(), fields.size());
    const std::span<std::uint32_t> drawn(words.data(), (n + kFields - 1) / kFields);
    rng.Fill(drawn);
    std::memcpy(fields.data(), drawn.data(), drawn.size_bytes());
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<Symbol>(fields[i] >> shift);
    out = out.subspan(n);
  }
}

class UniformProgram final : public Program {
 public:
  explicit UniformProgram(int alphabet) : alphabet_(alphabet) {}
  void Sample(Rng& /*rng*/) override {}
  void Run(BlockView /*input*/, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    for (int r = 0; r < out.rows(); ++r) {
      Rng row_rng = rng.ForRow(r);
      if (std::has_single_bit(static_cast<std::uint32_t>(alphabet_))) {
        const int bits = std::bit_width(static_cast<std::uint32_t>(alphabet_)) - 1;
        if (bits <= 8) {
          FillFields<std::uint8_t>(row_rng, bits, out.row_span(r));
        } else {
          FillFields<std::uint16_t>(row_rng, bits, out.row_span(r));
        }
      } else {
        FillNoise(row_rng, alphabet_, out.row_span(r));
      }
    }
  }
  std::string Describe() const override { return ""; }

 private:
  int alphabet_;
};

class UniformFamily final : public Family {
 public:
  explicit UniformFamily(const FamilyContext& context) : context_(context) {}
  bool reads_input() const override { return false; }
  double most_seconds(int rows) const override { return cost::kSymbol * rows * context_.length; }
  double program_bytes(int /*rows*/) const override { return sizeof(UniformProgram); }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<UniformProgram>(context_.alphabet);
  }

 private:
  FamilyContext context_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& /*family*/, const FamilyContext& context,
                                             const std::string& /*path*/) {
  return std::make_unique<UniformFamily>(context);
}

}  // namespace

const FamilyEntry kUniformEntry = {v1::Family::kUniform, "uniform", "independent uniform tokens: noise", Make};

}  // namespace iterand
