// Prints digests of what the vector kernels compute: random fills, and tokens of LSTMs with and without padding and
// temperature. Needs no library but Highway's headers where a single target is compiled, so that tools/check-neon can
// run it emulated.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "randnet/base/rng.h"
#include "randnet/networks/recurrent_kernels.h"

namespace iterand {
namespace {

std::uint64_t Digest(const void* data, std::size_t bytes) {  // FNV-1a
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (std::size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001B3U;
  return hash;
}

float* Allocate(std::size_t floats) {
  return static_cast<float*>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64));
}

std::uint64_t LstmDigest(int layers, int hidden, int alphabet, int rows, float temperature) {
  Rng rng(static_cast<std::uint64_t>(hidden), 3);
  const auto uniform = [&](std::size_t floats, float bound) {
    float* values = Allocate(floats);
    rng.FillUniform(-bound, bound, {values, floats});
    return values;
  };
  RecurrentNet net;
  net.layers = layers;
  net.hidden = hidden;
  net.alphabet = alphabet;
  net.embedding_width = hidden;
  net.temperature = temperature;
  const auto columns = static_cast<std::size_t>(4 * net.padded_hidden());
  const auto symbols = static_cast<std::size_t>(net.padded_alphabet());
  const auto width = static_cast<std::size_t>(hidden);
  float* embedding = Allocate(symbols * width);
  rng.FillNormal(0.1F, {embedding, symbols * width});
  net.embedding = embedding;
  for (int l = 0; l < layers; ++l) {
    const std::size_t inputs = (l == 0 ? 3 : 2) * width;
    float* weights = uniform(columns * inputs, 0.8F);
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(inputs) * matrix::kPanel;
    net.layer[l] = {l == 0 ? weights + 2 * width * matrix::kPanel : weights, stride, uniform(columns, 0.8F)};
    if (l != 0) continue;
    for (EmbeddingTable* table : {&net.x, &net.z}) {
      table->weights = table == &net.x ? weights : weights + width * matrix::kPanel;
      table->init = net.layer[0].bias;
      table->rows = Allocate(symbols * static_cast<std::size_t>(net.table_stride()));
      table->slot = new std::uint32_t[symbols];
      std::fill_n(table->slot, symbols, EmbeddingTable::kNone);
    }
  }
  net.output_weights = uniform(symbols * width, 0.2F);
  float* bias = uniform(symbols, 0.2F);
  std::fill(bias + alphabet, bias + symbols, std::numeric_limits<float>::lowest());
  net.output_bias = bias;
  Block input;
  Block out;
  input.Reshape(rows, 64);
  out.Reshape(rows, 64);
  std::vector<Rng> rngs;
  for (int r = 0; r < rows; ++r) {
    for (int t = 0; t < 64; ++t) {
      input.row(r)[t] = static_cast<Symbol>(rng.Below(static_cast<std::uint32_t>(alphabet)));
      out.row(r)[t] = input.row(r)[t];
    }
    rngs.push_back(MakeRng({.seed = 1}, Purpose::kRunRow, static_cast<std::uint64_t>(r)));
  }
  float* scratch = Allocate(RecurrentScratchFloats(layers, hidden, hidden, alphabet, rows));
  RunRecurrent(net, input.view(), 8, rngs, out.mutable_view(), scratch, nullptr, nullptr);
  return Digest(out.row(0), static_cast<std::size_t>(rows) * 64 * sizeof(Symbol));
}

}  // namespace
}  // namespace iterand

int main() {
  using namespace iterand;
  Rng rng(1, 2);
  std::vector<std::uint32_t> words(10007);
  std::vector<float> uniforms(10007);
  std::vector<float> normals(100003);
  rng.Fill(words);
  rng.FillUniform(-0.3F, 1.7F, uniforms);
  rng.FillNormal(0.01F, normals);
  const auto print = [](const char* name, std::uint64_t digest) {
    std::printf("%s %016llx\n", name, static_cast<unsigned long long>(digest));
  };
  print("words", Digest(words.data(), words.size() * 4));
  print("uniforms", Digest(uniforms.data(), uniforms.size() * 4));
  print("normals", Digest(normals.data(), normals.size() * 4));
  print("lstm 2x32, 256 symbols, 9 rows", LstmDigest(2, 32, 256, 9, 0.0F));
  print("lstm 3x20, 37 symbols, 31 rows", LstmDigest(3, 20, 37, 31, 0.0F));
  print("lstm 1x48, 100 symbols, 7 rows, temperature 0.7", LstmDigest(1, 48, 100, 7, 0.7F));
  return 0;
}
