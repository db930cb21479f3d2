// The LSTM of randnet/lstm.h again, twice, straight from its definition: bit for bit in scalar float32, from its own
// draws; and in double precision on Eigen, from a program's weights.
#pragma once

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <vector>

#include "randnet/lstm.h"
#include "randnet/math.h"

namespace iterand {

struct LstmParameters {
  int layers = 1;
  int hidden = 4;
  int embedding = 0;
  float embedding_scale = 1;
  float weight_factor = 1;
  bool once_per_layer = false;
  float temperature = 0;
  int alphabet = 256;
};

// The definition, one number at a time.
class ScalarLstm {
 public:
  ScalarLstm(const LstmParameters& parameters, Rng& rng) : p_(parameters) {
    if (p_.embedding == 0) p_.embedding = p_.hidden;
    float factor = p_.weight_factor;
    for (int l = 1; p_.once_per_layer && l < p_.layers; ++l) factor *= p_.weight_factor;
    const float a = 1.0F / std::sqrt(static_cast<float>(p_.hidden));
    const float b = a * factor;
    embedding_ = Draw(p_.alphabet * p_.embedding, [&] { return p_.embedding_scale * rng.Normal(); });
    const int rows = 4 * p_.hidden;
    for (int l = 0; l < p_.layers; ++l) {
      bias_.push_back(Draw(rows, [&] { return Uniform(rng, b); }));
      const std::vector<float> second = Draw(rows, [&] { return Uniform(rng, b); });
      for (std::size_t j = 0; j < second.size(); ++j) bias_.back()[j] += second[j];
      weights_.emplace_back(Size(rows * Inputs(l)));
      for (int group = 0; group < p_.hidden; group += 16) {
        for (int gate = 0; gate < 4; ++gate) {
          for (int k = 0; k < Inputs(l); ++k) {
            for (int u = group; u < std::min(group + 16, p_.hidden); ++u) {
              weights_[Size(l)][Size((gate * p_.hidden + u) * Inputs(l) + k)] = Uniform(rng, b);
            }
          }
        }
      }
    }
    output_bias_ = Draw(p_.alphabet, [&] { return Uniform(rng, a); });
    output_weights_.resize(Size(p_.alphabet * p_.hidden));
    for (int group = 0; group < p_.alphabet; group += 16) {
      for (int k = 0; k < p_.hidden; ++k) {
        for (int n = group; n < std::min(group + 16, p_.alphabet); ++n) {
          output_weights_[Size(n * p_.hidden + k)] = Uniform(rng, a);
        }
      }
    }
  }

  // One row; `start` symbols of `x` are given.
  void Run(const Symbol* z, int start, int length, Rng rng, Symbol* x) {
    h_.assign(Size(p_.layers), std::vector<float>(Size(p_.hidden)));
    c_ = h_;
    if (start == 0) {
      x[0] = z[0];
      start = 1;
    }
    for (int t = 0; t + 1 < length; ++t) {
      Step(x[t], z[t]);
      if (t + 1 >= start) x[t + 1] = Next(rng);
    }
  }

 private:
  static std::size_t Size(int n) { return static_cast<std::size_t>(n); }

  template <typename Next>
  static std::vector<float> Draw(int count, const Next& next) {
    std::vector<float> values(Size(count));
    for (float& value : values) value = next();
    return values;
  }

  static float Uniform(Rng& rng, float bound) { return -bound + (bound - -bound) * rng.Uniform(); }

  int Inputs(int layer) const { return layer == 0 ? 2 * p_.embedding + p_.hidden : 2 * p_.hidden; }

  float Chain(float sum, int layer, int row, int first, const float* values, int count) const {
    for (int k = 0; k < count; ++k) {
      sum = std::fma(weights_[Size(layer)][Size(row * Inputs(layer) + first + k)], values[k], sum);
    }
    return sum;
  }

  void Step(Symbol x, Symbol z) {
    for (int l = 0; l < p_.layers; ++l) {
      std::vector<float> gates(Size(4 * p_.hidden));
      for (int j = 0; j < 4 * p_.hidden; ++j) {
        float sum = bias_[Size(l)][Size(j)];
        if (l == 0) {
          sum = Chain(sum, 0, j, 0, &embedding_[Size(x * p_.embedding)], p_.embedding) +
                Chain(0.0F, 0, j, p_.embedding, &embedding_[Size(z * p_.embedding)], p_.embedding);
        } else {
          sum = Chain(sum, l, j, 0, h_[Size(l - 1)].data(), p_.hidden);
        }
        gates[Size(j)] = Chain(sum, l, j, Inputs(l) - p_.hidden, h_[Size(l)].data(), p_.hidden);
      }
      for (int u = 0; u < p_.hidden; ++u) {
        const float p = 1.0F + math::GateExp<-1>(gates[Size(u)]);
        const float s = 1.0F + math::GateExp<-1>(gates[Size(p_.hidden + u)]);
        const float eg = math::GateExp<-2>(gates[Size(2 * p_.hidden + u)]);
        const float eo = math::GateExp<-1>(gates[Size(3 * p_.hidden + u)]);
        const float pq = p * (1.0F + eg);
        float& c = c_[Size(l)][Size(u)];
        c = std::fma(c, pq, (1.0F - eg) * s) / (pq * s);
        const float ec = math::GateExp<-2>(c);
        h_[Size(l)][Size(u)] = (1.0F - ec) / ((1.0F + eo) * (1.0F + ec));
      }
    }
  }

