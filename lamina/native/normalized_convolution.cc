// Convolutions whose results are normalized over the batch, such as minimal filtering suits: moments are told from results, and
// gradients of results are worked out, while they are in the cache (see lamina/kernels/normalized_convolution.py).

#include "batch_normalization.h"
#include "winograd.h"

namespace lamina {
namespace {

Geometry geometry(Geometry::Shape outer, Geometry::Shape kernel, Geometry::Shape inner, Integers pads) {
  static const int64_t ONES[] = {1, 1};
  return Geometry(outer, kernel, inner, Integers(ONES, 2), pads, Integers(ONES, 2), 1);
}

// The convolution, and mean and variance of each filter.
ffi::Error convolution_moments(ffi::ThreadPool pool, Floats x, Floats kernel, Floats bias, FloatsOut y, FloatsOut mean,
                               FloatsOut variance, Integers pads) {
  Geometry g = geometry(x.dimensions(), kernel.dimensions(), y->dimensions(), pads);
  int64_t lines = g.batch * ((g.rows + 1) / 2), parts = (2 * lines + rows_at_once(g) - 1) / rows_at_once(g);
  PartialMoments moments(parts, g.filters);
  float* result = y->typed_data();
  winograd_by_rows(pool, g, x.typed_data(), kernel.typed_data(), {values_or_null(bias), 1.0f}, result,
                   [&](int64_t part, int64_t first, int64_t last) {
                     moments.look_at(part, result + first * g.filters, last - first, 0, g.filters);
                   });
  moments.join(mean->typed_data(), variance->typed_data());
  return ffi::Error::Success();
}

// The gradients of x, kernel, bias, gamma and beta, where y is the convolution and `gradient` that of what was made of it.
ffi::Error normalized_convolution_gradient(ffi::ThreadPool pool, Floats x, Floats kernel, Floats y, Floats gamma, Floats beta,
                                           Floats mean, Floats variance, Floats gradient, FloatsOut x_gradient,
                                           FloatsOut kernel_gradient, FloatsOut bias_gradient, FloatsOut gamma_gradient,
                                           FloatsOut beta_gradient, Integers pads, float epsilon, float slope) {
  Geometry g = geometry(x.dimensions(), kernel.dimensions(), y.dimensions(), pads);
  BatchNormGradient<ffi::F32> of_y(pool, y, gamma, beta, mean, variance, gradient, epsilon, slope,
                                   gamma_gradient->typed_data(), beta_gradient->typed_data());
  int64_t places = g.rows * g.columns;
  winograd_gradients(
      pool, g, x.typed_data(), kernel.typed_data(),
      [&](int64_t first, int64_t last, float* to) { of_y.rows(first * places, last * places, 0, g.filters, to); },
      x_gradient->typed_data(), kernel_gradient->typed_data(), bias_gradient->typed_data());
  return ffi::Error::Success();
}

using F32 = ffi::Buffer<ffi::F32>;

LAMINA_HANDLER(convolution_moments, convolution_moments,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().Ret<F32>().Ret<F32>()
                   .Attr<Integers>("pads"));
LAMINA_HANDLER(normalized_convolution_gradient, normalized_convolution_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                   .Arg<F32>().Arg<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Attr<Integers>("pads")
                   .Attr<float>("epsilon").Attr<float>("slope"));

}  // namespace
}  // namespace lamina
