#include "randnet/sources/constant.h"

#include "randnet/base/noise.h"

namespace iterand {
namespace {

class ConstantProgram final : public Program {
 public:
  explicit ConstantProgram(int alphabet) : alphabet_(alphabet) {}
  void Sample(Rng& /*rng*/) override {}
  void Run(BlockView /*input*/, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    for (int r = 0; r < out.rows(); ++r) {
      Rng row_rng = rng.ForRow(r);
      FillConstant(row_rng, alphabet_, out.row_span(r));
    }
  }
  std::string Describe() const override { return ""; }

 private:
  int alphabet_;
};

class ConstantFamily final : public Family {
 public:
  explicit ConstantFamily(const FamilyContext& context) : context_(context) {}
  bool reads_input() const override { return false; }
  double most_seconds(int rows) const override { return cost::kSymbol * rows * context_.length; }
  double program_bytes(int /*rows*/) const override { return sizeof(ConstantProgram); }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<ConstantProgram>(context_.alphabet);
  }

 private:
  FamilyContext context_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& /*family*/, const FamilyContext& context,
                                             const std::string& /*path*/) {
  return std::make_unique<ConstantFamily>(context);
}

}  // namespace

const FamilyEntry kConstantEntry = {v1::Family::kConstant, "constant", "one token repeated", Make};

}  // namespace iterand
