// Cross-entropy of one class among several, from scores: -log softmax(x)[label] for each row, in one look at the row while it
// is in the cache, and its gradient in another. A label that is no class gives a NaN.

#include <cmath>
#include <limits>

#include "functions.h"
#include "handlers.h"

namespace lamina {
namespace {

constexpr int64_t AT_ONCE = 1 << 14;  // numbers, in a part of the work

template <typename Body>
void each_row(ffi::ThreadPool& pool, int64_t rows, int64_t classes, const Body& body) {
  int64_t some = std::max<int64_t>(1, AT_ONCE / classes);
  parallel_for(pool, (rows + some - 1) / some, [&](int64_t part) {
    for (int64_t row = part * some; row < std::min(rows, (part + 1) * some); row++) body(row);
  });
}

ffi::Error crossentropy(ffi::ThreadPool pool, Floats scores, ffi::Buffer<ffi::S32> labels, FloatsOut losses,
                        FloatsOut logarithms) {
  int64_t rows = scores.dimensions()[0], classes = scores.dimensions()[1];
  each_row(pool, rows, classes, [&](int64_t row) {
    const float* x = scores.typed_data() + row * classes;
    Vector highest = all(-std::numeric_limits<float>::infinity()), total{};
    int64_t whole = classes / LANES * LANES;
    for (int64_t c = 0; c < whole; c += LANES) highest = maximum(highest, load(x + c));
    float top = largest(highest);
    for (int64_t c = whole; c < classes; c++) top = x[c] > top ? x[c] : top;
    for (int64_t c = 0; c < whole; c += LANES) total += exp(load(x + c) - top);
    float rest = 0.0f;
    if (whole < classes) {
      Vector last = exp(load(x + whole, classes - whole) - top);
      for (int64_t c = whole; c < classes; c++) rest += last[c - whole];
    }
    int64_t label = labels.typed_data()[row];
    float logarithm = top + std::log(sum(total) + rest);
    logarithms->typed_data()[row] = logarithm;
    losses->typed_data()[row] =
        label >= 0 && label < classes ? logarithm - x[label] : std::numeric_limits<float>::quiet_NaN();
  });
  return ffi::Error::Success();
}

ffi::Error crossentropy_gradient(ffi::ThreadPool pool, Floats scores, ffi::Buffer<ffi::S32> labels, Floats logarithms,
                                 Floats gradient, FloatsOut result) {
  int64_t rows = scores.dimensions()[0], classes = scores.dimensions()[1];
  each_row(pool, rows, classes, [&](int64_t row) {
    const float* x = scores.typed_data() + row * classes;
    float *to = result->typed_data() + row * classes, logarithm = logarithms.typed_data()[row];
    float given = gradient.typed_data()[row];
    for (int64_t c = 0; c < classes; c += LANES)
      store(to + c, given * exp(load(x + c, classes - c) - logarithm), classes - c);
    int64_t label = labels.typed_data()[row];
    if (label >= 0 && label < classes) to[label] -= given;
  });
  return ffi::Error::Success();
}

using F32 = ffi::Buffer<ffi::F32>;
using S32 = ffi::Buffer<ffi::S32>;

LAMINA_HANDLER(crossentropy, crossentropy,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<S32>().Ret<F32>().Ret<F32>());
LAMINA_HANDLER(crossentropy_gradient, crossentropy_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<S32>().Arg<F32>().Arg<F32>().Ret<F32>());

}  // namespace
}  // namespace lamina
