// Normalization of each row (layer and root-mean-square normalization) and of each column (batch normalization) of a
// matrix, and their gradients. Means and variances are those of deviations, which lose no digits to a large mean.

#include <cmath>

#include "handlers.h"
#include "vector.h"

namespace lamina {
namespace {

// Rows are cut into blocks of this many, whatever the number of threads, so that sums over them do not depend on it.
constexpr int64_t BLOCK = 256;

int64_t blocks(int64_t rows) { return (rows + BLOCK - 1) / BLOCK; }

// Where the rows of a matrix lie, and how its columns fall into vectors.
struct Matrix {
  int64_t rows, columns;
  explicit Matrix(const Floats& x) : columns(x.dimensions().back()) {
    rows = columns ? x.element_count() / columns : 0;
  }
  template <typename Body>
  void each_block(ffi::ThreadPool& pool, const Body& body) const {
    parallel_for(pool, blocks(rows), [&](int64_t b) { body(b, b * BLOCK, std::min(rows, (b + 1) * BLOCK)); });
  }
  template <typename Body>
  void each_vector(const Body& body) const {
    for (int64_t c = 0; c < columns; c += LANES) body(c, std::min<int64_t>(LANES, columns - c));
  }
};

const float* values_or_null(const Floats& x) { return x.element_count() ? x.typed_data() : nullptr; }

// y = gamma (x - mean) / sqrt(variance + epsilon) + beta for each row; without `centered`, the mean is taken as 0.
ffi::Error layer_norm(ffi::ThreadPool pool, Floats x, Floats gamma, Floats beta, FloatsOut y, FloatsOut mean,
                      FloatsOut scale, float epsilon, bool centered) {
  Matrix m(x);
  const float *g = values_or_null(gamma), *b = values_or_null(beta);
  m.each_block(pool, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const float* from = x.typed_data() + row * m.columns;
      float* to = y->typed_data() + row * m.columns;
      Vector total{};
      if (centered) m.each_vector([&](int64_t c, int64_t n) { total += load(from + c, n); });
      float average = centered ? sum(total) / m.columns : 0.0f;
      Vector square{};
      m.each_vector([&](int64_t c, int64_t n) {
        Vector deviation = load(from + c, n) - average;
        if (n < LANES)
          for (int64_t i = n; i < LANES; i++) deviation[i] = 0.0f;
        square += deviation * deviation;
      });
      float factor = 1.0f / std::sqrt(sum(square) / m.columns + epsilon);
      m.each_vector([&](int64_t c, int64_t n) {
        Vector value = (load(from + c, n) - average) * factor;
        if (g) value *= load(g + c, n);
        if (b) value += load(b + c, n);
        store(to + c, value, n);
      });
      mean->typed_data()[row] = average;
      scale->typed_data()[row] = factor;
    }
  });
  return ffi::Error::Success();
}

// Adds the rows of `parts`, one for each block, into one.
void add_up(const Aligned& parts, int64_t count, int64_t columns, float* total) {
  std::fill(total, total + columns, 0.0f);
  for (int64_t part = 0; part < count; part++)
    for (int64_t c = 0; c < columns; c++) total[c] += parts[part * columns + c];
}

ffi::Error layer_norm_gradient(ffi::ThreadPool pool, Floats x, Floats gamma, Floats mean, Floats scale, Floats gradient,
                               FloatsOut x_gradient, FloatsOut gamma_gradient, FloatsOut beta_gradient, bool centered) {
  Matrix m(x);
  const float* weights = values_or_null(gamma);
  int64_t padded = vectors(m.columns) * LANES;
  Aligned gammas(blocks(m.rows) * padded), betas(blocks(m.rows) * padded);
  m.each_block(pool, [&](int64_t block, int64_t first, int64_t last) {
    float *gamma_sum = &gammas[block * padded], *beta_sum = &betas[block * padded];
    for (int64_t row = first; row < last; row++) {
      const float* from = x.typed_data() + row * m.columns;
      const float* g = gradient.typed_data() + row * m.columns;
      float* to = x_gradient->typed_data() + row * m.columns;
      float average = mean.typed_data()[row], factor = scale.typed_data()[row];
      Vector weighted{}, projected{};
      m.each_vector([&](int64_t c, int64_t n) {
        Vector given = load(g + c, n), normal = (load(from + c, n) - average) * factor;
        store(gamma_sum + c, load(gamma_sum + c) + given * normal);
        store(beta_sum + c, load(beta_sum + c) + given);
        if (weights) given *= load(weights + c, n);
        weighted += given;
        projected += given * normal;
      });
      float shift = centered ? sum(weighted) / m.columns : 0.0f, turn = sum(projected) / m.columns;
      m.each_vector([&](int64_t c, int64_t n) {
        Vector given = load(g + c, n), normal = (load(from + c, n) - average) * factor;
        if (weights) given *= load(weights + c, n);
        store(to + c, (given - shift - normal * turn) * factor, n);
      });
    }
  });
  Aligned total(padded);
  add_up(gammas, blocks(m.rows), padded, total.data());
  std::memcpy(gamma_gradient->typed_data(), total.data(), m.columns * sizeof(float));
  add_up(betas, blocks(m.rows), padded, total.data());
  std::memcpy(beta_gradient->typed_data(), total.data(), m.columns * sizeof(float));
  return ffi::Error::Success();
}

