// Normalization of each row of a matrix (layer and root-mean-square normalization), and its gradients. Means and variances are
// those of deviations, which lose no digits to a large mean. Numbers of bfloat16 are worked with as float32, and so are sums
// over them and what there is one of for each row or column.

#include "normalization.h"

namespace lamina {
namespace {

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

// The gradients of that, of which `again` is a second one of the result, and `more` one to be added to the input's.
template <ffi::DataType TYPE>
ffi::Error layer_norm_gradient(ffi::ThreadPool pool, ffi::Buffer<TYPE> x, Floats gamma, Floats mean, Floats scale,
                               ffi::Buffer<TYPE> gradient, ffi::Buffer<TYPE> again, ffi::Buffer<TYPE> more,
                               ffi::ResultBuffer<TYPE> x_gradient, FloatsOut gamma_gradient, FloatsOut beta_gradient,
                               bool centered) {
  Matrix m(x);
  const float* weights = values_or_null(gamma);
  auto second = values_or_null(again), added = values_or_null(more);
  int64_t padded = m.padded();
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

LAMINA_HANDLER(layer_norm, layer_norm<ffi::F32>, LAYER_NORM(F32));
LAMINA_HANDLER(layer_norm_gradient, layer_norm_gradient<ffi::F32>, LAYER_NORM_GRADIENT(F32));
#if defined(__AVX512F__)
LAMINA_HANDLER(half_layer_norm, layer_norm<ffi::BF16>, LAYER_NORM(BF16));
LAMINA_HANDLER(half_layer_norm_gradient, layer_norm_gradient<ffi::BF16>, LAYER_NORM_GRADIENT(BF16));
#endif

}  // namespace
}  // namespace lamina
