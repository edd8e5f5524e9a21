// Normalization of each row (layer and root-mean-square normalization) and of each column (batch normalization) of a
// matrix, and their gradients. Means and variances are those of deviations, which lose no digits to a large mean. Numbers of
// bfloat16 are worked with as float32, and so are sums over them and what there is one of for each row or column.

#include <cmath>

#include "functions.h"
#include "half.h"
#include "handlers.h"

namespace lamina {
namespace {

// Rows are cut into blocks of this many, whatever the number of threads, so that sums over them do not depend on it; and where
// columns are worked on apart, they into strips of this many, a row of which is read in groups of so many vectors.
constexpr int64_t BLOCK = 256, STRIP = 512, GROUP = 4;

int64_t blocks(int64_t rows) { return (rows + BLOCK - 1) / BLOCK; }

// Where the rows of a matrix lie, and how its columns fall into vectors.
struct Matrix {
  int64_t rows, columns;
  template <typename Buffer>
  explicit Matrix(const Buffer& x) : columns(x.dimensions().back()) {
    rows = columns ? x.element_count() / columns : 0;
  }
  template <typename Body>
  void each_block(ffi::ThreadPool& pool, const Body& body) const {
    parallel_for(pool, blocks(rows), [&](int64_t b) { body(b, b * BLOCK, std::min(rows, (b + 1) * BLOCK)); });
  }
  // body(block, first row, last row, first column, last column)
  template <typename Body>
  void each_part(ffi::ThreadPool& pool, const Body& body) const {
    int64_t strips = (columns + STRIP - 1) / STRIP;
    parallel_for(pool, blocks(rows) * strips, [&](int64_t part) {
      int64_t b = part / strips, start = part % strips * STRIP;
      body(b, b * BLOCK, std::min(rows, (b + 1) * BLOCK), start, std::min(columns, start + STRIP));
    });
  }
  // body(first column, a constant: the number of vectors) for columns [begin, end)
  template <typename Body>
  void each_group(int64_t begin, int64_t end, const Body& body) const {
    for (int64_t c = begin; c < end; c += GROUP * LANES) switch (vectors(end - c)) {
        case 1: body(c, std::integral_constant<int, 1>{}); break;
        case 2: body(c, std::integral_constant<int, 2>{}); break;
        case 3: body(c, std::integral_constant<int, 3>{}); break;
        default: body(c, std::integral_constant<int, GROUP>{}); break;
      }
  }
  template <typename Body>
  void each_vector(const Body& body) const {
    for (int64_t c = 0; c < columns; c += LANES) body(c, std::min<int64_t>(LANES, columns - c));
  }
};

// y = gamma (x - mean) / sqrt(variance + epsilon) + beta for each row; without `centered`, the mean is taken as 0.
template <ffi::DataType TYPE>
ffi::Error layer_norm(ffi::ThreadPool pool, ffi::Buffer<TYPE> x, Floats gamma, Floats beta, ffi::ResultBuffer<TYPE> y,
                      FloatsOut mean, FloatsOut scale, float epsilon, bool centered) {
  Matrix m(x);
  const float *g = values_or_null(gamma), *b = values_or_null(beta);
  m.each_block(pool, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      auto from = x.typed_data() + row * m.columns, to = y->typed_data() + row * m.columns;
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

// The gradients of that, of which `again` is a second one of the result, and `more` one to be added to the input's.
template <ffi::DataType TYPE>
ffi::Error layer_norm_gradient(ffi::ThreadPool pool, ffi::Buffer<TYPE> x, Floats gamma, Floats mean, Floats scale,
                               ffi::Buffer<TYPE> gradient, ffi::Buffer<TYPE> again, ffi::Buffer<TYPE> more,
                               ffi::ResultBuffer<TYPE> x_gradient, FloatsOut gamma_gradient, FloatsOut beta_gradient,
                               bool centered) {
  Matrix m(x);
  const float* weights = values_or_null(gamma);
  auto second = values_or_null(again), added = values_or_null(more);
  int64_t padded = vectors(m.columns) * LANES;
  Aligned gammas(blocks(m.rows) * padded), betas(blocks(m.rows) * padded);
  m.each_block(pool, [&](int64_t block, int64_t first, int64_t last) {
    float *gamma_sum = &gammas[block * padded], *beta_sum = &betas[block * padded];
    for (int64_t row = first; row < last; row++) {
      auto from = x.typed_data() + row * m.columns, to = x_gradient->typed_data() + row * m.columns;
      auto gradient_at = [&](int64_t c, int64_t n) {
        Vector given = load(gradient.typed_data() + row * m.columns + c, n);
        return second ? given + load(second + row * m.columns + c, n) : given;
      };
      float average = mean.typed_data()[row], factor = scale.typed_data()[row];
      Vector weighted{}, projected{};
      m.each_vector([&](int64_t c, int64_t n) {
        Vector given = gradient_at(c, n), normal = (load(from + c, n) - average) * factor;
        store(gamma_sum + c, load(gamma_sum + c) + given * normal);
        store(beta_sum + c, load(beta_sum + c) + given);
        if (weights) given *= load(weights + c, n);
        weighted += given;
        projected += given * normal;
      });
      float shift = centered ? sum(weighted) / m.columns : 0.0f, turn = sum(projected) / m.columns;
      m.each_vector([&](int64_t c, int64_t n) {
        Vector given = gradient_at(c, n), normal = (load(from + c, n) - average) * factor;
        if (weights) given *= load(weights + c, n);
        Vector value = (given - shift - normal * turn) * factor;
        store(to + c, added ? value + load(added + row * m.columns + c, n) : value, n);
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

// Mean and variance of each column.
template <ffi::DataType TYPE>
ffi::Error batch_moments(ffi::ThreadPool pool, ffi::Buffer<TYPE> x, FloatsOut mean, FloatsOut variance) {
  Matrix m(x);
  int64_t padded = vectors(m.columns) * LANES;
  // mean and squared deviations of each block, which are in the cache for the second look at them
  Aligned means(blocks(m.rows) * padded), squares(blocks(m.rows) * padded);
  m.each_part(pool, [&](int64_t block, int64_t first, int64_t last, int64_t begin, int64_t end) {
    m.each_group(begin, end, [&](int64_t c, auto group) {
      auto from = x.typed_data() + c;
      Vector total[group]{}, square[group]{};
      for (int64_t row = first; row < last; row++)
        for (int v = 0; v < group; v++) total[v] += load(from + row * m.columns + v * LANES, end - c - v * LANES);
      for (int v = 0; v < group; v++) total[v] /= static_cast<float>(last - first);
      for (int64_t row = first; row < last; row++)
        for (int v = 0; v < group; v++) {
          Vector deviation = load(from + row * m.columns + v * LANES, end - c - v * LANES) - total[v];
          square[v] += deviation * deviation;
        }
      for (int v = 0; v < group; v++) {
        store(&means[block * padded + c + v * LANES], total[v]);
        store(&squares[block * padded + c + v * LANES], square[v]);
      }
    });
  });
  m.each_vector([&](int64_t c, int64_t n) {
    Vector average{}, square{};
    for (int64_t block = 0; block < blocks(m.rows); block++) {
      float before = block * BLOCK, more = std::min(BLOCK, m.rows - block * BLOCK);
      Vector difference = load(&means[block * padded + c]) - average;
      average += difference * (more / (before + more));
      square += load(&squares[block * padded + c]) + difference * difference * (before * more / (before + more));
    }
    store(mean->typed_data() + c, average, n);
    store(variance->typed_data() + c, square / static_cast<float>(m.rows), n);
  });
  return ffi::Error::Success();
}

// What normalizes columns, factor x + offset.
struct Columns {
  Aligned factor, offset;

  Columns(const Matrix& m, const Floats& gamma, const Floats& beta, const Floats& mean, const Floats& variance, float epsilon)
      : factor(vectors(m.columns) * LANES), offset(vectors(m.columns) * LANES) {
    const float *g = values_or_null(gamma), *b = values_or_null(beta);
    for (int64_t c = 0; c < m.columns; c++) {
      factor[c] = (g ? g[c] : 1.0f) / std::sqrt(variance.typed_data()[c] + epsilon);
      offset[c] = (b ? b[c] : 0.0f) - mean.typed_data()[c] * factor[c];
    }
  }
  Vector at(int64_t c, Vector x) const { return x * load(&factor[c]) + load(&offset[c]); }
};

// y = activated(gamma (x - mean) / sqrt(variance + epsilon) + beta + more) for each column.
template <ffi::DataType TYPE>
ffi::Error batch_norm(ffi::ThreadPool pool, ffi::Buffer<TYPE> x, Floats gamma, Floats beta, Floats mean, Floats variance,
                      ffi::Buffer<TYPE> more, ffi::ResultBuffer<TYPE> y, float epsilon, float slope) {
  Matrix m(x);
  Columns normal(m, gamma, beta, mean, variance, epsilon);
  auto added = values_or_null(more);
  m.each_part(pool, [&](int64_t, int64_t first, int64_t last, int64_t begin, int64_t end) {
    for (int64_t row = first; row < last; row++)
      for (int64_t c = begin; c < end; c += LANES) {
        int64_t at = row * m.columns + c;
        Vector value = normal.at(c, load(x.typed_data() + at, end - c));
        if (added) value += load(added + at, end - c);
        store(y->typed_data() + at, activated(value, slope), end - c);
      }
  });
  return ffi::Error::Success();
}

// The gradients of that without `more`, through mean and variance too.
template <ffi::DataType TYPE>
ffi::Error batch_norm_gradient(ffi::ThreadPool pool, ffi::Buffer<TYPE> x, Floats gamma, Floats beta, Floats mean,
                               Floats variance, ffi::Buffer<TYPE> gradient, ffi::ResultBuffer<TYPE> x_gradient,
                               FloatsOut gamma_gradient, FloatsOut beta_gradient, float epsilon, float slope) {
  Matrix m(x);
  Columns normal(m, gamma, beta, mean, variance, epsilon);
  const float* weights = values_or_null(gamma);
  int64_t padded = vectors(m.columns) * LANES;
  Aligned gammas(blocks(m.rows) * padded), betas(blocks(m.rows) * padded);
  // the gradient in front of the activation, whose sign is worked out again
  auto undone = [&](int64_t at, int64_t c, int64_t n, Vector value) {
    Vector given = load(gradient.typed_data() + at, n);
    return slope == 1.0f ? given : unactivated(given, normal.at(c, value), slope);
  };
  m.each_part(pool, [&](int64_t block, int64_t first, int64_t last, int64_t begin, int64_t end) {
    m.each_group(begin, end, [&](int64_t start, auto group) {
      Vector total[group]{}, projected[group]{};
      for (int64_t row = first; row < last; row++)
        for (int v = 0; v < group; v++) {
          int64_t c = start + v * LANES, at = row * m.columns + c;
          Vector value = load(x.typed_data() + at, end - c), given = undone(at, c, end - c, value);
          total[v] += given;
          projected[v] += given * (value - load(mean.typed_data() + c, end - c));
        }
      for (int v = 0; v < group; v++) {
        store(&betas[block * padded + start + v * LANES], total[v]);
        store(&gammas[block * padded + start + v * LANES], projected[v]);
      }
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
    of_x[c] = -weight * scale * scale * scale * projected[c] / count;
    constant[c] = -weight * scale * total[c] / count;
  }
  m.each_part(pool, [&](int64_t, int64_t first, int64_t last, int64_t begin, int64_t end) {
    for (int64_t row = first; row < last; row++)
      for (int64_t c = begin; c < end; c += LANES) {
        int64_t at = row * m.columns + c;
        Vector value = load(x.typed_data() + at, end - c), given = undone(at, c, end - c, value);
        value = (value - load(mean.typed_data() + c, end - c)) * load(&of_x[c]) + load(&constant[c]);
        store(x_gradient->typed_data() + at, given * load(&of_gradient[c]) + value, end - c);
      }
  });
  return ffi::Error::Success();
}

using F32 = ffi::Buffer<ffi::F32>;
using BF16 = ffi::Buffer<ffi::BF16>;

// How XLA's calls become arguments, for arrays of a TYPE.
#define BIND ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
#define LAYER_NORM(TYPE)                                                                                            \
  BIND.Arg<TYPE>().Arg<F32>().Arg<F32>().Ret<TYPE>().Ret<F32>().Ret<F32>().Attr<float>("epsilon")                   \
      .Attr<bool>("centered")
#define LAYER_NORM_GRADIENT(TYPE)                                                                                   \
  BIND.Arg<TYPE>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<TYPE>().Arg<TYPE>().Arg<TYPE>().Ret<TYPE>().Ret<F32>()      \
      .Ret<F32>().Attr<bool>("centered")
#define BATCH_MOMENTS(TYPE) BIND.Arg<TYPE>().Ret<F32>().Ret<F32>()
#define BATCH_NORM(TYPE)                                                                                            \
  BIND.Arg<TYPE>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<TYPE>().Ret<TYPE>().Attr<float>("epsilon")       \
      .Attr<float>("slope")
#define BATCH_NORM_GRADIENT(TYPE)                                                                                   \
  BIND.Arg<TYPE>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<TYPE>().Ret<TYPE>().Ret<F32>().Ret<F32>()        \
      .Attr<float>("epsilon").Attr<float>("slope")

LAMINA_HANDLER(layer_norm, layer_norm<ffi::F32>, LAYER_NORM(F32));
LAMINA_HANDLER(layer_norm_gradient, layer_norm_gradient<ffi::F32>, LAYER_NORM_GRADIENT(F32));
LAMINA_HANDLER(batch_moments, batch_moments<ffi::F32>, BATCH_MOMENTS(F32));
LAMINA_HANDLER(batch_norm, batch_norm<ffi::F32>, BATCH_NORM(F32));
LAMINA_HANDLER(batch_norm_gradient, batch_norm_gradient<ffi::F32>, BATCH_NORM_GRADIENT(F32));
#if defined(__AVX512F__)
LAMINA_HANDLER(half_layer_norm, layer_norm<ffi::BF16>, LAYER_NORM(BF16));
LAMINA_HANDLER(half_layer_norm_gradient, layer_norm_gradient<ffi::BF16>, LAYER_NORM_GRADIENT(BF16));
LAMINA_HANDLER(half_batch_moments, batch_moments<ffi::BF16>, BATCH_MOMENTS(BF16));
LAMINA_HANDLER(half_batch_norm, batch_norm<ffi::BF16>, BATCH_NORM(BF16));
LAMINA_HANDLER(half_batch_norm_gradient, batch_norm_gradient<ffi::BF16>, BATCH_NORM_GRADIENT(BF16));
#endif

}  // namespace
}  // namespace lamina
