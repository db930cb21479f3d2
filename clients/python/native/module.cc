// iterand._core: streams made in the process of the interpreter. clients/python/src/iterand/_core.pyi has the
// interface; the package wraps it.
//
// No function holds the GIL while it waits for rows or for another thread. While one waits it looks for signals, so
// that Ctrl-C works.
#include <dlfcn.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clients/python/native/embedded.h"
#include "clients/python/native/runtime.h"
#include "common/rpc/error_info.h"
#include "iterate/complexity.h"
#include "iterate/fingerprint.h"
#include "server/answers/describe.h"
#include "server/answers/execute.h"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace iterand::python {
namespace {

// How often a wait is interrupted to look for signals.
constexpr std::chrono::milliseconds kLook(50);

// Batches of at most this many bytes are taken while holding the GIL, which another thread might otherwise keep for
// milliseconds.
constexpr std::size_t kQuickBytes = 1 << 20;

// How long the end of the interpreter waits for threads that are about to leave this module.
constexpr std::chrono::seconds kLongestGoodbye(10);

struct StatusError : std::exception {
  explicit StatusError(absl::Status error) : status(std::move(error)) {}
  absl::Status status;
};

template <typename T>
T ValueOrThrow(absl::StatusOr<T> value) {
  if (!value.ok()) throw StatusError(value.status());
  return *std::move(value);
}

// ---- The GIL -------------------------------------------------------------------------------------------------------

std::atomic<int> unlocked_threads{0};

// Whether the interpreter is about to end. The function has had two names.
bool Finalizing() {
  using Function = int (*)();
  static const auto function = [] {
    void* const named = dlsym(RTLD_DEFAULT, "Py_IsFinalizing");
    return reinterpret_cast<Function>(named != nullptr ? named : dlsym(RTLD_DEFAULT, "_Py_IsFinalizing"));
  }();
  return function != nullptr && function() != 0;
}

// Releases the GIL in its scope.
class Unlocked {
 public:
  Unlocked() : state_(PyEval_SaveThread()) { ++unlocked_threads; }
  ~Unlocked() {
    // Python would end this thread by unwinding its stack, which no C++ function on it allows.
    while (Finalizing()) pause();
    PyEval_RestoreThread(state_);
    --unlocked_threads;
  }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  PyThreadState* const state_;
};

// Called by Python before it finalizes.
void StopAtExit() {
  const Unlocked unlocked;
  Runtime::Get().Stop();
  // Threads that waited for rows find that none will come, and return into Python.
  const auto end = std::chrono::steady_clock::now() + kLongestGoodbye;
  while (unlocked_threads > 1 && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// ---- Rows for Python -----------------------------------------------------------------------------------------------

nb::dlpack::dtype ArrayType(Dtype dtype) {
  return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::UInt), static_cast<std::uint8_t>(8 * DtypeBytes(dtype)), 1};
}

// An array of numpy's that keeps `owner` as long as it lives.
nb::object Array(void* data, std::initializer_list<std::size_t> shape, nb::dlpack::dtype type,
                 std::shared_ptr<void> owner) {
  auto* const kept = new std::shared_ptr<void>(std::move(owner));
  const nb::capsule capsule(kept, [](void* memory) noexcept { delete static_cast<std::shared_ptr<void>*>(memory); });
  return nb::cast(nb::ndarray<nb::numpy>(data, shape.size(), shape.begin(), capsule, nullptr, type),
                  nb::rv_policy::reference);
}

// (tokens, loss mask or None, provenance or None, parts or None, first index)
nb::tuple ToTuple(const EmbeddedStream& stream, Rows rows, bool with_provenance) {
  const auto length = static_cast<std::size_t>(stream.length());
  nb::object mask = nb::none();
  if (rows.loss_mask) {
    std::uint8_t* const bytes = rows.loss_mask->data();
    mask = Array(bytes, {rows.rows, length}, {static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bool), 8, 1},
                 std::move(rows.loss_mask));
  }
  nb::object parts = nb::none();
  if (rows.parts) {
    std::uint8_t* const bytes = rows.parts->data();
    parts = Array(bytes, {rows.rows}, ArrayType(Dtype::kUint8), std::move(rows.parts));
  }
  nb::object provenance = nb::none();
  if (with_provenance) {
    nb::list list;
    for (const RowProvenance& row : rows.provenance) {
      list.append(nb::make_tuple(row.lane, row.segment, row.round, row.row, stream.family_name(row), row.depth,
                                 stream.part_name(row)));
    }
    provenance = std::move(list);
  }
  return nb::make_tuple(Array(rows.tokens, {rows.rows, length}, ArrayType(stream.dtype()), std::move(rows.owner)),
                        std::move(mask), std::move(provenance), std::move(parts), rows.first_index);
}

