// The gradients of a dense layer's kernel and bias, x^T g and the sum of the rows of g, in one pass over both, without
// writing either of them the other way round.

#include <algorithm>

#include "handlers.h"
#include "scratch.h"
#include "tiles.h"

namespace lamina {
namespace {

// How many rows, and about how many inputs, are worked on at once: x is copied in such blocks, whose rows follow each other.
constexpr int64_t AT_ONCE = 256, INPUTS = 48;
// Products of fewer numbers are done before another thread is awake.
constexpr int64_t WORTH_THREADS = 1 << 17;

ffi::Error dense_gradient(ffi::ThreadPool pool, Floats x, Floats gradient, FloatsOut kernel, FloatsOut bias) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = gradient.dimensions()[1];
  int64_t padded = vectors(outputs) * LANES, threads = pool.num_threads();
  bool ragged = outputs % LANES;  // rows are read and written in whole vectors
  int64_t parts = std::min(inputs, (inputs + threads * INPUTS - 1) / (threads * INPUTS) * threads);
  if (rows * inputs * outputs < WORTH_THREADS) parts = (inputs + INPUTS - 1) / INPUTS, threads = 1;
  auto body = [&](int64_t part) {
    int64_t begin = share(inputs, part, parts), width = share(inputs, part + 1, parts) - begin;
    Scratch scratch(AT_ONCE * (width + (ragged ? padded : 0)) + (ragged ? width * padded : 0) + padded);
    float *left = scratch.take(AT_ONCE * width), *right = scratch.take(ragged ? AT_ONCE * padded : 0);
    float *total = scratch.take(ragged ? width * padded : 0), *sums = scratch.take(padded);
    std::fill(sums, sums + padded, 0.0f);
    Rows<float> out{kernel->typed_data() + begin * outputs, outputs};
    if (ragged) out = {total, padded};
    for (int64_t first = 0; first < rows; first += AT_ONCE) {
      int64_t count = std::min(AT_ONCE, rows - first);
      for (int64_t row = 0; row < count; row++)
        std::memcpy(left + row * width, x.typed_data() + (first + row) * inputs + begin, width * sizeof(float));
      Rows<const float> given{gradient.typed_data() + first * outputs, outputs};
      if (ragged) {
        for (int64_t row = 0; row < count; row++)
          for (int64_t k = 0; k < padded; k += LANES)
            store(right + row * padded + k, load(given.values + row * outputs + k, outputs - k));
        given = {right, padded};
      }
      multiply<Contiguous::COLUMNS>({left, width}, given, width, count, padded / LANES, out, first > 0);
      if (part == 0)
        for (int64_t row = 0; row < count; row++)
          for (int64_t k = 0; k < padded; k += LANES) store(sums + k, load(sums + k) + load(given.values + row * given.step + k));
    }
    if (ragged)
      for (int64_t i = 0; i < width; i++)
        std::memcpy(kernel->typed_data() + (begin + i) * outputs, total + i * padded, outputs * sizeof(float));
    if (part == 0) std::memcpy(bias->typed_data(), sums, outputs * sizeof(float));
  };
  parallel_for(pool, parts, body, threads);
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense_gradient, dense_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());

}  // namespace
}  // namespace lamina