  Symbol Next(Rng& rng) const {
    std::vector<float> w(Size(p_.alphabet));
    for (int n = 0; n < p_.alphabet; ++n) {
      float sum = output_bias_[Size(n)];
      for (int k = 0; k < p_.hidden; ++k) {
        sum = std::fma(output_weights_[Size(n * p_.hidden + k)], h_.back()[Size(k)], sum);
      }
      w[Size(n)] = sum;
    }
    const auto best = std::max_element(w.begin(), w.end());
    if (p_.temperature < 1e-6F) return static_cast<Symbol>(best - w.begin());
    const float largest = *best;
    float sums[16] = {};
    for (int n = 0; n < p_.alphabet; ++n) {
      w[Size(n)] = math::GateExp((w[Size(n)] - largest) * (1.0F / p_.temperature));
      sums[n % 16] += w[Size(n)];
    }
    float total = 0.0F;
    for (const float sum : sums) total += sum;
    float u = total * rng.Uniform();
    int j = 0;
    while (j + 1 < std::min(16, p_.alphabet) && !(u < sums[j])) u -= sums[j++];
    float running = 0.0F;
    int n = j;
    for (;; n += 16) {
      running += w[Size(n)];
      if (u < running || n + 16 >= p_.alphabet) return static_cast<Symbol>(n);
    }
  }

  LstmParameters p_;
  std::vector<float> embedding_;
  std::vector<std::vector<float>> bias_;
  std::vector<std::vector<float>> weights_;  // [layer][gate * hidden + unit][k]
  std::vector<float> output_bias_;
  std::vector<float> output_weights_;  // [symbol][k]
  std::vector<std::vector<float>> h_;
  std::vector<std::vector<float>> c_;
};

// The textbook LSTM in double precision, from a program's weights.
class EigenLstm {
 public:
  explicit EigenLstm(const LstmProgram& program) {
    const RecurrentNet& net = program.net();
    hidden_ = net.hidden;
    embedding_.resize(program.embedding_width(), net.alphabet);
    for (int n = 0; n < net.alphabet; ++n) {
      for (int k = 0; k < program.embedding_width(); ++k) embedding_(k, n) = program.Embedding(n, k);
    }
    for (int l = 0; l < net.layers; ++l) {
      const int below = l == 0 ? 2 * program.embedding_width() : hidden_;
      Eigen::MatrixXd w(4 * hidden_, below + hidden_);
      Eigen::VectorXd b(4 * hidden_);
      for (int gate = 0; gate < 4; ++gate) {
        for (int u = 0; u < hidden_; ++u) {
          b(gate * hidden_ + u) = program.LayerBias(l, gate, u);
          for (int k = 0; k < below + hidden_; ++k) w(gate * hidden_ + u, k) = program.LayerWeight(l, gate, u, k);
        }
      }
      w_.push_back(w);
      b_.push_back(b);
      h_.push_back(Eigen::VectorXd::Zero(hidden_));
      c_.push_back(Eigen::VectorXd::Zero(hidden_));
    }
    w_out_.resize(net.alphabet, hidden_);
    b_out_.resize(net.alphabet);
    for (int n = 0; n < net.alphabet; ++n) {
      b_out_(n) = program.OutputBias(n);
      for (int k = 0; k < hidden_; ++k) w_out_(n, k) = program.OutputWeight(n, k);
    }
  }

  // Reads one pair of symbols and returns the logits.
  Eigen::VectorXd Step(int x, int z) {
    Eigen::VectorXd below(2 * embedding_.rows());
    below << embedding_.col(x), embedding_.col(z);
    for (std::size_t l = 0; l < w_.size(); ++l) {
      Eigen::VectorXd in(below.size() + hidden_);
      in << below, h_[l];
      const Eigen::ArrayXd gates = (w_[l] * in + b_[l]).array();
      const auto sigmoid = [](const Eigen::ArrayXd& v) -> Eigen::ArrayXd { return 1.0 / (1.0 + (-v).exp()); };
      const Eigen::ArrayXd i = sigmoid(gates.segment(0, hidden_));
      const Eigen::ArrayXd f = sigmoid(gates.segment(hidden_, hidden_));
      const Eigen::ArrayXd g = gates.segment(2 * hidden_, hidden_).tanh();
      const Eigen::ArrayXd o = sigmoid(gates.segment(3 * hidden_, hidden_));
      c_[l] = (f * c_[l].array() + i * g).matrix();
      h_[l] = (o * c_[l].array().tanh()).matrix();
      below = h_[l];
    }
    return w_out_ * below + b_out_;
  }

 private:
  int hidden_ = 0;
  Eigen::MatrixXd embedding_;  // a column a symbol
  std::vector<Eigen::MatrixXd> w_;
  std::vector<Eigen::VectorXd> b_;
  Eigen::MatrixXd w_out_;
  Eigen::VectorXd b_out_;
  std::vector<Eigen::VectorXd> h_;
  std::vector<Eigen::VectorXd> c_;
};

}  // namespace iterand
