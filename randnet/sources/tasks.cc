#include "randnet/sources/tasks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

constexpr int kMinAlphabet = 5;  // two symbols and three marks

struct TasksKnobs {
  std::vector<v1::Tasks::Kind> kinds;
  IntegerKnob symbols;
  IntegerKnob items;
  bool from_row;
  bool one_mark;
};

class TasksProgram final : public Program {
 public:
  TasksProgram(const TasksKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {
    const auto items = static_cast<std::size_t>(knobs.items.high());
    input_.reserve(2 * items);
    instance_.reserve(4 * items + 4);
    seen_.resize(static_cast<std::size_t>(context.alphabet));
    words_.resize(items);
  }

  void Sample(Rng& rng) override {
    kind_ = knobs_.kinds[rng.Below(static_cast<std::uint32_t>(knobs_.kinds.size()))];
    k_ = static_cast<std::uint32_t>(std::min(knobs_.symbols.Draw(rng), context_.alphabet - 3));
    items_ = static_cast<std::uint32_t>(knobs_.items.Draw(rng));
  }

  void Run(BlockView input, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    for (int r = 0; r < out.rows() && !stopped(); ++r) {
      Rng row_rng = rng.ForRow(r);
      const auto row = out.row_span(r);
      source_ = knobs_.from_row ? std::span<const Symbol>(input.row_span(r)) : std::span<const Symbol>();
      read_ = 0;
      for (std::size_t t = 0; t < row.size();) {
        MakeInstance(row_rng);
        const std::size_t count = std::min(instance_.size(), row.size() - t);
        std::copy_n(instance_.begin(), count, row.begin() + static_cast<std::ptrdiff_t>(t));
        t += count;
      }
    }
  }

  void MarkTargets(int /*r*/, std::span<const Symbol> row, std::span<std::uint8_t> mask) const override {
    bool answer = false;
    for (std::size_t t = 0; t < row.size(); ++t) {
      mask[t] = answer ? 1 : 0;
      if (row[t] == (answer ? end() : k_)) answer = !answer;
    }
  }

  std::string Describe() const override {
    return absl::StrCat("kind=", v1::Tasks::Kind_Name(kind_), " symbols=", k_, " items=", items_);
  }

 private:
  // The symbol after an output.
  std::uint32_t end() const { return knobs_.one_mark ? k_ : k_ + 1; }

  // Appends an input's symbols to input_ and to the instance.
  void DrawInput(Rng& rng) {
    const std::uint32_t count = 1 + rng.Below(items_);
    const std::size_t from = input_.size();
    if (knobs_.from_row) {
      for (std::uint32_t i = 0; i < count; ++i) {
        input_.push_back(static_cast<Symbol>(source_[read_] % k_));
        read_ = read_ + 1 == source_.size() ? 0 : read_ + 1;
      }
    } else {
      rng.Fill({words_.data(), count});
      for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t word = words_[i];
        if (kind_ == v1::Tasks::STACK) {
          // The high half says whether it is a pop, the low half what is pushed.
          input_.push_back((word >> 16) * 3 < (1U << 16) ? Symbol{0}
                                                         : static_cast<Symbol>(1 + ((word & 0xFFFF) * (k_ - 1) >> 16)));
        } else {
          input_.push_back(static_cast<Symbol>(static_cast<std::uint64_t>(word) * k_ >> 32));
        }
      }
    }
    instance_.insert(instance_.end(), input_.begin() + static_cast<std::ptrdiff_t>(from), input_.end());
  }