// Hands the engine's reports to the package's logger.
void LogReports() {
  for (const std::string& line : Runtime::Get().TakeReports()) {
    nb::module_::import_("logging").attr("getLogger")("iterand").attr("info")("%s", line);
  }
}

// The next rows of an EmbeddedReader or EmbeddedRead. Errors: any of Python's from a signal's handler.
template <typename Source>
Rows WaitForRows(Source& source, bool quick) {
  for (;;) {
    std::optional<Rows> rows;
    if (quick) {
      rows = ValueOrThrow(source.Poll());
    } else {
      absl::StatusOr<std::optional<Rows>> polled;
      {
        const Unlocked unlocked;
        polled = source.Poll();
      }
      rows = ValueOrThrow(std::move(polled));
    }
    if (rows) return *std::move(rows);
    {
      const Unlocked unlocked;
      source.Wait(kLook);
    }
    LogReports();
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
  }
}

// ---- Classes -------------------------------------------------------------------------------------------------------

class Reader {
 public:
  Reader(std::shared_ptr<EmbeddedStream> stream, const EmbeddedReader::Options& options)
      : stream_(std::move(stream)),
        provenance_(options.provenance),
        quick_(options.batch_size <= kQuickBytes / stream_->sequence_bytes()) {
    absl::StatusOr<std::unique_ptr<EmbeddedReader>> reader;
    {
      const Unlocked unlocked;
      reader = EmbeddedReader::Open(stream_, options);
    }
    reader_ = ValueOrThrow(std::move(reader));
  }

  nb::object Next() {
    const std::uint64_t forks = Runtime::Get().forks();
    if (busy_ && busy_forks_ == forks) {
      throw StatusError(absl::AbortedError("another thread is taking a batch from this stream; one at a time may"));
    }
    busy_ = true;  // with the GIL
    busy_forks_ = forks;
    const Guard guard{*this};
    Rows rows = WaitForRows(*reader_, quick_);
    if (rows.rows == 0) return nb::none();
    return ToTuple(*stream_, std::move(rows), provenance_);
  }

  void Close() {
    reader_->Close();
    if (!busy_ || busy_forks_ != Runtime::Get().forks()) reader_->Release();
  }

 private:
  struct Guard {
    Reader& reader;
    ~Guard() { reader.busy_ = false; }
  };

  const std::shared_ptr<EmbeddedStream> stream_;
  const bool provenance_;
  const bool quick_;
  std::unique_ptr<EmbeddedReader> reader_;
  bool busy_ = false;  // a thread is in Next
  std::uint64_t busy_forks_ = 0;
};

using Indices = nb::ndarray<const std::uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Symbols = nb::ndarray<const std::uint16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

class PyStream {
 public:
  PyStream(std::optional<std::string> preset, std::optional<std::string> recipe_json, std::uint64_t seed,
           std::optional<std::uint32_t> length, std::optional<bool> loss_mask,
           std::optional<nb::bytes> expected_fingerprint) {
    v1::StreamSpec spec;
    if (preset) spec.set_preset(*std::move(preset));
    if (recipe_json) spec.set_recipe_json(*std::move(recipe_json));
    spec.set_seed(seed);
    if (length) spec.set_length(*length);
    if (loss_mask) spec.set_loss_mask(*loss_mask);
    if (expected_fingerprint) {
      spec.set_expected_fingerprint(expected_fingerprint->c_str(), expected_fingerprint->size());
    }
    absl::StatusOr<std::shared_ptr<EmbeddedStream>> stream;
    {
      const Unlocked unlocked;
      stream = EmbeddedStream::Open(spec);
    }
    stream_ = ValueOrThrow(std::move(stream));
  }

