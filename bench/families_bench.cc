// The tables of docs/families/costs.md: what each family costs and yields, and what a band costs with and without a
// trial.
//
//   families_bench [--preset NAME ...] [--seconds S] [--rows N] [--trial JSON] [--json FILE]
//                                                                                 the families and their bands
//   families_bench --shares NAME [--seconds S]                                    what a preset's families take of it
//   families_bench --calibrate [--rows N] [--json FILE]                           complexity beside zlib and gzip
//
// Times are processor time of the one thread that generates, so a busy machine blurs them little. Families: tokens/s of
// the preset as it is, programs' sampling, filters and relabelling included; the share of rows, before filters, with a
// zlib ratio of 0.06 to 0.9 ("structured") and the share of different ones; tokens kept per token generated. Bands: for
// three bands of complexity, tokens kept per token generated and processor time per kept token, without and with
// Band.trial at its defaults, or as --trial has it. A band that yields less than one row in kHopelessRounds rounds is
// left out.
#include <google/protobuf/util/json_util.h>
#include <zlib.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/thread_clock.h"
#include "iterate/complexity.h"
#include "iterate/make_iteration.h"
#include "iterate/plan.h"
#include "iterate/presets.h"
#include "iterate/statistics.h"
#include "iterate/stream.h"
#include "randnet/family.h"