  void MakeInstance(Rng& rng) {
    const auto separator = static_cast<Symbol>(k_);
    const auto between = static_cast<Symbol>(k_ + 2);
    input_.clear();
    instance_.clear();
    DrawInput(rng);
    Symbol deleted = 0;
    if (kind_ == v1::Tasks::UNION) {
      instance_.push_back(between);
      DrawInput(rng);
    } else if (kind_ == v1::Tasks::DELETE) {
      deleted = input_[rng.Below(static_cast<std::uint32_t>(input_.size()))];
      instance_.push_back(between);
      instance_.push_back(deleted);
    }
    instance_.push_back(separator);
    const auto output = static_cast<std::ptrdiff_t>(instance_.size());
    switch (kind_) {
      case v1::Tasks::REVERSE:
        instance_.insert(instance_.end(), input_.rbegin(), input_.rend());
        break;
      case v1::Tasks::SORT:
        instance_.insert(instance_.end(), input_.begin(), input_.end());
        std::sort(instance_.begin() + output, instance_.end());
        break;
      case v1::Tasks::SET:
      case v1::Tasks::UNION:
        for (const Symbol symbol : input_) {
          if (seen_[symbol] == 0) instance_.push_back(symbol);
          seen_[symbol] = 1;
        }
        for (const Symbol symbol : input_) seen_[symbol] = 0;
        break;
      case v1::Tasks::DELETE:
        std::copy_if(input_.begin(), input_.end(), std::back_inserter(instance_),
                     [deleted](Symbol symbol) { return symbol != deleted; });
        break;
      case v1::Tasks::STACK: {
        std::size_t height = 0;  // the stack is the beginning of input_
        for (const Symbol symbol : input_) {
          if (symbol != 0) {
            input_[height++] = symbol;
          } else if (height > 0) {
            --height;
          }
        }
        while (height > 0) instance_.push_back(input_[--height]);
        break;
      }
      default:
        instance_.insert(instance_.end(), input_.begin(), input_.end());
    }
    instance_.push_back(static_cast<Symbol>(end()));
  }

  const TasksKnobs& knobs_;
  FamilyContext context_;
  v1::Tasks::Kind kind_ = v1::Tasks::IDENTITY;
  std::uint32_t k_ = 2;
  std::uint32_t items_ = 1;
  std::span<const Symbol> source_;  // ROW: the input row
  std::size_t read_ = 0;
  std::vector<Symbol> input_;
  std::vector<Symbol> instance_;
  std::vector<std::uint8_t> seen_;
  std::vector<std::uint32_t> words_;
};

class TasksFamily final : public Family {
 public:
  TasksFamily(TasksKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return knobs_.from_row; }
  double most_seconds(int rows) const override {
    // Sorting takes up to twelve steps per symbol, and the last task of a row may be made for its first symbol alone.
    return 12 * cost::kSymbol * rows * (context_.length + 4.0 * knobs_.items.high());
  }
  double program_bytes(int /*rows*/) const override { return 2048.0 + 16.0 * knobs_.items.high() + context_.alphabet; }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<TasksProgram>(knobs_, context_);
  }

 private:
  TasksKnobs knobs_;
  FamilyContext context_;
};

void ComputeDefaults(v1::Family& family) {
  v1::Tasks& config = *family.mutable_tasks();
  if (!config.kinds().empty()) return;
  for (int kind = v1::Tasks::SET; kind <= v1::Tasks::STACK; ++kind) {
    config.add_kinds(static_cast<v1::Tasks::Kind>(kind));
  }
}

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::Tasks& config = family.tasks();
  if (context.alphabet < kMinAlphabet) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": needs an alphabet_size of at least ", kMinAlphabet,
                                                   " (two symbols and three marks), is ", context.alphabet));
  }
  std::vector<v1::Tasks::Kind> kinds;
  for (const int kind : config.kinds()) kinds.push_back(static_cast<v1::Tasks::Kind>(kind));
  return std::make_unique<TasksFamily>(TasksKnobs{.kinds = std::move(kinds),
                                                  .symbols = IntegerKnob(config.symbols()),
                                                  .items = IntegerKnob(config.items()),
                                                  .from_row = config.source() == v1::Tasks::ROW,
                                                  .one_mark = config.one_mark()},
                                       context);
}

}  // namespace

const FamilyEntry kTasksEntry = {v1::Family::kTasks, "tasks",
                                 "procedural tasks: input, separator, output, again and again", Make, ComputeDefaults};

}  // namespace iterand