  nb::bytes fingerprint() const {
    const Fingerprint fingerprint = stream_->fingerprint();
    return nb::bytes(fingerprint.data(), fingerprint.size());
  }
  int length() const { return stream_->length(); }
  int lanes() const { return stream_->lanes(); }
  bool has_loss_mask() const { return stream_->has_loss_mask(); }

  std::unique_ptr<Reader> NewReader(std::uint64_t first, std::uint64_t stride, std::optional<std::uint64_t> count,
                                    std::uint32_t batch_size, bool provenance) const {
    return std::make_unique<Reader>(stream_,
                                    EmbeddedReader::Options{.first = first,
                                                            .stride = stride,
                                                            .count = count ? *count : IndicesLeft(first, stride),
                                                            .batch_size = batch_size,
                                                            .provenance = provenance});
  }

  nb::tuple Read(const Indices& indices, bool provenance) const {
    absl::StatusOr<std::unique_ptr<EmbeddedRead>> read;
    {
      const Unlocked unlocked;
      read = EmbeddedRead::Open(stream_, std::span(indices.data(), indices.size()), provenance);
    }
    const std::unique_ptr<EmbeddedRead> opened = ValueOrThrow(std::move(read));
    const bool quick = indices.size() <= kQuickBytes / stream_->sequence_bytes();
    return ToTuple(*stream_, WaitForRows(*opened, quick), provenance);
  }

  nb::dict Explain(std::uint64_t index, std::optional<double> most_seconds) const {
    absl::StatusOr<Explanation> explained;
    {
      const Unlocked unlocked;
      explained = stream_->Explain(index, most_seconds);
    }
    const Explanation explanation = ValueOrThrow(std::move(explained));
    const RowProvenance& row = explanation.provenance;
    nb::list steps;
    for (const ExplainedStep& step : explanation.steps) {
      nb::dict one;
      one["round"] = step.round;
      one["row"] = step.row;
      one["family"] = step.family;
      one["program"] = step.program;
      one["input"] = step.input;
      one["prompt_length"] = step.prompt_length;
      one["prompt_offset"] = step.prompt_offset;
      steps.append(one);
    }
    nb::dict dict;
    dict["index"] = explanation.index;
    dict["lane"] = explanation.position.lane;
    dict["segment"] = explanation.position.segment;
    dict["offset"] = explanation.position.offset;
    dict["round"] = row.round;
    dict["row"] = row.row;
    dict["family"] = stream_->family_name(row);
    dict["depth"] = row.depth;
    dict["part"] = stream_->part_name(row);
    dict["reproduced"] = explanation.reproduced;
    dict["steps"] = steps;
    return dict;
  }

  nb::bytes Describe(std::uint64_t at) const {
    absl::StatusOr<v1::DescribeResponse> response;
    {
      const Unlocked unlocked;
      response = stream_->Describe(at);
    }
    const std::string bytes = ValueOrThrow(std::move(response)).SerializeAsString();
    return nb::bytes(bytes.data(), bytes.size());
  }

 private:
  std::shared_ptr<EmbeddedStream> stream_;
};

nb::bytes Describe() {
  std::string bytes;
  {
    const Unlocked unlocked;
    const Runtime::Use use;
    v1::DescribeResponse response;
    DescribeServer(response);
    bytes = response.SerializeAsString();
  }
  return nb::bytes(bytes.data(), bytes.size());
}

std::vector<double> Complexity(const Symbols& rows, int alphabet) {
  const auto length = static_cast<int>(rows.shape(1));
  std::vector<double> complexities;
  const Unlocked unlocked;
  const Runtime::Use use;
  ComplexityMeter meter(alphabet, length);
  for (std::size_t row = 0; row < rows.shape(0); ++row) {
    const std::uint64_t bits = meter.Measure(rows.data() + row * rows.shape(1));
    complexities.push_back(static_cast<double>(bits) / static_cast<double>(meter.plain()));
  }
  return complexities;
}

