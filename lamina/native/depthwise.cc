// Convolutions that keep channels apart: each has a kernel of its own. Otherwise as in convolution.cc. There are no sums over
// channels, so vectors run along them, and the picture is read where it lies.

#include "convolution.h"
#include "functions.h"

namespace lamina {
namespace {

ffi::Error depthwise(ffi::ThreadPool pool, Floats x, Floats kernel, Floats bias, FloatsOut y, Integers strides,
                     Integers pads, Integers dilation, int64_t groups, float slope) {
  Geometry g(x.dimensions(), kernel.dimensions(), y->dimensions(), strides, pads, dilation, groups);
  const float *from = x.typed_data(), *weights = kernel.typed_data();
  const float* added = values_or_null(bias);
  parallel_for(pool, g.batch * g.rows, [&](int64_t task) {
    int64_t image = task / g.rows, r = task % g.rows;
    for (int64_t c = 0; c < g.columns; c++)
      for (int64_t k = 0; k < g.channels; k += LANES) {
        int64_t count = g.channels - k;
        Vector total = added ? load(added + k, count) : Vector{};
        for (int64_t i = 0; i < g.kernel_height; i++) {
          int64_t at_y = r * g.stride_y - g.top + i * g.dilation_y;
          if (at_y < 0 || at_y >= g.height) continue;
          for (int64_t j = 0; j < g.kernel_width; j++) {
            int64_t at_x = c * g.stride_x - g.left + j * g.dilation_x;
            if (at_x < 0 || at_x >= g.width) continue;
            total += load(from + g.outer_at(image, at_y, at_x) + k, count) *
                     load(weights + (i * g.kernel_width + j) * g.channels + k, count);
          }
        }
        store(y->typed_data() + g.inner_at(image, r, c) + k, activated(total, slope), count);
      }
  });
  return ffi::Error::Success();
}

// The inner place that sees `outer` through the tap at `offset`; -1 if there is none.
int64_t inner_of(int64_t outer, int64_t pad, int64_t offset, int64_t stride, int64_t count) {
  int64_t reached = outer + pad - offset;
  return reached >= 0 && reached % stride == 0 && reached / stride < count ? reached / stride : -1;
}

ffi::Error depthwise_outer(ffi::ThreadPool pool, Floats gradient, Floats result, Floats kernel, FloatsOut outer,
                           Integers strides, Integers pads, Integers dilation, int64_t groups, float undone) {
  Geometry g(outer->dimensions(), kernel.dimensions(), gradient.dimensions(), strides, pads, dilation, groups);
  Undo given(gradient, result, undone);
  const float* weights = kernel.typed_data();
  parallel_for(pool, g.batch * g.height, [&](int64_t task) {
    int64_t image = task / g.height, y = task % g.height;
    for (int64_t x = 0; x < g.width; x++)
      for (int64_t k = 0; k < g.channels; k += LANES) {
        int64_t count = g.channels - k;
        Vector total{};
        for (int64_t i = 0; i < g.kernel_height; i++) {
          int64_t r = inner_of(y, g.top, i * g.dilation_y, g.stride_y, g.rows);
          if (r < 0) continue;
          for (int64_t j = 0; j < g.kernel_width; j++) {
            int64_t c = inner_of(x, g.left, j * g.dilation_x, g.stride_x, g.columns);
            if (c < 0) continue;
            total += given.at(g.inner_at(image, r, c) + k, count) *
                     load(weights + (i * g.kernel_width + j) * g.channels + k, count);
          }
        }
        store(outer->typed_data() + g.outer_at(image, y, x) + k, total, count);
      }
  });
  return ffi::Error::Success();
}

ffi::Error depthwise_kernel(ffi::ThreadPool pool, Floats outer, Floats gradient, Floats result, FloatsOut kernel,
                            FloatsOut bias, Integers strides, Integers pads, Integers dilation, int64_t groups, float undone) {
  Geometry g(outer.dimensions(), kernel->dimensions(), gradient.dimensions(), strides, pads, dilation, groups);
  Undo given(gradient, result, undone);
  const float* from = outer.typed_data();
  int64_t parts = std::min(PARTS, g.batch), taps = g.kernel_height * g.kernel_width;
  int64_t padded = vectors(g.channels) * LANES, size = (taps + 1) * padded;  // the last row is the bias's
  Aligned totals(parts * size);
  parallel_for(pool, parts, [&](int64_t part) {
    float* total = &totals[part * size];
    for (int64_t image = share(g.batch, part, parts); image < share(g.batch, part + 1, parts); image++)
      for (int64_t r = 0; r < g.rows; r++)
        for (int64_t c = 0; c < g.columns; c++)
          for (int64_t k = 0; k < g.channels; k += LANES) {
            int64_t count = g.channels - k;
            Vector value = given.at(g.inner_at(image, r, c) + k, count);
            float* to = total + taps * padded + k;
            store(to, load(to) + value);
            for (int64_t i = 0; i < g.kernel_height; i++) {
              int64_t y = r * g.stride_y - g.top + i * g.dilation_y;
              if (y < 0 || y >= g.height) continue;
              for (int64_t j = 0; j < g.kernel_width; j++) {
                int64_t x = c * g.stride_x - g.left + j * g.dilation_x;
                if (x < 0 || x >= g.width) continue;
                float* sum = total + (i * g.kernel_width + j) * padded + k;
                store(sum, load(sum) + value * load(from + g.outer_at(image, y, x) + k, count));
              }
            }
          }
  });
  for (int64_t part = 1; part < parts; part++)
    for (int64_t i = 0; i < size; i++) totals[i] += totals[part * size + i];
  for (int64_t tap = 0; tap < taps; tap++)
    std::memcpy(kernel->typed_data() + tap * g.channels, &totals[tap * padded], g.channels * sizeof(float));
  std::memcpy(bias->typed_data(), &totals[taps * padded], g.channels * sizeof(float));
  return ffi::Error::Success();
}

using F32 = ffi::Buffer<ffi::F32>;
#define GEOMETRY Attr<Integers>("strides").Attr<Integers>("pads").Attr<Integers>("dilation").Attr<int64_t>("groups")

LAMINA_HANDLER(depthwise, depthwise,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().GEOMETRY
                   .Attr<float>("slope"));
LAMINA_HANDLER(depthwise_outer, depthwise_outer,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().GEOMETRY
                   .Attr<float>("undone"));
LAMINA_HANDLER(depthwise_kernel, depthwise_kernel,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().Ret<F32>().GEOMETRY
                   .Attr<float>("undone"));

}  // namespace
}  // namespace lamina
