// Batch normalization: of each column of a matrix. Means and variances are those of deviations, which lose no digits to a large
// mean. Numbers of bfloat16 are worked with as float32, and so is what there is one of for each column.

#include "batch_normalization.h"

namespace lamina {
namespace {

// Mean and variance of each column.
template <ffi::DataType TYPE>
ffi::Error batch_moments(ffi::ThreadPool pool, ffi::Buffer<TYPE> x, FloatsOut mean, FloatsOut variance) {
  Matrix m(x);
  PartialMoments moments(blocks(m.rows), m.columns);
  m.each_part(pool, [&](int64_t block, int64_t first, int64_t last, int64_t begin, int64_t end) {
    moments.look_at(block, x.typed_data() + first * m.columns, last - first, begin, end);
  });
  moments.join(mean->typed_data(), variance->typed_data());
  return ffi::Error::Success();
}

// y = activated(gamma (x - mean) / sqrt(variance + epsilon) + beta + more) for each column.
template <ffi::DataType TYPE>
ffi::Error batch_norm(ffi::ThreadPool pool, ffi::Buffer<TYPE> x, Floats gamma, Floats beta, Floats mean, Floats variance,
                      ffi::Buffer<TYPE> more, ffi::ResultBuffer<TYPE> y, float epsilon, float slope) {
  Matrix m(x);
  Columns normal(m.columns, gamma, beta, mean, variance, epsilon);
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

// The gradients of that without `more`.
template <ffi::DataType TYPE>
ffi::Error batch_norm_gradient(ffi::ThreadPool pool, ffi::Buffer<TYPE> x, Floats gamma, Floats beta, Floats mean,
                               Floats variance, ffi::Buffer<TYPE> gradient, ffi::ResultBuffer<TYPE> x_gradient,
                               FloatsOut gamma_gradient, FloatsOut beta_gradient, float epsilon, float slope) {
  BatchNormGradient<TYPE> found(pool, x, gamma, beta, mean, variance, gradient, epsilon, slope,
                                gamma_gradient->typed_data(), beta_gradient->typed_data());
  found.m.each_part(pool, [&](int64_t, int64_t first, int64_t last, int64_t begin, int64_t end) {
    found.rows(first, last, begin, end, x_gradient->typed_data() + first * found.m.columns);
  });
  return ffi::Error::Success();
}

using F32 = ffi::Buffer<ffi::F32>;
using BF16 = ffi::Buffer<ffi::BF16>;

// How XLA's calls become arguments, for arrays of a TYPE.
#define BIND ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
#define BATCH_MOMENTS(TYPE) BIND.Arg<TYPE>().Ret<F32>().Ret<F32>()
#define BATCH_NORM(TYPE)                                                                                            \
  BIND.Arg<TYPE>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<TYPE>().Ret<TYPE>().Attr<float>("epsilon")       \
      .Attr<float>("slope")
#define BATCH_NORM_GRADIENT(TYPE)                                                                                   \
  BIND.Arg<TYPE>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<TYPE>().Ret<TYPE>().Ret<F32>().Ret<F32>()        \
      .Attr<float>("epsilon").Attr<float>("slope")

LAMINA_HANDLER(batch_moments, batch_moments<ffi::F32>, BATCH_MOMENTS(F32));
LAMINA_HANDLER(batch_norm, batch_norm<ffi::F32>, BATCH_NORM(F32));
LAMINA_HANDLER(batch_norm_gradient, batch_norm_gradient<ffi::F32>, BATCH_NORM_GRADIENT(F32));
#if defined(__AVX512F__)
LAMINA_HANDLER(half_batch_moments, batch_moments<ffi::BF16>, BATCH_MOMENTS(BF16));
LAMINA_HANDLER(half_batch_norm, batch_norm<ffi::BF16>, BATCH_NORM(BF16));
LAMINA_HANDLER(half_batch_norm_gradient, batch_norm_gradient<ffi::BF16>, BATCH_NORM_GRADIENT(BF16));
#endif

}  // namespace
}  // namespace lamina