// y = gamma (x - mean) / sqrt(variance + epsilon) + beta for each column.
ffi::Error batch_norm(ffi::ThreadPool pool, Floats x, Floats gamma, Floats beta, FloatsOut y, FloatsOut mean,
                      FloatsOut variance, float epsilon) {
  Matrix m(x);
  const float *g = values_or_null(gamma), *b = values_or_null(beta);
  int64_t padded = vectors(m.columns) * LANES;
  // mean and squared deviations of each block, which are in the cache for the second look at them
  Aligned means(blocks(m.rows) * padded), squares(blocks(m.rows) * padded);
  m.each_block(pool, [&](int64_t block, int64_t first, int64_t last) {
    m.each_vector([&](int64_t c, int64_t n) {
      const float* from = x.typed_data() + c;
      Vector total{}, square{};
      for (int64_t row = first; row < last; row++) total += load(from + row * m.columns, n);
      Vector average = total / static_cast<float>(last - first);
      for (int64_t row = first; row < last; row++) {
        Vector deviation = load(from + row * m.columns, n) - average;
        square += deviation * deviation;
      }
      store(&means[block * padded + c], average);
      store(&squares[block * padded + c], square);
    });
  });
  Aligned factor(padded), offset(padded);
  m.each_vector([&](int64_t c, int64_t n) {
    Vector average{}, square{};
    for (int64_t block = 0; block < blocks(m.rows); block++) {
      float before = block * BLOCK, more = std::min(BLOCK, m.rows - block * BLOCK);
      Vector difference = load(&means[block * padded + c]) - average;
      average += difference * (more / (before + more));
      square += load(&squares[block * padded + c]) + difference * difference * (before * more / (before + more));
    }
    square /= static_cast<float>(m.rows);
    Vector scale;
    for (int i = 0; i < LANES; i++) scale[i] = 1.0f / std::sqrt(square[i] + epsilon);
    if (g) scale *= load(g + c, n);
    store(mean->typed_data() + c, average, n);
    store(variance->typed_data() + c, square, n);
    store(&factor[c], scale);
    store(&offset[c], (b ? load(b + c, n) : Vector{}) - average * scale);
  });
  m.each_block(pool, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const float* from = x.typed_data() + row * m.columns;
      float* to = y->typed_data() + row * m.columns;
      m.each_vector([&](int64_t c, int64_t n) { store(to + c, load(from + c, n) * load(&factor[c]) + load(&offset[c]), n); });
    }
  });
  return ffi::Error::Success();
}

// The gradients, also of what depends on mean and variance otherwise.
ffi::Error batch_norm_gradient(ffi::ThreadPool pool, Floats x, Floats gamma, Floats mean, Floats variance,
                               Floats gradient, Floats mean_given, Floats variance_given, FloatsOut x_gradient,
                               FloatsOut gamma_gradient, FloatsOut beta_gradient, float epsilon) {
  Matrix m(x);
  const float* weights = values_or_null(gamma);
  int64_t padded = vectors(m.columns) * LANES;
  Aligned gammas(blocks(m.rows) * padded), betas(blocks(m.rows) * padded);
  m.each_block(pool, [&](int64_t block, int64_t first, int64_t last) {
    m.each_vector([&](int64_t c, int64_t n) {
      Vector average = load(mean.typed_data() + c, n), total{}, projected{};
      for (int64_t row = first; row < last; row++) {
        Vector given = load(gradient.typed_data() + row * m.columns + c, n);
        total += given;
        projected += given * (load(x.typed_data() + row * m.columns + c, n) - average);
      }
      store(&betas[block * padded + c], total);
      store(&gammas[block * padded + c], projected);
    });
  });
  Aligned total(padded), projected(padded), of_gradient(padded), of_x(padded), constant(padded);
  add_up(betas, blocks(m.rows), padded, total.data());
  add_up(gammas, blocks(m.rows), padded, projected.data());
  float count = m.rows;
  for (int64_t c = 0; c < m.columns; c++) {
    float scale = 1.0f / std::sqrt(variance.typed_data()[c] + epsilon), weight = weights ? weights[c] : 1.0f;
    beta_gradient->typed_data()[c] = total[c];
    gamma_gradient->typed_data()[c] = projected[c] * scale;
    // x's gradient is a weighted sum of the gradient, of x's deviation and of 1
    of_gradient[c] = weight * scale;
    of_x[c] = (2.0f * variance_given.typed_data()[c] - weight * scale * scale * scale * projected[c]) / count;
    constant[c] = (mean_given.typed_data()[c] - weight * scale * total[c]) / count;
  }
  m.each_block(pool, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
      m.each_vector([&](int64_t c, int64_t n) {
        int64_t at = row * m.columns + c;
        Vector deviation = load(x.typed_data() + at, n) - load(mean.typed_data() + c, n);
        Vector value = load(gradient.typed_data() + at, n) * load(&of_gradient[c]) + deviation * load(&of_x[c]);
        store(x_gradient->typed_data() + at, value + load(&constant[c]), n);
      });
  });
  return ffi::Error::Success();
}

using F32 = ffi::Buffer<ffi::F32>;

LAMINA_HANDLER(layer_norm, layer_norm,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().Ret<F32>().Ret<F32>()
                   .Attr<float>("epsilon").Attr<bool>("centered"));
LAMINA_HANDLER(layer_norm_gradient, layer_norm_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                   .Ret<F32>().Ret<F32>().Ret<F32>().Attr<bool>("centered"));
LAMINA_HANDLER(batch_norm, batch_norm,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().Ret<F32>().Ret<F32>()
                   .Attr<float>("epsilon"));
LAMINA_HANDLER(batch_norm_gradient, batch_norm_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                   .Arg<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Attr<float>("epsilon"));

}  // namespace
}  // namespace lamina