namespace {

using iterand::Stream;
using Json = nlohmann::ordered_json;

constexpr int kHopelessRounds = 200;
constexpr std::pair<double, double> kBands[] = {{0.05, 0.25}, {0.25, 0.5}, {0.5, 0.8}};

[[noreturn]] void Fail(const absl::Status& status) {
  std::fprintf(stderr, "families_bench: %s\n", status.ToString().c_str());
  std::exit(1);
}

iterand::v1::Recipe Preset(const std::string& name) {
  auto recipe = iterand::LoadPreset(name);
  if (!recipe.ok()) Fail(recipe.status());
  return *recipe;
}

// Generates segments of lane 0 until `seconds` are over.
struct Run {
  double seconds = 0;
  double kept = 0;       // tokens
  double generated = 0;  // tokens
  bool starved = false;
};

Run Generate(const iterand::v1::Recipe& recipe, double seconds) {
  auto stream = Stream::Open(recipe, 0);
  if (!stream.ok()) Fail(stream.status());
  auto workspace = (*stream)->NewWorkspace();
  const double symbols_a_token = (*stream)->recipe().has_pack() ? static_cast<double>(recipe.pack()) : 1.0;
  iterand::Segment segment;
  Run run;
  if (absl::Status warm = (*stream)->GenerateSegment(0, 0, *workspace, nullptr, segment); !warm.ok()) {
    run.starved = true;
    return run;
  }
  const double start = iterand::ThreadSeconds();
  for (std::uint64_t s = 1; run.seconds < seconds; ++s) {
    if (absl::Status status = (*stream)->GenerateSegment(0, s, *workspace, nullptr, segment); !status.ok()) {
      run.starved = true;
      return run;
    }
    run.kept += static_cast<double>((*stream)->segment_sequences()) * (*stream)->length();
    run.generated += static_cast<double>(segment.generated_symbols) / symbols_a_token;
    run.seconds = iterand::ThreadSeconds() - start;
  }
  return run;
}

// The first rows of a preset before its filters, under their own labels.
iterand::v1::Recipe Unfiltered(iterand::v1::Recipe recipe) {
  recipe.clear_band();
  recipe.clear_distinct();
  recipe.clear_relabel();
  for (iterand::v1::Part& part : *recipe.mutable_mixture()) {
    *part.mutable_recipe() = Unfiltered(part.has_recipe() ? part.recipe() : Preset(part.preset()));
  }
  return recipe;
}

Json MeasureFamily(const std::string& preset, double seconds, int rows, const iterand::v1::Band::Trial& trial_config) {
  const iterand::v1::Recipe recipe = Preset(preset);
  const auto plan = iterand::StreamPlan::Make(recipe, 0);
  if (!plan.ok()) Fail(plan.status());
  int families = 0;
  int readers = 0;
  for (int part = 0; part < (*plan)->parts(); ++part) {
    const iterand::FamilyMix& mix = (*plan)->part(part).mix();
    families += mix.size();
    for (int i = 0; i < mix.size(); ++i) readers += mix.family(i).reads_input() ? 1 : 0;
  }

  auto plain = Stream::Open(Unfiltered(recipe), 0);
  std::vector<std::byte> tokens(static_cast<std::size_t>(rows) * (*plain)->sequence_bytes());
  if (absl::Status status = (*plain)->Read({.rows = rows}, tokens); !status.ok()) Fail(status);
  iterand::StatisticsCollector collector((*plain)->dtype(), (*plain)->length(), (*plan)->recipe().vocab_size());
  collector.Add(tokens.data(), rows);
  const iterand::StreamStatistics statistics = collector.Summary();

  const Run run = Generate(recipe, seconds);
  Json row = {{"preset", preset},
              {"family", families == 1 ? (*plan)->mix().name(0) : "several"},
              {"reads_input", readers == 0 ? "no" : (readers == families ? "yes" : "some")},
              {"tokens_per_second", run.kept / run.seconds},
              {"structured_share", statistics.structured_share},
              {"distinct_share", 1 - statistics.duplicate_share},
              {"kept_per_generated", run.kept / run.generated}};
  row["bands"] = Json::array();
  if (!recipe.mixture().empty()) return row;  // its parts have bands of their own
  for (const auto& [low, high] : kBands) {
    Json band = {{"low", low}, {"high", high}};
    for (const bool trial : {false, true}) {
      iterand::v1::Recipe narrow = recipe;
      narrow.set_starvation_rounds(kHopelessRounds);
      narrow.mutable_band()->set_low(low);
      narrow.mutable_band()->set_high(high);
      if (trial) *narrow.mutable_band()->mutable_trial() = trial_config;
      const Run kept = Generate(narrow, seconds);
      if (kept.starved) continue;
      band[trial ? "trial" : "plain"] = {{"kept_per_generated", kept.kept / kept.generated},
                                         {"ns_per_kept_token", 1e9 * kept.seconds / kept.kept}};
    }
    row["bands"].push_back(band);
  }
  return row;
}

void PrintFamilies(const Json& rows) {
  std::printf("%-14s %-6s %12s %11s %9s %15s\n", "preset", "reads", "Mtokens/s", "structured", "distinct",
              "kept/generated");
  for (const Json& row : rows) {
    std::printf("%-14s %-6s %12.3f %10.1f%% %8.1f%% %15.3f\n", row["preset"].get<std::string>().c_str(),
                row["reads_input"].get<std::string>().c_str(), row["tokens_per_second"].get<double>() / 1e6,
                100 * row["structured_share"].get<double>(), 100 * row["distinct_share"].get<double>(),
                row["kept_per_generated"].get<double>());
  }
  std::printf("\nkept tokens per generated token | ns of one core per kept token, without -> with a trial\n%-14s",
              "preset");
  for (const auto& [low, high] : kBands) std::printf("  %26s[%.2f, %.2f]", "", low, high);
  std::printf("\n");
  for (const Json& row : rows) {
    std::printf("%-14s", row["preset"].get<std::string>().c_str());
    if (row["bands"].empty()) std::printf("  %38s  %38s  %38s", "-", "-", "-");
    for (const Json& band : row["bands"]) {
      if (band.contains("plain") && band.contains("trial")) {
        std::printf("  %.3f -> %.3f | %8.1f -> %8.1f", band["plain"]["kept_per_generated"].get<double>(),
                    band["trial"]["kept_per_generated"].get<double>(), band["plain"]["ns_per_kept_token"].get<double>(),
                    band["trial"]["ns_per_kept_token"].get<double>());
      } else {
        std::printf("  %38s", "-");
      }
    }
    std::printf("\n");
  }
}

// Records which family the last round had.
class FamilyOfRound final : public iterand::RoundObserver {
 public:
  void OnFresh(int /*slot*/, bool /*constant*/) override {}
  void OnRun(const iterand::ProgramRun& run) override { family_ = run.family; }
  void OnEmit(int /*slot*/) override {}
  int family() const { return family_; }

