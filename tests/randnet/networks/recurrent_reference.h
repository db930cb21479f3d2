// Two more implementations of the networks of randnet/networks/lstm.h, gru.h and rnn.h, straight from their
// definitions: bit for bit in scalar float32, from their own draws; and in double precision on Eigen, from a program's
// weights.
#pragma once

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <vector>

#include "randnet/base/math.h"
#include "randnet/networks/recurrent.h"

namespace iterand {

struct RecurrentParameters {
  Cell cell = Cell::kLstm;
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
class ScalarRecurrent {
 public:
  ScalarRecurrent(const RecurrentParameters& parameters, Rng& rng) : p_(parameters) {
    if (p_.embedding == 0) p_.embedding = p_.hidden;
    float factor = p_.weight_factor;
    for (int l = 1; p_.once_per_layer && l < p_.layers; ++l) factor *= p_.weight_factor;
    const float a = 1.0F / std::sqrt(static_cast<float>(p_.hidden));
    const float b = a * factor;
    embedding_ = Draw(p_.alphabet * p_.embedding, [&] { return p_.embedding_scale * rng.Normal(); });
    const int gates = Gates(p_.cell);
    const int rows = gates * p_.hidden;
    for (int l = 0; l < p_.layers; ++l) {
      bias_.push_back(Draw(rows, [&] { return Uniform(rng, b); }));
      own_bias_.push_back(Draw(rows, [&] { return Uniform(rng, b); }));
      for (int j = 0; j < rows; ++j) {
        if (p_.cell != Cell::kGru || j < 2 * p_.hidden) bias_.back()[Size(j)] += own_bias_.back()[Size(j)];
      }
      weights_.emplace_back(Size(rows * Inputs(l)));
      for (int group = 0; group < p_.hidden; group += 16) {
        for (int gate = 0; gate < gates; ++gate) {
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
      std::vector<float> gates(Size(Gates(p_.cell) * p_.hidden));
      std::vector<float> own_n(Size(p_.hidden));  // GRU
      for (int j = 0; j < Gates(p_.cell) * p_.hidden; ++j) {
        float sum = bias_[Size(l)][Size(j)];
        if (l == 0) {
          sum = Chain(sum, 0, j, 0, &embedding_[Size(x * p_.embedding)], p_.embedding) +
                Chain(0.0F, 0, j, p_.embedding, &embedding_[Size(z * p_.embedding)], p_.embedding);
        } else {
          sum = Chain(sum, l, j, 0, h_[Size(l - 1)].data(), p_.hidden);
        }
        const int own = Inputs(l) - p_.hidden;
        const float* const h = h_[Size(l)].data();
        if (p_.cell == Cell::kGru && j >= 2 * p_.hidden) {
          gates[Size(j)] = sum;
          own_n[Size(j - 2 * p_.hidden)] = Chain(own_bias_[Size(l)][Size(j)], l, j, own, h, p_.hidden);
        } else {
          gates[Size(j)] = Chain(sum, l, j, own, h, p_.hidden);
        }
      }
      for (int u = 0; u < p_.hidden; ++u) {
        const auto gate = [&](int index) { return gates[Size(index * p_.hidden + u)]; };
        float& h = h_[Size(l)][Size(u)];
        switch (p_.cell) {
          case Cell::kLstm: {
            const float p = 1.0F + math::GateExp<-1>(gate(0));
            const float s = 1.0F + math::GateExp<-1>(gate(1));
            const float eg = math::GateExp<-2>(gate(2));
            const float eo = math::GateExp<-1>(gate(3));
            const float pq = p * (1.0F + eg);
            float& c = c_[Size(l)][Size(u)];
            c = std::fma(c, pq, (1.0F - eg) * s) / (pq * s);
            const float ec = math::GateExp<-2>(c);
            h = (1.0F - ec) / ((1.0F + eo) * (1.0F + ec));
            break;
          }
          case Cell::kGru: {
            const float a = gate(2) + own_n[Size(u)] / (1.0F + math::GateExp<-1>(gate(0)));
            const float ea = math::GateExp<-2>(a);
            const float ez = math::GateExp<-1>(gate(1));
            const float q = 1.0F + ea;
            h = std::fma(h, q, ez * (1.0F - ea)) / ((1.0F + ez) * q);
            break;
          }
          case Cell::kRnn: {
            const float e = math::GateExp<-2>(gate(0));
            h = (1.0F - e) / (1.0F + e);
            break;
          }
        }
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

  RecurrentParameters p_;
  std::vector<float> embedding_;
  std::vector<std::vector<float>> bias_;
  std::vector<std::vector<float>> own_bias_;
  std::vector<std::vector<float>> weights_;  // [layer][gate * hidden + unit][k]
  std::vector<float> output_bias_;
  std::vector<float> output_weights_;  // [symbol][k]
  std::vector<std::vector<float>> h_;
  std::vector<std::vector<float>> c_;
};

// The textbook networks in double precision, from a program's weights.
class EigenRecurrent {
 public:
  explicit EigenRecurrent(const RecurrentProgram& program) {
    const RecurrentNet& net = program.net();
    cell_ = net.cell;
    hidden_ = net.hidden;
    embedding_.resize(net.embedding_width, net.alphabet);
    for (int n = 0; n < net.alphabet; ++n) {
      for (int k = 0; k < net.embedding_width; ++k) embedding_(k, n) = program.Embedding(n, k);
    }
    for (int l = 0; l < net.layers; ++l) {
      const int below = l == 0 ? 2 * net.embedding_width : hidden_;
      Eigen::MatrixXd w_in(Gates(cell_) * hidden_, below);
      Eigen::MatrixXd w_own(Gates(cell_) * hidden_, hidden_);
      Eigen::VectorXd b_in(Gates(cell_) * hidden_);
      Eigen::VectorXd b_own = Eigen::VectorXd::Zero(Gates(cell_) * hidden_);
      for (int gate = 0; gate < Gates(cell_); ++gate) {
        for (int u = 0; u < hidden_; ++u) {
          const int row = gate * hidden_ + u;
          b_in(row) = program.LayerBias(l, gate, u);
          if (cell_ == Cell::kGru && gate == 2) b_own(row) = program.OwnBias(l, u);
          for (int k = 0; k < below; ++k) w_in(row, k) = program.LayerWeight(l, gate, u, k);
          for (int k = 0; k < hidden_; ++k) w_own(row, k) = program.LayerWeight(l, gate, u, below + k);
        }
      }
      w_in_.push_back(w_in);
      w_own_.push_back(w_own);
      b_in_.push_back(b_in);
      b_own_.push_back(b_own);
      h_.emplace_back(Eigen::VectorXd::Zero(hidden_));
      c_.emplace_back(Eigen::VectorXd::Zero(hidden_));
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
    for (std::size_t l = 0; l < h_.size(); ++l) {
      const Eigen::ArrayXd in = (w_in_[l] * below + b_in_[l]).array();
      const Eigen::ArrayXd own = (w_own_[l] * h_[l] + b_own_[l]).array();
      const auto sum = [&](int gate) -> Eigen::ArrayXd {
        return in.segment(gate * hidden_, hidden_) + own.segment(gate * hidden_, hidden_);
      };
      const auto sigmoid = [](const Eigen::ArrayXd& v) -> Eigen::ArrayXd { return 1.0 / (1.0 + (-v).exp()); };
      switch (cell_) {
        case Cell::kLstm:
          c_[l] = (sigmoid(sum(1)) * c_[l].array() + sigmoid(sum(0)) * sum(2).tanh()).matrix();
          h_[l] = (sigmoid(sum(3)) * c_[l].array().tanh()).matrix();
          break;
        case Cell::kGru: {
          const Eigen::ArrayXd reset = sigmoid(sum(0));
          const Eigen::ArrayXd keep = sigmoid(sum(1));
          const Eigen::ArrayXd n =
              (in.segment(2 * hidden_, hidden_) + reset * own.segment(2 * hidden_, hidden_)).tanh();
          h_[l] = ((1.0 - keep) * n + keep * h_[l].array()).matrix();
          break;
        }
        case Cell::kRnn:
          h_[l] = sum(0).tanh().matrix();
          break;
      }
      below = h_[l];
    }
    return w_out_ * below + b_out_;
  }

 private:
  Cell cell_ = Cell::kLstm;
  int hidden_ = 0;
  Eigen::MatrixXd embedding_;  // one column per symbol
  std::vector<Eigen::MatrixXd> w_in_;
  std::vector<Eigen::MatrixXd> w_own_;
  std::vector<Eigen::VectorXd> b_in_;
  std::vector<Eigen::VectorXd> b_own_;
  Eigen::MatrixXd w_out_;
  Eigen::VectorXd b_out_;
  std::vector<Eigen::VectorXd> h_;
  std::vector<Eigen::VectorXd> c_;
};

}  // namespace iterand