// Programs on the byte machine: server/answers/execute.h.
class Programs {
 public:
  explicit Programs(const nb::bytes& request) {
    v1::ExecuteRequest message;
    if (!message.ParseFromArray(request.c_str(), static_cast<int>(request.size()))) {
      throw nb::value_error("request: not an ExecuteRequest");
    }
    absl::StatusOr<Execution> execution;
    {
      const Unlocked unlocked;
      const Runtime::Use use;
      execution = Execution::Make(message);
    }
    execution_ = std::make_unique<Execution>(ValueOrThrow(std::move(execution)));
  }

  // Results of programs that are done, as an ExecuteResponse; None after the last.
  nb::object Next() {
    v1::ExecuteResponse response;
    while (!execution_->done() && response.results().empty()) {
      {
        const Unlocked unlocked;
        const Runtime::Use use;
        execution_->Advance(response);
      }
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
    }
    if (response.results().empty()) return nb::none();
    const std::string bytes = response.SerializeAsString();
    return nb::bytes(bytes.data(), bytes.size());
  }

 private:
  std::unique_ptr<Execution> execution_;
};

void Translate(const std::exception_ptr& caught, void* /*payload*/) {
  try {
    std::rethrow_exception(caught);
  } catch (const StatusError& error) {
    nb::object reason = nb::none();
    nb::dict metadata;
    if (const std::optional<ErrorInfo> info = ErrorInfoOf(error.status)) {
      reason = nb::str(info->reason.c_str());
      for (const auto& [key, value] : info->metadata) metadata[key.c_str()] = nb::str(value.c_str());
    }
    const nb::object exception = nb::module_::import_("iterand.errors")
                                     .attr("from_status")(static_cast<int>(error.status.code()),
                                                          std::string(error.status.message()), reason, metadata);
    PyErr_SetObject(exception.type().ptr(), exception.ptr());
  }
}

}  // namespace

NB_MODULE(_core, m) {
  nb::set_leak_warnings(false);  // of streams that a program has in global variables
  nb::register_exception_translator(Translate);

  nb::class_<Reader>(m, "Reader").def("next", &Reader::Next).def("close", &Reader::Close);

  nb::class_<PyStream>(m, "Stream")
      .def(nb::init<std::optional<std::string>, std::optional<std::string>, std::uint64_t, std::optional<std::uint32_t>,
                    std::optional<bool>, std::optional<nb::bytes>>(),
           "preset"_a.none(), "recipe_json"_a.none(), "seed"_a, "length"_a.none(), "loss_mask"_a.none(),
           "expected_fingerprint"_a.none())
      .def_prop_ro("fingerprint", &PyStream::fingerprint)
      .def_prop_ro("length", &PyStream::length)
      .def_prop_ro("lanes", &PyStream::lanes)
      .def_prop_ro("has_loss_mask", &PyStream::has_loss_mask)
      .def("reader", &PyStream::NewReader, "first"_a, "stride"_a, "count"_a.none(), "batch_size"_a, "provenance"_a)
      .def("read", &PyStream::Read, "indices"_a, "provenance"_a)
      .def("explain", &PyStream::Explain, "index"_a, "most_seconds"_a.none())
      .def("describe", &PyStream::Describe, "at"_a);

  nb::class_<Programs>(m, "Programs").def(nb::init<const nb::bytes&>(), "request"_a).def("next", &Programs::Next);

  m.def("describe", &Describe);
  m.def("complexity", &Complexity, "symbols"_a, "alphabet"_a);
  m.def("set_threads", [](int threads) { Runtime::Get().SetThreads(threads); }, "threads"_a);
  m.def("threads", [] { return Runtime::Get().threads(); });
  m.def("_stop", &StopAtExit);
  m.attr("ENGINE_VERSION") = kEngineVersion;

  Runtime::Get();
  nb::module_::import_("atexit").attr("register")(m.attr("_stop"));
}

}  // namespace iterand::python