 private:
  int family_ = 0;
};

// A preset's families: their shares of the rounds, of the kept sequences and of the core time; of a mixture, those of
// each part.
Json Shares(const std::string& preset, double seconds) {
  auto stream = Stream::Open(Preset(preset), 0);
  if (!stream.ok()) Fail(stream.status());
  const iterand::StreamPlan& plan = (*stream)->plan();
  FamilyOfRound observer;
  struct Family {
    double rounds = 0;
    double kept = 0;
    double seconds = 0;
  };
  struct Part {
    std::unique_ptr<iterand::Iteration> iteration;
    std::vector<Family> families;
  };
  std::vector<Part> parts;
  for (int i = 0; i < plan.parts(); ++i) {
    parts.push_back({iterand::MakeIteration(plan.part(i)), {}});
    parts.back().families.resize(static_cast<std::size_t>(plan.part(i).mix().size()));
    parts.back().iteration->set_observer(&observer);
  }
  Family all;
  auto workspace = (*stream)->NewWorkspace();
  iterand::Segment segment;
  const auto lanes = static_cast<std::uint64_t>((*stream)->lanes());
  for (std::uint64_t n = 0; all.seconds < seconds; ++n) {
    const auto lane = static_cast<std::uint32_t>(n % lanes);
    const std::uint64_t s = n / lanes;
    if (absl::Status status = (*stream)->GenerateSegment(lane, s, *workspace, nullptr, segment); !status.ok()) {
      Fail(status);
    }
    Part& part = parts[segment.provenance.front().part];
    std::uint64_t rounds = 0;  // of the segment; those after the last kept row's were not run
    for (const iterand::RowProvenance& row : segment.provenance) {
      ++part.families[row.family].kept;
      ++all.kept;
      rounds = std::max(rounds, row.round + 1);
    }
    iterand::RandomKey key{.seed = 0, .lane = lane, .segment = s};
    part.iteration->Start(key);
    for (key.round = 0; key.round < rounds; ++key.round) {
      const double start = iterand::ThreadSeconds();
      (void)part.iteration->Advance(key);
      const double took = iterand::ThreadSeconds() - start;
      Family& family = part.families[static_cast<std::size_t>(observer.family())];
      family.seconds += took;
      ++family.rounds;
      all.seconds += took;
      ++all.rounds;
    }
  }
  Json rows = Json::array();
  std::printf("%s: shares of\n%-14s %8s %10s %10s\n", preset.c_str(), "family", "rounds", "sequences", "core time");
  const auto add = [&](const char* indent, const std::string& part, const std::string& name, const Family& family) {
    rows.push_back({{"part", part},
                    {"family", name},
                    {"rounds", family.rounds / all.rounds},
                    {"sequences", family.kept / all.kept},
                    {"core_time", family.seconds / all.seconds}});
    std::printf("%-14s %7.1f%% %9.1f%% %9.1f%%\n", (indent + name).c_str(), 100 * family.rounds / all.rounds,
                100 * family.kept / all.kept, 100 * family.seconds / all.seconds);
  };
  const std::vector<std::string>& names = (*stream)->part_names();
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const std::string name = names.empty() ? "" : names[p];
    if (!names.empty()) {
      Family whole;
      for (const Family& family : parts[p].families) {
        whole.rounds += family.rounds;
        whole.kept += family.kept;
        whole.seconds += family.seconds;
      }
      add("", name, name, whole);
    }
    for (std::size_t i = 0; i < parts[p].families.size(); ++i) {
      add(names.empty() ? "" : "  ", name, plan.part(static_cast<int>(p)).mix().name(static_cast<int>(i)),
          parts[p].families[i]);
    }
  }
  return rows;
}

