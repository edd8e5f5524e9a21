// Batch normalization of a matrix, and its gradients, by parts of its rows.
#pragma once

#include <type_traits>

#include "normalization.h"

namespace lamina {

// body(first column, a constant: a number of vectors) for columns [begin, end) in groups of vectors, as rows are read that lie
// below each other: what is side by side comes to the cache together.
constexpr int64_t GROUP = 4;
template <typename Body>
void each_group(int64_t begin, int64_t end, const Body& body) {
  for (int64_t c = begin; c < end; c += GROUP * LANES) switch (vectors(end - c)) {
      case 1: body(c, std::integral_constant<int, 1>{}); break;
      case 2: body(c, std::integral_constant<int, 2>{}); break;
      case 3: body(c, std::integral_constant<int, 3>{}); break;
      default: body(c, std::integral_constant<int, GROUP>{}); break;
    }
}

// Means of the columns of some rows each, and squared deviations from them, from which those of all rows are told.
class PartialMoments {
 public:
  PartialMoments(int64_t parts, int64_t columns)
      : columns_(columns), padded_(vectors(columns) * LANES), counts_(parts), means_(parts * padded_), squares_(parts * padded_) {}

  // Looks twice at columns [begin, end) of the rows of a part, which should be no more than stay in the cache meanwhile.
  template <typename Number>
  void look_at(int64_t part, const Number* rows, int64_t count, int64_t begin, int64_t end) {
    if (begin == 0) counts_[part] = count;
    each_group(begin, end, [&](int64_t c, auto group) {
      Vector total[group]{}, square[group]{};
      for (int64_t row = 0; row < count; row++)
        for (int v = 0; v < group; v++) total[v] += load(rows + row * columns_ + c + v * LANES, end - c - v * LANES);
      for (int v = 0; v < group; v++) total[v] /= static_cast<float>(count);
      for (int64_t row = 0; row < count; row++)
        for (int v = 0; v < group; v++) {
          Vector deviation = load(rows + row * columns_ + c + v * LANES, end - c - v * LANES) - total[v];
          square[v] += deviation * deviation;
        }
      for (int v = 0; v < group; v++) {
        store(&means_[part * padded_ + c + v * LANES], total[v]);
        store(&squares_[part * padded_ + c + v * LANES], square[v]);
      }
    });
  }

  void join(float* mean, float* variance) const {
    for (int64_t c = 0; c < columns_; c += LANES) {
      Vector average{}, square{};
      float before = 0.0f;
      for (size_t part = 0; part < counts_.size(); part++) {
        float more = counts_[part], both = before + more;
        Vector difference = load(&means_[part * padded_ + c]) - average;
        average += difference * (more / both);
        square += load(&squares_[part * padded_ + c]) + difference * difference * (before * more / both);
        before = both;
      }
      store(mean + c, average, columns_ - c);
      store(variance + c, square / before, columns_ - c);
    }
  }

 private:
  int64_t columns_, padded_;
  std::vector<float> counts_;
  Aligned means_, squares_;
};

// What normalizes columns, factor x + offset.
struct Columns {
  Aligned factor, offset;

  Columns(int64_t columns, const Floats& gamma, const Floats& beta, const Floats& mean, const Floats& variance, float epsilon)
      : factor(vectors(columns) * LANES), offset(vectors(columns) * LANES) {
    const float *g = values_or_null(gamma), *b = values_or_null(beta);
    for (int64_t c = 0; c < columns; c++) {
      factor[c] = (g ? g[c] : 1.0f) / std::sqrt(variance.typed_data()[c] + epsilon);
      offset[c] = (b ? b[c] : 0.0f) - mean.typed_data()[c] * factor[c];
    }
  }
  Vector at(int64_t c, Vector x) const { return x * load(&factor[c]) + load(&offset[c]); }
};

// The gradients of activated(gamma (x - mean) / sqrt(variance + epsilon) + beta), through mean and variance too.
template <ffi::DataType TYPE>
class BatchNormGradient {
 public:
  using Number = ffi::NativeType<TYPE>;

  // Finds those of gamma and beta, and with them what `rows` needs.
  BatchNormGradient(ffi::ThreadPool& pool, ffi::Buffer<TYPE> x, Floats gamma, Floats beta, Floats mean, Floats variance,
                    ffi::Buffer<TYPE> gradient, float epsilon, float slope, float* gamma_gradient, float* beta_gradient)
      : m(x), x_(x.typed_data()), gradient_(gradient.typed_data()), slope_(slope),
        normal_(m.columns, gamma, beta, mean, variance, epsilon), mean_(m.padded()), of_gradient_(m.padded()),
        of_x_(m.padded()), constant_(m.padded()) {
    std::copy_n(mean.typed_data(), m.columns, mean_.data());
    const float* weights = values_or_null(gamma);
    Aligned gammas(blocks(m.rows) * m.padded()), betas(blocks(m.rows) * m.padded());
    m.each_part(pool, [&](int64_t block, int64_t first, int64_t last, int64_t begin, int64_t end) {
      each_group(begin, end, [&](int64_t start, auto group) {
        Vector total[group]{}, projected[group]{};
        for (int64_t row = first; row < last; row++)
          for (int v = 0; v < group; v++) {
            int64_t c = start + v * LANES, at = row * m.columns + c;
            Vector value = load(x_ + at, end - c), given = undone(at, c, end - c, value);
            total[v] += given;
            projected[v] += given * (value - load(&mean_[c]));
          }
        for (int v = 0; v < group; v++) {
          store(&betas[block * m.padded() + start + v * LANES], total[v]);
          store(&gammas[block * m.padded() + start + v * LANES], projected[v]);
        }
      });
    });
    Aligned total(m.padded()), projected(m.padded());
    add_up(betas, blocks(m.rows), m.padded(), total.data());
    add_up(gammas, blocks(m.rows), m.padded(), projected.data());
    float count = m.rows;
    for (int64_t c = 0; c < m.columns; c++) {
      float scale = 1.0f / std::sqrt(variance.typed_data()[c] + epsilon), weight = weights ? weights[c] : 1.0f;
      beta_gradient[c] = total[c];
      gamma_gradient[c] = projected[c] * scale;
      // x's gradient is a weighted sum of the gradient, of x's deviation and of 1
      of_gradient_[c] = weight * scale;
      of_x_[c] = -weight * scale * scale * scale * projected[c] / count;
      constant_[c] = -weight * scale * total[c] / count;
    }
  }

  // That of x, in rows [first, last) and columns [begin, end) of a matrix of which the first row is at `to`.
  template <typename To>
  void rows(int64_t first, int64_t last, int64_t begin, int64_t end, To* to) const {
    for (int64_t row = first; row < last; row++)
      for (int64_t c = begin; c < end; c += LANES) {
        int64_t at = row * m.columns + c;
        Vector value = load(x_ + at, end - c), given = undone(at, c, end - c, value);
        value = (value - load(&mean_[c])) * load(&of_x_[c]) + load(&constant_[c]);
        store(to + (row - first) * m.columns + c, given * load(&of_gradient_[c]) + value, end - c);
      }
  }

  const Matrix m;

 private:
  // the gradient in front of the activation, whose sign is worked out again
  Vector undone(int64_t at, int64_t c, int64_t n, Vector value) const {
    Vector given = load(gradient_ + at, n);
    return slope_ == 1.0f ? given : unactivated(given, normal_.at(c, value), slope_);
  }

  const Number *x_, *gradient_;
  float slope_;
  Columns normal_;
  Aligned mean_, of_gradient_, of_x_, constant_;
};

}  // namespace lamina
