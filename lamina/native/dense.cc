// The gradients of a dense layer's kernel and bias, x^T g and the sum of the rows of g, for many rows: in one pass over both,
// without writing either of them the other way round.

#include "handlers.h"
#include "product.h"

namespace lamina {
namespace {

constexpr int64_t ROWS_AT_ONCE = 192;

ffi::Error dense_gradient(ffi::ThreadPool pool, Floats x, Floats gradient, FloatsOut kernel, FloatsOut bias) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = gradient.dimensions()[1];
  int64_t parts = std::min(PARTS, rows), padded = vectors(outputs) * LANES;
  bool copied = outputs % LANES;  // rows are read in whole vectors
  std::vector<Panels> totals(parts, Panels(inputs, outputs));
  std::vector<std::vector<float>> biases(parts, std::vector<float>(padded));
  std::vector<int64_t> places(inputs);
  for (int64_t i = 0; i < inputs; i++) places[i] = i;
  parallel_for(pool, parts, [&](int64_t part) {
    std::vector<const float*> left;
    std::vector<float> copy(copied ? ROWS_AT_ONCE * padded : 0);
    for (int64_t first = share(rows, part, parts), last = share(rows, part + 1, parts); first < last;
         first += ROWS_AT_ONCE) {
      int64_t count = std::min(ROWS_AT_ONCE, last - first);
      left.clear();
      for (int64_t row = first; row < first + count; row++) left.push_back(x.typed_data() + row * inputs);
      const float* right = gradient.typed_data() + first * outputs;
      if (copied) {
        for (int64_t row = 0; row < count; row++)
          std::memcpy(&copy[row * padded], right + row * outputs, outputs * sizeof(float));
        right = copy.data();
      }
      int64_t step = copied ? padded : outputs;
      for (int64_t row = 0; row < count; row++)
        for (int64_t k = 0; k < padded; k += LANES)
          store(&biases[part][k], load(&biases[part][k]) + load(right + row * step + k));
      add_outer(left.data(), places, right, step, count, totals[part]);
    }
  });
  Panels& total = totals[0];
  parallel_for(pool, total.count(), [&](int64_t panel) {
    int64_t size = inputs * total.widths[panel] * LANES;
    for (int64_t part = 1; part < parts; part++)
      for (int64_t i = 0; i < size; i++) total.values(panel)[i] += totals[part].values(panel)[i];
    for (int64_t row = 0; row < inputs; row++)
      std::memcpy(kernel->typed_data() + row * outputs + total.starts[panel],
                  total.values(panel) + row * total.widths[panel] * LANES, total.valid(panel) * sizeof(float));
  });
  for (int64_t part = 1; part < parts; part++)
    for (int64_t k = 0; k < outputs; k++) biases[0][k] += biases[part][k];
  std::memcpy(bias->typed_data(), biases[0].data(), outputs * sizeof(float));
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense_gradient, dense_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());

}  // namespace
}  // namespace lamina