// Size of bytes as a gzip file, level 9, divided by their own size.
double GzipRatio(const void* bytes, std::size_t size) {
  z_stream deflate{};
  deflateInit2(&deflate, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::vector<Bytef> out(deflateBound(&deflate, size) + 32);
  deflate.next_in = const_cast<Bytef*>(static_cast<const Bytef*>(bytes));
  deflate.avail_in = static_cast<uInt>(size);
  deflate.next_out = out.data();
  deflate.avail_out = static_cast<uInt>(out.size());
  ::deflate(&deflate, Z_FINISH);
  const std::size_t written = out.size() - deflate.avail_out;
  deflateEnd(&deflate);
  return static_cast<double>(written) / static_cast<double>(size);
}

double Quantile(std::vector<double>& values, double q) {
  const auto at = std::lround(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

// Rows of bytes of many presets: our complexity by bins of the gzip ratio, and the other way round.
Json Calibrate(int rows) {
  Json tables = Json::array();
  for (const int length : {512, 1024, 4096}) {
    struct Row {
      double complexity;
      double zlib;
      double gzip;
    };
    std::vector<Row> all;
    for (const char* preset : {"up-statistics", "lstm", "pointwise", "markov", "automaton", "dyck", "pcfg", "tasks",
                               "eca", "transducer", "tape_machine", "state_space", "uniform"}) {
      iterand::v1::Recipe recipe = Preset(preset);
      recipe.set_length(length);
      auto stream = Stream::Open(recipe, 1);
      if (!stream.ok()) Fail(stream.status());
      std::vector<std::uint8_t> tokens(static_cast<std::size_t>(rows * length));
      if (absl::Status status = (*stream)->Read({.rows = rows}, std::as_writable_bytes(std::span(tokens)));
          !status.ok())
        Fail(status);
      iterand::ComplexityMeter meter(256, length);
      std::vector<iterand::Symbol> symbols(static_cast<std::size_t>(length));
      for (int r = 0; r < rows; ++r) {
        const std::uint8_t* row = tokens.data() + static_cast<std::ptrdiff_t>(r) * length;
        std::copy_n(row, length, symbols.begin());
        const auto bytes = static_cast<std::size_t>(length);
        all.push_back({static_cast<double>(meter.Measure(symbols.data())) / static_cast<double>(meter.plain()),
                       iterand::StatisticsCollector::ZlibRatio(row, bytes), GzipRatio(row, bytes)});
      }
    }
    Json table = {{"length", length}, {"by_gzip", Json::array()}, {"by_complexity", Json::array()}};
    std::printf("rows of %d bytes\n%-14s %8s   complexity 10 %% / 50 %% / 90 %%\n", length, "gzip ratio", "rows");
    for (int bin = 0; bin < 11; ++bin) {
      std::vector<double> complexity;
      for (const Row& row : all) {
        if (row.gzip >= 0.1 * bin && row.gzip < 0.1 * (bin + 1)) complexity.push_back(row.complexity);
      }
      if (complexity.size() < 10) continue;
      const double q[] = {Quantile(complexity, 0.1), Quantile(complexity, 0.5), Quantile(complexity, 0.9)};
      std::printf("%.1f to %.1f     %8zu   %.3f / %.3f / %.3f\n", 0.1 * bin, 0.1 * (bin + 1), complexity.size(), q[0],
                  q[1], q[2]);
      table["by_gzip"].push_back({{"low", 0.1 * bin}, {"rows", complexity.size()}, {"complexity", q}});
    }
    std::printf("%-14s %8s   zlib 10 %% / 50 %% / 90 %%        gzip 10 %% / 50 %% / 90 %%\n", "complexity", "rows");
    for (int bin = 0; bin < 10; ++bin) {
      std::vector<double> zlib;
      std::vector<double> gzip;
      for (const Row& row : all) {
        if (row.complexity < 0.1 * bin || row.complexity >= 0.1 * (bin + 1)) continue;
        zlib.push_back(row.zlib);
        gzip.push_back(row.gzip);
      }
      if (zlib.size() < 10) continue;
      const double z[] = {Quantile(zlib, 0.1), Quantile(zlib, 0.5), Quantile(zlib, 0.9)};
      const double g[] = {Quantile(gzip, 0.1), Quantile(gzip, 0.5), Quantile(gzip, 0.9)};
      std::printf("%.1f to %.1f     %8zu   %.3f / %.3f / %.3f        %.3f / %.3f / %.3f\n", 0.1 * bin, 0.1 * (bin + 1),
                  zlib.size(), z[0], z[1], z[2], g[0], g[1], g[2]);
      table["by_complexity"].push_back({{"low", 0.1 * bin}, {"rows", zlib.size()}, {"zlib", z}, {"gzip", g}});
    }
    tables.push_back(table);
  }
  return tables;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("What families cost and yield, and what a band costs");
  std::vector<std::string> presets;
  double seconds = 0.3;
  int rows = 1024;
  bool calibrate = false;
  std::string shares;
  std::string trial = "{}";
  std::string json_file;
  app.add_option("--preset", presets, "Only these; default: all but the paper's pools");
  app.add_option("--seconds", seconds, "Of processor time for each measurement");
  app.add_option("--rows", rows, "Rows that shares are taken of (calibration: of each preset and length)");
  app.add_option("--trial", trial, "Band.trial of the bands with one, as JSON");
  app.add_option("--json", json_file, "Also write everything to this file");
  app.add_flag("--calibrate", calibrate, "Print complexity beside zlib and gzip instead");
  app.add_option("--shares", shares, "Print what each family of this preset takes of it instead");
  CLI11_PARSE(app, argc, argv);

  Json report;
  if (calibrate) {
    report = Calibrate(rows);
  } else if (!shares.empty()) {
    report = Shares(shares, seconds);
  } else {
    iterand::v1::Band::Trial trial_config;
    const auto parsed = google::protobuf::util::JsonStringToMessage(trial, &trial_config);
    if (!parsed.ok()) Fail(absl::InvalidArgumentError("--trial: " + std::string(parsed.message())));
    if (presets.empty()) {
      for (const iterand::FamilyEntry& entry : iterand::AllFamilies()) {
        if (iterand::LoadPreset(entry.name).ok()) presets.emplace_back(entry.name);
        if (entry.name == "markov") presets.emplace_back("context_tree");
        if (entry.name == "nca") presets.emplace_back("nca-bytes");
      }
      presets.insert(presets.end(), {"up", "up-statistics", "up-zero-shot", "statistics", "mix"});
    }
    report = Json::array();
    for (const std::string& preset : presets) report.push_back(MeasureFamily(preset, seconds, rows, trial_config));
    PrintFamilies(report);
  }
  if (!json_file.empty()) std::ofstream(json_file) << report.dump(1) << "\n";
  return 0;
}
